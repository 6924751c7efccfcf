"""`smsgw demo`: the whole service on loopback with the simulated carrier; the story is played, then it serves.

Each start begins with an empty database of its own: the simulated phones are new each time, so what we believe about
them must be new too.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runtime.command import DEMO_PHONES, acquire, make_password, migrate, service_processes, simulator_arguments
from runtime.config import load
from runtime.engines import Engines, fresh_database, make_data_dir
from runtime.supervisor import Process, StartFailed, Supervisor

STORY_TIMEOUT_S = 240.0


def run(data_dir: Path | None, port_base: int | None, *, leave: bool) -> int:
    """Start all, play the story, serve until a signal comes (or leave at once). The story's status."""
    began = time.monotonic()
    folder = (data_dir or Path("~/.local/share/smsgw-demo")).expanduser().resolve()
    make_data_dir(folder)
    path = _write_config(folder, port_base)
    config = load(path, {})
    engines = Engines(folder)
    addresses = acquire(engines, config)
    try:
        fresh_database(addresses.database_url)
        migrate(addresses.database_url)
        _say(f"{'postgres':<10} {folder}/run  embedded, migrated")
        _say(f"{'redis':<10} {addresses.redis_url}  embedded")
        host = config.service.host
        page, smpp = config.service.port(83), config.service.port(75)
        simulator = Process(
            "simulator", "simulator", simulator_arguments(config, DEMO_PHONES), page,
            f"http://{host}:{page}/  phones; the carrier's SMPP at {host}:{smpp}", folder / "log" / "simulator.log",
        )  # fmt: skip
        with Supervisor(
            [simulator, *service_processes(config, ["--config", str(path)], links_must_stand=True)], _say, engines
        ) as supervisor:
            try:
                supervisor.start()
            except StartFailed as error:
                print(f"smsgw demo: {error}", file=sys.stderr)
                return 1
            _say(f"started in {time.monotonic() - began:.1f} s\n")
            status = _story(supervisor, config.service.port, path, addresses.database_url)
            if not leave and not supervisor.stopping:
                _say(f"\nserving: open http://{host}:{page}/ to use the phones; Ctrl-C ends")
                supervisor.watch()
            return status
    finally:
        engines.release()


def _story(supervisor: Supervisor, port: Callable[[int], int], config: Path, database_url: str) -> int:
    token = subprocess.run(
        [sys.executable, "-m", "smsgw.tokens", "--config", str(config), "add", "story"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    story = subprocess.Popen(
        [sys.executable, "-m", "simulator.story", "--simulator", f"http://127.0.0.1:{port(83)}",
         "--gateway", f"http://127.0.0.1:{port(82)}"],
        env={**os.environ, "SMSGW_STORY_TOKEN": token, "SMSGW_DATABASE_URL": database_url},
        start_new_session=True,  # Ctrl-C is for the supervisor, who ends it
    )  # fmt: skip
    deadline = time.monotonic() + STORY_TIMEOUT_S
    supervisor.watch(until=lambda: story.poll() is not None or time.monotonic() > deadline)
    if story.poll() is None:
        story.terminate()
        story.wait()
        return 1
    return story.returncode


def _write_config(folder: Path, port_base: int | None) -> Path:
    path = folder / "demo.toml"
    smpp = 2775 if port_base is None else port_base + 75
    lines = [
        "[service]",
        f'data_dir = "{folder}"',
        *([f"port_base = {port_base}"] if port_base is not None else []),
        "[[bind]]",
        'name = "simulator"',
        'host = "127.0.0.1"',
        f"port = {smpp}",
        'system_id = "smsgw"',
        f'password_file = "{folder}/simulator.password"',
        'address = "20880"',
    ]
    path.write_text("\n".join(lines) + "\n")
    make_password(folder / "simulator.password")
    return path


def _say(line: str) -> None:
    print(line, flush=True)
