"""Several processes of ours as one service: start in order, watch, start again, stop in reverse.

engines ─> migrate ─> each process ─ its /readyz or its port answers ─> one line with its address
a process that ends is started again after a growing pause; SIGTERM and Ctrl-C stop all, the last started first
"""

import http.client
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

from runtime.engines import EngineFailed, Engines

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
STEADY_S = 60.0
POLL_S = 0.05
ENGINES_EVERY_S = 1.0
EVERYWHERE = str(ipaddress.IPv4Address(0))


class StartFailed(Exception):
    """A process did not come up; the message names it and says where its log is."""


@dataclass
class Process:
    """One child: how it is started, where it answers, what is printed about it."""

    name: str
    module: str
    arguments: Sequence[str]
    health_port: int
    shown: str  # its line: address and what it is for
    log: Path
    host: str = "127.0.0.1"
    needs_ready: bool = True  # False: alive is enough (it is ready only when another process is)
    running: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_s: float = field(default=RESTART_FIRST_S)

    def start(self, environment: Mapping[str, str]) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment),
                start_new_session=True,  # Ctrl-C is for the supervisor, who stops them in order
            )  # fmt: skip
        self.started_at = time.monotonic()

    def answers(self) -> bool:
        """Whether its health page says what we wait for."""
        status, _ = get(self.host, self.health_port, "/readyz" if self.needs_ready else "/healthz")
        return status == 200

    def stop(self) -> None:
        if self.running is None:
            return
        if self.running.poll() is None:
            self.running.send_signal(signal.SIGTERM)
            try:
                self.running.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.running.kill()
                self.running.wait()
        self.running = None


class Supervisor:
    """Owns the processes, and minds the embedded engines. `say` prints one line for people."""

    def __init__(self, processes: Sequence[Process], say: Callable[[str], None], engines: Engines) -> None:
        self._engines = engines
        self._engines_at = 0.0
        self.processes = list(processes)
        self.stopping = False
        self._say = say
        self._environment = dict(os.environ)

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def start(self) -> None:
        """Start all at once and wait for each. Raises StartFailed."""
        for process in self.processes:
            process.start(self._environment)
        for process in self.processes:
            self._wait_for(process)
            if not self.stopping:
                self._say(f"{process.name:<10} {process.shown}")

    def _wait_for(self, process: Process) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.stopping and not process.answers():
            assert process.running is not None
            if process.running.poll() is not None:
                raise StartFailed(f"{process.name} ended at once: {last_words(process.log)}")
            if time.monotonic() > deadline:
                _, body = get(process.host, process.health_port, "/readyz")
                raise StartFailed(
                    f"{process.name} is not ready after {START_TIMEOUT_S:.0f} s: {body} (log: {process.log})"
                )
            time.sleep(POLL_S)

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Keep them running until a signal comes or `until` says so."""
        while not self.stopping and not until():
            self._mind_engines()
            for process in self.processes:
                self._mind(process)
            time.sleep(POLL_S)

    def _mind_engines(self) -> None:
        now = time.monotonic()
        if now < self._engines_at:
            return
        self._engines_at = now + ENGINES_EVERY_S
        try:
            for name in self._engines.keep_up():
                self._say(f"{name} had ended: started it again")
        except EngineFailed as error:
            self._say(f"{error}: trying again")

    def _mind(self, process: Process) -> None:
        now = time.monotonic()
        if process.running is not None and process.running.poll() is not None:
            self._say(f"{process.name} ended with status {process.running.returncode}: starting it again")
            if now - process.started_at > STEADY_S:
                process.pause_s = RESTART_FIRST_S
            process.running, process.restart_at = None, now + process.pause_s
            process.pause_s = min(RESTART_MAX_S, process.pause_s * 2)
        elif process.running is None and now >= process.restart_at:
            process.start(self._environment)


def get(host: str, port: int, path: str) -> tuple[int, str]:
    """A GET on a page of ours: status and body; 0 if nobody answers."""
    connection = http.client.HTTPConnection(host if host != EVERYWHERE else "127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(100_000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def last_words(log: Path) -> str:
    """The last line of a log, as a person can read it."""
    with suppress(OSError, IndexError):
        line = log.read_text(errors="replace").strip().splitlines()[-1]
        with suppress(ValueError, TypeError):
            record = json.loads(line)
            return f"{record['what']} {record.get('error', '')}".strip()
        return line
    return f"see {log}"
