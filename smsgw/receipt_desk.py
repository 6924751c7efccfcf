"""Delivery receipts of one link, matched to what was sent, a batch at a time.

    deliver_sm ─ parse ─> told ─ flush, one transaction ─> segment and outbox rows ─> deliver_sm_resp
                                      └─ names nothing yet: parked, matched when its answer has been recorded

This runs beside the writing down of answers (outbound.py), on a connection of its own: a link that answers slowly must
not hold up the window.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.orm import Session

from addressbook import outbox
from addressbook.outbox import Candidate, Receipt, State
from addressbook.sealed import KeyRing
from runtime.database import Database
from smsgw import receipts
from smsgw.metrics import LinkMetrics
from smsgw.pdu import ShortMessage
from smsgw.smpp_session import Session as Link

log = logging.getLogger(__name__)

PARKED_CHECK_S = 1.0
DATABASE_AWAY_S = 0.5

FINAL_STATES = {
    "delivered": State.DELIVERED,
    "expired": State.EXPIRED,
    "deleted": State.FAILED,
    "undeliverable": State.FAILED,
    "rejected": State.FAILED,
}


class Told(NamedTuple):
    """A final receipt as it came: which messages it may be about, and what it says."""

    message_id: str
    keys: tuple[str, ...]  # likeliest first
    phone: str  # digits
    state: State
    error: str | None


@dataclass(slots=True)
class _Unmatched:
    told: list[Told] = field(default_factory=list)
    owed: list[tuple[Link, Callable[[], None], int]] = field(default_factory=list)


def reference_key(reference: int, digits: str) -> str:
    """By what a message is found on a link whose ids are useless; the digits keep two phones apart."""
    return f"ref:{reference}:{digits[-6:]}"


class ReceiptDesk:
    """Takes the receipts of one link. carrier: whose message ids they name; ids: what the link taught us of them."""

    def __init__(
        self, link: str, carrier: str, ids: receipts.IdMatcher, *, database: Database, keys: KeyRing,
        metrics: LinkMetrics,
    ) -> None:  # fmt: skip
        self._link = link
        self._carrier = carrier
        self._ids = ids
        self._database = database
        self._keys = keys
        self._metrics = metrics
        self._unmatched = _Unmatched()
        self._dirty = asyncio.Event()
        self._parked = True  # perhaps by a process before this one

    def take(
        self, session: Link, write: Callable[[], None], sequence: int, receipt: receipts.Receipt, message: ShortMessage
    ) -> None:
        """One receipt; it is acknowledged after its commit. `write` puts the session's answers on the socket."""
        if receipt.final:
            keys = self._ids.receipt_keys(receipt.message_id)
            # Some carriers do not swap the addresses: the phone's is the longer one.
            phone = max(message.source.digits, message.destination.digits, key=len).removeprefix("+")
            if receipt.user_message_reference is not None:
                keys = (*keys, reference_key(receipt.user_message_reference, phone))
            if keys:
                state = FINAL_STATES[receipt.state]
                error = None if state is State.DELIVERED else f"{receipt.stat} {receipt.err or ''}".strip()[:40]
                self._unmatched.told.append(Told(receipt.message_id, keys, phone, state, error))
        self._unmatched.owed.append((session, write, sequence))
        self._dirty.set()

    def tell(self, told: Told) -> None:
        """What a carrier said when it was asked (asking.py): nobody waits for an acknowledgement."""
        self._unmatched.told.append(told)
        self._dirty.set()

    async def flush_forever(self) -> None:
        """Match what came, as fast as commits go; ends when cancelled."""
        while True:
            try:
                async with asyncio.timeout(PARKED_CHECK_S if self._parked else None):
                    await self._dirty.wait()
            except TimeoutError:
                pass
            self._dirty.clear()
            await self.flush()

    async def flush(self) -> None:
        """Match all that came, in one statement where that is enough; tried again until the database takes it."""
        batch, self._unmatched = self._unmatched, _Unmatched()
        if not batch.owed and not batch.told and not self._parked:
            return
        while True:
            try:
                if not await self._match_at_once(batch.told):
                    self._parked = await self._database.transact(self._match, batch.told)
                break
            except Exception as error:  # noqa: BLE001 -- unacknowledged, it would come again; whatever the trouble is, wait
                log.warning("matching receipts failed", extra={"link": self._link, "reason": type(error).__name__})
                await asyncio.sleep(DATABASE_AWAY_S)
        self._metrics.receipts.inc(len(batch.told))
        # The answers to a closed session go nowhere: its receipts come again, and change nothing then.
        for session, write in {id(owed[0]): owed[:2] for owed in batch.owed}.values():
            session.answer([sequence for owed_to, _, sequence in batch.owed if owed_to is session])
            write()

    async def _match_at_once(self, told: list[Told]) -> bool:
        """The usual case, in one statement: every id can be read in one way and names a short message."""
        if self._parked or not self._ids.settled:
            return False
        receipts = [Receipt(one.keys[0], one.state, one.error) for one in told]
        return not receipts or await self._database.once(outbox.record_short_receipts, self._carrier, receipts)

    def _match(self, db: Session, told: list[Told]) -> bool:
        """Whether receipts are parked that may match later."""
        missed = self._by_first_key(db, told) if self._ids.settled else told
        if missed:
            missed = self._by_any_key(db, missed)
        if missed:
            log.info("receipts parked", extra={"link": self._link, "receipts": len(missed)})
            outbox.park(db, self._carrier, self._candidates(missed))
        if not (self._parked or missed):
            return False
        outbox.match_parked(db, self._carrier)
        return outbox.any_parked(db, self._carrier)

    def _by_first_key(self, db: Session, told: list[Told]) -> list[Told]:
        """Where a receipt's id can be read in one way only, the id alone is enough."""
        missed = set(
            outbox.record_receipts(db, self._carrier, [Receipt(one.keys[0], one.state, one.error) for one in told])
        )
        return [one for one in told if one.keys[0] in missed] if missed else []

    def _by_any_key(self, db: Session, told: list[Told]) -> list[Told]:
        """Where it can be read in several, the number must agree."""
        found = outbox.resolve(db, self._carrier, self._candidates(told))
        for place, key in found.items():
            self._ids.matched(told[place].message_id, key)
        outbox.record_receipts(
            db, self._carrier, [Receipt(key, told[place].state, told[place].error) for place, key in found.items()]
        )
        return [one for place, one in enumerate(told) if place not in found]

    def _candidates(self, told: list[Told]) -> list[Candidate]:
        digest = self._keys.number_digest
        return [
            Candidate(place, key, number_digest, one.state, one.error)
            for place, one in enumerate(told)
            for number_digest in (digest("+" + one.phone),)
            for key in one.keys
        ]
