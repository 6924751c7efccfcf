"""`python -m workers`: RQ's jobs in the main thread, the rounds in a second, health and metrics in a third.

start   engines -> database, Redis -> rounds, health -> jobs
stop    SIGTERM: the job at hand is finished, then the same backwards

With Redis away the rounds go on and find by themselves what nobody can ring for; the jobs come back with it.
"""

import argparse
import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis
from aiohttp import web
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from sqlalchemy import text

from addressbook.migrations import pending
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, make_service, session_info
from runtime import health, logs
from runtime import keys as key_files
from runtime.config import BadConfig, Config, load
from runtime.database import SyncDatabase
from runtime.engines import EngineFailed, Engines
from workers.jobs import DESK, Desk
from workers.sweep import Rounds

log = logging.getLogger(__name__)

QUEUE = "smsgw"
PORT_OFFSET = 84
JOIN_S = 5.0
RING_WITHIN_S = 1.0
BACK_OFF_FIRST_S, BACK_OFF_MAX_S = 0.2, 3.0
HEARTBEAT_S = 20  # RQ waits 15 s less than this for a job, and 5 s less for any answer of Redis


class Worker(SimpleWorker):  # type: ignore[misc]  # rq is skipped by mypy (pyproject)
    """RQ's worker without a fork for each job, and without orders by Redis: it is told to stop by a signal alone."""

    max_connection_wait_time = BACK_OFF_MAX_S

    def __init__(self, client: Any, stop: threading.Event) -> None:
        queue = Queue(QUEUE, connection=client, serializer=JSONSerializer)
        super().__init__([queue], connection=client, serializer=JSONSerializer, worker_ttl=HEARTBEAT_S)
        self._stop = stop

    def request_stop(self, signum: int, frame: Any) -> None:
        self._stop.set()
        super().request_stop(signum, frame)

    def teardown(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stop.set())  # RQ's own would raise from here on
        super().teardown()

    def subscribe(self) -> None:
        """Take no orders."""

    def unsubscribe(self) -> None:
        """See subscribe."""


def _ping(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, socket_connect_timeout=2, socket_timeout=2) as client:
        client.ping()


def serve_jobs(redis_url: str, stop: threading.Event) -> None:
    """Work in the main thread until `stop`, through every absence of Redis."""

    def asked(_number: int, _frame: Any) -> None:
        stop.set()

    back_off_s = BACK_OFF_FIRST_S
    while not stop.is_set():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, asked)  # the worker's own, which end a wait for a job, hold only while it works
        # RQ waits for a job on one connection; the client's own time-out of 5 s would end that wait as an error.
        with redis.Redis.from_url(redis_url, socket_connect_timeout=2, socket_timeout=HEARTBEAT_S - 5) as client:
            try:
                _ping(redis_url)
                back_off_s = BACK_OFF_FIRST_S
                Worker(client, stop).work(logging_level="WARNING")
            except StopRequested:
                pass  # RQ lets it through while it starts and ends
            except (RedisError, OSError) as error:
                log.warning("no jobs without Redis", extra={"reason": type(error).__name__})
        if not stop.is_set():
            stop.wait(back_off_s)
            back_off_s = min(back_off_s * 2, BACK_OFF_MAX_S)


def open_desk(config: Config, database_url: str, redis_url: str) -> Desk:
    keys_path = config.service.keys_path
    keys = KeyRing(*key_files.load(keys_path), reload=partial(key_files.load, keys_path))
    links = [(bind.address, bind.prefixes) for bind in config.bind]
    service = make_service(keys, config.service.name, config.service.default_region, links)
    database = SyncDatabase(database_url, session_class=BookSession, info=session_info(service))
    attach(database.engine, keys)
    # Rings are tried once and briefly: a Redis that hangs must not hold up the rounds.
    client = redis.Redis.from_url(
        redis_url, socket_timeout=RING_WITHIN_S, socket_connect_timeout=RING_WITHIN_S, retry=Retry(NoBackoff(), 0)
    )
    desk = Desk(database, client, {bind.name: bind.prefixes for bind in config.bind})
    database.on_commit = desk.ring
    return desk


def checks(desk: Desk, rounds: Rounds) -> dict[str, health.Check]:
    """What /readyz asks."""

    def select() -> None:
        with desk.database.engine.connect() as connection:
            connection.execute(text("select 1"))

    async def database() -> str | None:
        try:
            async with asyncio.timeout(health.READY_CHECK_S):
                await asyncio.to_thread(select)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with it, it is not ready
            return f"no answer: {type(error).__name__}"
        return None

    async def redis_() -> str | None:
        try:
            async with asyncio.timeout(health.READY_CHECK_S):
                await asyncio.to_thread(desk.redis.ping)
        except (RedisError, OSError) as error:
            return f"away ({type(error).__name__}): changes wait for the next round"
        return None

    async def rounds_() -> str | None:
        return None if rounds.alive else "the rounds are stuck"

    return {"database": database, "redis": redis_, "rounds": rounds_}


async def _serve_health(config: Config, desk: Desk, rounds: Rounds, up: threading.Event, stop: asyncio.Event) -> None:
    app = web.Application()
    health.add_routes(app, desk.metrics.registry, checks(desk, rounds))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.service.host, config.service.port(PORT_OFFSET)).start()
        up.set()
        await stop.wait()
    finally:
        await runner.cleanup()


@contextmanager
def serving_health(config: Config, desk: Desk, rounds: Rounds) -> Iterator[None]:
    """Health and metrics while the body runs. Raises OSError if the port is taken."""
    loop = asyncio.new_event_loop()
    stop, up = asyncio.Event(), threading.Event()
    failed: list[BaseException] = []

    def body() -> None:
        try:
            loop.run_until_complete(_serve_health(config, desk, rounds, up, stop))
        except OSError as error:
            failed.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            up.set()

    thread = threading.Thread(target=body, name="health")
    thread.start()
    up.wait()
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def making_rounds(desk: Desk, rounds: Rounds) -> Iterator[None]:
    """The rounds' thread while the body runs."""
    thread = threading.Thread(target=rounds.run, name="rounds", daemon=True)
    thread.start()
    try:
        yield
    finally:
        desk.alarm.stop()
        thread.join(JOIN_S)  # a statement that takes longer is rolled back with the process


def serve(config: Config, database_url: str, redis_url: str) -> None:
    """Run until a signal."""
    desk = open_desk(config, database_url, redis_url)
    rounds = Rounds(desk)
    DESK.set(desk)
    with ExitStack() as stack:
        stack.callback(desk.database.close)
        stack.callback(desk.redis.close)
        stack.enter_context(serving_health(config, desk, rounds))
        stack.enter_context(making_rounds(desk, rounds))
        log.info("serving", extra={"port": config.service.port(PORT_OFFSET)})
        serve_jobs(redis_url, threading.Event())
        log.info("stopping")


def main() -> None:
    """Parse the command line, hold the engines, serve."""
    parser = argparse.ArgumentParser(prog="smsgw worker", description="Do what need not be done at once.")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    try:
        config = load(arguments.config)
        logs.set_up(config.service.log_level)
        engines = Engines(config.service.data_path)
        embedded = engines.acquire(postgres=config.service.database_url is None, redis=config.service.redis_url is None)
    except (BadConfig, EngineFailed) as error:
        sys.exit(f"smsgw worker: {error}")
    try:
        database_url = config.service.database_url or embedded.database_url
        if pending(database_url):
            sys.exit("smsgw worker: the database lacks a migration: run `smsgw migrate`")
        serve(config, database_url, config.service.redis_url or embedded.redis_url)
    except key_files.BadKeys as error:
        sys.exit(f"smsgw worker: {error}")
    except OSError as error:
        sys.exit(f"smsgw worker: port {config.service.port(PORT_OFFSET)}: {error.strerror or error}")
    finally:
        engines.release()


if __name__ == "__main__":
    main()
