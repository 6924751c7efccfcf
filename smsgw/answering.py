"""From the inbox to the answer: what people texted is understood and done, and their replies are owed.

    inbox rows ─ take, a lane at a time ─> dialogue ─> book, outbox: all in one transaction with the row's end
                                              └─ a fault of ours: the batch again, one by one; who broke it gets a word

One process at a time does this for the installation (an advisory lock). It works in lanes by sender: one person's texts
stay in order, and while PostgreSQL works for one lane, Python works for another.
"""

import asyncio
import logging
from contextlib import suppress

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from addressbook import inbox, outbox, subscribers
from addressbook.inbox import Taken
from runtime.database import Database
from runtime.locks import AdvisoryLock
from runtime.tasks import end
from smsgw import dialogue
from smsgw.metrics import Metrics

log = logging.getLogger(__name__)

LANES = 4
BATCH = 100
POLL_S = 2.0
LOCK_RETRY_S = 2.0
LOCK_CHECK_S = 2.0
AFTER_TROUBLE_S = 1.0
EXPIRE_CHECK_S = 30.0

_ = str  # marks words for the catalogue
_AWAY = (OperationalError, InterfaceError, OSError, TimeoutError)


class Answering:
    """The installation's reader of texts, or the one that waits to become it."""

    def __init__(self, database: Database, lock: AdvisoryLock, rings: list[asyncio.Event], metrics: Metrics) -> None:
        assert len(rings) == LANES
        self._database = database
        self._lock = lock
        self._rings = rings  # one event a lane: each clears its own
        self._metrics = metrics

    async def run(self) -> None:
        """Answer until cancelled. Another process takes over when this one loses its lock."""
        while True:
            try:
                if await self._lock.acquire():
                    await self._hold()
            except Exception as error:  # noqa: BLE001 -- no database, no lock: ask again
                log.warning("answering waits", extra={"reason": type(error).__name__})
            await asyncio.sleep(LOCK_RETRY_S)

    async def close(self) -> None:
        await self._lock.release()

    async def _hold(self) -> None:
        """Answer in all lanes for as long as the lock is ours."""
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(self._lane(lane)) for lane in range(LANES)]
            working.append(tasks.create_task(self._expire()))
            try:
                while await self._lock.check():  # noqa: ASYNC110 -- a lost connection tells nobody
                    await asyncio.sleep(LOCK_CHECK_S)
            finally:
                await end(working)

    async def _lane(self, lane: int) -> None:
        ring = self._rings[lane]
        while True:
            ring.clear()
            try:
                if await self._answer_batch(lane) == BATCH:
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await ring.wait()
            except Exception as error:  # noqa: BLE001 -- the texts are in the inbox: look again when the trouble is over
                log.warning("answering failed", extra={"reason": type(error).__name__})
                await asyncio.sleep(AFTER_TROUBLE_S)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_CHECK_S)
            with suppress(*_AWAY):
                await self._database.transact(_tell_incomplete)

    async def _answer_batch(self, lane: int) -> int:
        """Answer up to BATCH texts in one transaction; if one of them breaks it, one by one."""
        try:
            answered = await self._database.transact(_answer, lane, BATCH)
        except _AWAY:
            raise
        except Exception:  # a fault of ours in one text: it must not keep the others waiting
            log.exception("a batch of texts failed: answering them one by one")
            return await self._answer_singly(lane)
        self._metrics.texts.inc(answered)
        return answered

    async def _answer_singly(self, lane: int) -> int:
        for done in range(BATCH):
            try:
                if not await self._database.transact(_answer, lane, 1):
                    return done
                self._metrics.texts.inc()
            except _AWAY:
                raise
            except Exception:  # here it is, whatever it is: say sorry and go on
                log.exception("a text could not be answered")
                self._metrics.texts_broken.inc()
                await self._set_aside(lane)
        return BATCH

    async def _set_aside(self, lane: int) -> None:
        """Its sender gets a word; if not even that can be written, the texts behind it must not wait for ever."""
        try:
            await self._database.transact(_apologise, lane)
        except _AWAY:
            raise
        except Exception:  # the last resort, or the lane stands still for ever
            log.exception("a text could not be apologised for")
            await self._database.transact(_give_up, lane)


def _answer(db: Session, lane: int, count: int) -> int:
    texts = inbox.take(db, count, lane, LANES)
    if texts:
        dialogue.answer(db, [_received(text) for text in texts])
        inbox.finish(db, [text.id for text in texts])
    return len(texts)


def _apologise(db: Session, lane: int) -> None:
    for text in inbox.take(db, 1, lane, LANES):
        _say(
            db, text.sender, _("Sorry, something went wrong here. Please send that again in a few minutes."), text.trace
        )
        inbox.finish(db, [text.id], inbox.State.BROKEN, "a fault of ours")


def _give_up(db: Session, lane: int) -> None:
    inbox.finish(
        db, [text.id for text in inbox.take(db, 1, lane, LANES)], inbox.State.BROKEN, "a fault of ours, not answered"
    )


def _tell_incomplete(db: Session) -> None:
    for lost in inbox.expire_parts(db):
        log.info("parts of a text never came", extra={"missing": lost.missing, "trace": lost.trace})
        _say(db, lost.sender, _("A part of your long text did not arrive. Please send it again."), lost.trace)


def _say(db: Session, to: str, words: str, trace: str) -> None:
    translate = dialogue.texts().translate(subscribers.language_for(to))
    outbox.send(db, to, translate(words), outbox.Kind.REPLY, trace)


def _received(text: Taken) -> dialogue.ReceivedText:
    return dialogue.ReceivedText(text.sender, text.text, text.trace)
