"""100,000 queued texts through one bind: from the first claim to the last receipt matched."""

import time
from typing import Any

import psutil
from sqlalchemy import text

from addressbook import outbox
from addressbook.outbox import Kind, Outgoing
from bench.bed import Bed, bed, counted, cpu_seconds, wait_ready

ENQUEUE_BATCH = 10_000
LIMIT_S = 120.0


def fill(under: Bed, count: int) -> None:
    """Queue texts to as many numbers; every tenth is UCS-2."""
    for start in range(0, count, ENQUEUE_BATCH):
        rows = [
            Outgoing(
                f"+86138{number:08}",
                (
                    "张三的号码是 13800138000" if number % 10 == 0 else "Zhang San is 13800138000, in your group Family"
                ).encode(),
                Kind.CAMPAIGN,
                f"{number:016x}",
            )
            for number in range(start, min(start + ENQUEUE_BATCH, count))
        ]
        under.database.transact(outbox.enqueue, rows)
    with under.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze outbox"))


def delivered(under: Bed) -> int:
    with under.database.engine.connect() as connection:
        return int(connection.execute(text("select count(*) from outbox where state = 3")).scalar_one())


def run(count: int = 100_000) -> dict[str, Any]:
    """Rate, CPU for each message and memory of the gateway."""
    with bed() as under:
        fill(under, count)
        carrier, smpp_port = under.carrier("--receipt-after-ms", "300")
        postgres_pid = under.engines.postgres_pid()
        assert postgres_pid is not None
        gateway, api_port = under.gateway(smpp_port, window=500)
        process = psutil.Process(gateway.pid)
        # Claiming begins with the bind, before the API may answer: what is spent until then is start-up, not work.
        postgres_before = cpu_seconds(postgres_pid, tree=True)
        began, gateway_before = 0.0, 0.0
        peak = 0
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            counts = counted(carrier)
            if not began and counts.get("submits"):
                began, gateway_before = time.monotonic(), cpu_seconds(gateway.pid)
            peak = max(peak, process.memory_info().rss)
            if counts.get("receipts", 0) >= count:
                break
            time.sleep(0.02 if not began else 0.1)
        # The carrier's clock runs from the bind; the last receipt is acknowledged only after it is committed.
        seconds = float(counts["seconds"])
        gateway_cpu = cpu_seconds(gateway.pid) - gateway_before
        postgres_cpu = cpu_seconds(postgres_pid, tree=True) - postgres_before
        done = delivered(under)
        wait_ready(api_port)
        return {
            "messages": count,
            "delivered": done,
            "seconds": round(seconds, 3),
            "messages_per_second": round(done / seconds),
            "gateway_cpu_us": round(gateway_cpu / count * 1e6, 1),
            "postgres_cpu_us": round(postgres_cpu / count * 1e6, 1),
            "gateway_memory_mb": round(peak / 1e6),
        }


if __name__ == "__main__":
    import json

    print(json.dumps(run(), indent=1))
