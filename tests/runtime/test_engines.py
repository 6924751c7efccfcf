"""Embedded engines: started, shared, recovered, and in trouble named in words that say what to do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from runtime import engines as engines_module
from runtime.engines import EngineFailed, Engines


@pytest.fixture
def made() -> Iterator[Callable[..., Engines]]:
    """made(folder) -> the engines of a folder; whatever runs is stopped at the end."""
    all_of_them: list[Engines] = []

    def make(folder: Path, *, durable: bool = False) -> Engines:
        all_of_them.append(Engines(folder, durable=durable))
        return all_of_them[-1]

    yield make
    for one in reversed(all_of_them):
        with suppress(EngineFailed):
            one.release()


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A disk of its own, mounted on the folder; that needs root, as the gateway's container has it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def is_alive(pid: int | None) -> bool:
    return pid is not None and engines_module._is_running(pid, "")


def write(url: str, value: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table if not exists kept (value text)")
        connection.execute("insert into kept values (%s)", [value])


def read(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("select value from kept order by value")]


def ping(url: str) -> bool:
    client = redis.Redis.from_url(url)
    try:
        return bool(client.ping())
    finally:
        client.close()


# ---- trouble


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, made: Callable[..., Engines]) -> None:
    with small_disk(tmp_path, "ro"), pytest.raises(EngineFailed, match=r"Read-only file system.*service\.data_dir"):
        made(tmp_path / "data").acquire()


@pytest.mark.parametrize("options", ["size=4k", "size=1m", "size=64k,nr_inodes=4", "size=64k,nr_inodes=6"])
def test_a_full_disk_is_named_and_nothing_is_left_running(
    tmp_path: Path, made: Callable[..., Engines], options: str
) -> None:
    with small_disk(tmp_path, options):
        engines = made(tmp_path / "data")
        with pytest.raises(EngineFailed, match="No space left on device"):
            engines.acquire()
        assert not is_alive(engines.redis_pid())
        assert not is_alive(engines.postgres_pid())


def test_a_folder_that_is_a_file_is_named(tmp_path: Path, made: Callable[..., Engines]) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(EngineFailed, match="data folder"):
        made(tmp_path / "data").acquire()


def test_a_run_folder_of_somebody_else_is_refused(tmp_path: Path, made: Callable[..., Engines]) -> None:
    run = tmp_path / "data" / "run"
    run.mkdir(parents=True)
    os.chown(run, 12345, 12345)
    with pytest.raises(EngineFailed, match="belongs to another user"):
        made(tmp_path / "data").acquire(postgres=False)


def test_an_engine_that_ends_at_once_is_named_with_its_last_words(tmp_path: Path, made: Callable[..., Engines]) -> None:
    engines = made(tmp_path / "data")
    engines.acquire(redis=False)
    engines.release()
    with (tmp_path / "data" / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("\nno_such_setting = 1\n")
    with pytest.raises(EngineFailed, match=r"postgres ended at once.*see .*postgres\.log"):
        engines.acquire(redis=False)


# ---- start, share, stop


def test_engines_are_started_shared_and_stopped_by_the_last(tmp_path: Path, made: Callable[..., Engines]) -> None:
    first, second = made(tmp_path / "data"), made(tmp_path / "data")
    addresses = first.acquire()
    pids = first.postgres_pid(), first.redis_pid()
    assert second.acquire() == addresses
    assert (second.postgres_pid(), second.redis_pid()) == pids
    write(addresses.database_url, "a")
    first.release()
    assert read(addresses.database_url) == ["a"]
    assert ping(addresses.redis_url)
    second.release()
    assert (second.postgres_pid(), second.redis_pid()) == (None, None)
    assert not any(map(is_alive, pids))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_two_folders_are_two_installations(tmp_path: Path, made: Callable[..., Engines]) -> None:
    one, other = made(tmp_path / "one").acquire(), made(tmp_path / "other").acquire()
    write(one.database_url, "one")
    write(other.database_url, "other")
    assert (read(one.database_url), read(other.database_url)) == (["one"], ["other"])
    assert one.redis_url != other.redis_url


def test_after_kill_9_of_both_the_next_start_recovers_what_was_committed(
    tmp_path: Path, made: Callable[..., Engines]
) -> None:
    crashed, next_one = made(tmp_path / "data", durable=True), made(tmp_path / "data", durable=True)
    addresses = crashed.acquire()
    write(addresses.database_url, "committed")
    for pid in (crashed.postgres_pid(), crashed.redis_pid()):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    while is_alive(crashed.redis_pid()):  # a signal takes its time
        time.sleep(0.01)
    assert next_one.acquire() == addresses
    assert read(addresses.database_url) == ["committed"]
    assert ping(addresses.redis_url)


def test_a_process_that_was_killed_leaves_its_engines_to_the_next(tmp_path: Path, made: Callable[..., Engines]) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from runtime.engines import Engines;"
        "Engines(Path(sys.argv[1]), durable=False).acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], check=False)
    assert ended.returncode == -signal.SIGKILL
    engines = made(tmp_path / "data")
    pid = engines.postgres_pid()
    assert is_alive(pid)
    engines.acquire()
    assert engines.postgres_pid() == pid
    engines.release()
    assert not is_alive(pid)


def test_a_half_made_cluster_is_made_anew(tmp_path: Path, made: Callable[..., Engines]) -> None:
    half = tmp_path / "data" / "postgres" / "base"
    half.mkdir(parents=True)
    (half / "1").write_text("half")
    write(made(tmp_path / "data").acquire(redis=False).database_url, "a")


def test_a_path_too_long_for_a_socket_still_works(tmp_path: Path, made: Callable[..., Engines]) -> None:
    folder = tmp_path / ("long" * 30)
    engines = made(folder)
    addresses = engines.acquire()
    write(addresses.database_url, "a")
    assert ping(addresses.redis_url)
    run = Path(addresses.redis_url.removeprefix("unix://")).parent
    assert folder not in run.parents
    assert run.stat().st_mode & 0o077 == 0
    engines.release()
    with suppress(OSError):
        for left in run.iterdir():
            left.unlink()
        run.rmdir()


def test_what_is_left_of_a_pid_file_does_not_stop_a_stranger(tmp_path: Path, made: Callable[..., Engines]) -> None:
    """The machine started anew, and the number in the file now belongs to another process: to this one."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "redis.pid").write_text(f"{os.getpid()}\n")
    engines = made(folder)
    assert engines.redis_pid() is None
    assert ping(engines.acquire(postgres=False).redis_url)
    engines.release()
