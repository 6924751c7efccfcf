"""The ceiling for sending: the same statements on the same rows, opened and planned, with nothing else around them.

No socket, no session, no window, no receipts to read: claim, open, record as accepted, record as delivered, each on its
own connection, as wide as they go. What the gateway reaches of this is its own doing.
"""

import asyncio
import gc
import time
from typing import Any

import uvloop

from addressbook import outbox
from addressbook.outbox import Accepted, Claimed, Receipt, State
from addressbook.sealed import attach
from addressbook.service import BookSession, session_info
from bench.bed import Bed, bed
from bench.mt import fill
from runtime.database import Database
from smsgw import sms_text
from smsgw.carriers import LinkProfile
from smsgw.gateway import HOT_SETTINGS

CLAIM = 1_000
WRITE = 400  # about what a commit's time collects in the gateway
LINK = "ceiling"


async def _run(under: Bed, count: int) -> float:
    database = Database(
        under.database_url, session_class=BookSession, info=session_info(under.service), settings=HOT_SETTINGS
    )
    attach(database.engine, under.keys)
    accepted: asyncio.Queue[list[Accepted]] = asyncio.Queue(4)
    delivered: asyncio.Queue[list[Receipt]] = asyncio.Queue(4)
    began = time.perf_counter()

    async def claim() -> None:
        while rows := await database.transact(outbox.claim, LINK, CLAIM):
            for start in range(0, len(rows), WRITE):
                await accepted.put(_planned(under, rows[start : start + WRITE]))
        await accepted.put([])

    async def accept() -> None:
        while batch := await accepted.get():
            await database.transact(outbox.record_accepted, LINK, batch, [one.outbox_id for one in batch])
            await delivered.put([Receipt(one.message_id or "", State.DELIVERED, None) for one in batch])
        await delivered.put([])

    async def deliver() -> None:
        while batch := await delivered.get():
            await database.transact(outbox.record_receipts, LINK, batch)

    async with asyncio.TaskGroup() as tasks:
        for part in (claim, accept, deliver):
            tasks.create_task(part())
    seconds = time.perf_counter() - began
    await database.close()
    return count / seconds


def _planned(under: Bed, rows: list[Claimed]) -> list[Accepted]:
    link = LinkProfile()
    planned = []
    for row in rows:
        under.keys.open(b"number", row.number).decode()
        plan = sms_text.plan(under.keys.open(b"text", row.body).decode(), link, reference=row.id & 0xFFFF)
        planned.append(Accepted(row.id, 1, row.attempts, len(plan.segments), str(4_000_000_000 + row.id)))
    return planned


def run(count: int = 100_000) -> dict[str, Any]:
    """Messages a second, from the first claim to the last receipt matched."""
    with bed() as under:
        fill(under, count)
        gc.collect()
        gc.disable()
        try:
            rate = uvloop.run(_run(under, count))
        finally:
            gc.enable()
    return {"messages": count, "messages_per_second": round(rate)}


if __name__ == "__main__":
    print(run())
