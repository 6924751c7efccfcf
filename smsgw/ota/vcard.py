"""One contact -> one business card for a phone: vCard 2.1, 8-bit, to port 9204.

    BEGIN:VCARD                       group and name in one field, unsplit: "球队/张三" is what the phone shows
    VERSION:2.1                       CHARSET on a field that is not ASCII, else phones read Latin-1
    N;CHARSET=UTF-8:球队/张三           raw UTF-8, half of quoted-printable; never a soft line break
    TEL:+8613800138000                plain, and no line end after the last line
    END:VCARD

What fits one SMS is sent as one: the group is left out before the name takes a second one, and a name is cut, with
dots to show it, before it takes a third. Phones keep only the first card of a message, so there is one.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from smsgw.sms_text import port_addressing

PORT: Final = 9204  # IANA wap-vcard
ELEMENTS: Final = port_addressing(PORT)
OCTETS_ALONE: Final = 140 - 1 - len(ELEMENTS)  # 133. 3GPP TS 23.040, 9.2.3.24
OCTETS_IN_PARTS: Final = OCTETS_ALONE - 5  # 128, beside the concatenation element. 3GPP TS 23.040, 9.2.3.24.1
PARTS_PLANNED_MAX: Final = 2  # phones of these families lose more of three than they keep

_HEAD: Final = b"BEGIN:VCARD\r\nVERSION:2.1\r\n"
_NOT_DIALLED: Final = re.compile(r"[^0-9+*#]")
# Between fields and within them these have a meaning, and phones differ in undoing a backslash before them (S19).
_LOOKALIKES: Final = str.maketrans({";": ",", "\\": "/"})
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINER: Final = "\u200d"  # makes one sign of several emoji, or of letters of Indic scripts


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the card does not show as the book has it: "name", "group" or "signs", and why, for an operator."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Card:
    """A card ready to send. name: what the phone will show, the group before it."""

    data: bytes
    parts: int
    name: str
    dropped: tuple[Dropped, ...] = ()
    elements: bytes = ELEMENTS


def card(name: str, number: str, groups: tuple[str, ...] = ()) -> Card:
    """The card of one contact. number: as it is dialled; the first of the groups, sorted, goes before the name."""
    dropped: list[Dropped] = []
    tail = b"\r\nTEL:" + _NOT_DIALLED.sub("", number).encode() + b"\r\nEND:VCARD"
    shown = plain(name)
    if shown != name:
        dropped.append(Dropped("signs", "a card cannot carry them"))
    if len(groups) > 1:
        dropped.append(Dropped("group", "a card shows one"))
    wishes = [f"{plain(min(groups))}/{shown}", shown] if groups else [shown]
    for parts in range(1, PARTS_PLANNED_MAX + 1):
        for wish in wishes:
            data = _data(wish, tail)
            if len(data) <= _room(parts):
                if wish is not wishes[0]:
                    dropped.append(Dropped("group", f"does not fit {parts} SMS"))
                return Card(data, parts, wish, tuple(dropped))
    dropped.append(Dropped("name", f"does not fit {PARTS_PLANNED_MAX} SMS"))
    if groups:
        dropped.append(Dropped("group", f"does not fit {PARTS_PLANNED_MAX} SMS"))
    cut = _cut(shown, tail)
    return Card(_data(cut, tail), PARTS_PLANNED_MAX, cut, tuple(dropped))


def plain(name: str) -> str:
    """A name as one line without signs that end a field, split it or cannot be seen."""
    if not (name.isascii() and name.isprintable()):
        name = "".join(
            " " if character.isspace() else character
            for character in name
            if character == _JOINER or character.isspace() or unicodedata.category(character) not in _INVISIBLE
        )
    name = " ".join(name.translate(_LOOKALIKES).split())
    if "VCARD" in name.upper():
        name = name.replace(":", ".")  # some phones seek END:VCARD anywhere
    return name


def _room(parts: int) -> int:
    return OCTETS_ALONE if parts == 1 else parts * OCTETS_IN_PARTS


def _data(name: str, tail: bytes) -> bytes:
    field = b"N:" if name.isascii() else b"N;CHARSET=UTF-8:"
    return _HEAD + field + name.encode() + tail


def _cut(name: str, tail: bytes) -> str:
    """As much of the name as the parts take, and dots; a letter keeps its marks or goes with them."""
    dots = ".." if name.isascii() else "…"
    room = _room(PARTS_PLANNED_MAX) - len(_data(dots, tail))
    end = len(name.encode()[:room].decode("utf-8", "ignore"))
    while end and (name[end] == _JOINER or name[end - 1] == _JOINER or unicodedata.category(name[end])[0] == "M"):
        end -= 1
    return name[:end].rstrip() + dots
