"""What became of it? Asked by query_sm, on links that take it, of segments that no receipt has settled.

sent, no receipt after ASK_AFTER_S ─ query_sm, each hour ─> final: as a receipt (receipt_desk.py)
                                                         └─ not final, no answer: asked again
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from addressbook import outbox
from addressbook.outbox import State, Unproven
from addressbook.sealed import KeyRing
from runtime.database import Database
from smsgw.carriers import LinkProfile, source_address
from smsgw.receipt_desk import FINAL_STATES, ReceiptDesk, Told
from smsgw.receipts import state_of_number
from smsgw.smpp_session import QueryAnswered, Session, WindowFull

log = logging.getLogger(__name__)

ASK_AFTER_S = 600.0  # nearly all receipts come within minutes
ASK_UNTIL_S = 4 * 86_400.0  # then the message is "unknown" for good
ASK_AGAIN_S = 3_600.0
ROUND_S = 60.0
ASKED_AT_ONCE = 50  # in a round: questions must not crowd out texts
ASKED_KEPT_MAX = 50_000


class Asking:
    """The questions of one link."""

    def __init__(
        self, carrier: str, address: str, profile: LinkProfile, desk: ReceiptDesk, *, database: Database, keys: KeyRing
    ) -> None:  # fmt: skip
        self._carrier = carrier
        self._address = address
        self._profile = profile
        self._desk = desk
        self._database = database
        self._keys = keys
        self._asked: dict[str, float] = {}

    async def ask_forever(self, session: Session, write: Callable[[], None]) -> None:
        """Ask on this connection until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                unproven = await self._database.transact(
                    outbox.unproven, self._carrier, ASK_AFTER_S, ASK_UNTIL_S, ASKED_AT_ONCE * 4
                )
            except (SQLAlchemyError, OSError) as error:
                log.warning("nothing asked", extra={"reason": type(error).__name__})
                continue
            self._ask(session, unproven)
            write()

    def _ask(self, session: Session, unproven: list[Unproven]) -> None:
        now = time.monotonic()
        if len(self._asked) > ASKED_KEPT_MAX:
            self._asked.clear()
        fresh = [one for one in unproven if now - self._asked.get(one.message_id, -ASK_AGAIN_S) >= ASK_AGAIN_S]
        for one in fresh[:ASKED_AT_ONCE]:
            self._asked[one.message_id] = now
            with suppress(WindowFull):  # the link is just going
                session.query(one.carrier_id, source_address(one.sender or self._address, self._profile), one, now)

    def answered(self, event: QueryAnswered) -> None:
        """The carrier's answer; what is not final is asked again later."""
        if event.status:
            return
        assert isinstance(event.token, Unproven)
        stat, state, final = state_of_number(event.message_state)
        if final:
            one = event.token
            phone = self._keys.open_text(b"number", one.number).removeprefix("+")
            settled = FINAL_STATES[state]
            error = None if settled is State.DELIVERED else f"{stat} {event.error_code:03}"
            self._desk.tell(Told(one.carrier_id, (one.message_id,), phone, settled, error))
