"""A gateway's links in the test's own event loop, a carrier with phones beside it, and looks into the database."""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url, text

from addressbook import outbox, tokens
from addressbook.outbox import Kind, Outgoing, State
from runtime.config import Config, load
from simulator import Simulator
from smsgw import gateway
from smsgw.gateway import Desk
from smsgw.smpp_bind import Bind

LI = "+8613900000001"
AMINA = "+254712000001"
PASSWORD = "s3cret"
WAIT_S = 10.0
POLL_S = 0.02


async def until(look: Callable[[], Awaitable[Any]], timeout_s: float = WAIT_S) -> Any:
    """Wait until look() gives something; raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not (seen := await look()):  # noqa: ASYNC110 -- what is looked at tells nobody when it changes
            await asyncio.sleep(POLL_S)
        return seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_base() -> int:
    """A port_base whose API port is free."""
    while True:
        base = 20_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", base + 82))
            return base


class Rig:
    """Makes gateways on one database and one Redis, and stops them; looks at rows as an operator would."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.database_url = database_url
        self.redis_url = redis_url
        self._stack = stack
        self._configs = 0
        self._watcher: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    def config(self, *links: dict[str, Any], **service: Any) -> Config:
        """A configuration in a file, read as the gateway reads it."""
        self._configs += 1
        path = self.folder / f"gateway-{self._configs}.toml"
        sections = [("[service]", {"data_dir": str(self.folder / "data"), "port_base": free_base(), **service})]
        sections += [
            ("[[bind]]", {"name": "carrier-a", "host": "127.0.0.1", "system_id": "smsgw", "password": PASSWORD,
                          "address": "20880", **link})
            for link in links
        ]  # fmt: skip
        lines = []
        for head, values in sections:
            lines += [head, *(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None)]
        path.write_text("\n".join(lines))
        return load(path, {})

    def desk(self, *links: dict[str, Any], **more: Any) -> Desk:
        """What the parts of one gateway process share; closed with the rig."""
        urls = {"database_url": more.pop("database_url", self.database_url),
                "redis_url": more.pop("redis_url", self.redis_url)}  # fmt: skip
        desk = gateway.open_desk(self.config(*links, **more), **urls)
        self._stack.push_async_callback(desk.database.close)
        self._stack.push_async_callback(desk.hot.close)
        self._stack.push_async_callback(desk.bells.close)
        return desk

    async def links(self, *links: dict[str, Any], **more: Any) -> "Links":
        """The links of one process, running."""
        desk = self.desk(*links, **more)
        running = Links(desk, [gateway.make_bind(desk, bind) for bind in desk.config.bind])
        self._stack.push_async_callback(running.stop)
        return running

    async def link(self, network: Simulator, **keys: Any) -> "Links":
        """One link to the network, bound."""
        links = await self.links({"port": network.smpp_port, **keys})
        await links.state("up")
        return links

    async def serve(self, *links: dict[str, Any], **more: Any) -> "Serving":
        """A whole gateway: links, answering, API."""
        desk = self.desk(*links, **more)
        serving = Serving(desk)
        self._stack.push_async_callback(serving.stop)
        await until(serving.listens)
        return serving

    # ---- the database

    async def run(self, statement: str, *values: Any) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        if self._watcher is None or self._watcher.closed:
            url = make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
            self._watcher = await psycopg.AsyncConnection.connect(url, autocommit=True)
            self._stack.push_async_callback(self._watcher.close)
        return await self._watcher.execute(statement, values or None)

    async def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await (await self.run(statement, *values)).fetchall()

    @asynccontextmanager
    async def locked_out(self) -> AsyncIterator[None]:
        """Meanwhile nobody gets into this test's database, and who was in is out."""
        url = make_url(self.database_url)
        admin = await psycopg.AsyncConnection.connect(
            url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False), autocommit=True
        )
        async with admin:
            await admin.execute(f"alter database {url.database} with allow_connections false")
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [url.database]
            )
            try:
                yield
            finally:
                await admin.execute(f"alter database {url.database} with allow_connections true")

    async def close_watcher(self) -> None:
        if self._watcher is not None:
            await self._watcher.close()

    async def states(self, ids: Sequence[int]) -> list[State]:
        rows = await self.rows("select state from outbox where id = any(%s) order by id", list(ids))
        return [State(row[0]) for row in rows]

    async def reached(self, ids: Sequence[int], *expected: State, timeout_s: float = WAIT_S) -> None:
        """Wait until all of them are in one of these states; fails with what they are in instead."""

        async def all_there() -> bool:
            return all(state in expected for state in await self.states(ids))

        try:
            await until(all_there, timeout_s)
        except TimeoutError:
            segments = await self.rows("select outbox_id, number, attempt, message_id, state from segment limit 20")
            parked = await self.rows("select message_id, state from parked_receipt limit 20")
            states = [state.name for state in await self.states(ids)]
            raise AssertionError(f"{states}\nsegments: {segments}\nparked: {parked}") from None

    async def network(self, link: str = "carrier-a") -> tuple[str, str | None]:
        """State and last error as the table of links has them."""
        rows = await self.rows("select state, last_error from network_status where link = %s", link)
        return rows[0] if rows else ("no row", None)

    async def network_says(self, state: str, link: str = "carrier-a", timeout_s: float = 5.0) -> str | None:
        """Wait until the table of links says so: 5 s at most (R4.16). The error beside it."""

        async def said() -> tuple[str, str | None] | None:
            found = await self.network(link)
            return found if found[0] == state else None

        try:
            return (await until(said, timeout_s))[1]
        except TimeoutError:
            raise AssertionError(await self.network(link)) from None

    async def end_backends(self, *, holding_locks: bool) -> int:
        """End the database connections that hold advisory locks, or those that do not; how many."""
        rows = await self.rows(
            """select pg_terminate_backend(pid) from pg_stat_activity a
                where datname = current_database() and pid <> pg_backend_pid()
                  and exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory') = %s""",
            holding_locks,
        )
        return len(rows)


class Links:
    """Running binds of one process."""

    def __init__(self, desk: Desk, binds: list[Bind]) -> None:
        self.desk = desk
        self.binds = binds
        self._stop = asyncio.Event()
        self._killed = False
        self._tasks = [asyncio.create_task(bind.run(self._stop)) for bind in binds]

    @property
    def bind(self) -> Bind:
        return self.binds[0]

    async def state(self, state: str, timeout_s: float = WAIT_S) -> None:
        """Wait until every link is in this state."""

        async def there() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return all(bind.state == state for bind in self.binds)

        try:
            await until(there, timeout_s)
        except TimeoutError:
            raise AssertionError([(bind.state, bind.last_error) for bind in self.binds]) from None

    async def owe(self, *messages: Outgoing) -> list[int]:
        """Queue messages as the API does; their ids."""
        return await self.desk.database.transact(outbox.enqueue, messages)

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks, return_exceptions=self._killed)

    def kill(self) -> None:
        """As kill -9 would: no goodbye, nothing more is written down."""
        self._killed = True
        for task in self._tasks:
            task.cancel()


class Serving:
    """A whole gateway in this event loop."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.url = f"http://127.0.0.1:{desk.config.service.port(82)}"
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(gateway.serve(desk, self._stop))

    async def listens(self) -> bool:
        if self._task.done():
            self._task.result()
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.desk.config.service.port(82))
            writer.close()
            return True
        return False

    async def token(self, *scopes: str) -> str:
        return await self.desk.database.transact(tokens.add, secrets.token_hex(4), scopes or tokens.SCOPES)

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(30):
            await self._task


def one(to: str = LI, words: str = "hello", kind: Kind = Kind.NOTICE, **more: Any) -> Outgoing:
    return Outgoing(to, words.encode(), kind, secrets.token_hex(8), **more)


def campaign(count: int, kind: Kind = Kind.NOTICE, to: str = LI) -> list[Outgoing]:
    """So many different texts to one phone."""
    return [one(to, f"text {place}", kind) for place in range(count)]


def words_of(phone: Any) -> list[str]:
    """What stands in a phone's inbox, oldest first."""
    return [item.text for item in phone.inbox]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


@asynccontextmanager
async def rig_on(folder: Path, database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(folder, database_url, redis_url, stack)


__all__ = ["AMINA", "LI", "PASSWORD", "Links", "Rig", "Serving", "campaign", "free_port", "one", "rig_on", "text",
           "time", "until", "words_of"]  # fmt: skip
