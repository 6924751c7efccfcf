"""What a person wrote as a name -> what is kept: readable, one line, no tricks (S18, S19)."""

import unicodedata

from addressbook.errors import Refused

# Controls, format characters (bidi marks U+200E/F, U+202A-E, U+2066-9, zero-width ones, byte order mark, tags),
# halves of surrogate pairs, and line and paragraph separators.
_REMOVED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SPACES = frozenset("\t\n\r\v\f\x85\u2028\u2029")
_JOINER = "\u200d"  # joins emoji into one, and letters of Indic scripts: kept after a symbol or a mark, nowhere else
_JOINED_AFTER = frozenset({"So", "Sk", "Mn", "Mc"})
MARKS_MAX = 4  # combining marks on one letter; more is no writing system but a tower that covers other lines


def clean_name(raw: str, characters_max: int) -> str:
    """NFC, single spaces, no invisible characters. Raises Refused if nothing is left or too much."""
    if not (raw.isascii() and raw.isprintable()):
        raw = unicodedata.normalize("NFC", "".join(_visible(raw[: characters_max * 20])))
    name = " ".join(raw.split())
    if not name:
        raise Refused("The name is missing.")
    if len(name) > characters_max:
        raise Refused("That name is too long: {limit} characters at most.", limit=characters_max)
    return name


def _visible(raw: str) -> list[str]:
    kept: list[str] = []
    marks = 0
    for character in raw:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character in _SPACES:
            kept.append(" ")
        elif category not in _REMOVED:
            if marks <= MARKS_MAX:
                kept.append(character)
        elif character == _JOINER and kept and unicodedata.category(kept[-1]) in _JOINED_AFTER:
            kept.append(character)
    while kept and kept[-1] == _JOINER:
        kept.pop()
    return kept


def same_name(name: str) -> str:
    """Two names with the same value of this are one name to a person: case and width do not tell them apart."""
    return unicodedata.normalize("NFKC", name).casefold()
