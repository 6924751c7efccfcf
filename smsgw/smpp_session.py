"""The ESME's side of one SMPP connection: bytes and time in, events and bytes out. SMPP 3.4, chapter 2.

    CLOSED ──connected──▶ OPEN ──bind──▶ BINDING ──bind_resp, status 0──▶ BOUND ──unbind()──▶ UNBINDING ──resp──▶ CLOSED
                           │ wait_outbind: the bind waits for the peer's outbind
    every state ──unbind from the peer, refused bind, dead link, lost framing, connection_lost()──▶ CLOSED

No socket, no clock: the owner calls `receive` with what the socket gave, `tick` no later than `next_tick()` says, and
writes `data_to_send()` after each. One Session serves one connection; after CLOSED make a new one.

What a session does by itself: bind, answer enquire_link and unbind, send enquire_link, refuse what it cannot read.
What the owner must do: acknowledge each Delivered with `answer` once it is stored; after a closing event write
`data_to_send()`, close the socket and take `outstanding()`, the submits whose fate is unknown.

Hot methods are written flat: at 20,000 messages/s a microsecond here is 2 % of a core.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from smsgw import pdu
from smsgw import smpp_numbers as smpp
from smsgw.pdu import (
    BodyError,
    FrameReader,
    FramingLost,
    ShortMessage,
    SubmitTemplate,
    decode_short_message,
    decode_submit_sm_resp,
)
from smsgw.smpp_numbers import DATA_SM, DELIVER_SM, SUBMIT_SM_RESP

SEQUENCE_MAX: Final = 0x7FFF_FFFF  # SMPP 3.4, 5.1.4
LATE_MAX: Final = 10_000  # timed-out submits whose answer still counts; some hundred bytes each
LATE_KEEP_S: Final = 3_600.0  # no message centre answers after an hour
UNANSWERED_DATA_SM_MAX: Final = 10_000  # data_sm whose answer is owed; far above any window
_RESPONSE: Final = 0x8000_0000


class State(enum.Enum):
    """Where the connection stands; the picture above says what leads where."""

    CLOSED = "closed"
    OPEN = "open"
    BINDING = "binding"
    BOUND = "bound"
    UNBINDING = "unbinding"


class BindType(enum.Enum):
    """What is asked for; a transmitter may submit, a receiver is delivered to, a transceiver both."""

    TRANSMITTER = "transmitter"
    RECEIVER = "receiver"
    TRANSCEIVER = "transceiver"


_BIND_COMMANDS: Final = {
    BindType.TRANSMITTER: smpp.BIND_TRANSMITTER,
    BindType.RECEIVER: smpp.BIND_RECEIVER,
    BindType.TRANSCEIVER: smpp.BIND_TRANSCEIVER,
}
_BIND_RESPS: Final = frozenset({smpp.BIND_TRANSMITTER_RESP, smpp.BIND_RECEIVER_RESP, smpp.BIND_TRANSCEIVER_RESP})
_SUBMIT_RESPS: Final = frozenset({SUBMIT_SM_RESP, smpp.DATA_SM_RESP, smpp.SUBMIT_MULTI_RESP})


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one bind needs. Times are seconds; `window` is the most submit_sm that wait for their answer."""

    system_id: str
    password: str
    bind_type: BindType = BindType.TRANSCEIVER
    system_type: str = ""
    address_ton: int = 0
    address_npi: int = 0
    address_range: str = ""
    interface_version: int = 0x34
    window: int = 100
    wait_outbind: bool = False
    response_timeout_s: float = 60.0
    enquire_link_interval_s: float = 30.0
    enquire_link_misses: int = 2
    bind_timeout_s: float = 10.0
    pdu_read_timeout_s: float = 10.0


# ---- events. The hot ones are NamedTuples: half the cost of a frozen dataclass.


class SubmitAnswered(NamedTuple):
    """The answer to a submit; `status` 0 means taken, `smpp.THROTTLING` means later."""

    token: object
    status: int
    message_id: str


class Delivered(NamedTuple):
    """A deliver_sm or data_sm. Not acknowledged yet: call `answer` with its sequence once it is stored."""

    sequence: int
    command_id: int
    message: ShortMessage


class TimedOut(NamedTuple):
    """No answer within `response_timeout_s`: unknown, not failed. A LateAnswer may follow."""

    token: object


class LateAnswer(NamedTuple):
    """The answer to a submit that was reported TimedOut. It still counts."""

    token: object
    status: int
    message_id: str


@dataclass(frozen=True, slots=True)
class UnknownAnswer:
    """An answer, or a generic_nack, to nothing we know: doubled, very late, or with a wrong sequence number."""

    sequence: int
    command_id: int
    status: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The peer took the bind. `version` is its interface version, None where it does not say."""

    system_id: str
    version: int | None


@dataclass(frozen=True, slots=True)
class BindRefused:
    """The peer refused the bind: close. `permanent`: do not try again before somebody changed the configuration."""

    status: int
    permanent: bool


@dataclass(frozen=True, slots=True)
class OutbindReceived:
    """The peer asks us to bind, naming itself. SMPP 3.4, 4.1.7."""

    system_id: str
    password: str


@dataclass(frozen=True, slots=True)
class BodyRefused:
    """A message could not be read. It was answered with `status`; the link lives."""

    sequence: int
    command_id: int
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The peer sent a command that an ESME does not serve. It got a generic_nack."""

    sequence: int
    command_id: int


@dataclass(frozen=True, slots=True)
class QueryAnswered:
    """The answer to a query_sm. `status` None: none came in time. SMPP 3.4, 5.2.28 for `message_state`."""

    token: object
    status: int | None
    message_id: str = ""
    final_date: str = ""
    message_state: int = 0
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class PeerUnbound:
    """The peer said goodbye, and was answered: write, close, connect again."""


@dataclass(frozen=True, slots=True)
class Unbound:
    """The peer answered our unbind: close."""


@dataclass(frozen=True, slots=True)
class LinkDead:
    """The link is of no use any more: close. `reason` is for the link table."""

    reason: str


Event = (
    SubmitAnswered
    | Delivered
    | TimedOut
    | LateAnswer
    | UnknownAnswer
    | Bound
    | BindRefused
    | OutbindReceived
    | BodyRefused
    | CommandRefused
    | QueryAnswered
    | PeerUnbound
    | Unbound
    | LinkDead
)


class WindowFull(Exception):
    """Our own error: a submit beyond `free_window()`."""


_new_tuple = tuple.__new__  # twice as fast as the NamedTuple's own constructor


class Session:
    """One connection to a message centre, from connect to close."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.state = State.CLOSED
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._sequence = 0
        self._window = 0  # config.window while submits may be sent, else 0: one comparison guards both
        # In order of sending, so the first one times out first.
        self._outstanding: dict[int, tuple[object, float]] = {}
        self._late: dict[int, tuple[object, float]] = {}
        self._queries: dict[int, tuple[object, float]] = {}
        self._data_sm_owed: set[int] = set()
        self._bind_sequence = 0
        self._unbind_sequence = 0
        self._enquiries: set[int] = set()  # sent since the peer was last heard
        self._closing_deadline: float | None = None  # for the bind, the outbind or the unbind
        self._partial_since: float | None = None
        self._heard_at = 0.0
        self._enquired_at = 0.0
        self._handlers: dict[int, Callable[[int, int, int, bytes, float], list[Event]]] = {
            smpp.ENQUIRE_LINK: self._on_enquire_link,
            smpp.ENQUIRE_LINK_RESP: self._on_enquire_link_resp,
            smpp.UNBIND: self._on_unbind,
            smpp.UNBIND_RESP: self._on_unbind_resp,
            smpp.GENERIC_NACK: self._on_generic_nack,
            smpp.OUTBIND: self._on_outbind,
            smpp.QUERY_SM_RESP: self._on_query_sm_resp,
            smpp.ALERT_NOTIFICATION: self._on_alert_notification,
            **dict.fromkeys(_BIND_RESPS, self._on_bind_resp),
            **dict.fromkeys(_SUBMIT_RESPS, self._on_submit_resp),
        }

    # ---- the owner's side

    def connected(self, now: float) -> None:
        """The TCP or TLS connection stands: queue the bind, or wait for the peer's outbind."""
        assert self.state is State.CLOSED
        self.state = State.OPEN
        self._heard_at = self._enquired_at = now
        self._closing_deadline = now + self.config.bind_timeout_s
        if not self.config.wait_outbind:
            self._bind(now)

    def connection_lost(self) -> None:
        """The socket closed under us. Take `outstanding()` next."""
        self._close()

    def free_window(self) -> int:
        """How many submits may be sent now; 0 unless bound for transmitting."""
        return max(0, self._window - len(self._outstanding))

    def submit(
        self, template: SubmitTemplate, digits: str, short_message: bytes, tlvs: bytes, token: object, now: float
    ) -> None:
        """Queue one submit_sm. Exactly one of SubmitAnswered, TimedOut or `outstanding()` will name `token`."""
        outstanding = self._outstanding
        if len(outstanding) >= self._window:
            raise WindowFull
        sequence = self._sequence + 1
        if sequence > SEQUENCE_MAX or sequence in outstanding or sequence in self._late or sequence in self._queries:
            sequence = self._free_sequence()
        self._sequence = sequence
        outstanding[sequence] = (token, now)
        self._out.append(template.encode(sequence, digits, short_message, tlvs))

    def submit_message(self, message: ShortMessage, token: object, now: float) -> None:
        """As `submit`, for a message that no template fits. Raises ValueError for what no PDU can hold."""
        if len(self._outstanding) >= self._window:
            raise WindowFull
        sequence = self._next_sequence()
        encoded = pdu.encode_submit_sm(sequence, message)
        self._outstanding[sequence] = (token, now)
        self._out.append(encoded)

    def query(self, message_id: str, source: pdu.Address, token: object, now: float) -> None:
        """Ask what became of a message; a QueryAnswered with `token` will follow, unless the link dies first."""
        if not self._window:
            raise WindowFull
        sequence = self._next_sequence()
        fields: dict[str, str | int] = {
            "message_id": message_id,
            "source_addr_ton": source.ton,
            "source_addr_npi": source.npi,
            "source_addr": source.digits,
        }
        self._out.append(pdu.encode(smpp.QUERY_SM, 0, sequence, fields))
        self._queries[sequence] = (token, now)

    def answer(self, sequences: Iterable[int], status: int = 0) -> None:
        """Acknowledge Delivered messages; a temporary `status` asks the peer to deliver again."""
        owed = self._data_sm_owed
        if not owed:
            self._out.append(pdu.encode_deliver_sm_resps(sequences, status))
            return
        for sequence in sequences:
            if sequence in owed:
                owed.discard(sequence)
                self._out.append(pdu.encode(smpp.DATA_SM_RESP, status, sequence))
            else:
                self._out.append(pdu.encode_deliver_sm_resp(sequence, status))

    def unbind(self, now: float) -> None:
        """Say goodbye: no more submits; answers are still taken until Unbound or LinkDead."""
        if self.state in (State.CLOSED, State.UNBINDING):
            return
        self._window = 0
        self.state = State.UNBINDING
        self._unbind_sequence = self._next_sequence()
        self._closing_deadline = now + self.config.bind_timeout_s
        self._out.append(pdu.encode_empty(smpp.UNBIND, self._unbind_sequence))

    def unanswered(self) -> int:
        """How many submits wait for their answer."""
        return len(self._outstanding)

    def outstanding(self) -> list[object]:
        """The tokens of submits that nobody answered, each given once. For the time after the link closed."""
        tokens = [token for token, _ in self._outstanding.values()]
        self._outstanding.clear()
        return tokens

    def data_to_send(self) -> bytes:
        """Everything queued for the socket."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # ---- the peer's side

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What the bytes mean. Never raises for anything a peer can send."""
        if self.state is State.CLOSED or not data:
            return []
        self._heard_at = now
        if self._enquiries:
            self._enquiries.clear()
        try:
            frames = self._reader.feed(data)
        except FramingLost as error:
            events = self._take(error.frames, now)
            return events if self._closed() else events + self._die(str(error))
        events = self._take(frames, now)
        if not self._reader.pending:
            self._partial_since = None
        elif frames or self._partial_since is None:
            self._partial_since = now
        return events

    def _take(self, frames: list[pdu.Frame], now: float) -> list[Event]:
        """The hot loop: submit_sm_resp and deliver_sm flat, everything else by table."""
        events: list[Event] = []
        append = events.append
        outstanding = self._outstanding
        for command_id, status, sequence, body in frames:
            if command_id == SUBMIT_SM_RESP and sequence in outstanding:
                token, _ = outstanding.pop(sequence)
                append(_new_tuple(SubmitAnswered, (token, status, decode_submit_sm_resp(body))))
            elif command_id == DELIVER_SM:
                try:
                    append(_new_tuple(Delivered, (sequence, DELIVER_SM, decode_short_message(body, DELIVER_SM))))
                except BodyError as error:
                    self._out.append(pdu.encode_deliver_sm_resp(sequence, error.status))
                    append(BodyRefused(sequence, DELIVER_SM, error.status, str(error)))
            else:
                events += self._rare(command_id, status, sequence, body, now)
                if self.state is State.CLOSED:
                    break  # what follows an unbind or a refusal means nothing
        return events

    def tick(self, now: float) -> list[Event]:
        """What the time means: time-outs, enquire_link, a dead link."""
        if self.state is State.CLOSED:
            return []
        config = self.config
        if self._partial_since is not None and now >= self._partial_since + config.pdu_read_timeout_s:
            return self._die("the peer stopped inside a PDU")
        if self._closing_deadline is not None and now >= self._closing_deadline:
            if self.state is State.OPEN:
                return self._die("no outbind came")
            return self._die("bind was not answered" if self.state is State.BINDING else "unbind was not answered")
        events = self._time_out(now - config.response_timeout_s)
        if self.state is State.BOUND:
            quiet_since = max(self._heard_at, self._enquired_at)
            if now >= quiet_since + config.enquire_link_interval_s:
                if len(self._enquiries) >= config.enquire_link_misses:
                    return events + self._die(f"{len(self._enquiries)} enquire_link were not answered")
                self._enquired_at = now
                sequence = self._next_sequence()
                self._enquiries.add(sequence)
                self._out.append(pdu.encode_empty(smpp.ENQUIRE_LINK, sequence))
        if self._late:
            self._forget_late(now)
        return events

    def next_tick(self) -> float | None:
        """When `tick` must run next; None: not before something else happens."""
        if self.state is State.CLOSED:
            return None
        config = self.config
        times: list[float] = []
        if self._partial_since is not None:
            times.append(self._partial_since + config.pdu_read_timeout_s)
        if self._closing_deadline is not None:
            times.append(self._closing_deadline)
        times += [
            next(iter(waiting.values()))[1] + config.response_timeout_s
            for waiting in (self._outstanding, self._queries)
            if waiting
        ]
        if self.state is State.BOUND:
            times.append(max(self._heard_at, self._enquired_at) + config.enquire_link_interval_s)
        return min(times, default=None)

    # ---- one handler for each rarer command: (command_id, status, sequence, body, now) -> events

    def _rare(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        if command_id == DATA_SM:
            return self._on_data_sm(sequence, body)
        handler = self._handlers.get(command_id)
        if handler is not None:
            return handler(command_id, status, sequence, body, now)
        if command_id & _RESPONSE:  # answering an answer would go round for ever
            return [UnknownAnswer(sequence, command_id, status)]
        self._out.append(pdu.encode_empty(smpp.GENERIC_NACK, sequence, smpp.RINVCMDID))
        return [CommandRefused(sequence, command_id)]

    def _on_data_sm(self, sequence: int, body: bytes) -> list[Event]:
        try:
            message = decode_short_message(body, DATA_SM)
        except BodyError as error:
            self._out.append(pdu.encode(smpp.DATA_SM_RESP, error.status, sequence))
            return [BodyRefused(sequence, DATA_SM, error.status, str(error))]
        if len(self._data_sm_owed) >= UNANSWERED_DATA_SM_MAX:
            self._out.append(pdu.encode(smpp.DATA_SM_RESP, smpp.RTHROTTLED, sequence))
            return [BodyRefused(sequence, DATA_SM, smpp.RTHROTTLED, "too many data_sm wait for their answer")]
        self._data_sm_owed.add(sequence)
        return [Delivered(sequence, DATA_SM, message)]

    def _on_submit_resp(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        """The answers that the flat loop in `receive` leaves: another command's, late, unknown."""
        message_id = decode_submit_sm_resp(body)
        known = self._outstanding.pop(sequence, None)
        if known is not None:
            return [SubmitAnswered(known[0], status, message_id)]
        late = self._late.pop(sequence, None)
        if late is not None:
            return [LateAnswer(late[0], status, message_id)]
        return [UnknownAnswer(sequence, command_id, status)]

    def _on_generic_nack(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        # Some peers nack with a sequence number of their own invention: such a one cannot be given to any submit.
        status = status or smpp.RUNKNOWNERR
        if self.state is State.BINDING:  # whatever its number says, there is nothing else that it could mean
            return self._refused(status)
        if self.state is State.UNBINDING and sequence == self._unbind_sequence:
            self._close()
            return [Unbound()]
        query = self._queries.pop(sequence, None)
        if query is not None:
            return [QueryAnswered(query[0], status)]
        return self._on_submit_resp(command_id, status, sequence, b"", now)

    def _on_bind_resp(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        # A wrong bind_*_resp with our sequence number is an answer: OsmoMSC sends such ones.
        if self.state is not State.BINDING or sequence != self._bind_sequence:
            return [UnknownAnswer(sequence, command_id, status)]
        if status:
            return self._refused(status)
        self.state = State.BOUND
        self._closing_deadline = None
        if self.config.bind_type is not BindType.RECEIVER:
            self._window = self.config.window
        system_id, version = "", None
        try:
            fields, tlvs = pdu.decode(command_id, status, body)
        except BodyError:
            pass  # bound all the same: only the peer's name for itself is lost
        else:
            system_id = str(fields["system_id"])
            version = next(iter(tlvs.get(smpp.SC_INTERFACE_VERSION, b"")), None)
        return [Bound(system_id, version)]

    def _on_query_sm_resp(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        known = self._queries.pop(sequence, None)
        if known is None:
            return [UnknownAnswer(sequence, command_id, status)]
        try:
            fields, _ = pdu.decode(command_id, status, body)
        except BodyError as error:
            return [QueryAnswered(known[0], status or error.status)]
        return [
            QueryAnswered(
                known[0],
                status,
                str(fields["message_id"]),
                str(fields["final_date"]),
                int(fields["message_state"]),
                int(fields["error_code"]),
            )
        ]

    def _on_enquire_link(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        self._out.append(pdu.encode_empty(smpp.ENQUIRE_LINK_RESP, sequence))
        return []

    def _on_enquire_link_resp(
        self, command_id: int, status: int, sequence: int, body: bytes, now: float
    ) -> list[Event]:
        return []  # `receive` has noted already that the peer lives

    def _on_alert_notification(
        self, command_id: int, status: int, sequence: int, body: bytes, now: float
    ) -> list[Event]:
        return []  # has no response, and we ask for none: SMPP 3.4, 4.12

    def _on_unbind(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        self._out.append(pdu.encode_empty(smpp.UNBIND_RESP, sequence))
        self._close()
        return [PeerUnbound()]

    def _on_unbind_resp(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        if self.state is not State.UNBINDING:
            return [UnknownAnswer(sequence, command_id, status)]
        self._close()
        return [Unbound()]

    def _on_outbind(self, command_id: int, status: int, sequence: int, body: bytes, now: float) -> list[Event]:
        try:
            fields, _ = pdu.decode(command_id, status, body)
        except BodyError as error:
            return [BodyRefused(sequence, command_id, error.status, str(error))]  # has no response: SMPP 3.4, 4.1.7
        if self.state is State.OPEN:
            self._bind(now)
        return [OutbindReceived(str(fields["system_id"]), str(fields["password"]))]

    # ---- parts

    def _bind(self, now: float) -> None:
        config = self.config
        self.state = State.BINDING
        self._bind_sequence = self._next_sequence()
        self._closing_deadline = now + config.bind_timeout_s
        fields: dict[str, str | int] = {
            "system_id": config.system_id,
            "password": config.password,
            "system_type": config.system_type,
            "interface_version": config.interface_version,
            "addr_ton": config.address_ton,
            "addr_npi": config.address_npi,
            "address_range": config.address_range,
        }
        self._out.append(pdu.encode(_BIND_COMMANDS[config.bind_type], 0, self._bind_sequence, fields))

    def _refused(self, status: int) -> list[Event]:
        self._close()
        return [BindRefused(status, status in smpp.BAD_CREDENTIALS)]

    def _die(self, reason: str) -> list[Event]:
        self._close()
        return [LinkDead(reason)]

    def _closed(self) -> bool:
        return self.state is State.CLOSED

    def _close(self) -> None:
        self.state = State.CLOSED
        self._window = 0

    def _time_out(self, sent_before: float) -> list[Event]:
        """Report what was sent at `sent_before` or earlier and is not answered; both dicts are in order of sending."""
        events: list[Event] = []
        while self._outstanding:
            sequence, (token, sent_at) = next(iter(self._outstanding.items()))
            if sent_at > sent_before:
                break
            del self._outstanding[sequence]
            self._late[sequence] = (token, sent_at)
            events.append(TimedOut(token))
        while self._queries:
            sequence, (token, sent_at) = next(iter(self._queries.items()))
            if sent_at > sent_before:
                break
            del self._queries[sequence]
            events.append(QueryAnswered(token, None))
        return events

    def _forget_late(self, now: float) -> None:
        while self._late:
            sequence, (_, sent_at) = next(iter(self._late.items()))
            if len(self._late) <= LATE_MAX and now < sent_at + LATE_KEEP_S:
                return
            del self._late[sequence]

    def _next_sequence(self) -> int:
        self._sequence = self._free_sequence()
        return self._sequence

    def _free_sequence(self) -> int:
        """The next number that no waiting answer can name; 1 follows the largest. SMPP 3.4, 5.1.4."""
        sequence = self._sequence
        while True:
            sequence = 1 if sequence >= SEQUENCE_MAX else sequence + 1
            if sequence not in self._outstanding and sequence not in self._late and sequence not in self._queries:
                return sequence
