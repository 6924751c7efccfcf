"""From due outbox rows to submit_sm on one link, and back to what became of them.

    claim ─> open, plan ─> ready ─ fill ─> the session's window ─> answers ─ flush, one transaction ─> rows
      ^                     ^  (pacer, window)                        │
      └── hungry ───────────┴── throttled: back off <─────────────────┘            receipts: receipt_desk.py

`fill` runs whenever there may be room: after each read of the socket, each claim, each flush. `flush` is one loop:
while one transaction commits, the next batch collects, so batches grow with the load and shrink with it.

What a crash can double is what was answered or under way and not yet written down: that sum is kept within the window.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from addressbook import outbox
from addressbook.outbox import (
    ATTEMPTS_MAX,
    RULES,
    Accepted,
    Claimed,
    Encoding,
    Ended,
    Kind,
    State,
)
from addressbook.sealed import KeyRing, SealBroken
from runtime.database import Database
from smsgw import sms_text
from smsgw.carriers import LinkProfile, source_address, validity_period
from smsgw.metrics import Metrics
from smsgw.pacing import Pacer
from smsgw.pdu import SubmitTemplate, encode_tlv
from smsgw.receipt_desk import reference_key
from smsgw.receipts import IdMatcher
from smsgw.smpp_numbers import THROTTLING, USER_MESSAGE_REFERENCE, status_text
from smsgw.smpp_session import Session as Link

log = logging.getLogger(__name__)

CLAIM_AHEAD_S = 0.2  # a bind holds no more than its link sends in this time: an urgent text waits no longer behind it
CLAIM_MIN = 100  # on a link without a limit
CLAIM_MAX = 4_000
SLICE = 200  # claimed rows opened and planned at a stretch: about 2 ms
POLL_S = 1.0  # the net under lost rings
DATABASE_AWAY_S = 0.5
RETRY_AFTER_S = 30.0  # a temporary refusal of one message
LINK_LOST_RETRY_S = 2.0  # time for receipts of what did leave
TEMPLATES_MAX = 512

TEMPORARY = frozenset({0x08, 0x64})  # system error, receiver's temporary error


class Flight:
    """One claimed message and what is known of its segments."""

    __slots__ = ("answered", "attempt", "error", "id", "kind", "refused", "submitted", "total", "trace", "unanswered")

    def __init__(self, row: Claimed, total: int) -> None:
        self.id = row.id
        self.kind = row.kind
        self.attempt = row.attempts
        self.trace = row.trace
        self.total = total
        self.submitted = 0
        self.answered = 0  # segments whose attempt is over, whatever came of it
        self.unanswered = 0  # of these: nothing came in time
        self.refused = False  # one of these, for good
        self.error: str | None = None


@dataclass(slots=True)
class Piece:
    """One segment ready for submit_sm; the session's token for it."""

    flight: Flight
    number: int
    template: SubmitTemplate
    digits: str
    payload: bytes
    tlvs: bytes
    reference: int


@dataclass(slots=True)
class _Unwritten:
    """What the next transaction writes."""

    accepted: list[Accepted] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    put_back: list[int] = field(default_factory=list)  # the attempt does not count
    retry: dict[float, list[int]] = field(default_factory=dict)  # seconds to wait -> ids; the attempt counts

    def __bool__(self) -> bool:
        return bool(self.accepted or self.sent or self.ended or self.put_back or self.retry)

    def add(self, later: "_Unwritten") -> None:
        self.accepted += later.accepted
        self.sent += later.sent
        self.ended += later.ended
        self.put_back += later.put_back
        for delay_s, ids in later.retry.items():
            self.retry.setdefault(delay_s, []).extend(ids)


class Outbound:
    """The sending half of one link. It outlives its connections: a new Session is given to `link_up`."""

    def __init__(
        self,
        link: str,
        carrier: str,
        address: str,
        profile: LinkProfile,
        *,
        database: Database,
        keys: KeyRing,
        metrics: Metrics,
        window: int,
        segments_per_second: float,
        routes: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
        rung: asyncio.Event,
        may_send: bool = True,
    ) -> None:
        self.link = link
        self.carrier = carrier  # whose message ids: a transmitter and a receiver of one message centre share them
        self.profile = profile
        self.last_success: datetime | None = None
        self._address = address
        self._database = database
        self._keys = keys
        self._metrics = metrics.of_link(link)
        self._window = window
        self._pacer = Pacer(segments_per_second)
        self._routes, self._others = routes, others
        self._rung = rung
        self._may_send = may_send
        self._session: Link | None = None
        self._write: Callable[[], None] = lambda: None
        self._ready: deque[Piece] = deque()
        self._hungry = asyncio.Event()
        self._dirty = asyncio.Event()
        self._unwritten = _Unwritten()
        self._writing = asyncio.Lock()
        self._unrecorded = 0  # answered, not yet committed
        self._rate = 0.0  # accepted segments a second, smoothed
        self._counted, self._counted_at = 0, time.monotonic()
        self._templates: dict[tuple[str | None, bool, int, int, int], SubmitTemplate] = {}
        self.ids = IdMatcher(profile.id_format)  # shared with the receipt desk of this link
        self._timer: asyncio.TimerHandle | None = None

    # ---- the link

    @property
    def queue(self) -> int:
        """Segments that are claimed for this link and not yet answered."""
        return len(self._ready) + (self._session.unanswered() if self._session is not None else 0)

    def link_up(self, session: Link, write: Callable[[], None]) -> None:
        """The bind stands: send on this session; `write` puts its bytes on the socket."""
        self._write = write
        if self._may_send:
            self._session = session
            self._hungry.set()
            self.fill()

    def link_down(self, session: Link) -> None:
        """The connection is gone: give back what never left; what did, the kind's rule decides."""
        self._session = None
        self._write = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        under_way = session.outstanding()
        flights = {id(piece.flight): piece.flight for piece in self._ready}
        flights |= {id(piece.flight): piece.flight for piece in under_way if isinstance(piece, Piece)}
        self._ready.clear()
        for flight in flights.values():
            if not flight.submitted:
                self._unwritten.put_back.append(flight.id)
            elif flight.refused:
                self._through(flight)
            else:
                self._give_up(flight, LINK_LOST_RETRY_S, "the link was lost before the answer")
        self._dirty.set()

    def pause(self) -> None:
        """Submit nothing more on this session; its answers still count."""
        self._session = None

    # ---- hot: called from the socket's reader

    def fill(self) -> None:
        """Submit what is ready as far as the window, the unwritten answers and the pace allow."""
        session = self._session
        if session is None:
            return
        ready = self._ready
        now = time.monotonic()
        room = min(session.free_window() - self._unrecorded, len(ready))
        if room > 0:
            room = min(room, self._pacer.available(now))
        if room > 0:
            submit, popleft = session.submit, ready.popleft
            for _ in range(room):
                piece = popleft()
                piece.flight.submitted += 1
                submit(piece.template, piece.digits, piece.payload, piece.tlvs, piece, now)
            self._pacer.take(room)
            self._write()
        if ready and session.free_window() > self._unrecorded:  # it is the pace that holds the rest back
            self._fill_later(self._pacer.wait(now))
        if len(ready) <= self._claim_size() // 2:
            self._hungry.set()

    def _fill_later(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, seconds), self._fill_now)

    def _fill_now(self) -> None:
        self._timer = None
        self.fill()

    def answered(self, piece: Piece, status: int, message_id: str) -> None:
        """The carrier's answer to one segment, in time or late."""
        flight = piece.flight
        unwritten = self._unwritten
        if status == 0:
            key = self.ids.response_key(message_id)
            if key is None:  # the link's ids name nothing: the receipt will have our reference
                key = reference_key(piece.reference, piece.digits)
            raw = message_id if self.profile.query_sm else None
            unwritten.accepted.append(Accepted(flight.id, piece.number, flight.attempt, flight.total, key, raw))
            self._unrecorded += 1
            self._pacer.accepted()
            flight.answered += 1
            if flight.answered == flight.total:
                if flight.error is None:
                    unwritten.sent.append(flight.id)
                else:
                    self._through(flight)
        elif status in THROTTLING:
            self._metrics.throttled.inc()
            self._pacer.throttled(time.monotonic(), (piece.reference % 97) / 97)
            flight.submitted -= 1
            self._ready.appendleft(piece)
            self._return_unsent()
        else:
            self._refused(piece, status)
        self._dirty.set()

    def _return_unsent(self) -> None:
        """While the link rests, what it has not begun waits in the table: where a STOP or another link finds it."""
        begun = [piece for piece in self._ready if piece.flight.submitted or piece.flight.answered]
        unsent = {piece.flight.id for piece in self._ready if not (piece.flight.submitted or piece.flight.answered)}
        self._unwritten.put_back += unsent
        self._ready = deque(begun)

    def answered_late(self, piece: Piece, status: int, message_id: str) -> None:
        """An answer after the time-out: the carrier has it, so a repeat that is not claimed yet is taken back."""
        if status == 0:
            flight = piece.flight
            key = self.ids.response_key(message_id) or reference_key(piece.reference, piece.digits)
            raw = message_id if self.profile.query_sm else None
            self._unwritten.accepted.append(Accepted(flight.id, piece.number, flight.attempt, flight.total, key, raw))
            self._unrecorded += 1
            flight.unanswered -= 1
            if not flight.unanswered and not flight.refused:
                flight.error = None
                if flight.answered == flight.total:
                    self._unwritten.sent.append(flight.id)
            self._dirty.set()

    def _refused(self, piece: Piece, status: int) -> None:
        flight = piece.flight
        words = status_text(status)[:80]
        log.info("the carrier refused a segment", extra={"link": self.link, "status": words, "trace": flight.trace})
        self._metrics.refused.inc()
        flight.answered += 1
        if status in TEMPORARY and flight.total == 1 and self._may_resend(flight):
            self._unwritten.retry.setdefault(RETRY_AFTER_S, []).append(flight.id)
            return
        flight.error = words
        flight.refused = True
        if flight.answered == flight.total:
            self._through(flight)

    def timed_out(self, piece: Piece) -> None:
        """No answer in time: unknown, not failed. The kind's rule decides whether the message goes once more."""
        log.warning("no answer to a segment", extra={"link": self.link, "trace": piece.flight.trace})
        flight = piece.flight
        flight.answered += 1
        flight.unanswered += 1
        if not flight.refused:
            flight.error = "no answer"
        if flight.answered == flight.total:
            self._through(flight)
        self._dirty.set()

    def _through(self, flight: Flight) -> None:
        """The attempt is over for all segments, and not all were accepted."""
        if flight.refused:
            self._unwritten.ended.append(Ended(flight.id, State.FAILED, flight.error))
        else:
            self._give_up(flight, 0.0, "no answer")

    def _give_up(self, flight: Flight, again_in_s: float, why: str) -> None:
        """End this attempt, whose outcome is not known: once more if the kind allows it, else unknown."""
        if self._may_resend(flight):
            self._unwritten.retry.setdefault(again_in_s, []).append(flight.id)
        else:
            self._unwritten.ended.append(Ended(flight.id, State.UNKNOWN, why))

    @staticmethod
    def _may_resend(flight: Flight) -> bool:
        return RULES[Kind(flight.kind)].resend and flight.attempt < ATTEMPTS_MAX

    # ---- claiming

    async def claim_forever(self) -> None:
        """Keep `ready` filled while the link is up; ends when cancelled."""
        while True:
            await self._hungry.wait()
            if self._session is None:
                self._hungry.clear()
                continue
            rest_s = self._pacer.paused_until - time.monotonic()
            if rest_s > 0:
                await asyncio.sleep(rest_s)
                continue
            count = self._claim_size()
            self._rung.clear()
            try:
                rows = await self._database.once(
                    outbox.claim, self.link, count,
                    routes=self._routes, any_route=not self._routes, others=self._others,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 -- whatever the database's trouble is, sending goes on after it
                log.warning("claiming failed", extra={"link": self.link, "reason": type(error).__name__})
                await asyncio.sleep(DATABASE_AWAY_S)
                continue
            await self._take(rows)
            if len(rows) < count:  # nothing more is due: wait for a ring, or look again
                await self._wait_for_ring()
            else:
                self._hungry.clear()
                self.fill()

    async def _wait_for_ring(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._rung.wait()
        except TimeoutError:
            pass

    def _claim_size(self) -> int:
        if self._pacer.per_second:
            return int(min(CLAIM_MAX, max(1, self._pacer.per_second * CLAIM_AHEAD_S)))
        return int(min(CLAIM_MAX, max(min(CLAIM_MIN, self._window), self._rate * CLAIM_AHEAD_S)))

    async def _take(self, rows: list[Claimed]) -> None:
        """Open and plan what was claimed, a slice at a time, so that answers and receipts do not wait for all of it."""
        for start in range(0, len(rows), SLICE):
            self._take_slice(rows[start : start + SLICE])
            self.fill()
            await asyncio.sleep(0)

    def _take_slice(self, rows: list[Claimed]) -> None:
        """A row that cannot be sent is ended; it does not stop the others."""
        # The link went while we claimed, or the carrier asked for a pause: what is not begun waits in the table.
        if self._session is None or time.monotonic() < self._pacer.paused_until:
            self._unwritten.put_back += [row.id for row in rows if not row.refused]
            self._dirty.set()
            return
        refused = 0
        overtakes = bool(rows and self._ready and rows[0].kind < self._ready[-1].flight.kind)
        for row in rows:
            if row.refused:
                refused += 1
                continue
            try:
                self._ready.extend(self._pieces(row))
            except (SealBroken, ValueError) as error:  # BadSource and TextTooLong are ValueErrors
                log.warning("a message cannot be sent", extra={"trace": row.trace, "reason": type(error).__name__})
                self._unwritten.ended.append(Ended(row.id, State.FAILED, str(error)[:80]))
                self._dirty.set()
        if overtakes:  # kinds are numbered in the order of their priority; parts of one message keep theirs
            self._ready = deque(sorted(self._ready, key=lambda piece: piece.flight.kind))
        self._metrics.cancelled.inc(refused)

    def _pieces(self, row: Claimed) -> list[Piece]:
        number = self._keys.open(b"number", row.number).decode()
        body = self._keys.open(b"text", row.body)
        reference = row.id & 0xFFFF  # the same for a repeat, so that a phone can tell it from another text
        if row.encoding == Encoding.TEXT:
            plan = sms_text.plan(body.decode(), self.profile, reference=reference)
        else:
            plan = sms_text.binary(body[1 + body[0] :], elements=body[1 : 1 + body[0]], reference=reference)
        digits = number.removeprefix("+")
        template = self._template(row, plan.esm_class, plan.data_coding, 1 if number[0] == "+" else 0)
        flight = Flight(row, len(plan.segments))
        if not self.profile.send_user_message_reference:
            return [
                Piece(flight, place, template, digits, segment.short_message, segment.tlvs, 0)
                for place, segment in enumerate(plan.segments, 1)
            ]
        pieces = []
        for place, segment in enumerate(plan.segments, 1):
            mark = (row.id + place * 0x1F3D) & 0xFFFF  # parts of one message differ too
            tlv = _REFERENCE_TLVS[mark]
            pieces.append(Piece(flight, place, template, digits, segment.short_message, segment.tlvs + tlv, mark))
        return pieces

    def _template(self, row: Claimed, esm_class: int, data_coding: int, ton: int) -> SubmitTemplate:
        until = int(row.valid_until.timestamp())
        key = (row.sender, esm_class == 0, esm_class << 8 | data_coding, until, ton)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= TEMPLATES_MAX:
                self._templates.clear()
            now = datetime.now(UTC)
            template = self._templates[key] = SubmitTemplate(
                source_address(row.sender or self._address, self.profile),
                esm_class=esm_class,
                data_coding=data_coding,
                registered_delivery=1 if self.profile.receipts_expected else 0,  # SMPP 3.4, 5.2.17
                validity_period=validity_period(now, int(row.valid_until.timestamp() - now.timestamp()), self.profile),
                destination_ton=ton,
            )
        return template

    # ---- writing down

    async def flush_forever(self) -> None:
        """Write down what the carrier said, as fast as commits go; ends when cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.flush()

    async def flush(self) -> None:
        """One transaction with all that is unwritten; tried again until the database takes it."""
        async with self._writing:  # who calls this to be sure must also wait for the batch that is under way
            batch, self._unwritten = self._unwritten, _Unwritten()
            if not batch:
                return
            try:
                await self._write_down_surely(batch)
            except asyncio.CancelledError:
                # At a stop. To write it again does no harm: every statement looks at the state that it expects.
                batch.add(self._unwritten)
                self._unwritten = batch
                raise
        self._unrecorded -= len(batch.accepted)
        self._measure(len(batch.accepted))
        self._metrics.accepted.inc(len(batch.accepted))
        if batch.accepted:
            self.last_success = datetime.now(UTC)
        self.fill()

    async def _write_down_surely(self, batch: _Unwritten) -> None:
        while True:
            try:
                if batch.ended or batch.put_back or batch.retry:
                    await self._database.transact(self._write_down, batch)
                else:  # nearly always
                    await self._database.once(outbox.record_accepted, self.carrier, batch.accepted, batch.sent)
            except Exception as error:  # noqa: BLE001 -- what the carrier said must not be lost, whatever the trouble is
                log.warning("writing down failed", extra={"link": self.link, "reason": type(error).__name__})
                await asyncio.sleep(DATABASE_AWAY_S)
            else:
                return

    def _write_down(self, db: Session, batch: _Unwritten) -> None:
        outbox.record_accepted(db, self.carrier, batch.accepted, batch.sent)
        outbox.record_ended(db, batch.ended)
        outbox.put_back(db, batch.put_back, self._pacer.back_off_s)
        for delay_s, ids in batch.retry.items():
            outbox.put_back(db, ids, delay_s, attempt_counts=True)

    def _measure(self, accepted: int) -> None:
        self._counted += accepted
        now = time.monotonic()
        if now - self._counted_at >= 0.1:
            rate = self._counted / (now - self._counted_at)
            self._rate += 0.3 * (rate - self._rate)
            self._counted, self._counted_at = 0, now


_REFERENCE_TLVS = [encode_tlv(USER_MESSAGE_REFERENCE, reference.to_bytes(2, "big")) for reference in range(0x10000)]
