"""Wake-ups that may be lost, locks that must not be held by two, and transactions that run again."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from addressbook.service import ring
from runtime.bells import Bells
from runtime.database import Database, SyncDatabase
from runtime.engines import Engines
from runtime.locks import AdvisoryLock

WAIT_S = 5.0


async def until(look: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not look():  # noqa: ASYNC110 -- what is looked at tells nobody when it changes
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(redis_url: str, **more: Any) -> AsyncIterator[Bells]:
    """The bells of a process, heard."""
    bells = Bells(redis_url, **more)
    task = asyncio.create_task(bells.listen())
    try:
        yield bells
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await bells.close()


# ---- bells


async def test_a_ring_is_heard_in_every_process_by_every_waiter(redis_url: str) -> None:
    async with listening(redis_url) as here, listening(redis_url) as there:
        waiters = [here.event("outbox"), here.event("outbox"), there.event("outbox")]
        other = there.event("inbox")
        await until(lambda: here.connected and there.connected)
        await here.ring(frozenset({"outbox"}))
        await until(lambda: all(waiter.is_set() for waiter in waiters))
        assert not other.is_set()


async def test_without_redis_a_ring_is_heard_here_and_costs_nothing(tmp_path: Path) -> None:
    async with listening(f"unix://{tmp_path}/nobody.sock") as bells:
        heard = bells.event("outbox")
        began = time.monotonic()
        for _ in range(50):
            await bells.ring(frozenset({"outbox"}))
        assert heard.is_set()
        assert time.monotonic() - began < 0.5
        assert not bells.connected


async def test_a_redis_that_hangs_holds_up_no_commit(tmp_path: Path) -> None:
    engines = Engines(tmp_path / "data")
    addresses = engines.acquire(postgres=False)
    pid = engines.redis_pid()
    assert pid is not None
    try:
        async with listening(addresses.redis_url) as bells:
            await until(lambda: bells.connected)
            os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            for _ in range(20):
                await bells.ring(frozenset({"outbox"}))
            assert time.monotonic() - began < 1.0
            os.kill(pid, signal.SIGCONT)
    finally:
        os.kill(pid, signal.SIGCONT)
        engines.release()


async def test_after_redis_was_killed_bells_are_heard_again(tmp_path: Path) -> None:
    engines, again = Engines(tmp_path / "data"), Engines(tmp_path / "data")
    addresses = engines.acquire(postgres=False)
    try:
        async with listening(addresses.redis_url) as here, listening(addresses.redis_url) as there:
            heard = there.event("outbox")
            await until(lambda: here.connected and there.connected)
            pid = engines.redis_pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not there.connected)
            await here.ring(frozenset({"outbox"}))
            assert not heard.is_set()
            await asyncio.to_thread(again.acquire, postgres=False)
            await until(lambda: here.connected and there.connected)
            async with asyncio.timeout(WAIT_S):
                while not heard.is_set():  # the first may still be in the pause after the loss
                    await here.ring(frozenset({"outbox"}))
                    await asyncio.sleep(0.05)
    finally:
        again.release()
        engines.release()


async def test_a_bell_with_a_job_makes_one_job_while_it_waits(redis_url: str) -> None:
    async with listening(redis_url, jobs={"pushes": "workers.jobs.plan_pushes"}) as bells:
        for _ in range(3):
            await bells.ring(frozenset({"pushes"}))
        assert await bells.client.llen("rq:queue:smsgw") == 1


# ---- locks


async def test_a_lock_is_held_by_one_at_a_time(database_url: str) -> None:
    first, second = AdvisoryLock(database_url, "bind:a"), AdvisoryLock(database_url, "bind:a")
    other = AdvisoryLock(database_url, "bind:b")
    try:
        assert await first.acquire()
        assert not await second.acquire()
        assert await other.acquire()
        assert (await first.check(), await second.check(), await other.check()) == (True, False, True)
        await first.release()
        assert not await first.check()
        assert await second.acquire()
    finally:
        for lock in (first, second, other):
            await lock.release()


async def test_a_lock_is_lost_with_its_connection_and_another_gets_it(database_url: str) -> None:
    first, second = AdvisoryLock(database_url, "bind:a"), AdvisoryLock(database_url, "bind:a")
    try:
        assert await first.acquire()
        conninfo = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        assert not await first.check()
        assert await second.acquire()
        assert not await first.acquire()
        assert await second.check()
    finally:
        await first.release()
        await second.release()


async def test_without_a_database_there_is_no_lock(tmp_path: Path) -> None:
    lock = AdvisoryLock(f"postgresql://postgres@/x?host={tmp_path}", "bind:a")
    assert not await lock.check()
    with pytest.raises(psycopg.OperationalError):
        await lock.acquire()
    await lock.release()


# ---- transactions


def _write(db: Session, value: str) -> None:
    db.execute(text("insert into stopped (number_digest) values (:value)"), {"value": value.encode()})
    ring(db, "outbox")


def _count(db: Session) -> int:
    return int(db.execute(text("select count(*) from stopped")).scalar_one())


async def test_a_transaction_that_fails_leaves_nothing_and_rings_nothing(database: Database) -> None:
    rung: list[frozenset[str]] = []

    async def note(bells: frozenset[str]) -> None:
        rung.append(bells)

    database.on_commit = note

    def broken(db: Session) -> None:
        _write(db, "a")
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        await database.transact(broken)
    with pytest.raises(IntegrityError):
        await database.transact(lambda db: (_write(db, "a"), _write(db, "a")))
    assert (await database.transact(_count), rung) == (0, [])


async def test_bells_ring_after_the_commit(database: Database) -> None:
    seen: list[int] = []

    async def look(_: frozenset[str]) -> None:
        seen.append(await database.transact(_count))

    database.on_commit = look
    await database.transact(_write, "a")
    assert seen == [1]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_deadlock_is_run_again_and_both_succeed(database_url: str, database: Database, kind: str) -> None:
    sync = SyncDatabase(database_url)
    await database.transact(lambda db: (_write(db, "a"), _write(db, "b")))
    meeting = threading.Barrier(2, timeout=WAIT_S)
    runs = {"ab": 0, "ba": 0}

    def cross(db: Session, order: str) -> str:
        runs[order] += 1
        for place, key in enumerate(order):
            db.execute(text("update stopped set since = now() where number_digest = :key"), {"key": key.encode()})
            if place == 0 and runs[order] == 1:
                with contextlib.suppress(threading.BrokenBarrierError):
                    meeting.wait()
        return order

    def by_thread(order: str) -> str:
        if kind == "sync":
            return sync.transact(cross, order)

        async def once() -> str:
            own = Database(database_url)
            try:
                return await own.transact(cross, order)
            finally:
                await own.close()

        return asyncio.run(once())

    results = await asyncio.gather(asyncio.to_thread(by_thread, "ab"), asyncio.to_thread(by_thread, "ba"))
    sync.close()
    assert results == ["ab", "ba"]
    assert sum(runs.values()) == 3  # one of them lost, once


async def test_a_race_that_is_lost_again_and_again_ends(database: Database) -> None:
    runs = 0

    def always_deadlocked(db: Session) -> None:
        nonlocal runs
        runs += 1
        db.execute(text("do $$ begin raise exception using errcode = '40P01', message = 'deadlock'; end $$"))

    with pytest.raises(OperationalError):
        await database.transact(always_deadlocked)
    assert runs == 3


async def test_a_statement_does_not_wait_for_a_lock_for_ever(database_url: str, database: Database) -> None:
    await database.transact(_write, "a")
    assert await database.transact(lambda db: db.execute(text("show lock_timeout")).scalar_one()) == "5s"
    assert await database.transact(lambda db: db.execute(text("show statement_timeout")).scalar_one()) == "30s"


async def test_many_transactions_at_once_share_the_pool(database_url: str) -> None:
    small = Database(database_url, pool_size=2)
    try:
        counts = await asyncio.gather(*[small.transact(_count) for _ in range(50)])
        assert counts == [0] * 50
    finally:
        await small.close()
