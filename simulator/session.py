"""One connection of an ESME: framing, bind state, answers, and what the carrier sends of its own accord.

    OPEN ── bind ──> BOUND ── unbind, cut, two missed enquire_links ──> CLOSED
      └── no bind within 10 s, or a stream that lost its framing ─────────┘

Everything is handled as it is read, in order; writes of one turn of the event loop leave as one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator import frames
from simulator.frames import Frame

if TYPE_CHECKING:
    from simulator.carrier import Account, Carrier

log = logging.getLogger(__name__)

READ_OCTETS = 65_536
BIND_WITHIN_S = 10.0
PDU_WITHIN_S = 10.0  # the rest of a PDU that has begun
MISSES_MAX = 2
DRAIN_S = 1.0  # how long a closing connection may take to read our last answers
BIND_NAMES = {
    frames.BIND_RECEIVER: "receiver",
    frames.BIND_TRANSMITTER: "transmitter",
    frames.BIND_TRANSCEIVER: "transceiver",
}


@dataclass(slots=True)
class Owed:
    """A deliver_sm that an ESME has not yet answered with status 0."""

    kind: str  # "mo" or "receipt"
    body: bytes
    sent_at: float = 0.0
    attempts: int = 0


class Session:
    """A connection from accept to close; `run` is its whole life."""

    def __init__(self, carrier: "Carrier", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername") or ("?", 0)
        self.peer = f"{peer[0]}:{peer[1]}"
        self.account: Account | None = None
        self.bind_type = ""
        self.since = time.time()
        self.submits = 0
        self.unanswered: dict[int, Owed] = {}
        self.closed = False
        self._carrier = carrier
        self._reader = reader
        self._writer = writer
        self._frames = frames.FrameReader()
        self._out: list[bytes] = []
        self._sequence = 0
        self._heard_at = time.monotonic()
        self._started_at = self._heard_at
        self._enquired_at = 0.0
        self._misses = 0
        self._deaf = False  # after a cut: what still comes in is thrown away
        self._handlers: dict[int, Callable[[Frame], None]] = {
            frames.BIND_RECEIVER: self._bind,
            frames.BIND_TRANSMITTER: self._bind,
            frames.BIND_TRANSCEIVER: self._bind,
            frames.SUBMIT_SM: self._submit,
            frames.DATA_SM: self._submit,
            frames.QUERY_SM: self._query,
            frames.ENQUIRE_LINK: lambda frame: self.answer(frame, frames.OK),
            frames.UNBIND: self._unbind,
            frames.UNBIND | frames.RESPONSE: lambda _: self.close(),
            frames.DELIVER_SM | frames.RESPONSE: self._delivered,
            frames.GENERIC_NACK: self._delivered,
            frames.ENQUIRE_LINK | frames.RESPONSE: lambda _: None,
        }

    @property
    def alive(self) -> bool:
        """Whether traffic can pass."""
        return not (self.closed or self._deaf)

    async def run(self) -> None:
        """Read until the connection ends."""
        try:
            while not self.closed:
                data = await self._reader.read(READ_OCTETS)
                if not data:
                    break
                self._heard_at = time.monotonic()
                self._misses = 0
                if not self._deaf:
                    self._take(data)
                await self._writer.drain()
        except OSError:
            pass  # the peer went away; what it owes us is sent again
        except Exception:  # our own fault in one session; the carrier goes on for the others
            log.exception("a session failed and was closed")
        finally:
            self.closed = True
            self._carrier.forget(self)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._writer.wait_closed()

    def _take(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._carrier.wire.record("in", self.peer, frame)
                if self._carrier.faults.half_open:
                    continue
                self._handle(frame)
                if not self.alive:
                    return
        except frames.FramingLost:
            self.send(Frame(frames.GENERIC_NACK, frames.INVALID_COMMAND_LENGTH, 0, b""))
            self.close()

    def _handle(self, frame: Frame) -> None:
        handler = self._handlers.get(frame.command_id)
        if handler is None:
            if not frame.command_id & frames.RESPONSE:
                self.send(Frame(frames.GENERIC_NACK, frames.INVALID_COMMAND_ID, frame.sequence, b""))
            return
        try:
            handler(frame)
        except frames.BodyRefused as error:
            self._carrier.counters.bad_bodies += 1
            self.answer(frame, error.status)

    # -- writing ------------------------------------------------------------------------------------------------

    def answer(self, request: Frame, status: int, body: bytes = b"") -> None:
        """The response that belongs to `request`."""
        self.send(Frame(request.command_id | frames.RESPONSE, status, request.sequence, body))

    def send(self, frame: Frame) -> None:
        """Queue one PDU; it leaves with the others of this turn."""
        if not self.alive or self._carrier.faults.half_open:
            return
        self._carrier.wire.record("out", self.peer, frame)
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(frame.pack())

    def _flush(self) -> None:
        if self._out and not self._writer.is_closing():
            self._writer.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """End the connection once everything queued is written."""
        self._flush()
        self.closed = True
        self._writer.close()

    def cut(self, *, answers_lost: bool) -> None:
        """The link drops: by a reset, or after the peer had the chance to read all answers."""
        if answers_lost:
            self._out.clear()
            self.closed = True
            self._writer.transport.abort()
            return
        self._flush()
        self._deaf = True
        if self._writer.can_write_eof():
            # closing with unread octets would reset the connection and lose answers that are under way
            self._writer.write_eof()
            asyncio.get_running_loop().call_later(DRAIN_S, self.close)
        else:
            self.close()

    # -- requests of the ESME -----------------------------------------------------------------------------------

    def _bind(self, frame: Frame) -> None:
        if self.account:
            self.answer(frame, frames.ALREADY_BOUND)
            return
        body = frames.decode(frame)
        account, status = self._carrier.admit(body.text("system_id"), body.text("password"))
        answer_id = frame.command_id | frames.RESPONSE
        if self._carrier.faults.bind_answer_wrong_id:
            wrong = frame.command_id == frames.BIND_TRANSCEIVER
            answer_id = (frames.BIND_TRANSMITTER if wrong else frames.BIND_TRANSCEIVER) | frames.RESPONSE
        if account is None:
            self.send(Frame(answer_id, status, frame.sequence, b""))
            return
        name = b"simulator\0" + frames.tlv(frames.SC_INTERFACE_VERSION, b"\x34")
        self.send(Frame(answer_id, frames.OK, frame.sequence, name))
        self.account = account
        self.bind_type = BIND_NAMES[frame.command_id]
        self._carrier.bound(self)

    def _submit(self, frame: Frame) -> None:
        if self.bind_type not in ("transmitter", "transceiver"):
            self.answer(frame, frames.WRONG_BIND_STATE)
            return
        self.submits += 1
        self._carrier.submit(self, frame)

    def _query(self, frame: Frame) -> None:
        if self.bind_type not in ("transmitter", "transceiver"):
            self.answer(frame, frames.WRONG_BIND_STATE)
            return
        self.answer(frame, *self._carrier.query(frames.decode(frame).text("message_id")))

    def _unbind(self, frame: Frame) -> None:
        self.answer(frame, frames.OK)
        self.close()

    # -- what the carrier owes ----------------------------------------------------------------------------------

    def takes(self, owed: Owed) -> bool:
        """Whether this connection can carry `owed` now."""
        if not self.alive or len(self.unanswered) >= self._carrier.deliver_window:
            return False
        if self.bind_type in ("receiver", "transceiver"):
            return True
        return owed.kind == "receipt" and self._carrier.faults.receipts_on_transmitter

    def deliver(self, owed: Owed) -> None:
        """Send a deliver_sm; it stays with this session until it is answered."""
        owed.sent_at = time.monotonic()
        owed.attempts += 1
        sequence = self._next_sequence()
        self.unanswered[sequence] = owed
        self.send(Frame(frames.DELIVER_SM, frames.OK, sequence, owed.body))

    def _delivered(self, frame: Frame) -> None:
        owed = self.unanswered.pop(frame.sequence, None)
        if owed:
            self._carrier.answered(self, owed, frame.status)

    def take_back(self, older_than: float | None = None) -> list[Owed]:
        """Unanswered deliver_sm, oldest first, that this session gives up: all, or those sent before a time."""
        back = [n for n, owed in self.unanswered.items() if older_than is None or owed.sent_at < older_than]
        return [self.unanswered.pop(n) for n in back]

    def ask_unbind(self) -> None:
        """The carrier wants the link down in good order."""
        self.send(Frame(frames.UNBIND, frames.OK, self._next_sequence(), b""))

    def introduce(self, system_id: str, password: str) -> None:
        """The carrier called: it says who it is and waits for the ESME's bind (SMPP 3.4, 4.1.7)."""
        body = system_id.encode() + b"\0" + password.encode() + b"\0"
        self.send(Frame(frames.OUTBIND, frames.OK, self._next_sequence(), body))

    def tick(self, now: float) -> None:
        """Time has passed: give up silent peers, ask quiet ones."""
        if self._carrier.faults.half_open:
            return
        quiet = now - self._heard_at
        never_bound = not self.account and now - self._started_at > BIND_WITHIN_S
        if never_bound or (self._frames.pending and quiet > PDU_WITHIN_S):
            self.close()
        elif quiet > self._carrier.enquire_link_s and now - self._enquired_at > self._carrier.enquire_link_s:
            if self._misses >= MISSES_MAX:
                self.close()
                return
            self._misses += 1
            self._enquired_at = now
            self.send(Frame(frames.ENQUIRE_LINK, frames.OK, self._next_sequence(), b""))

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % 0x7FFF_FFFF + 1  # SMPP 3.4, 5.1.4
        return self._sequence
