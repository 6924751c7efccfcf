"""One edit of a book on an idle system: how long until the carrier has the first submit_sm with the change.

Real processes: gateway, worker (RQ and all), PostgreSQL, Redis, carrier. The edit is the domain command that the pages
and the dialogue use, committed and rung for as the gateway does; the clock runs from before its transaction. Each edit
is in another owner's book, since a second edit of one book waits up to 2 s on purpose.
"""

import asyncio
import json
import select
import statistics
import subprocess
import time
from typing import Any

from sqlalchemy import text

from addressbook import contacts, subscribers
from addressbook.audit import By
from addressbook.contacts import AddContact
from addressbook.sealed import attach
from addressbook.service import BookSession, session_info
from bench.bed import Bed, bed, free_base, line_of, wait_ready
from runtime.bells import Bells
from runtime.database import Database

WARM_UP = 5
REST_S = 0.1  # between edits: the system is idle again
LIMIT_S = 10.0
BY = By("owner", "bench", "bench")
PUSH_JOB = "workers.jobs.plan_pushes"  # as in smsgw.gateway


def start_worker(under: Bed) -> int:
    """A worker beside the bed's gateway; the port of its health page."""
    base = free_base()
    path = under.folder / f"worker-{base}.toml"
    path.write_text(
        f'[service]\ndata_dir = "{under.folder}/data"\nport_base = {base}\nlog_level = "warning"\n', encoding="utf-8"
    )
    under.python("workers", "--config", str(path))
    return base + 84


def came(carrier: "subprocess.Popen[str]", phone: str) -> float:
    """When the carrier got the next message with a header, which must be for this phone."""
    assert carrier.stdout is not None
    if not select.select([carrier.stdout], [], [], LIMIT_S)[0]:
        raise TimeoutError("no submit_sm came")
    stamp: dict[str, Any] = json.loads(line_of(carrier))
    assert stamp["phone"] == phone, "a message for somebody else"
    return float(stamp["at"])


async def edits(under: Bed, carrier: "subprocess.Popen[str]", owners: list[tuple[str, int]]) -> list[float]:
    """Milliseconds of each edit."""
    bells = Bells(under.redis_url, jobs={"pushes": PUSH_JOB})
    database = Database(
        under.database_url, session_class=BookSession, info=session_info(under.service), on_commit=bells.ring
    )
    attach(database.engine, under.keys)
    took = []
    for number, owner_id in owners:
        began = time.monotonic()
        await database.transact(contacts.add, AddContact(owner_id, "张三", "13800138000", BY, ("朋友",)))
        took.append((await asyncio.to_thread(came, carrier, number.removeprefix("+")) - began) * 1_000)
        await asyncio.sleep(REST_S)
    await database.close()
    await bells.close()
    return took[WARM_UP:]


def run(count: int = 100) -> dict[str, Any]:
    """Median and 99th percentile."""
    with bed() as under:
        numbers = [f"+86137{place:08}" for place in range(count + WARM_UP)]
        owners = [
            (number, under.database.transact(subscribers.join, number, words="START", by=BY).id) for number in numbers
        ]
        with under.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze"))
        carrier, smpp_port = under.carrier("--receipt-after-ms", "300", "--stamp")
        _gateway, api_port = under.gateway(smpp_port)
        worker_port = start_worker(under)
        wait_ready(api_port)
        wait_ready(worker_port)
        took = asyncio.run(edits(under, carrier, owners))
        return {
            "edits": count,
            "median_ms": round(statistics.median(took), 1),
            "p99_ms": round(statistics.quantiles(took, n=100)[98], 1),
            "max_ms": round(max(took), 1),
        }


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
