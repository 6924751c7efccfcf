"""Texts from phones: how many a second are kept and acknowledged, and how many are understood, done and answered."""

import time
from typing import Any

from sqlalchemy import text

from addressbook import inbox
from bench.bed import Bed, bed, counted, wait_ready
from smsgw import dialogue
from smsgw.dialogue import ReceivedText

PHONES = 2_000
LIMIT_S = 120.0


def members(under: Bed, phones: int) -> None:
    """Make so many members, as their own START would."""
    for start in range(0, phones, 200):
        texts = [
            ReceivedText(f"+86139{number:08}", f"START Member {chr(65 + number % 26)}", "bench")
            for number in range(start, min(start + 200, phones))
        ]
        under.database.transact(dialogue.answer, texts)
    with under.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("delete from outbox"))
        connection.execute(text("vacuum analyze"))


def _answered(under: Bed) -> int:
    with under.database.engine.connect() as connection:
        query = text("select count(*) from inbox where state = :done")
        return int(connection.execute(query, {"done": int(inbox.State.DONE)}).scalar_one())


def run(kept: int = 60_000, understood: int = 20_000) -> dict[str, Any]:
    """Two runs on one bed: HELP from strangers to be kept, then ADD from members to be done."""
    with bed() as under:
        keeping = _keep(under, kept)
    with bed() as under:
        members(under, PHONES)
        doing = _do(under, understood)
    return {**keeping, **doing}


def _keep(under: Bed, count: int) -> dict[str, Any]:
    """Until the last text is acknowledged; answering them goes on beside it."""
    carrier, smpp_port = under.carrier("--deliver", str(count), "--phones", str(count), "--text", "HELP {n}")
    under.gateway(smpp_port)
    counts = _wait(carrier, count)
    return {
        "kept": count,
        "refused": int(counts["refused"]),
        "kept_per_second": round(count / counts["seconds"]),
    }


def _do(under: Bed, count: int) -> dict[str, Any]:
    carrier, smpp_port = under.carrier(
        "--deliver", str(count), "--phones", str(PHONES), "--text", "ADD Friend {w} 1380{n} Work"
    )
    _, api_port = under.gateway(smpp_port)
    wait_ready(api_port)
    began = time.monotonic()
    before = _answered(under)
    done = before
    while done < count and time.monotonic() - began < LIMIT_S:
        time.sleep(0.1)
        done = _answered(under)
    seconds = time.monotonic() - began
    with under.database.engine.connect() as connection:
        contacts = int(connection.execute(text("select count(*) from contact")).scalar_one())
    counts = counted(carrier)
    return {
        "done": done,
        "contacts": contacts,
        "done_per_second": round((done - before) / seconds),
        "submitted_meanwhile": int(counts["submits"]),
    }


def _wait(carrier: Any, count: int) -> dict[str, float]:
    deadline = time.monotonic() + LIMIT_S
    counts: dict[str, float] = {}
    while time.monotonic() < deadline:
        time.sleep(0.1)
        counts = counted(carrier)
        if counts.get("delivered", 0) >= count:
            break
    return counts


if __name__ == "__main__":
    import json

    print(json.dumps(run(), indent=1))
