"""A text to the short messages that carry it: alphabet, segments, and how many there will be before any is sent.

    plan(text, link) ─▶ GSM 7-bit, if every character fits              160 septets alone, 153 in parts
                    └─▶ GSM 7-bit with a national table, if that saves   155 / 149 with one table
                    └─▶ UCS-2                                           70 units alone, 67 in parts

Long texts go the link's way, and never two ways at once: a UDH in each part, sar_* TLVs, or one message_payload.
An escape pair and a surrogate pair are never split. What comes back from phones is in `sms_parts`, offered here too.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from smsgw import gsm7
from smsgw.carriers import LinkProfile
from smsgw.pdu import encode_tlv
from smsgw.smpp_numbers import MESSAGE_PAYLOAD, SAR_MSG_REF_NUM, SAR_SEGMENT_SEQNUM, SAR_TOTAL_SEGMENTS
from smsgw.sms_parts import (
    BadUdh,
    Content,
    Part,
    alphabet_of,
    body_bytes,
    content_of,
    decode,
    join,
    parse_udh,
    part_of,
)

__all__ = [
    "BadUdh",
    "Content",
    "Part",
    "Plan",
    "Segment",
    "SegmentCount",
    "TextTooLong",
    "alphabet_of",
    "binary",
    "body_bytes",
    "content_of",
    "count",
    "decode",
    "join",
    "parse_udh",
    "part_of",
    "plan",
    "port_addressing",
]

USER_DATA_OCTETS: Final = 140  # 3GPP TS 23.040, 9.2.3.24
SEPTETS_ALONE: Final = 160
UNITS_ALONE: Final = 70  # UCS-2
PARTS_MAX: Final = 255  # the total is one octet. 3GPP TS 23.040, 9.2.3.24.1
UDH_INDICATOR: Final = 0x40  # esm_class. SMPP 3.4, 5.2.12
DATA_CODING_UCS2: Final = 0x08  # SMPP 3.4, 5.2.19
DATA_CODING_BINARY: Final = 0x04


class TextTooLong(ValueError):
    """More than 255 parts: no phone can join them, so nothing was planned. Refuse the text."""


class Segment(NamedTuple):
    """One submit_sm: its short_message with the UDH in it, its TLVs as encoded, and the piece of text it carries."""

    short_message: bytes
    tlvs: bytes
    text: str


class Plan(NamedTuple):
    """All segments of a text. `units` counts septets, UCS-2 units or octets; `units_left` fit into the last segment."""

    alphabet: str  # "gsm7", "ucs2" or "binary"
    data_coding: int
    esm_class: int
    segments: tuple[Segment, ...]
    units: int
    units_left: int


class SegmentCount(NamedTuple):
    """What a text will cost. With message_payload the message centre cuts, by the same rule."""

    alphabet: str
    segments: int
    units: int
    units_left: int


class _Layout(NamedTuple):
    """Where a text will be cut: `ends` are places in `data`, which holds septets or UTF-16 octets."""

    ucs2: bool
    data: bytes
    ends: list[int]
    units: int
    units_left: int
    shift: bytes = b""  # UDH elements that select national tables
    locking: int = 0
    single: int = 0


_new_tuple = tuple.__new__  # twice as fast as the NamedTuple's own constructor


def plan(text: str, link: LinkProfile, *, reference: int = 0) -> Plan:
    """The segments to send. `reference` tells the parts of one text from another's: let it rise within a conversation.

    Raises TextTooLong.
    """
    # Most texts are one segment: of the default alphabet, or of UCS-2 because a character is not in it.
    septets = gsm7.encode(text)
    if septets is None:
        data = text.encode("utf-16-be", "replace")
        if len(data) <= USER_DATA_OCTETS:
            units = len(data) // 2
            segment = _new_tuple(Segment, (data, b"", text))
            return _new_tuple(Plan, ("ucs2", DATA_CODING_UCS2, 0, (segment,), units, UNITS_ALONE - units))
    elif link.alphabet == "gsm7" and len(septets) <= SEPTETS_ALONE:
        units = len(septets)
        segment = _new_tuple(Segment, (septets, b"", text))
        return _new_tuple(Plan, ("gsm7", 0, 0, (segment,), units, SEPTETS_ALONE - units))
    layout = _layout(text, septets, link)
    alphabet, data_coding = ("ucs2", DATA_CODING_UCS2) if layout.ucs2 else ("gsm7", 0)
    if len(layout.ends) == 1 and not layout.shift:
        segments: tuple[Segment, ...] = (Segment(_on_link(layout.data, text, layout, link), b"", text),)
        return Plan(alphabet, data_coding, 0, segments, layout.units, layout.units_left)
    esm_class = 0
    if link.long_messages == "payload" and not layout.shift:
        payload = encode_tlv(MESSAGE_PAYLOAD, _on_link(layout.data, text, layout, link))
        segments = (Segment(b"", payload, text),)
    else:
        segments = tuple(_segments(layout, link, reference))
        esm_class = UDH_INDICATOR if link.long_messages == "udh" or layout.shift else 0
    return Plan(alphabet, data_coding, esm_class, segments, layout.units, layout.units_left)


def count(text: str, link: LinkProfile) -> SegmentCount:
    """What `plan` would make of `text`, without making it; also for texts that `plan` refuses as too long."""
    layout = _layout(text, gsm7.encode(text), link)
    return SegmentCount("ucs2" if layout.ucs2 else "gsm7", len(layout.ends), layout.units, layout.units_left)


def port_addressing(destination: int, source: int = 0) -> bytes:
    """The UDH element that sends a message to an application on the phone. 3GPP TS 23.040, 9.2.3.24.4."""
    return struct.pack(">BBHH", 0x05, 4, destination, source)


def binary(data: bytes, *, elements: bytes = b"", reference: int = 0, data_coding: int = DATA_CODING_BINARY) -> Plan:
    """8-bit data, such as a vCard to port 9204: 133 octets alone, 128 in parts. `elements` stand in every UDH.

    Raises TextTooLong.
    """
    alone = USER_DATA_OCTETS - (1 + len(elements) if elements else 0)
    if len(data) <= alone:
        header = bytes((len(elements),)) + elements if elements else b""
        esm_class = UDH_INDICATOR if elements else 0
        segment = Segment(header + data, b"", "")
        return Plan("binary", data_coding, esm_class, (segment,), len(data), alone - len(data))
    capacity = USER_DATA_OCTETS - 1 - len(elements) - 5
    pieces = [data[at : at + capacity] for at in range(0, len(data), capacity)]
    if len(pieces) > PARTS_MAX:
        raise TextTooLong(f"{len(pieces)} parts")
    segments = tuple(
        Segment(_header(elements + _concatenation(reference, len(pieces), number, 8)) + piece, b"", "")
        for number, piece in enumerate(pieces, 1)
    )
    return Plan("binary", data_coding, UDH_INDICATOR, segments, len(data), capacity - len(pieces[-1]))


# ---- where to cut


def _layout(text: str, septets: bytes | None, link: LinkProfile) -> _Layout:
    if septets is not None and _link_has(text, link):
        return _septet_layout(septets, link, b"", 0, 0)
    data = text.encode("utf-16-be", "replace")  # "replace": half a surrogate pair is no character
    units = len(data) // 2
    if units <= UNITS_ALONE:
        return _Layout(True, data, [len(data)], units, UNITS_ALONE - units)
    octets = _part_octets(link, 0) // 2 * 2
    ends = _ucs2_ends(data, octets)
    last = len(data) - (ends[-2] if len(ends) > 1 else 0)
    best = _Layout(True, data, ends, units, (octets - last) // 2)
    if link.national_shift and link.passes_udh and link.alphabet == "gsm7":
        for candidate in _national_layouts(text, link):
            if len(candidate.ends) < len(best.ends):
                best = candidate
    return best


def _link_has(text: str, link: LinkProfile) -> bool:
    """Whether the link's data_coding 0 can carry a text that GSM 7-bit could."""
    if link.alphabet == "ascii":
        return text.isascii()
    if link.alphabet == "latin1":
        return all(char <= "\xff" for char in text)
    return True


def _septet_layout(septets: bytes, link: LinkProfile, shift: bytes, locking: int, single: int) -> _Layout:
    units = len(septets)
    alone = (USER_DATA_OCTETS - 1 - len(shift)) * 8 // 7 if shift else SEPTETS_ALONE
    if units <= alone:
        return _Layout(False, septets, [units], units, alone - units, shift, locking, single)
    capacity = _part_octets(link, len(shift)) * 8 // 7
    ends: list[int] = []
    start = 0
    while start + capacity < units:
        start += capacity
        if septets[start - 1] == gsm7.ESCAPE:
            start -= 1  # the escape goes with its code
        ends.append(start)
    ends.append(units)
    return _Layout(False, septets, ends, units, capacity - (units - start), shift, locking, single)


def _ucs2_ends(data: bytes, octets: int) -> list[int]:
    ends: list[int] = []
    start = 0
    while start + octets < len(data):
        start += octets
        if 0xD8 <= data[start - 2] <= 0xDB:
            start -= 2  # the high surrogate goes with its low one
        ends.append(start)
    ends.append(len(data))
    return ends


def _part_octets(link: LinkProfile, shift_octets: int) -> int:
    """What is left of the 140 octets beside the UDH that the part has, or gets from the message centre."""
    concatenation = 5 if link.reference_bits == 8 else 6
    return USER_DATA_OCTETS - 1 - concatenation - shift_octets


def _national_layouts(text: str, link: LinkProfile) -> list[_Layout]:
    """Every way that national tables allow, the single shift alone first: of two ways that cost the same it is taken,
    because a phone without the table still shows the letters of the default one (3GPP TS 23.038, 6.2.1.2.2)."""
    layouts: list[_Layout] = []
    for language in gsm7.languages_of(text):
        for locking, single in ((0, language), (language, 0), (language, language)):
            if locking and not gsm7.locking_exists(locking):
                continue
            septets = gsm7.encode(text, locking, single)
            if septets is None:
                continue
            layout = _septet_layout(septets, link, _shift_elements(locking, single), locking, single)
            # Parts would need the link's own way beside the UDH of the tables: never both.
            if len(layout.ends) == 1 or link.long_messages == "udh":
                layouts.append(layout)
    return layouts


def _shift_elements(locking: int, single: int) -> bytes:
    """3GPP TS 23.040, 9.2.3.24.15 and 9.2.3.24.16."""
    return (bytes((0x24, 1, single)) if single else b"") + (bytes((0x25, 1, locking)) if locking else b"")


# ---- what to send


def _segments(layout: _Layout, link: LinkProfile, reference: int) -> list[Segment]:
    total = len(layout.ends)
    if total > PARTS_MAX:
        raise TextTooLong(f"{total} parts")
    segments: list[Segment] = []
    start = 0
    for number, end in enumerate(layout.ends, 1):
        piece = layout.data[start:end]
        start = end
        text = piece.decode("utf-16-be") if layout.ucs2 else gsm7.decode(piece, layout.locking, layout.single)
        octets = _on_link(piece, text, layout, link)
        if total == 1:
            segments.append(Segment(_header(layout.shift) + octets, b"", text))
        elif link.long_messages == "sar" and not layout.shift:
            segments.append(Segment(octets, _sar_tlvs(reference, total, number, link.reference_bits), text))
        else:
            elements = _concatenation(reference, total, number, link.reference_bits) + layout.shift
            segments.append(Segment(_header(elements) + octets, b"", text))
    return segments


def _on_link(piece: bytes, text: str, layout: _Layout, link: LinkProfile) -> bytes:
    """The octets that the link expects for a piece: data_coding 0 may mean another alphabet there."""
    if layout.ucs2 or link.alphabet == "gsm7":
        return piece
    return text.encode("ascii" if link.alphabet == "ascii" else "latin-1")


def _header(elements: bytes) -> bytes:
    return bytes((len(elements),)) + elements


def _concatenation(reference: int, total: int, number: int, bits: int) -> bytes:
    """3GPP TS 23.040, 9.2.3.24.1 and 9.2.3.24.8."""
    if bits == 8:
        return bytes((0x00, 3, reference & 0xFF, total, number))
    return struct.pack(">BBHBB", 0x08, 4, reference & 0xFFFF, total, number)


def _sar_tlvs(reference: int, total: int, number: int, bits: int) -> bytes:
    """SMPP 3.4, 5.3.2.22 to 5.3.2.24."""
    return (
        encode_tlv(SAR_MSG_REF_NUM, struct.pack(">H", reference & (0xFF if bits == 8 else 0xFFFF)))
        + encode_tlv(SAR_TOTAL_SEGMENTS, bytes((total,)))
        + encode_tlv(SAR_SEGMENT_SEQNUM, bytes((number,)))
    )
