"""Between the carrier and the phones: delivery, waiting for phones that are away, and what goes wrong on the air."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

from simulator import alphabets, handset
from simulator.faults import Faults
from simulator.handset import Handset, Outcome, ShortMessage
from simulator.messages import Submitted

WAITING_MAX = 10_000  # messages kept for one phone that cannot be reached
SET_TOGETHER_S = 2.0  # parts held back by a fault are let go after this


class Air:
    """Messages on their way to the phones; `finished(message, state)` is told how each ended."""

    def __init__(
        self, phones: Mapping[str, Handset], faults: Faults, finished: Callable[[Submitted, str], None]
    ) -> None:
        self.faults = faults
        self._phones = phones
        self._finish = finished
        self._waiting: dict[str, deque[Submitted]] = {}
        self._held: dict[tuple[object, ...], list[Submitted]] = {}

    @property
    def waiting(self) -> int:
        """Messages kept for phones that are away."""
        return sum(map(len, self._waiting.values()))

    def carry(self, message: Submitted) -> None:
        """Bring a message to its phone, or keep it."""
        if message.is_ussd:
            message.state, message.done_at = "DELIVRD", time.time()
            return
        phone = self._phones.get(message.destination.digits.removeprefix("+"))
        if phone is None:
            self._finish(message, "UNDELIV" if self.faults.unknown_number_fails else "DELIVRD")
        elif self.faults.handset_parts == "as sent":
            self._hand_over(phone, message)
        else:
            self._mishandle(phone, message)

    def _hand_over(self, phone: Handset, message: Submitted) -> bool:
        """One attempt; False where the message has to wait."""
        if phone.receive(_on_air(message)) is Outcome.TAKEN:
            self._finish(message, "DELIVRD")
            return True
        if message.state == "ENROUTE":
            waiting = self._waiting.setdefault(phone.msisdn, deque())
            if len(waiting) >= WAITING_MAX:
                self._finish(message, "UNDELIV")
                return False
            waiting.append(message)
            left = max(0.0, message.deadline - time.time())
            asyncio.get_running_loop().call_later(left, self._expire, phone.msisdn, message)
        return False

    def reachable(self, phone: Handset) -> None:
        """A phone came back, or has room again: bring what waited for it, oldest first."""
        waiting = self._waiting.get(phone.msisdn)
        while waiting:
            if phone.receive(_on_air(waiting[0])) is not Outcome.TAKEN:
                return
            self._finish(waiting.popleft(), "DELIVRD")

    def _expire(self, msisdn: str, message: Submitted) -> None:
        waiting = self._waiting.get(msisdn)
        if waiting and message in waiting:
            waiting.remove(message)
            self._finish(message, "EXPIRED")

    def _mishandle(self, phone: Handset, message: Submitted) -> None:
        """Parts on the air go wrong as the fault says; the carrier itself believes that all went well."""
        try:
            header, _ = handset.opened(_on_air(message))
        except alphabets.Unreadable:
            header = alphabets.NO_HEADER
        fault = self.faults.handset_parts
        if fault == "doubled":
            if self._hand_over(phone, message):
                phone.receive(_on_air(message))
        elif header.total == 1:
            self._hand_over(phone, message)
        elif fault == "last lost" and header.number == header.total:
            self._finish(message, "DELIVRD")
        elif fault == "last lost":
            self._hand_over(phone, message)
        else:
            key = (phone.msisdn, message.source, header.reference, header.total)
            held = self._held.setdefault(key, [])
            held.append(message)
            if len(held) == header.total:
                self._let_go(phone, key)
            elif len(held) == 1:
                asyncio.get_running_loop().call_later(SET_TOGETHER_S, self._let_go, phone, key)

    def _let_go(self, phone: Handset, key: tuple[object, ...]) -> None:
        for message in reversed(self._held.pop(key, [])):
            self._hand_over(phone, message)


def _on_air(message: Submitted) -> ShortMessage:
    """What the phone sees of a message."""
    return ShortMessage(
        message.source, message.esm_class, message.data_coding, message.user_data, message.tlvs, message.alphabet
    )
