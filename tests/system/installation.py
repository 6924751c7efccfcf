"""A whole installation of real processes in a folder of its own: engines, carrier, gateways, worker.

    with Installation(folder) as one:
        carrier = one.simulator("+8613900000001:A")
        gateway = one.gateway(carrier.smpp_port)
        one.wait_ready(gateway)

Every process is ended by its id; what a process wrote stands in its log file.
"""

import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import psycopg

from addressbook.migrations import upgrade
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Service, session_info
from bench.bed import free_base
from runtime import keys as key_files
from runtime.database import SyncDatabase
from runtime.engines import Engines

READY_S = 60.0
STOP_S = 25.0
POLL_S = 0.03

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """What `look` finds, as soon as it is something; fails naming what did not come."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(POLL_S)


def call(
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
) -> tuple[int, bytes]:
    """One HTTP request to loopback: status and body. A body that is not octets goes as JSON. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


@dataclass
class Running:
    """One process of ours."""

    process: subprocess.Popen[str]
    log: Path
    port: int = 0  # of its pages
    smpp_port: int = 0
    config: Path | None = None

    def kill(self) -> None:
        """As a crash: no chance to say goodbye."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_S) -> int:
        """Ask it to end; its status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.log.name} did not end within {timeout_s:.0f} s: {self.tail()}") from None

    def close(self) -> None:
        with suppress(AssertionError):
            self.stop()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2_000:]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """A request to its pages; the body of the answer as JSON."""
        status, data = call(self.port, method, path, body, headers)
        return status, json.loads(data) if data else None


class Phones(Running):
    """The simulated carrier with its phones."""

    def get(self, path: str) -> Any:
        return self.call("GET", path)[1]

    def faults(self, **changes: object) -> None:
        status, body = self.call("PUT", "/api/faults", changes)
        assert status == 200, body

    def add(self, number: str, label: str = "", profile: str = "s30plus") -> None:
        status, body = self.call("POST", "/api/handsets", {"msisdn": number, "label": label, "profile": profile})
        assert status == 201, body

    def text(self, number: str, words: str) -> None:
        """The owner of this phone texts the service."""
        status, body = self.call("POST", f"/api/handsets/{number}/send", {"text": words})
        assert status == 202, body

    def phone(self, number: str) -> Any:
        return self.get(f"/api/handsets/{number}")

    def texts(self, number: str) -> list[str]:
        return [item["text"] for item in self.phone(number)["inbox"] if item["kind"] == "text"]

    def wait_text(self, number: str, pattern: str, timeout_s: float = 20.0) -> str:
        """The first text on this phone that matches."""
        try:
            return wait_for(
                f"a text like {pattern!r}",
                lambda: next((one for one in self.texts(number) if re.search(pattern, one, re.DOTALL)), None),
                timeout_s,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; there are {self.texts(number)}") from None

    def said(self, number: str, words: str, pattern: str, timeout_s: float = 20.0) -> str:
        """Text the service from an emptied inbox and wait for the answer."""
        self.call("DELETE", f"/api/handsets/{number}/inbox")
        self.text(number, words)
        return self.wait_text(number, pattern, timeout_s)

    def wait_entry(self, number: str, name: str, timeout_s: float = 20.0) -> Any:
        return wait_for(
            f"{name!r} in the phone book",
            lambda: next((one for one in self.phone(number)["phonebook"] if name in one["name"]), None),
            timeout_s,
        )

    @property
    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.get("/api/links")["counters"]
        return counters

    @property
    def links(self) -> list[dict[str, Any]]:
        links: list[dict[str, Any]] = self.get("/api/links")["links"]
        return links

    def messages(self, after: int = 0) -> list[dict[str, Any]]:
        """Every submit_sm that was accepted, oldest first."""
        messages: list[dict[str, Any]] = self.get(f"/api/messages?after={after}")["messages"]
        return messages


class Installation:
    """Durable engines, migrated, and what is started on them; a context from folder to nothing left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.password = secrets.token_hex(4)
        self.engines = Engines(self.data)
        self.processes: list[Running] = []
        self._stack = ExitStack()
        self._names: dict[str, int] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            addresses = self.engines.acquire()
            stack.callback(self._stop_engines)
            self.database_url, self.redis_url = addresses.database_url, addresses.redis_url
            upgrade(self.database_url)
            self.keys = KeyRing(*key_files.load(self.data / "keys"))
            self.service = Service(keys=self.keys)
            self.database = SyncDatabase(self.database_url, session_class=BookSession, info=session_info(self.service))
            attach(self.database.engine, self.keys)
            stack.callback(self.database.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        assert not processes_of(self.folder)
        if kind is None:
            for one in self.processes:
                # An error that we foresaw is a record; only one that nobody foresaw is printed by Python itself.
                assert "Traceback (most recent call last)" not in one.log.read_text(errors="replace"), one.tail()

    def _stop_engines(self) -> None:
        self.engines.release()
        self.engines.stop()

    def kill_engine(self, name: str) -> None:
        """kill -9 of "postgres" (the postmaster) or "redis"."""
        pid_of = {"postgres": self.engines.postgres_pid, "redis": self.engines.redis_pid}[name]
        pid = pid_of()
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{name} gone", lambda: pid_of() is None, 10)

    def restart_engines(self) -> None:
        """As the start of any process of the installation does: what is gone is started, what runs is adopted."""
        before, self.engines = self.engines, Engines(self.data)
        self.engines.acquire()
        before.release()

    def start(self, name: str, module: str, *arguments: str, kind: type[Running] = Running, **environment: str) -> Any:
        """Start a module of ours with a log of its own."""
        self._names[name] = count = self._names.get(name, 0) + 1
        log = self.folder / f"{name}-{count}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=file, text=True, env=clean_environment() | environment,
            )  # fmt: skip
        running = kind(process, log)
        self.processes.append(running)
        self._stack.callback(running.close)
        return running

    def simulator(self, *phones: str, **options: object) -> Phones:
        """A carrier that lets us in, with these phones ("NUMBER:LABEL:PROFILE")."""
        password = self.folder / "simulator.password"
        password.write_text(self.password)
        given = [part for phone in phones for part in ("--handset", phone)]
        given += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        simulator: Phones = self.start(
            "simulator", "simulator", "--smpp-port", "0", "--http-port", "0", "--password-file", str(password), *given,
            kind=Phones,
        )  # fmt: skip
        assert simulator.process.stdout is not None
        line = simulator.process.stdout.readline()
        assert line, simulator.tail()
        ports = json.loads(line)
        simulator.port, simulator.smpp_port = ports["http"], ports["smpp"]
        return simulator

    def config(self, smpp_port: int | None, *, service: Mapping[str, object] | None = None, **bind: object) -> Path:
        """Write a configuration on free ports with at most one link."""
        base = free_base()
        lines = ["[service]", *_toml({"data_dir": str(self.data), "port_base": base} | dict(service or {}))]
        if smpp_port is not None:
            keys = {"name": "carrier-a", "host": "127.0.0.1", "port": smpp_port, "system_id": "smsgw",
                    "password": self.password, "address": "20880"}  # fmt: skip
            lines += ["[[bind]]", *_toml(keys | bind)]
        path = self.folder / f"config-{base}.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def gateway(
        self, smpp_port: int | None = None, *, config: Path | None = None, ready: bool = True, **bind: object
    ) -> Running:
        """Start a gateway, by default one that is ready when this returns."""
        path = config or self.config(smpp_port, **bind)
        running: Running = self.start("gateway", "smsgw.gateway", "--config", str(path))
        running.config, running.port = path, _base(path) + 82
        if ready:
            self.wait_ready(running)
        return running

    def worker(self, config: Path) -> Running:
        running: Running = self.start("worker", "workers", "--config", str(config))
        running.config, running.port = config, _base(config) + 84
        self.wait_ready(running)
        return running

    def wait_ready(self, running: Running, path: str = "/readyz") -> None:
        """Until it says that it can do its job; fails with its log if it ended."""

        def look() -> bool:
            assert running.process.poll() is None, running.tail()
            with suppress(OSError):
                return call(running.port, "GET", path)[0] == 200
            return False

        wait_for(f"{running.log.name} ready", look, READY_S)

    def token(self, config: Path, name: str = "test") -> dict[str, str]:
        """Make a token of the API; the header that carries it."""
        made = smsgw("--config", str(config), "token", "add", name)
        assert made.returncode == 0, made.stderr
        return {"Authorization": f"Bearer {made.stdout.strip()}"}

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database, as a person with psql would."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]  # queries of tests

    def one(self, query: str, *values: object) -> Any:
        return self.rows(query, *values)[0][0]


def smsgw(*arguments: str, timeout_s: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False,
        env=clean_environment() | environment,
    )  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("smsgw")), *arguments]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SMSGW_")}


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name this folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line and process.info["pid"] != os.getpid() and process.info["status"] != "zombie":
            found.append(f"{process.info['pid']} {line}")
    return found


def _toml(values: Mapping[str, object]) -> list[str]:
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


def _base(config: Path) -> int:
    found = re.search(r"port_base = (\d+)", config.read_text())
    assert found
    return int(found[1])
