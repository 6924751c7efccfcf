"""A delivery receipt in any form that message centres send, and the matching of its id with the response's.

    esm_class bits 2–5 ──▶ TLVs receipted_message_id, message_state ──▶ the text "id:… stat:… err:…"
       is it a receipt?              what they say counts                 fills in what they leave out

The text of a receipt is the carrier's free choice (SMPP 3.4, appendix B is only an example), so two readers stand
here: one pattern for the common form, which costs about a microsecond, and a search for each key for all others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from smsgw.carriers import IdFormat
from smsgw.pdu import MESSAGE_ID_CHARS_MAX, ShortMessage
from smsgw.smpp_numbers import (
    MESSAGE_STATE,
    NETWORK_ERROR_CODE,
    RECEIPTED_MESSAGE_ID,
    USER_MESSAGE_REFERENCE,
)
from smsgw.sms_parts import body_bytes

MessageState = Literal["enroute", "accepted", "delivered", "expired", "deleted", "undeliverable", "unknown", "rejected"]

_TYPE_MASK: Final = 0x3C  # esm_class bits 2 to 5. SMPP 3.4, 5.2.12
_TYPES: Final = frozenset({0x04, 0x20})  # delivery receipt, intermediate notification

# The seven letters of appendix B, and the spellings that were seen beside them.
_STATES: Final[Mapping[str, MessageState]] = {
    "ENROUTE": "enroute",
    "SCHEDLD": "enroute",
    "BUFFERED": "enroute",
    "ACCEPTD": "accepted",
    "ACCEPTED": "accepted",
    "DELIVRD": "delivered",
    "DELIVERED": "delivered",
    "EXPIRED": "expired",
    "DELETED": "deleted",
    "UNDELIV": "undeliverable",
    "UNDELIVERABLE": "undeliverable",
    "FAILED": "undeliverable",
    "SKIPPED": "undeliverable",
    "UNKNOWN": "unknown",
    "REJECTD": "rejected",
    "REJECTED": "rejected",
}
# SMPP 3.4, 5.2.28; 0, 9 from SMPP 5.0, 4.7.15
_STAT_BY_NUMBER: Final = {
    0: "SCHEDLD",
    1: "ENROUTE",
    2: "DELIVRD",
    3: "EXPIRED",
    4: "DELETED",
    5: "UNDELIV",
    6: "ACCEPTD",
    7: "UNKNOWN",
    8: "REJECTD",
    9: "SKIPPED",
}
# Nothing will follow. ACCEPTD is final in appendix B, but carriers send it on the way; UNKNOWN says nothing.
_FINAL: Final = frozenset({"delivered", "expired", "deleted", "undeliverable", "rejected"})


class Receipt(NamedTuple):
    """What became of one segment. `message_id` is as the receipt writes it: look it up by `IdMatcher.receipt_keys`.

    `stat` and `err` are the carrier's words; `state` is ours. `text_id` is the id in the text where the TLV names
    another one, `done_at` the digits of "done date" in the carrier's own time zone.
    """

    message_id: str
    stat: str
    state: MessageState
    final: bool
    err: str | None = None
    done_at: str | None = None
    user_message_reference: int | None = None
    network_error_code: bytes | None = None
    text_id: str | None = None


_new_tuple = tuple.__new__  # twice as fast as the NamedTuple's own constructor

_COMMON = re.compile(
    rb"id:([!-~]{1,255}) sub:\d+ dlvrd:\d+ submit date:\w+ done date:(\w+) stat:([A-Z]{1,16}) err:([!-~]{1,16})(?: |$)"
)
# A value ends at a space, a comma or a semicolon; where it is missing, the next key must not be taken for it.
_VALUE: Final = rb"\s*[:=]\s*((?![a-z]+(?:[ _]date)?:)[!-+\-./0-9<-~]{0,255})"
_KEYS: Final = {
    name: re.compile(rb"(?<![^\s,;])" + key + _VALUE, re.IGNORECASE)
    for name, key in (("id", rb"id"), ("stat", rb"stat(?:us)?"), ("err", rb"err(?:or)?"), ("done", rb"done[ _]date"))
}
# What follows "text:" is the beginning of the message itself, and may hold anything.
_QUOTED = re.compile(rb"(?<![^\s,;])text\s*[:=]", re.IGNORECASE)
_STAT_OF_BYTES: Final = {stat.encode(): (stat, state, state in _FINAL) for stat, state in _STATES.items()}


def parse(message: ShortMessage) -> Receipt | None:
    """The receipt that a deliver_sm or data_sm is; None for anything else."""
    kind = message.esm_class & _TYPE_MASK
    tlvs = message.tlvs
    if kind not in _TYPES and kind:
        return None  # acknowledgements by a person or a phone: SMPP 3.4, 5.2.12
    found = _COMMON.match(message.short_message)
    if found is not None:
        message_id, done, stat, err = found.groups()
        known = _STAT_OF_BYTES.get(stat)
        if known is not None:
            done_at = done.decode() if done.isdigit() else None
            receipt = _new_tuple(Receipt, (message_id.decode(), *known, err.decode(), done_at, None, None, None))
            return _with_tlvs(receipt, tlvs) if tlvs else receipt
    elif not kind and not (RECEIPTED_MESSAGE_ID in tlvs and MESSAGE_STATE in tlvs):
        return None
    # Without the type it is a receipt all the same if it has both TLVs or the whole form, which no person writes.
    return _with_tlvs(_by_keys(_text_octets(message)), tlvs)


def state_of_number(message_state: int) -> tuple[str, MessageState, bool]:
    """A message_state as query_sm_resp has it: the carrier's word, ours, and whether it is final. SMPP 3.4, 5.2.28."""
    stat = _STAT_BY_NUMBER.get(message_state, "UNKNOWN")
    state = _STATES.get(stat, "unknown")
    return stat, state, state in _FINAL


def _by_keys(text: bytes) -> Receipt:
    """What a text in an unusual form says, key by key; all unknown where it says nothing."""
    quoted = _QUOTED.search(text)
    if quoted is not None:
        text = text[: quoted.start()]
    values = {name: found[1].decode() for name, pattern in _KEYS.items() if (found := pattern.search(text))}
    stat = values.get("stat", "").upper()[:16] or "UNKNOWN"
    state = _STATES.get(stat, "unknown")
    done = values.get("done", "")
    return Receipt(
        values.get("id", ""),
        stat,
        state,
        state in _FINAL,
        values.get("err", "")[:16] or None,
        done if done.isdigit() else None,
    )


def _with_tlvs(receipt: Receipt, tlvs: Mapping[int, bytes]) -> Receipt:
    """The receipt with what its TLVs say, which counts more than its text."""
    text_id: str | None = None
    message_id, stat, state, final, err, done_at, _, _, _ = receipt
    named = tlvs.get(RECEIPTED_MESSAGE_ID)
    if named:
        by_tlv = _c_octets(named)
        if by_tlv and by_tlv != message_id:
            text_id, message_id = message_id or None, by_tlv
    number = tlvs.get(MESSAGE_STATE)
    if number is not None and len(number) == 1:
        by_number = _STAT_BY_NUMBER.get(number[0])
        if by_number is not None and _STATES[by_number] != state:
            stat = by_number
            state = _STATES[by_number]
            final = state in _FINAL
    reference = tlvs.get(USER_MESSAGE_REFERENCE)
    reference_number = int.from_bytes(reference) if reference and len(reference) == 2 else None
    return Receipt(
        message_id, stat, state, final, err, done_at, reference_number, tlvs.get(NETWORK_ERROR_CODE), text_id
    )


def _text_octets(message: ShortMessage) -> bytes:
    """The text in ASCII octets, whatever alphabet the message centre chose for it."""
    octets = body_bytes(message)
    if octets[:1] == b"\0":  # UCS-2: every other octet
        return octets.decode("utf-16-be", "replace").encode("ascii", "replace")
    return octets


def _c_octets(value: bytes) -> str:
    """A C-octet string, also from peers that leave its NUL out, as characters that any table can hold."""
    text = value.partition(b"\0")[0].decode("latin-1").strip()
    return text[:MESSAGE_ID_CHARS_MAX]


# ---- which message a receipt is about

CONSTANT_AFTER: Final = 3  # the same id in so many responses running: it names nothing
ID_DIGITS_MAX: Final = 32  # 128 bits; longer ids are names, not numbers
KEY_CHARS_MAX: Final = 64  # SMPP 3.4, 5.2.23; a longer id is stored as its digest
LEARNED_AFTER: Final = 20  # matches by one way, none by another, before the others are given up
CONSTANTS_MAX: Final = 64  # constants remembered for a link; no peer had more than one


def response_key(message_id: str, id_format: IdFormat) -> str | None:
    """The one key under which a response's id is stored; None if it can name nothing.

    Case and leading zeros do not count. Under "hex to decimal" and "decimal to hex" the key is the number in decimal.
    """
    if id_format == "hex to decimal":
        number = _number(message_id, 16)
        return str(number) if number else _plain(message_id)
    if id_format == "useless":
        return None
    return _plain(message_id)


def receipt_keys(message_id: str, id_format: IdFormat) -> tuple[str, ...]:
    """The keys under which a receipt's id may be stored, likeliest first; () if it can name nothing.

    "auto" gives up to three; where they find several messages the caller must also compare the number (see IdMatcher).
    """
    if id_format == "useless":
        return ()
    if id_format == "decimal to hex":
        key = _key_by(id_format, message_id)
        return (key,) if key else ()
    plain = _plain(message_id)
    if plain is None:
        return ()
    if id_format != "auto":
        return (plain,)
    keys = [_key_by(way, message_id) for way in _WAYS]
    return tuple(dict.fromkeys(key for key in keys if key is not None))


_WAYS: Final[tuple[IdFormat, ...]] = ("same", "hex to decimal", "decimal to hex")


class IdMatcher:
    """What one link has taught us about its ids. Keys are meant within the link: store them with its name.

    `response_key` is called once for each new response, in order; `receipt_keys` for each receipt; `matched` with the
    key that found the message. Under "auto" the way is settled once 20 matches went one way only.
    """

    def __init__(self, id_format: IdFormat = "auto") -> None:
        self.id_format = id_format
        self._last = ""
        self._repeats = 0
        self._useless: set[str] = set()
        self._votes = dict.fromkeys(_WAYS, 0)
        self._learned: IdFormat | None = None

    @property
    def settled(self) -> bool:
        """Whether a receipt's id can be read in one way only, so that it needs no comparing of numbers."""
        return self.id_format != "auto" or self._learned is not None

    def response_key(self, message_id: str) -> str | None:
        """As the function; also None for an id that the link gives to every message."""
        if message_id == self._last:
            self._repeats += 1
            if self._repeats >= CONSTANT_AFTER and len(self._useless) < CONSTANTS_MAX:
                self._useless.add(message_id.lower())
        else:
            self._last = message_id
            self._repeats = 1
        if self._useless and message_id.lower() in self._useless:
            return None
        return response_key(message_id, self.id_format)

    def receipt_keys(self, message_id: str) -> tuple[str, ...]:
        """As the function, fewer once the way is learned; () for an id that names nothing: match by
        user_message_reference and number instead."""
        if self._useless and message_id.lower() in self._useless:
            return ()
        if self._learned is not None:
            key = _key_by(self._learned, message_id)
            if key is not None:
                return (key,)
        return receipt_keys(message_id, self.id_format)

    def matched(self, message_id: str, key: str) -> None:
        """A receipt's id found the message stored under `key`, and the number agreed."""
        if self.id_format != "auto" or self._learned is not None:
            return
        ways = _ways(message_id, key)
        if len(ways) != 1:
            return  # "7" is 7 in any base: nothing to learn
        self._votes[ways[0]] += 1
        if self._votes[ways[0]] >= LEARNED_AFTER and sum(self._votes.values()) == self._votes[ways[0]]:
            self._learned = ways[0]


def _ways(message_id: str, key: str) -> list[IdFormat]:
    """By which ways a receipt's id leads to the plain key of its response."""
    return [way for way in _WAYS if _key_by(way, message_id) == key]


def _key_by(way: IdFormat, message_id: str) -> str | None:
    """The plain key of the response, if the receipt's id is written in this way; None if it cannot be."""
    if way == "same":
        return _plain(message_id)
    if way == "hex to decimal":
        number = _number(message_id, 10)
        return format(number, "x") if number else None
    number = _number(message_id, 16)
    return str(number) if number else None


def _plain(message_id: str) -> str | None:
    plain = message_id.strip().lower().lstrip("0")
    if len(plain) > KEY_CHARS_MAX:
        return hashlib.sha256(plain.encode()).hexdigest()
    return plain or None


def _number(message_id: str, base: int) -> int:
    """The positive number that an id is in `base`; 0 if it is none, or longer than any number in use."""
    try:
        return int(message_id, base) if len(message_id) <= ID_DIGITS_MAX and message_id.isalnum() else 0
    except ValueError:
        return 0
