"""One door to PostgreSQL: a transaction is a function.

    await database.transact(contacts.add, command)      async processes
    database.transact(contacts.add, command)             workers (SyncDatabase)

The function gets a Session, runs on it and returns; then the commit, then the rings. It may run again after a
deadlock or a lost serialisation race, so it must do nothing but SQL.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Ring = Callable[[frozenset[str]], Awaitable[None]]

STATEMENT_TIMEOUT_MS = 30_000  # the longest set-based statement takes well under a second
LOCK_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
TRIES_MAX = 3
# Class 40: serialization_failure, deadlock_detected (PostgreSQL, appendix A)
_RETRIED = frozenset({"40001", "40P01"})


def driver_url(url: str) -> str:
    """The same database by the one driver that we use."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _options(settings: Mapping[str, str]) -> dict[str, str]:
    limits = {
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
        "timezone": "UTC",
        **settings,
    }
    return {"options": " ".join(f"-c {name}={value}" for name, value in limits.items())}


def is_unreachable(error: BaseException) -> bool:
    """Whether the database is away (try later), rather than unhappy with a statement."""
    return isinstance(error, OperationalError | OSError)


class Database:
    """For processes with an event loop. `on_commit` gets the rings that a transaction collected."""

    def __init__(
        self,
        url: str,
        *,
        session_class: type[Session] = Session,
        info: Mapping[str, Any] | None = None,
        pool_size: int = 10,
        settings: Mapping[str, str] | None = None,
        on_commit: Ring | None = None,
    ) -> None:
        self.engine: AsyncEngine = create_async_engine(
            driver_url(url), pool_size=pool_size, max_overflow=0, pool_timeout=10, connect_args=_options(settings or {})
        )
        self.on_commit = on_commit
        self._sessions, self._single = (
            async_sessionmaker(
                engine, class_=AsyncSession, sync_session_class=session_class, info=dict(info or {}),
                expire_on_commit=False,
            )
            for engine in (self.engine, self.engine.execution_options(isolation_level="AUTOCOMMIT"))
        )  # fmt: skip

    async def transact(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work in one transaction; its exceptions roll back and pass through."""
        for tries_left in range(TRIES_MAX - 1, -1, -1):
            async with self._sessions() as session:
                try:
                    async with session.begin():
                        result = await session.run_sync(work, *args, **kwargs)
                except OperationalError as error:
                    if getattr(error.orig, "sqlstate", None) not in _RETRIED or not tries_left:
                        raise
                    log.info("transaction lost a race, running it again", extra={"sqlstate": error.orig.sqlstate})  # type: ignore[union-attr]  # psycopg's errors have it
                    await asyncio.sleep(0.005)
                    continue
                rings = session.info.pop("rings", None)
            if rings and self.on_commit is not None:
                await self.on_commit(frozenset(rings))
            return result
        raise AssertionError("the last try returns or raises")

    async def once(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that is one statement, which commits by itself: one round trip instead of four.

        Under load a round trip costs what the event loop has to do before it comes back to it. Work that turns out to
        be several statements commits each; it must be harmless to run again from the start.
        """
        async with self._single() as session:
            result = await session.run_sync(work, *args, **kwargs)
            rings = session.info.pop("rings", None)
        if rings and self.on_commit is not None:
            await self.on_commit(frozenset(rings))
        return result

    async def close(self) -> None:
        await self.engine.dispose()


class SyncDatabase:
    """The same for processes without an event loop. Rings are returned to `on_commit` too."""

    def __init__(
        self,
        url: str,
        *,
        session_class: type[Session] = Session,
        info: Mapping[str, Any] | None = None,
        on_commit: Callable[[frozenset[str]], None] | None = None,
        pool_size: int = 2,
    ) -> None:
        self.engine: Engine = create_engine(
            driver_url(url), pool_size=pool_size, max_overflow=2, connect_args=_options({})
        )
        self.on_commit = on_commit
        self._sessions = sessionmaker(self.engine, class_=session_class, info=dict(info or {}), expire_on_commit=False)

    def transact(self, work: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        for tries_left in range(TRIES_MAX - 1, -1, -1):
            with self._sessions() as session:
                try:
                    with session.begin():
                        result = work(session, *args, **kwargs)
                except OperationalError as error:
                    if getattr(error.orig, "sqlstate", None) not in _RETRIED or not tries_left:
                        raise
                    time.sleep(0.005)
                    continue
                rings = session.info.pop("rings", None)
            if rings and self.on_commit is not None:
                self.on_commit(frozenset(rings))
            return result
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        self.engine.dispose()
