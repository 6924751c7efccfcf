"""A message while the carrier has it: its ids, its validity, and the receipt it ends in."""

import calendar
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from smpp.pdu import smpp_time

from simulator import alphabets, frames
from simulator.faults import Faults

DEFAULT_VALIDITY_S = 48 * 3600.0
RECEIPT_TEXT_CHARS = 20
# SMPP 3.4, 5.2.28 and appendix B
STATE_NUMBERS = {
    "ENROUTE": 1,
    "DELIVRD": 2,
    "EXPIRED": 3,
    "DELETED": 4,
    "UNDELIV": 5,
    "ACCEPTD": 6,
    "UNKNOWN": 7,
    "REJECTD": 8,
}


@dataclass(slots=True)
class Submitted:
    """One submit_sm or data_sm that the carrier accepted."""

    serial: int
    system_id: str
    id_answered: str  # what the answer names
    id_receipted: str  # what the receipt names
    source: frames.Address
    destination: frames.Address
    esm_class: int
    protocol_id: int
    data_coding: int
    registered_delivery: int
    user_data: bytes
    tlvs: dict[int, bytes]
    alphabet: alphabets.Alphabet
    at: float
    deadline: float
    state: str = "ENROUTE"
    done_at: float = 0.0
    segments: int = 1

    @property
    def is_ussd(self) -> bool:
        """Part of a USSD dialogue: no text for the inbox."""
        return frames.USSD_SERVICE_OP in self.tlvs

    def wants_receipt(self, state: str) -> bool:
        """What registered_delivery asked for (SMPP 3.4, 5.2.17)."""
        asked = self.registered_delivery & 0x03
        return asked == 1 or (asked == 2 and state != "DELIVRD")

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        return {
            "serial": self.serial,
            "system_id": self.system_id,
            "id": self.id_answered,
            "from": self.source.shown,
            "to": self.destination.shown,
            "esm_class": self.esm_class,
            "data_coding": self.data_coding,
            "user_data": self.user_data.hex(),
            "tlvs": {f"0x{tag:04X}": value.hex() for tag, value in self.tlvs.items()},
            "state": self.state,
            "at": self.at,
        }


class MessageIds:
    """Message ids in the form that the fault asks for; never the same twice in a carrier's life."""

    def __init__(self, first: int | None = None) -> None:
        # a carrier that starts again must not give out yesterday's ids
        self._last = (time.time_ns() // 1_000_000 & 0x7FFF_FFFF) | 0x4000_0000 if first is None else first - 1

    def next(self, form: str) -> tuple[str, str]:
        """The id for the answer and the id for the receipt."""
        self._last += 1
        number = self._last
        if form == "hex":
            return f"{number:x}", f"{number:x}"
        if form == "hex response, decimal receipt":
            return f"{number:x}", str(number)
        if form == "zero padded upper":
            return f"{number:x}", f"{number:011X}"
        if form == "uuid":
            made = str(uuid.UUID(int=uuid.uuid4().int))
            return made, made
        if form == "useless":
            return "msg_id_not_implemented", "00000001"
        return str(number), str(number)


def validity_deadline(period: bytes, now: float) -> float:
    """When validity_period ends, in seconds since the epoch (SMPP 3.4, 7.1.1); raises ValueError."""
    text = period.decode("ascii", "replace")
    if not text:
        return now + DEFAULT_VALIDITY_S
    if len(text) != 16:
        raise ValueError("a validity period has 16 characters")
    if text.endswith("R"):
        span = smpp_time.parse_relative_time(text)
        days = span.years * 365 + span.months * 30 + span.days
        return float(now + ((days * 24 + span.hours) * 60 + span.minutes) * 60 + span.seconds)
    # the difference in quarters of an hour is how far local time stands ahead of UTC
    quarters = smpp_time.parse_nn(text[13:15]) * (-1 if text[15] == "-" else 1)
    if text[15] not in "+-":
        raise ValueError("a validity period ends in +, - or R")
    local = smpp_time.parse_YYMMDDhhmmss(text[:12])
    return float(calendar.timegm(local.timetuple()) + smpp_time.parse_t(text[12:13]) / 10 - quarters * 900)


def receipt(message: Submitted, faults: Faults) -> frames.Deliver:
    """The delivery receipt in the form that the carrier uses now (SMPP 3.4, appendix B)."""
    state = message.state if faults.receipt_state == "as it was" else faults.receipt_state
    failed = state not in ("DELIVRD", "ACCEPTD")
    tlvs: dict[int, bytes] = {}
    if faults.receipt_form != "text":
        tlvs[frames.RECEIPTED_MESSAGE_ID] = message.id_receipted.encode() + b"\0"
        tlvs[frames.MESSAGE_STATE] = bytes((STATE_NUMBERS[state],))
        if failed:
            tlvs[frames.NETWORK_ERROR_CODE] = b"\x03\x00\x01"  # GSM; 1: unknown subscriber
    if frames.USER_MESSAGE_REFERENCE in message.tlvs:
        tlvs[frames.USER_MESSAGE_REFERENCE] = message.tlvs[frames.USER_MESSAGE_REFERENCE]
    text = ""
    if faults.receipt_form != "tlv":
        text = (
            f"id:{message.id_receipted} sub:001 dlvrd:{0 if failed else 1:03d} submit date:{_minute(message.at)} "
            f"done date:{_minute(message.done_at)} stat:{state} err:{1 if failed else 0:03d} text:{_start(message)}"
        )
    source, destination = message.destination, message.source
    if faults.receipt_not_swapped:
        source, destination = destination, source
    return frames.Deliver(source, destination, 0x04, 0x00, text.encode("ascii"), tlvs)


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%y%m%d%H%M")


def _start(message: Submitted) -> str:
    """The first characters of a plain text; nothing of one that plain ASCII cannot show."""
    if message.esm_class & 0x40 or message.alphabet is not alphabets.Alphabet.GSM:
        return ""
    start = message.user_data[:RECEIPT_TEXT_CHARS]
    # letters, digits and most signs of the GSM alphabet have their ASCII codes
    return "".join(chr(one) for one in start if one in b" .,:!?-+/" or (one < 0x7F and chr(one).isalnum()))
