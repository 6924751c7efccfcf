"""kill -9 in the middle of the work: nothing lost, nothing doubled but what nobody could know of, no code twice.

Every message goes to a number of its own, so what the carrier accepted tells which messages came, and how often.

    API batches with keys, again until accepted ─> gateway ─ window always full (answers are slow) ─> simulated carrier
                                                     └ kill -9, a look at what was recorded by then, a new one
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from installation import Installation, Phones, Running, call, wait_for

from addressbook.outbox import Kind, State

pytestmark = pytest.mark.slow

WINDOW = 100
KINDS = ("otp", "notice", "campaign", "reply", "group")
LONG = (
    "This text is long enough to need two parts on its way, because a part of a text has one hundred fifty-three. " * 2
)
FINAL = (State.DELIVERED, State.FAILED, State.EXPIRED, State.CANCELLED, State.UNKNOWN)


def number_of(place: int) -> str:
    return f"+86138{place:08}"


def texts(count: int, first: int = 0) -> list[dict[str, str]]:
    """Messages of all kinds; every tenth is Chinese, every twentieth has two parts."""
    made = []
    for place in range(first, first + count):
        text = LONG if place % 20 == 7 else f"张三的号码 {place}" if place % 10 == 0 else f"Zhang San, message {place}"
        made.append({"to": number_of(place), "text": text, "kind": KINDS[place % len(KINDS)]})
    return made


class Client:
    """Posts batches to the API, each again under its key until it is accepted; through every absence of the gateway."""

    def __init__(
        self, headers: dict[str, str], batches: Sequence[list[dict[str, str]]], *, every_s: float = 0.0
    ) -> None:
        self.ids: list[str] = []
        self.repeats = 0
        self.port = 0  # of the gateway that serves now
        self._headers, self._batches, self._every_s = headers, batches, every_s
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        for place, batch in enumerate(self._batches):
            while not self._stopping and not self._post(place, batch):
                self.repeats += 1
                time.sleep(0.1)
            time.sleep(self._every_s)

    def _post(self, place: int, batch: list[dict[str, str]]) -> bool:
        try:
            status, body = call(
                self.port, "POST", "/v1/messages", {"messages": batch},
                self._headers | {"Idempotency-Key": f"batch-{place}"},
            )  # fmt: skip
        except OSError:
            return False
        assert status in (202, 503), (status, body[:300])
        if status == 202:
            self.ids += json.loads(body)["ids"]
        return status == 202

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        self._stopping = True
        self._thread.join(20)


@dataclass
class Crash:
    """What was known when a process had died: the carrier's newest message, and the numbers of recorded messages."""

    serial: int
    recorded: set[int]


@dataclass
class Run:
    """A carrier, the messages, and what became of them."""

    installation: Installation
    carrier: Phones
    crashes: list[Crash] = field(default_factory=list)

    def crashed(self, dead: Running | None) -> None:
        """Take note of who was recorded, after the dead process's last transaction has ended one way or the other."""
        if dead is not None:
            wait_for("the dead process's link gone", lambda: not self.carrier.links, 10)
            wait_for(
                "the dead process's transactions over",
                lambda: (
                    not self.installation.rows(
                        """select 1 from pg_stat_activity
                            where state <> 'idle' and pid <> pg_backend_pid() and datname = 'smsgw'"""
                    )
                ),
                10,
            )
        newest = self.carrier.counters["accepted"]
        recorded = {
            row[0]
            for row in self.installation.rows(
                """select o.id from outbox o join segment s on s.outbox_id = o.id
                    group by o.id, s.total having count(distinct s.number) = s.total"""
            )
        }
        self.crashes.append(Crash(newest, recorded))

    def submits(self) -> dict[str, list[dict[str, Any]]]:
        """What the carrier accepted, by number."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in self.carrier.messages():
            found["+" + one["to"].removeprefix("+")].append(one)
        return found

    def settle(self, timeout_s: float) -> None:
        """Until no message is queued, under way or without its receipt."""
        wait_for(
            "every message finished",
            lambda: not self.installation.one("select count(*) from outbox where state not in (3, 4, 5, 6, 7)"),
            timeout_s,
        )

    def check(self, ids: Sequence[str], first: int = 0, *, windows: int | None = None) -> Counter[str]:
        """Hold what came to the rules; how much of what."""
        states = dict(self.installation.rows("select id, state from outbox"))
        submits = self.submits()
        counts: Counter[str] = Counter(messages=len(ids))
        doubled_after: Counter[int] = Counter()
        assert len(ids) == len(set(ids)) == len(states)
        for place, number in enumerate(map(int, ids), first):
            came = submits.pop(number_of(place), [])
            parts = Counter(part_of(one) for one in came)
            total = 2 if place % 20 == 7 else 1
            kind, state = Kind[KINDS[place % len(KINDS)].upper()], State(states[number])
            whole = len(parts) == total
            counts[state.name] += 1
            if kind is Kind.OTP:
                assert max(parts.values(), default=0) <= 1, f"a code was sent twice: {came}"
                assert state in (State.DELIVERED, State.UNKNOWN), (place, state)
                counts["codes not sent"] += not whole
            else:
                assert whole, f"message {place} ({kind.name}) is lost: {state.name}, {came}"
                assert state is State.DELIVERED, (place, kind.name, state.name, came)
                assert max(parts.values()) <= 2, f"more than one repeat: {came}"
            if parts and max(parts.values()) > 1:
                counts["doubled"] += 1
                again = max(one["serial"] for one in came)
                crash = max((at for at, crash in enumerate(self.crashes) if crash.serial < again), default=-1)
                assert crash >= 0, f"doubled without a crash: {came}"
                assert number not in self.crashes[crash].recorded, f"doubled though recorded: {came}"
                doubled_after[crash] += 1
        assert not submits, f"to numbers nobody wrote to: {list(submits)[:5]}"
        assert all(count <= WINDOW for count in doubled_after.values()), doubled_after
        return counts


def part_of(message: dict[str, Any]) -> int:
    """Which part of its text this submit_sm is."""
    octets = bytes.fromhex(message["user_data"])
    return octets[5] if message["esm_class"] & 0x40 else 1


def accepted(carrier: Phones, count: int, timeout_s: float = 60.0) -> None:
    wait_for(f"{count} messages at the carrier", lambda: carrier.counters["accepted"] >= count, timeout_s)


def test_ten_kills_of_the_gateway_lose_nothing_and_double_no_code(installation: Installation) -> None:
    count, kills = 20_000, 10
    carrier = installation.simulator(deliver_window=200)
    carrier.faults(answer_delay_s=0.04, receipt_delay_s=0.1)
    run = Run(installation, carrier)
    gateway = installation.gateway(carrier.smpp_port, window=WINDOW)
    assert gateway.config
    client = Client(installation.token(gateway.config), [texts(500, first) for first in range(0, count, 500)])
    client.port = gateway.port
    client.start()
    for kill in range(1, kills + 1):
        accepted(carrier, kill * count // (kills + 2))
        gateway.kill()
        run.crashed(gateway)
        gateway = installation.gateway(config=gateway.config, ready=False)
    client.join(60)
    run.settle(60)
    counts = run.check(client.ids)
    print(dict(counts), f"{client.repeats} batches posted again")
    assert counts["messages"] == count
    # The kills struck: otherwise nothing was proved.
    assert counts["doubled"] + counts["UNKNOWN"] > 0
    assert all(crash.serial < count for crash in run.crashes)


def test_a_kill_of_postgresql_loses_nothing(installation: Installation) -> None:
    count = 4_000
    carrier = installation.simulator(deliver_window=200)
    carrier.faults(answer_delay_s=0.04, receipt_delay_s=0.1)
    run = Run(installation, carrier)
    gateway = installation.gateway(carrier.smpp_port, window=WINDOW)
    assert gateway.config
    client = Client(
        installation.token(gateway.config), [texts(250, first) for first in range(0, count, 250)], every_s=0.15
    )
    client.port = gateway.port
    client.start()
    accepted(carrier, count // 3)
    installation.kill_engine("postgres")
    # What was recorded can only be asked of the new engine; the link may have gone on for as long as its window let it.
    installation.restart_engines()
    run.crashed(None)
    client.join(60)
    run.settle(60)
    counts = run.check(client.ids)
    print(dict(counts), f"{client.repeats} batches posted again")
    assert counts["messages"] == count
    assert client.repeats  # it struck while batches were posted
    assert gateway.process.poll() is None
    installation.wait_ready(gateway)


def test_a_kill_of_redis_delays_at_most(installation: Installation) -> None:
    count = 3_000
    carrier = installation.simulator("+8613900000001:A", deliver_window=200)
    carrier.faults(answer_delay_s=0.04, receipt_delay_s=0.1)
    run = Run(installation, carrier)
    gateway = installation.gateway(carrier.smpp_port, window=WINDOW)
    assert gateway.config
    worker = installation.worker(gateway.config)
    client = Client(installation.token(gateway.config), [texts(250, first) for first in range(0, count, 250)])
    client.port = gateway.port
    client.start()
    accepted(carrier, count // 3)
    installation.kill_engine("redis")
    # Without Redis texts flow on and books reach their phones, by polls.
    carrier.text("8613900000001", "START 小红")
    carrier.wait_text("8613900000001", "欢迎")
    carrier.text("8613900000001", "ADD 张三 13800138000")
    carrier.wait_entry("8613900000001", "张三", 15)
    assert gateway.call("GET", "/readyz")[1]["reasons"].keys() == {"redis"}
    installation.restart_engines()
    client.join(60)
    run.settle(60)
    mine = {one: found for one, found in run.submits().items() if one.startswith("+86138")}
    assert {one: len(found) for one, found in mine.items()} == {
        number_of(place): 2 if place % 20 == 7 else 1 for place in range(count)
    }
    installation.wait_ready(gateway)
    installation.wait_ready(worker)
