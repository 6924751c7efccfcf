"""`python -m smsgw.gateway`: every link of the configuration, the reader of texts, and the API, in one process.

Desk        what the parts share: database, keys, bells, metrics
start       engines -> database -> bells -> links, answering, API
stop        the same backwards: links unbind, what is answered is written down, the locks are let go
"""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from sqlalchemy import text

from addressbook.migrations import pending
from addressbook.sealed import KeyRing, attach
from addressbook.service import BookSession, Service, make_service, session_info
from runtime import keys as key_files
from runtime import logs
from runtime.bells import Bells
from runtime.config import BadConfig, BindConfig, Config, load
from runtime.database import Database
from runtime.engines import EngineFailed, Engines
from runtime.locks import AdvisoryLock
from runtime.tasks import end
from smsgw import http_api
from smsgw.answering import LANES, Answering
from smsgw.asking import Asking
from smsgw.carriers import BadProfile, profile
from smsgw.inbound import Inbound
from smsgw.metrics import Metrics
from smsgw.outbound import Outbound
from smsgw.receipt_desk import ReceiptDesk
from smsgw.smpp_bind import Bind

log = logging.getLogger(__name__)

PUSH_JOB = "workers.jobs.plan_pushes"
STOP_WITHIN_S = 15.0
# Every statement of a link looks up a batch by index. Without statistics, on a table that was empty a minute ago,
# the planner would rather read all of it: 300 µs a receipt instead of 15, measured.
HOT_SETTINGS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "plan_cache_mode": "force_generic_plan",
}


@dataclass(frozen=True)
class Desk:
    """What the parts of this process share."""

    config: Config
    database_url: str
    database: Database
    hot: Database  # the same for the links' own statements, see HOT_SETTINGS
    keys: KeyRing
    service: Service
    bells: Bells
    metrics: Metrics


def open_desk(config: Config, database_url: str, redis_url: str) -> Desk:
    keys_path = config.service.keys_path
    keys = KeyRing(*key_files.load(keys_path), reload=partial(key_files.load, keys_path))
    links = [(bind.address, bind.prefixes) for bind in config.bind]
    service = make_service(keys, config.service.name, config.service.default_region, links)
    bells = Bells(redis_url, jobs={"pushes": PUSH_JOB})
    database, hot = (
        Database(
            database_url, session_class=BookSession, info=session_info(service), on_commit=bells.ring, settings=settings
        )
        for settings in ({}, HOT_SETTINGS)
    )
    attach(database.engine, keys)
    attach(hot.engine, keys)
    return Desk(config, database_url, database, hot, keys, service, bells, Metrics())


def make_bind(desk: Desk, bind: BindConfig) -> Bind:
    """One link with its two halves."""
    link_profile = profile(bind.profile, **bind.override)
    routed = {prefix for other in desk.config.bind for prefix in other.prefixes}
    outbound = Outbound(
        bind.name, bind.carrier or bind.name, bind.address, link_profile, database=desk.hot, keys=desk.keys,
        metrics=desk.metrics,
        window=bind.window, segments_per_second=bind.max_segments_per_second, routes=tuple(bind.prefixes),
        others=tuple(sorted(routed)), rung=desk.bells.event("outbox"), may_send=bind.bind_type != "receiver",
    )  # fmt: skip
    inbound = Inbound(
        bind.name, link_profile, desk.config.service.default_region, database=desk.hot, metrics=desk.metrics
    )
    receipts = ReceiptDesk(
        bind.name, outbound.carrier, outbound.ids, database=desk.hot, keys=desk.keys,
        metrics=desk.metrics.of_link(bind.name),
    )  # fmt: skip
    lock = AdvisoryLock(desk.database_url, f"bind:{bind.name}")
    asking = None
    if link_profile.query_sm and bind.bind_type != "receiver":
        asking = Asking(
            outbound.carrier, bind.address, link_profile, receipts, database=desk.database, keys=desk.keys
        )  # fmt: skip
    return Bind(bind, outbound, receipts, inbound, desk.database, desk.metrics, lock, asking)


async def serve(desk: Desk, stop: asyncio.Event) -> None:
    """Run until `stop`."""
    binds = [make_bind(desk, bind) for bind in desk.config.bind]
    rings = [desk.bells.event("inbox") for _ in range(LANES)]
    answering = Answering(desk.database, AdvisoryLock(desk.database_url, "answering"), rings, desk.metrics)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(desk.database.close)
        stack.push_async_callback(desk.hot.close)
        stack.push_async_callback(desk.bells.close)
        runner = web.AppRunner(http_api.application(desk.database, desk.service, desk.metrics, checks(desk, binds)))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        port = desk.config.service.port(82)
        await web.TCPSite(runner, desk.config.service.host, port).start()
        log.info("serving", extra={"port": port, "links": len(binds)})
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(desk.bells.listen()), tasks.create_task(answering.run())]
            links = [tasks.create_task(bind.run(stop)) for bind in binds]
            try:
                await stop.wait()
                if links:
                    await asyncio.wait(links, timeout=STOP_WITHIN_S)
            finally:
                await end([*background, *links])
        await answering.close()


def checks(desk: Desk, binds: list[Bind]) -> dict[str, Any]:
    """What /readyz asks."""

    async def database() -> str | None:
        try:
            async with asyncio.timeout(2.0), desk.database.engine.connect() as connection:
                await connection.execute(text("select 1"))
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with it, it is not ready
            return f"no answer: {type(error).__name__}"
        return None

    async def redis() -> str | None:
        return None if desk.bells.connected else "away: wake-ups are lost, messages wait for the next look"

    async def links() -> str | None:
        down = [f"{bind.config.name}: {bind.state} ({bind.last_error})" for bind in binds if bind.state != "up"]
        return "; ".join(down) or None

    return {"database": database, "redis": redis, "links": links}


def settle_memory() -> None:
    """Start-up's objects live for ever and messages' objects hold no cycles: collect rarely.

    With the defaults the collector took a third of the gateway's time at full rate (py-spy).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


async def _main(config: Config, database_url: str, redis_url: str) -> None:
    desk = open_desk(config, database_url, redis_url)
    settle_memory()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(desk, stop)


def main() -> None:
    """Parse the command line, hold the engines, serve."""
    parser = argparse.ArgumentParser(prog="smsgw gateway", description="Carry messages between people and carriers.")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    try:
        config = load(arguments.config)
        for bind in config.bind:
            profile(bind.profile, **bind.override)
        logs.set_up(config.service.log_level)
        engines = Engines(config.service.data_path)
        embedded = engines.acquire(postgres=config.service.database_url is None, redis=config.service.redis_url is None)
    except (BadConfig, BadProfile, EngineFailed) as error:
        sys.exit(f"smsgw gateway: {error}")
    try:
        database_url = config.service.database_url or embedded.database_url
        if pending(database_url):
            sys.exit("smsgw gateway: the database lacks a migration: run `smsgw migrate`")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(config, database_url, config.service.redis_url or embedded.redis_url))
    except key_files.BadKeys as error:
        sys.exit(f"smsgw gateway: {error}")
    finally:
        engines.release()


if __name__ == "__main__":
    main()
