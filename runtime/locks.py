"""A lock that one process holds in the whole installation, for as long as its connection to PostgreSQL lives."""

import hashlib
import logging
from contextlib import suppress

import psycopg
from sqlalchemy import make_url

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5


class AdvisoryLock:
    """A session-level advisory lock on a connection of its own (PostgreSQL, 13.3.5).

    Losing the connection is losing the lock: `check` tells, and the holder must then stop what the lock protects.
    """

    def __init__(self, database_url: str, name: str) -> None:
        self._conninfo = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._key = int.from_bytes(hashlib.sha256(b"smsgw\0" + name.encode()).digest()[:8], "big", signed=True)
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self._held = False

    async def acquire(self) -> bool:
        """Try once; False if another process holds it. Raises psycopg.OperationalError if the database is away."""
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S,
                keepalives_idle=5, keepalives_interval=2, keepalives_count=3,
            )  # fmt: skip
        cursor = await self._connection.execute("select pg_try_advisory_lock(%s)", [self._key])
        row = await cursor.fetchone()
        self._held = bool(row and row[0])
        return self._held

    async def check(self) -> bool:
        """Whether it is still ours."""
        if not self._held or self._connection is None:
            return False
        try:
            await self._connection.execute("select 1")
        except psycopg.Error:
            self._held = False
            with suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None
        return self._held

    async def release(self) -> None:
        self._held = False
        if self._connection is not None:
            with suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None
