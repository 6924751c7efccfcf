"""The round that a worker makes by itself: what rings would have done, what crashes left, what is old.

    alarm              pushes that became due (the second edit of a book waits up to 2 s)
    every 2 s          pushes that nobody rang for; what became of those sent
    every 10 s         leases of dead processes, late receipts, forgotten keys; links that are away fail over;
                       finished messages move to the history
    every hour         books of people who left long ago, the trash, days of the history that are over

One process at a time does each of these (an advisory lock for as long as its transaction); planning needs no lock.
A task that fails is tried again at its next time, and hinders no other.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import text
from sqlalchemy.orm import Session

from addressbook import history, messages, network, outbox, pushes, subscribers, trash
from addressbook.audit import By
from workers.jobs import AFTER_TROUBLE_S, Desk, plan_all

log = logging.getLogger(__name__)

FOLLOW_EVERY_S = 2.0
SWEEP_EVERY_S = 10.0
LOOK_BACK = timedelta(minutes=2)  # a claim that commits late is still seen
FAIL_OVER_AFTER_S = 30.0  # a link that reconnects sooner keeps its messages
TIDY_EVERY_S = 3_600.0
TIDY_FIRST_S = 60.0  # not while everything starts
ERASED_AT_ONCE = 20  # people in one transaction
ALIVE_WITHIN_S = 60.0  # a round that takes longer is stuck

_ALONE = text("select pg_try_advisory_xact_lock(hashtextextended('sweep:' || :name, 0))")


def alone(db: Session, name: str, work: Callable[[Session], int]) -> int:
    """Do this unless another process does it at this moment."""
    return work(db) if db.execute(_ALONE, {"name": name}).scalar_one() else 0


class SetRight:
    """What crashes and silence left, since the last look; the first look is at everything."""

    def __init__(self) -> None:
        self._looked_at: datetime | None = None

    def __call__(self, db: Session) -> int:
        began: datetime = db.execute(text("select now()")).scalar_one()
        rows = outbox.sweep(db, self._looked_at) + history.match_late(db) + messages.forget_keys(db)
        self._looked_at = began - LOOK_BACK
        return rows


def fail_over(db: Session, links: Mapping[str, Sequence[str]]) -> int:
    """What waits for a link that is away goes by one that takes any number, if there is one."""
    return outbox.fail_over(db, network.fail_over_routes(db, links, FAIL_OVER_AFTER_S))


def tidy(db: Session) -> int:
    """What is kept no longer."""
    return erase_who_left(db) + trash.empty(db) + history.drop_old(db)


def erase_who_left(db: Session) -> int:
    """Forget people whose time after their STOP is over, unless they have come back at this moment."""
    erased = 0
    for subscriber_id in subscribers.left_long_ago(db, ERASED_AT_ONCE):
        if not subscribers.get(db, subscriber_id, lock=True).member:
            subscribers.erase(db, subscriber_id, By("system", "sweep", "sweep"))
            erased += 1
    return erased


@dataclass(slots=True)
class _Task:
    """Something that is done every so often; at: its next moment (monotonic)."""

    name: str
    every_s: float
    work: Callable[[Session], int]
    at: float


class Rounds:
    """The tasks of one worker process; run() is the body of its thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._plan_at = 0.0
        now = time.monotonic()
        self._tasks = (
            _Task("follow", FOLLOW_EVERY_S, pushes.follow, now),
            _Task("set right", SWEEP_EVERY_S, SetRight(), now),
            _Task("fail over", SWEEP_EVERY_S, partial(fail_over, links=desk.links), now),
            _Task("move", SWEEP_EVERY_S, history.move, now),
            _Task("tidy", TIDY_EVERY_S, tidy, now + TIDY_FIRST_S),
        )
        self.seen_at = now

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.seen_at < ALIVE_WITHIN_S

    def run(self) -> None:
        """Until the alarm is stopped."""
        alarm = self._desk.alarm
        while not alarm.stopped:
            self.seen_at = time.monotonic()
            if self.seen_at >= self._plan_at:
                self._plan()
            for task in self._tasks:
                if time.monotonic() >= task.at and not alarm.stopped:
                    self._do(task)
            if alarm.wait(min(self._plan_at, *(task.at for task in self._tasks))):
                self._plan_at = 0.0

    def _plan(self) -> None:
        self._plan_at = time.monotonic() + FOLLOW_EVERY_S
        try:
            plan_all(self._desk)
        except Exception as error:  # noqa: BLE001 -- the rounds go on, whatever the database's trouble is
            self._trouble("plan", error)
            self._plan_at = time.monotonic() + AFTER_TROUBLE_S

    def _do(self, task: _Task) -> None:
        task.at = time.monotonic() + task.every_s
        try:
            rows = self._desk.database.transact(alone, task.name, task.work)
        except Exception as error:  # noqa: BLE001 -- the rounds go on, whatever the database's trouble is
            self._trouble(task.name, error)
            return
        if rows >= history.MOVED_AT_ONCE:
            task.at = 0.0  # a full batch: there is more
        if rows:
            self._desk.metrics.swept.labels(task.name).inc(rows)

    def _trouble(self, name: str, error: Exception) -> None:
        self._desk.metrics.troubles.inc()
        log.warning("a task failed", extra={"task": name, "reason": type(error).__name__}, exc_info=error)
