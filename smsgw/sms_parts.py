"""What a phone sent, back to text: UDH, parts, alphabets. Nothing a peer can send makes these fail.

    ShortMessage ──content_of──▶ Content(data, part, …) ──▶ kept until all parts are there ──join──▶ str

Parts are joined as octets first and decoded then, so that an escape or a surrogate pair may lie across a cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from smsgw import gsm7
from smsgw.carriers import LinkProfile
from smsgw.pdu import ShortMessage
from smsgw.smpp_numbers import MESSAGE_PAYLOAD, SAR_MSG_REF_NUM, SAR_SEGMENT_SEQNUM, SAR_TOTAL_SEGMENTS

UDH_INDICATOR: Final = 0x40  # esm_class. SMPP 3.4, 5.2.12

Alphabet = Literal[
    "gsm7", "ascii", "latin1", "ucs2", "binary", "cyrillic", "hebrew", "shift_jis", "iso2022_jp", "jis_x0212", "euc_kr"
]


class BadUdh(ValueError):
    """The peer's user data header lies about its lengths: take the message whole."""


class Part(NamedTuple):
    """Which part of which text. The key of a set is sender, receiver, `reference` and `total`."""

    reference: int
    total: int
    number: int


class Content(NamedTuple):
    """A short message taken apart. `flaw` says what was wrong with it, if the message had to be taken whole."""

    data: bytes
    data_coding: int
    part: Part | None = None
    ports: tuple[int, int] | None = None  # destination, source
    locking: int = 0
    single: int = 0
    flaw: str | None = None


def parse_udh(short_message: bytes) -> list[tuple[int, bytes]]:
    """The elements of the header at the start, in order. Raises BadUdh. 3GPP TS 23.040, 9.2.3.24."""
    if not short_message:
        raise BadUdh("the header is missing")
    end = 1 + short_message[0]
    if end > len(short_message):
        raise BadUdh("the header is longer than the message")
    elements: list[tuple[int, bytes]] = []
    at = 1
    while at < end:
        if at + 2 > end:
            raise BadUdh("an octet after the last element")
        stop = at + 2 + short_message[at + 1]
        if stop > end:
            raise BadUdh("an element goes past the header")
        elements.append((short_message[at], short_message[at + 2 : stop]))
        at = stop
    return elements


def content_of(message: ShortMessage) -> Content:
    """Take a message apart. A lying UDH, or part 3 of 2, is named in `flaw`, and the message taken whole."""
    data = message.short_message or message.tlvs.get(MESSAGE_PAYLOAD, b"")
    if message.esm_class & UDH_INDICATOR:
        return _with_udh(data, message)
    if SAR_TOTAL_SEGMENTS not in message.tlvs:
        return Content(data, message.data_coding)
    part, flaw = _part_by_sar(message.tlvs)
    return Content(data, message.data_coding, part, flaw=flaw)


def part_of(message: ShortMessage) -> Part | None:
    """Which part of a longer text this is; None for a whole one, and where the numbers make no sense."""
    return content_of(message).part


def body_bytes(message: ShortMessage) -> bytes:
    """The octets of the text without a UDH, from short_message or message_payload."""
    return content_of(message).data


def _with_udh(data: bytes, message: ShortMessage) -> Content:
    try:
        elements = parse_udh(data)
    except BadUdh as error:
        return Content(data, message.data_coding, flaw=str(error))
    part: Part | None = None
    ports: tuple[int, int] | None = None
    locking = single = 0
    flaw: str | None = None
    for iei, value in elements:
        match iei, len(value):
            case (0x00, 3) | (0x08, 4):  # 3GPP TS 23.040, 9.2.3.24.1, 9.2.3.24.8; of several the last one counts
                part, flaw = _sane(int.from_bytes(value[:-2]), value[-2], value[-1])
            case 0x05, 4:
                ports = int.from_bytes(value[:2]), int.from_bytes(value[2:])
            case 0x04, 2:
                ports = value[0], value[1]
            case 0x24, 1:
                single = value[0]
            case 0x25, 1:
                locking = value[0]
    if part is None and flaw is None and SAR_TOTAL_SEGMENTS in message.tlvs:
        part, flaw = _part_by_sar(message.tlvs)
    return Content(data[1 + data[0] :], message.data_coding, part, ports, locking, single, flaw)


def _part_by_sar(tlvs: Mapping[int, bytes]) -> tuple[Part | None, str | None]:
    """SMPP 3.4, 5.3.2.22 to 5.3.2.24."""
    reference, total, number = (
        int.from_bytes(tlvs.get(tag, b"")) for tag in (SAR_MSG_REF_NUM, SAR_TOTAL_SEGMENTS, SAR_SEGMENT_SEQNUM)
    )
    if reference > 0xFFFF or total > 255:
        return None, "sar TLVs of a wrong length"
    return _sane(reference, total, number)


def _sane(reference: int, total: int, number: int) -> tuple[Part | None, str | None]:
    if not 1 <= number <= total:
        return None, f"part {number} of {total}"
    if total == 1:
        return None, None  # a whole text with the header of a part
    return Part(reference, total, number), None


# ---- alphabets

# SMPP 3.4, 5.2.19. 5 and 13 leave the encoding form open; these are the ones in use.
_BY_SMPP: Final[dict[int, Alphabet]] = {
    1: "ascii",
    2: "binary",
    3: "latin1",
    4: "binary",
    5: "shift_jis",
    6: "cyrillic",
    7: "hebrew",
    8: "ucs2",
    10: "iso2022_jp",
    13: "jis_x0212",
    14: "euc_kr",
}
# 3GPP TS 23.038, 4: bits 3 and 2 of the general groups
_BY_DCS: Final[tuple[Alphabet, ...]] = ("gsm7", "binary", "ucs2", "gsm7")
_CODECS: Final[dict[Alphabet, str]] = {
    "ascii": "ascii",
    "latin1": "latin-1",
    "binary": "ascii",
    "cyrillic": "iso8859-5",
    "hebrew": "iso8859-8",
    "shift_jis": "shift_jis",
    "iso2022_jp": "iso2022_jp",
    "jis_x0212": "iso2022_jp_1",
    "euc_kr": "euc_kr",
}


def alphabet_of(data_coding: int, link: LinkProfile) -> Alphabet:
    """What a data_coding means on this link. Codes that are reserved mean the default alphabet, as 23.038 demands."""
    if data_coding < 0x10:
        return _BY_SMPP.get(data_coding, link.alphabet)
    if data_coding < 0x80:  # general and automatic deletion groups
        if data_coding & 0x20:
            return "binary"  # compressed: 3GPP TS 23.042, which nobody sends
        return _BY_DCS[data_coding >> 2 & 3]
    if data_coding >= 0xF0:  # data coding and message class
        return "binary" if data_coding & 0x04 else "gsm7"
    if data_coding >= 0xE0:  # message waiting, UCS-2
        return "ucs2"
    return "gsm7" if data_coding >= 0xC0 else link.alphabet  # message waiting, or reserved


def decode(data_coding: int, data: bytes, link: LinkProfile, *, locking: int = 0, single: int = 0) -> str:
    """The text. Never fails: whatever has no meaning in its alphabet becomes U+FFFD."""
    alphabet = alphabet_of(data_coding, link)
    if alphabet == "gsm7":
        return gsm7.decode(data, locking, single)
    if alphabet == "ucs2":
        # 23.038 knows no byte order mark; phones that send one mean it.
        if data[:2] == b"\xff\xfe":
            return data[2:].decode("utf-16-le", "replace")
        return data.decode("utf-16-be", "replace").removeprefix("\ufeff")
    return data.decode(_CODECS[alphabet], "replace")


def join(parts: Mapping[int, bytes], data_coding: int, link: LinkProfile, *, locking: int = 0, single: int = 0) -> str:
    """The text of parts by number, whatever order they came in: joined first, decoded then."""
    return decode(
        data_coding, b"".join([parts[number] for number in sorted(parts)]), link, locking=locking, single=single
    )
