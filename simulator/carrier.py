"""The simulated carrier: an SMPP 3.4 server between the gateway under test and the phones on the page.

    submit_sm → judged → answered → the phone, or kept until it can be reached → receipt ┐
    a phone's text → parts ──────────────────────────────────────────────────────────────┴→ owed → deliver_sm

What is owed to a system_id waits while none of its receivers is bound, and is sent again until it is answered with
status 0 or refused for good.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ssl import SSLContext
from typing import Any

from simulator import alphabets, frames, messages
from simulator.air import Air
from simulator.faults import Faults
from simulator.frames import Address, Frame
from simulator.handset import Handset
from simulator.messages import Submitted
from simulator.session import Owed, Session
from simulator.wire import Wire

log = logging.getLogger(__name__)

TICK_S = 0.25
OWED_MAX = 1_000_000  # deliver_sm waiting for one system_id; beyond this the oldest are lost, as at a real carrier
HISTORY_MAX = 50_000  # accepted messages that query_sm and the API still know
RETRY_S = 1.0  # after a temporary error
ANSWER_WITHIN_S = 10.0  # a deliver_sm without an answer is sent again
UNBIND_WITHIN_S = 1.0
ADDRESS_DIGITS_MAX = 20  # SMPP 3.4, 5.2.9


@dataclass(slots=True)
class Account:
    """An ESME that may bind, and what is owed to it."""

    system_id: str
    password: str | None  # None: any
    short_code: str
    owed: deque[Owed] = field(default_factory=lambda: deque(maxlen=OWED_MAX))
    sessions: deque[Session] = field(default_factory=deque)


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    connections: int = 0
    binds: int = 0
    binds_refused: int = 0
    submits: int = 0
    accepted: int = 0
    refused: int = 0
    bad_bodies: int = 0
    answers: int = 0
    receipts: int = 0
    receipts_answered: int = 0
    mo: int = 0
    mo_answered: int = 0
    deliver_repeats: int = 0
    deliver_refused: int = 0
    cuts: int = 0


class Carrier:
    """Accounts, messages under way and the sessions of the gateway."""

    def __init__(
        self, accounts: list[Account], phones: Mapping[str, Handset], faults: Faults, wire: Wire, *,
        deliver_window: int = 50, enquire_link_s: float = 30.0, retry_s: float = RETRY_S,
        history_max: int = HISTORY_MAX,
    ) -> None:  # fmt: skip
        self.accounts = {one.system_id: one for one in accounts}
        self.faults = faults
        self.wire = wire
        self.counters = Counters()
        self.deliver_window = deliver_window
        self.enquire_link_s = enquire_link_s
        self.history: deque[Submitted] = deque(maxlen=history_max)
        self.sessions: set[Session] = set()
        self.port = 0
        self.refuse_until = 0.0  # monotonic
        self.air = Air(phones, faults, self._finish)
        self._retry_s = retry_s
        self._ids = messages.MessageIds()
        self._by_id: dict[str, Submitted] = {}
        self._second = (0, 0)  # the present second and its submit_sm
        self._serial = 0
        self._server: asyncio.Server | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._all_ended = asyncio.Event()

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, tasks: asyncio.TaskGroup, host: str, port: int, tls: SSLContext | None = None) -> None:
        """Listen; every connection becomes a task of `tasks`."""
        self._tasks = tasks
        self._server = await asyncio.start_server(self._accepted, host, port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        tasks.create_task(self._ticks())

    async def stop(self) -> None:
        """Unbind the peers, then close what is still open."""
        self._stopping.set()
        if self._server:
            self._server.close()
        for session in list(self.sessions):
            if session.account:
                session.ask_unbind()
            else:
                session.close()
        if self.sessions:
            self._all_ended.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNBIND_WITHIN_S):
                    await self._all_ended.wait()
        for session in list(self.sessions):
            session.cut(answers_lost=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected(reader, writer)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session | None:
        if time.monotonic() < self.refuse_until or self._stopping.is_set() or self._tasks is None:
            writer.transport.abort()
            return None
        self.counters.connections += 1
        session = Session(self, reader, writer)
        self.sessions.add(session)
        self._tasks.create_task(session.run())
        return session

    async def outbind(self, host: str, port: int, system_id: str) -> None:
        """Call the ESME at an address and ask it to bind; raises OSError where nobody answers."""
        account = self.accounts[system_id]
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
        if session := self._connected(reader, writer):
            session.introduce("simulator", account.password or "")

    async def _ticks(self) -> None:
        """Timers of all sessions, in one place."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(min(TICK_S, self.enquire_link_s / 4)):
                    await self._stopping.wait()
            except TimeoutError:
                now = time.monotonic()
                for session in list(self.sessions):
                    session.tick(now)
                    if session.account and (late := session.take_back(now - ANSWER_WITHIN_S)):
                        self._owe_again(session.account, late)

    def cut(self, refuse_s: float = 0.0, *, answers_lost: bool = False) -> None:
        """The link drops for everybody; nobody gets in again for `refuse_s`."""
        self.counters.cuts += 1
        self.refuse_until = time.monotonic() + refuse_s
        for session in list(self.sessions):
            session.cut(answers_lost=answers_lost)
        self.wire.tell_links()

    # -- binds --------------------------------------------------------------------------------------------------

    def admit(self, system_id: str, password: str) -> tuple[Account | None, int]:
        """The account for a bind, or the status that refuses it."""
        account = self.accounts.get(system_id)
        status = self.faults.refuse_bind
        if not status and account is None:
            status = frames.INVALID_SYSTEM_ID
        if not status and account and account.password not in (None, password):
            status = frames.INVALID_PASSWORD
        if status:
            self.counters.binds_refused += 1
            return None, status
        return account, frames.OK

    def bound(self, session: Session) -> None:
        """A session may carry traffic from now on."""
        self.counters.binds += 1
        if session.account:
            session.account.sessions.append(session)
            self._pump(session.account)
        self.wire.tell_links()

    def forget(self, session: Session) -> None:
        """A session ended; what it had not answered is owed again."""
        self.sessions.discard(session)
        if not self.sessions:
            self._all_ended.set()
        if account := session.account:
            if session in account.sessions:
                account.sessions.remove(session)
            self._owe_again(account, session.take_back())
        self.wire.tell_links()

    # -- messages of the ESME -----------------------------------------------------------------------------------

    def submit(self, session: Session, frame: Frame) -> None:
        """Judge, answer and carry one submit_sm or data_sm; raises BodyRefused."""
        self.counters.submits += 1
        status = self._moods()
        if status:
            self.counters.refused += 1
            session.answer(frame, status)
            return
        try:
            message = self._accept(session, frames.decode(frame))
        except frames.BodyRefused:
            self.counters.refused += 1
            raise
        if self.faults.receipt_before_answer:
            self.air.carry(message)
        self._answer(session, frame, message)
        if not self.faults.receipt_before_answer:
            self.air.carry(message)
        self._count_down_to_cut()

    def _moods(self) -> int:
        """The status that a fault gives this submit_sm, or 0."""
        faults = self.faults
        second = int(time.monotonic())
        self._second = (second, self._second[1] + 1 if self._second[0] == second else 1)
        if faults.strikes("throttle_next"):
            return faults.throttle_status
        if faults.throttle_per_s and self._second[1] > faults.throttle_per_s:
            return faults.throttle_status
        return faults.submit_status

    def _accept(self, session: Session, body: frames.Body) -> Submitted:
        """The message in a submit_sm, or BodyRefused where no carrier would take it."""
        account = session.account
        assert account is not None  # the session checked the bind
        destination = Address(body.octet("dest_addr_ton"), body.octet("dest_addr_npi"), body.text("destination_addr"))
        digits = destination.digits.removeprefix("+")
        if not digits.isdigit() or len(digits) > ADDRESS_DIGITS_MAX:
            raise frames.BodyRefused(frames.INVALID_DESTINATION, "the destination is no number")
        alphabet = alphabets.alphabet_of(body.octet("data_coding"))
        if alphabet is None:
            raise frames.BodyRefused(frames.INVALID_DATA_CODING, "an alphabet that no phone knows")
        now = time.time()
        try:
            deadline = messages.validity_deadline(bytes(body.values.get("validity_period") or b""), now)
        except ValueError as error:
            raise frames.BodyRefused(frames.INVALID_EXPIRY, str(error)) from error
        payload = body.tlvs.get(frames.MESSAGE_PAYLOAD)
        short = bytes(body.values.get("short_message") or b"")
        if payload is not None and short:
            raise frames.BodyRefused(frames.INVALID_MESSAGE_LENGTH, "both short_message and message_payload")
        user_data = payload if payload is not None else short
        segments = _segments(user_data, body.octet("esm_class"), alphabet, is_payload=payload is not None)
        self._serial += 1
        answered, receipted = self._ids.next(self.faults.message_ids)
        source = Address(body.octet("source_addr_ton"), body.octet("source_addr_npi"), body.text("source_addr"))
        message = Submitted(
            self._serial, account.system_id, answered, receipted, source, destination, body.octet("esm_class"),
            body.octet("protocol_id"), body.octet("data_coding"), body.octet("registered_delivery"), user_data,
            dict(body.tlvs), alphabet, now, deadline, segments=segments,
        )  # fmt: skip
        self._remember(message)
        return message

    def _remember(self, message: Submitted) -> None:
        self.counters.accepted += 1
        if len(self.history) == self.history.maxlen:
            self._by_id.pop(self.history[0].id_answered, None)
        self.history.append(message)
        self._by_id[message.id_answered] = message

    def _answer(self, session: Session, frame: Frame, message: Submitted) -> None:
        faults = self.faults
        if faults.strikes("drop_answers"):
            return
        body = message.id_answered.encode() + b"\0"
        times = 2 if faults.strikes("double_answers") else 1
        self.counters.answers += 1
        for _ in range(times):
            if faults.answer_delay_s:
                later = asyncio.get_running_loop().call_later
                later(faults.answer_delay_s, session.answer, frame, frames.OK, body)
            else:
                session.answer(frame, frames.OK, body)

    def _count_down_to_cut(self) -> None:
        if self.faults.cut_after:
            self.faults.cut_after -= 1
            if not self.faults.cut_after:
                self.cut(self.faults.refuse_after_cut_s, answers_lost=self.faults.cut_loses_answers)

    def query(self, message_id: str) -> tuple[int, bytes]:
        """Status and body of query_sm_resp (SMPP 3.4, 4.8.2)."""
        message = self._by_id.get(message_id)
        if message is None:
            return frames.INVALID_MESSAGE_ID, b""
        done = time.strftime("%y%m%d%H%M%S000+", time.gmtime(message.done_at)) if message.done_at else ""
        state = messages.STATE_NUMBERS[message.state]
        return frames.OK, message_id.encode() + b"\0" + done.encode() + b"\0" + bytes((state, 0))

    # -- to the ESME --------------------------------------------------------------------------------------------

    def _finish(self, message: Submitted, state: str) -> None:
        message.state, message.done_at = state, time.time()
        if not message.wants_receipt(state):
            return
        if self.faults.receipt_delay_s and not self.faults.receipt_before_answer:
            asyncio.get_running_loop().call_later(self.faults.receipt_delay_s, self._owe_receipt, message)
        else:
            self._owe_receipt(message)

    def _owe_receipt(self, message: Submitted) -> None:
        if self.faults.strikes("drop_receipts"):
            return
        body = messages.receipt(message, self.faults).pack()
        for _ in range(2 if self.faults.strikes("double_receipts") else 1):
            self.counters.receipts += 1
            self._owe(self.accounts[message.system_id], Owed("receipt", body))

    def deliver(self, system_id: str, one: frames.Deliver) -> None:
        """Owe an ESME any deliver_sm, such as a USSD step with its raw optional parameters."""
        self.counters.mo += 1
        self._owe(self.accounts[system_id], Owed("mo", one.pack()))

    def send_text(self, phone: Handset, text: str, to: str | None = None) -> alphabets.Outgoing:
        """A phone's owner sends a text to a short code; raises handset.Refused."""
        to = to or next(iter(self.accounts.values())).short_code
        account = next((one for one in self.accounts.values() if one.short_code == to), None)
        outgoing = phone.write(text, to)
        if account is None:
            return outgoing  # a text to somebody else: not ours to carry further
        source = Address(1, 1, phone.msisdn.removeprefix("+"))
        destination = Address(1, 1, to.removeprefix("+")) if to.startswith("+") else Address(3, 0, to)
        parts = list(outgoing.parts)
        match self.faults.mo_parts:
            case "doubled":
                parts = [part for part in parts for _ in range(2)]
            case "reversed":
                parts.reverse()
            case "last lost" if len(parts) > 1:
                parts.pop()
        for part in parts:
            esm_class = 0x40 if outgoing.has_header else 0x00
            self.deliver(account.system_id, frames.Deliver(source, destination, esm_class, outgoing.data_coding, part))
        return outgoing

    def _owe(self, account: Account, owed: Owed) -> None:
        account.owed.append(owed)
        self._pump(account)

    def _owe_again(self, account: Account, back: list[Owed]) -> None:
        """Put deliver_sm that got no answer in front, in their order."""
        self.counters.deliver_repeats += len(back)
        account.owed.extendleft(reversed(back))
        self._pump(account)

    def _pump(self, account: Account) -> None:
        """Send what is owed as far as the windows of the bound sessions reach, turn by turn."""
        if self.faults.half_open:
            return
        while account.owed:
            session = next((one for one in account.sessions if one.takes(account.owed[0])), None)
            if session is None:
                return
            account.sessions.rotate(-1)
            session.deliver(account.owed.popleft())

    def wake(self) -> None:
        """The faults changed: what was held up may go on."""
        for account in self.accounts.values():
            self._pump(account)

    def answered(self, session: Session, owed: Owed, status: int) -> None:
        """An ESME answered a deliver_sm."""
        account = session.account
        assert account is not None  # only bound sessions carry deliver_sm
        if status == frames.OK:
            if owed.kind == "mo":
                self.counters.mo_answered += 1
            else:
                self.counters.receipts_answered += 1
        elif status in frames.PERMANENT_REFUSALS:
            self.counters.deliver_refused += 1
        else:
            self.counters.deliver_repeats += 1
            asyncio.get_running_loop().call_later(self._retry_s, self._owe, account, owed)
        self._pump(account)

    def as_json(self) -> dict[str, Any]:
        """Bound sessions, what waits, and the counters."""
        return {
            "links": [
                {
                    "system_id": one.account.system_id,
                    "bind_type": one.bind_type,
                    "peer": one.peer,
                    "since": one.since,
                    "submits": one.submits,
                    "unanswered": len(one.unanswered),
                }
                for one in sorted(self.sessions, key=lambda one: one.since)
                if one.account and one.alive
            ],
            "owed": {one.system_id: len(one.owed) for one in self.accounts.values()},
            "waiting_for_phones": self.air.waiting,
            "refusing_s": max(0.0, round(self.refuse_until - time.monotonic(), 3)),
            "counters": asdict(self.counters),
        }


def _segments(user_data: bytes, esm_class: int, alphabet: alphabets.Alphabet, *, is_payload: bool) -> int:
    """How many short messages this becomes; BodyRefused where it fits none (3GPP TS 23.040, 9.2.3.24)."""
    header_octets = user_data[0] + 1 if esm_class & 0x40 and user_data else 0
    if is_payload and not header_octets:
        segments = alphabets.segments_of(len(user_data), alphabet)
        if segments <= alphabets.PARTS_MAX:
            return segments
    elif alphabets.fits_one(user_data, header_octets, alphabet):
        return 1
    raise frames.BodyRefused(frames.INVALID_MESSAGE_LENGTH, "longer than a short message")
