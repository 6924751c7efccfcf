"""Business cards as a phone reads them: vCard 2.1 and 3.0 through vobject, the first card of a message only."""

import re
from dataclasses import dataclass

import vobject
from vobject.base import VObjectError

CARD_PORT = 9204  # IANA wap-vcard; 0x23F4 in the user data header
_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Card:
    """A name and its numbers."""

    name: str
    numbers: tuple[str, ...]


class NotACard(ValueError):
    """Octets on the card port that are no vCard."""


def read_card(octets: bytes, *, name_chars_max: int, numbers_max: int) -> Card:
    """The first card in `octets`, cut to what this phone keeps; raises NotACard.

    A vCard 2.1 field without CHARSET is read as Latin-1, as phones do: forgotten CHARSETs show.
    """
    text = octets.decode("utf-8", "surrogateescape")
    try:
        card = next(vobject.readComponents(text, allowQP=True), None)
        lines = [] if card is None or card.name != "VCARD" else list(card.lines())
        version = next((str(line.value).strip() for line in lines if line.name == "VERSION"), "2.1")
        names = {line.name: _value(line, version) for line in reversed(lines) if line.name in ("N", "FN")}
        numbers = [_value(line, version) for line in lines if line.name == "TEL"]
    except (VObjectError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise NotACard("not a vCard") from error
    name = (names.get("N") or names.get("FN") or "").strip()
    numbers = [one.strip() for one in numbers if one.strip()]
    if not name and not numbers:
        raise NotACard("a card without name and number")
    return Card(name[:name_chars_max], tuple(dict.fromkeys(numbers))[:numbers_max])


def _value(line: vobject.base.ContentLine, version: str) -> str:
    """A field's text in the charset that it names."""
    if line.name == "N" and not isinstance(line.value, str):
        family, given = (_joined(getattr(line.value, part, "")) for part in ("family", "given"))
        # a Chinese name is written family first and without a space
        value = family + given if _CJK.search(family + given) else f"{given} {family}"
    else:
        value = str(line.value)
    charset = next(iter(line.params.get("CHARSET", ())), None)
    octets = value.encode("utf-8", "surrogateescape")
    if charset is None:
        charset = "latin-1" if version == "2.1" else "utf-8"
    elif charset.upper() == "UTF-8" or "QUOTED-PRINTABLE" in line.params.get("ENCODING", ()):
        charset = "utf-8"
    return octets.decode(charset, "replace")


def _joined(part: str | list[str]) -> str:
    return part if isinstance(part, str) else " ".join(part)
