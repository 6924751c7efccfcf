"""What runs in a worker process: RQ's jobs, and the one object that they share.

A job is a ring, not the truth: it says "look", and what there is to do stands in PostgreSQL. So a job that is lost
costs time only (sweep.py looks by itself), and a job that fails is not kept.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from redis.exceptions import RedisError

from addressbook import pushes
from runtime import bells
from runtime.database import SyncDatabase
from smsgw import ota_push

log = logging.getLogger(__name__)

AGAIN_S = 0.05  # a push that is due, but whose owner is being edited: its ring is on the way
AFTER_TROUBLE_S = 1.0


class Metrics:
    """What the worker counts, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.planned = Counter(
            "smsgw_pushes_planned", "Changed books planned for their handset", registry=self.registry
        )
        self.troubles = Counter(
            "smsgw_worker_troubles", "Tasks that failed and are tried again", registry=self.registry
        )
        self.swept = Counter("smsgw_swept", "Rows that a task set right", ["task"], registry=self.registry)


class Alarm:
    """Wakes one thread at a moment that others may bring forward."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at = float("inf")
        self._stopped = False

    def ring_in(self, seconds: float) -> None:
        """Wake the waiter then; an earlier moment stands."""
        with self._changed:
            self._at = min(self._at, time.monotonic() + seconds)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def wait(self, until: float) -> bool:
        """Wait for the moment `until` (monotonic) or the alarm; whether it was the alarm, which is off then."""
        with self._changed:
            while not self._stopped and time.monotonic() < min(until, self._at):
                self._changed.wait(min(until, self._at) - time.monotonic())
            rang = time.monotonic() >= self._at
            if rang:
                self._at = float("inf")
            return rang

    @property
    def stopped(self) -> bool:
        return self._stopped


@dataclass(frozen=True)
class Desk:
    """What the jobs and the sweep of one process share. alarm: when to look for due pushes next."""

    database: SyncDatabase
    redis: Any  # redis.Redis: a class to Python, a generic one to mypy
    links: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the prefixes of each configured link
    alarm: Alarm = field(default_factory=Alarm)
    metrics: Metrics = field(default_factory=Metrics)

    def ring(self, rings: frozenset[str]) -> None:
        """After a commit: wake who waits for this. Never raises; a lost ring is found by a poll."""
        for bell in rings:
            if bell == "pushes":
                self.alarm.ring_in(0)
                continue
            try:
                self.redis.publish(bells.CHANNEL + bell, b"")
            except (RedisError, OSError) as error:
                log.warning("a ring was lost", extra={"bell": bell, "reason": type(error).__name__})


DESK: ContextVar[Desk] = ContextVar("desk")  # RQ calls a job by its name alone; set by workers.__main__


def plan_pushes() -> None:
    """Books changed: bring their handsets up to date."""
    desk = DESK.get()
    try:
        bells.clear_pending(desk.redis, "pushes")
    except (RedisError, OSError) as error:
        log.warning("the mark of a waiting job stays", extra={"reason": type(error).__name__})
    try:
        plan_all(desk)
    except Exception as error:  # RQ would keep its words, which may hold people's data
        desk.metrics.troubles.inc()
        log.warning("planning failed", extra={"reason": type(error).__name__}, exc_info=True)
        desk.alarm.ring_in(AFTER_TROUBLE_S)


def plan_all(desk: Desk) -> int:
    """Plan until nothing is due, and set the alarm for what is due later; how many pushes."""
    planned = 0
    while taken := desk.database.transact(pushes.plan_due, pushes.BATCH_PUSHES, ota_push.plan):
        planned += taken
    desk.metrics.planned.inc(planned)
    next_s = desk.database.transact(pushes.next_due_s)
    if next_s is not None:
        desk.alarm.ring_in(max(next_s, AGAIN_S))
    return planned
