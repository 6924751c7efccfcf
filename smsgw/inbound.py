"""One deliver_sm from start to finish.

deliver_sm ─ read ─> text or part ─ store, one transaction a batch ─> deliver_sm_resp
                                         │ database away: 0x64, the carrier tries again
                                    inbox row ─> answering.py
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from addressbook import inbox, numbers
from addressbook.errors import Refused
from addressbook.inbox import PartSet, Received, ReceivedPart
from runtime.database import Database
from smsgw import sms_parts
from smsgw.carriers import LinkProfile
from smsgw.metrics import Metrics
from smsgw.pdu import ShortMessage
from smsgw.smpp_numbers import RX_T_APPN
from smsgw.smpp_session import Session as Link

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 2.0  # message centres give up after 5 s; before that they must be told to try again
BATCH_MAX = 500
COPIES_MAX = 20_000  # texts remembered for a connection; some megabytes
TEXT_CHARACTERS_MAX = 2_000  # what a person can mean; the rest of a longer text is cut off

_TON_INTERNATIONAL, _TON_ALPHANUMERIC = 1, 5  # SMPP 3.4, 5.2.5
_USSD_SERVICE_OP = 0x0501
_RX_P_APPN, _RX_R_APPN = 0x65, 0x66  # SMPP 3.4, 5.1.3: permanent error, refused


@dataclass(slots=True)
class _Unstored:
    texts: list[Received] = field(default_factory=list)
    parts: list[ReceivedPart] = field(default_factory=list)
    owed: list[tuple[Link, Callable[[], None], int]] = field(default_factory=list)
    copies: list[bytes] = field(default_factory=list)


class _Copies:
    """Tells a text that a person sends again from one that the carrier repeats.

    A carrier repeats what it has no answer to: after a lost connection, or when we were slow. So a text that comes
    again on the connection on which its like was acknowledged in time is new: "YES", twice within a minute.
    """

    def __init__(self) -> None:
        self._session: Link | None = None
        self._acknowledged: dict[bytes, int] = {}

    def count(self, session: Link, text: bytes) -> int:
        """How many like this were acknowledged on this connection."""
        if session is not self._session or len(self._acknowledged) > COPIES_MAX:
            self._session, self._acknowledged = session, {}
        return self._acknowledged.get(text, 0)

    def acknowledged(self, session: Link, texts: list[bytes]) -> None:
        if session is self._session:
            for text in texts:
                self._acknowledged[text] = self._acknowledged.get(text, 0) + 1


class Inbound:
    """The receiving half of one link."""

    def __init__(self, link: str, profile: LinkProfile, region: str, *, database: Database, metrics: Metrics) -> None:
        self._link = link
        self._profile = profile
        self._region = region
        self._database = database
        self._metrics = metrics.of_link(link)
        self._unstored = _Unstored()
        self._copies = _Copies()
        self._dirty = asyncio.Event()

    def delivered(self, session: Link, write: Callable[[], None], sequence: int, message: ShortMessage) -> None:
        """Take one deliver_sm or data_sm that is no receipt; it is acknowledged when it is stored."""
        refusal = self._read(session, message)
        if refusal:
            session.answer([sequence], refusal)
            return
        self._unstored.owed.append((session, write, sequence))
        self._dirty.set()

    def _read(self, session: Link, message: ShortMessage) -> int:
        """Put the message with the unstored; or the status with which it is refused."""
        if _USSD_SERVICE_OP in message.tlvs:
            return _RX_R_APPN  # no dialogue of ours
        sender = self._sender(message)
        if sender is None:
            self._metrics.broken.inc()
            return _RX_P_APPN
        content = sms_parts.content_of(message)
        if content.flaw is not None:
            log.info("a message with a flaw was taken whole", extra={"link": self._link, "flaw": content.flaw})
        receiver = message.destination.digits[:21]
        trace = new_trace()
        self._metrics.received.inc()
        if content.part is None:
            text = sms_parts.decode(
                content.data_coding, content.data, self._profile, locking=content.locking, single=content.single
            )
            like = hashlib.blake2b(
                content.data + f"|{sender}|{receiver}|{message.data_coding}|{message.esm_class}".encode(),
                digest_size=16,
            ).digest()
            repeat = like + self._copies.count(session, like).to_bytes(4, "big")
            self._unstored.copies.append(like)
            self._unstored.texts.append(
                Received(self._link, sender, receiver, text[:TEXT_CHARACTERS_MAX], repeat, trace)
            )
        else:
            part = content.part
            self._unstored.parts.append(
                ReceivedPart(
                    self._link, sender, receiver, part.reference, part.total, part.number, content.data_coding,
                    content.locking << 8 | content.single, content.data, trace,
                )
            )  # fmt: skip
        return 0

    def _sender(self, message: ShortMessage) -> str | None:
        """The phone's number as E.164; None for a name or a short code: nobody there can be answered."""
        ton, _, digits = message.source
        if ton == _TON_ALPHANUMERIC:
            return None
        if ton == _TON_INTERNATIONAL and not digits.startswith("+"):
            digits = "+" + digits.removeprefix("00")
        if digits.startswith("+") and numbers.is_e164(digits):
            return digits
        for raw in (digits, "+" + digits):  # national in our region; else a carrier that leaves the TON unknown
            with suppress(Refused):
                number = numbers.parse(raw, self._region)
                if not number.short:
                    return number.e164
        return None

    def _decode(self, parts: PartSet) -> str:
        text = sms_parts.join(
            dict(enumerate(parts.bodies, 1)), parts.data_coding, self._profile,
            locking=parts.shifts >> 8, single=parts.shifts & 0xFF,
        )  # fmt: skip
        return text[:TEXT_CHARACTERS_MAX]

    async def flush_forever(self) -> None:
        """Store what came and acknowledge it, as fast as commits go; ends when cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            batch, self._unstored = self._unstored, _Unstored()
            if batch.owed:
                await self._store(batch)

    async def _store(self, batch: _Unstored) -> None:
        status = 0
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._database.transact(inbox.store, batch.texts, batch.parts, self._decode)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("texts refused for now", extra={"link": self._link, "reason": type(error).__name__})
            status = RX_T_APPN
        for session, write in {id(owed[0]): owed[:2] for owed in batch.owed}.values():
            session.answer([sequence for owed_to, _, sequence in batch.owed if owed_to is session], status)
            write()
            if not status:
                self._copies.acknowledged(session, batch.copies)


def new_trace() -> str:
    """An id for a message's whole way through logs and rows."""
    return secrets.token_hex(8)
