"""What every benchmark stands on: engines, a migrated database, a carrier and a gateway, each a process of its own."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import psutil

from addressbook.migrations import upgrade
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Service, session_info
from runtime import keys as key_files
from runtime.database import SyncDatabase
from runtime.engines import Engines

WAIT_S = 60.0


@dataclass
class Bed:
    """A fresh installation in a temporary folder."""

    folder: Path
    database_url: str
    redis_url: str
    database: SyncDatabase
    service: Service
    keys: KeyRing
    engines: Engines
    stack: ExitStack

    def python(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start one of our modules; it is ended with the bed."""
        log = self.stack.enter_context((self.folder / f"{module}.log").open("a"))
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=log, text=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        self.stack.callback(end, process)
        return process

    def carrier(self, *arguments: str) -> tuple[subprocess.Popen[str], int]:
        process = self.python("bench.carrier", *arguments)
        return process, int(line_of(process))

    def gateway(self, smpp_port: int, **bind: object) -> tuple[subprocess.Popen[str], int]:
        """Start the gateway with one link; the port of its API."""
        base = free_base()
        keys = {"name": "bench", "host": "127.0.0.1", "port": smpp_port, "system_id": "bench",
                "password": secrets.token_hex(4), "address": "20880", "window": 500, **bind}  # fmt: skip
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        path = self.folder / f"gateway-{base}.toml"
        path.write_text(
            "\n".join([
                "[service]", f'data_dir = "{self.folder}/data"', f"port_base = {base}", 'log_level = "warning"',
                "[[bind]]", *lines, "",
            ])
        )  # fmt: skip
        return self.python("smsgw.gateway", "--config", str(path)), base + 82


@contextmanager
def bed() -> Iterator[Bed]:
    """Make one and clear it away."""
    with tempfile.TemporaryDirectory(prefix="smsgw-bench-") as folder, ExitStack() as stack:
        data = Path(folder) / "data"
        engines = Engines(data)
        addresses = engines.acquire()
        stack.callback(engines.release)
        upgrade(addresses.database_url)
        keys = KeyRing(*key_files.load(data / "keys"))
        service = Service(keys=keys)
        database = SyncDatabase(addresses.database_url, session_class=BookSession, info=session_info(service))
        attach(database.engine, keys)
        stack.callback(database.close)
        yield Bed(Path(folder), addresses.database_url, addresses.redis_url, database, service, keys, engines, stack)


def end(process: subprocess.Popen[str]) -> None:
    """Stop a process of ours, kindly first."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    if process.stdout is not None:
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    output: IO[str] | None = process.stdout
    assert output is not None
    return output.readline()


def counted(carrier: subprocess.Popen[str]) -> dict[str, float]:
    """What the bench carrier counted so far."""
    carrier.send_signal(signal.SIGUSR1)
    return json.loads(line_of(carrier)) or {}


def wait_ready(port: int, *, links: bool = True) -> None:
    """Until the gateway on this API port says that it can do its job, or (links=False) that it is alive."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with (
            suppress(OSError),
            urlopen(f"http://127.0.0.1:{port}/{'readyz' if links else 'healthz'}", timeout=2) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the gateway did not become ready")


def free_base() -> int:
    """A port_base whose ports are free."""
    while True:
        base = 20_000 + secrets.randbelow(20_000)
        with ExitStack() as stack, suppress(OSError):
            for offset in (75, 80, 81, 82, 83, 84):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            return base


def cpu_seconds(pid: int, *, tree: bool = False) -> float:
    """User and system time of a process; with its living children, as PostgreSQL needs."""
    process = psutil.Process(pid)
    total = 0.0
    for one in [process, *(process.children(recursive=True) if tree else [])]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + (times.children_user + times.children_system if tree else 0)
    return total
