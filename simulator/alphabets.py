"""What a phone makes of user data: header elements, alphabets, and its own texts on the way out.

The default alphabet and the user data header are read by pycrate; only the small national tables of 3GPP TS 23.038
that pycrate lacks stand here. Over SMPP a septet travels in an octet of its own.
"""

from dataclasses import dataclass
from enum import Enum

from pycrate_core.utils import PycrateErr
from pycrate_mobile.TS23038 import SMS_DCS, decode_7b, encode_7b
from pycrate_mobile.TS23040_SMS import TP_UDH

ESCAPE = 0x1B
SEPTETS_MAX = 160  # 3GPP TS 23.040, 9.2.3.24.1: 140 octets of user data
OCTETS_MAX = 140
SEPTETS_IN_PART = 153
OCTETS_IN_PART = 134
PARTS_MAX = 255
LYING_HEADER = "the user data header is longer than the message or cut off"


class Alphabet(Enum):
    """How the octets of a text are to be read; the value is shown to people."""

    GSM = "GSM 7-bit"
    ASCII = "ASCII"
    LATIN = "Latin-1"
    UCS2 = "UCS-2"
    OCTETS = "8-bit"


class Unreadable(ValueError):
    """User data that no phone can read; the words say why."""


@dataclass(frozen=True, slots=True)
class Header:
    """The elements of a user data header that a basic phone acts upon (3GPP TS 23.040, 9.2.3.24)."""

    reference: tuple[str, int] | None = None  # its kind and number
    total: int = 1
    number: int = 1
    port: int | None = None
    single_shift: int = 0
    locking_shift: int = 0
    octets: int = 0  # the header's own length, its length octet included


NO_HEADER = Header()


def read_header(user_data: bytes) -> Header:
    """The header at the start of `user_data`; raises Unreadable where its lengths lie."""
    header = TP_UDH()
    try:
        header.from_bytes(user_data)
        length, elements = header.get_val()
    except PycrateErr as error:
        raise Unreadable(LYING_HEADER) from error
    if sum(2 + element[1] for element in elements) != length:  # pycrate reads an element past the header's end
        raise Unreadable(LYING_HEADER)
    found: dict[str, object] = {"octets": length + 1}
    for element in elements:
        tag, value = element[0], element[2]
        if tag in (0x00, 0x08) and isinstance(value, list):
            # a part that cannot be is dropped by the phone, as 9.2.3.24.1 asks
            number, total, part = value[:3]
            if not 1 <= part <= total:
                raise Unreadable(f"part {part} of {total}")
            found |= {"reference": ("16-bit" if tag else "8-bit", number), "total": total, "number": part}
        elif tag in (0x04, 0x05) and isinstance(value, list):
            found["port"] = value[0]
        elif tag in (0x24, 0x25) and isinstance(value, bytes) and value:
            found["single_shift" if tag == 0x24 else "locking_shift"] = value[0]
    return Header(**found)  # type: ignore[arg-type]  # the keys above are the fields


def alphabet_of(data_coding: int) -> Alphabet | None:
    """What data_coding announces (SMPP 3.4, 5.2.19; from 0x10 on 3GPP TS 23.038, 4); None: nobody can tell."""
    plain = {0: Alphabet.GSM, 1: Alphabet.ASCII, 2: Alphabet.OCTETS, 3: Alphabet.LATIN, 4: Alphabet.OCTETS}
    if data_coding < 0x10:
        return plain.get(data_coding) or (Alphabet.UCS2 if data_coding == 0x08 else None)
    scheme = SMS_DCS()
    scheme.from_bytes(bytes((data_coding,)))
    group, charset = scheme["Group"].get_val(), scheme["Charset"].get_val()
    if group == 0x0F:  # the upper charset bit is reserved in this group
        return Alphabet.OCTETS if charset & 1 else Alphabet.GSM
    if group in (0x1, 0x4, 0x5):
        return {0: Alphabet.GSM, 1: Alphabet.OCTETS, 2: Alphabet.UCS2}.get(charset)
    if group in (0xC, 0xD, 0xE):
        return Alphabet.UCS2 if group == 0xE else Alphabet.GSM
    return None


def read_text(data: bytes, alphabet: Alphabet, header: Header = NO_HEADER) -> str:
    """The characters of joined user data; what cannot be read shows as a replacement, as on a phone."""
    if alphabet is Alphabet.GSM:
        return _septets_to_text(data, header)
    if alphabet is Alphabet.UCS2:
        return data.decode("utf-16-be", "replace")
    if alphabet is Alphabet.ASCII:
        return data.decode("ascii", "replace")
    return data.decode("latin-1")


def segments_of(octets: int, alphabet: Alphabet) -> int:
    """How many short messages so many octets of text become when the carrier cuts them itself."""
    whole, part = (SEPTETS_MAX, SEPTETS_IN_PART) if alphabet is Alphabet.GSM else (OCTETS_MAX, OCTETS_IN_PART)
    return 1 if octets <= whole else -(-octets // part)


def fits_one(user_data: bytes, header_octets: int, alphabet: Alphabet) -> bool:
    """Whether user data fits one short message, its header included."""
    if alphabet is not Alphabet.GSM:
        return len(user_data) <= OCTETS_MAX
    header_septets = -(-header_octets * 8 // 7)
    return header_septets + len(user_data) - header_octets <= SEPTETS_MAX


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A phone's own text, cut into parts: each the user data of one short message."""

    parts: tuple[bytes, ...]
    data_coding: int
    has_header: bool
    alphabet: Alphabet


def write_text(text: str, reference: int) -> Outgoing:
    """A phone's text as it sends it: GSM 7-bit where it can, else UCS-2, in parts where one message is too short."""
    try:
        if "\x1b" in text:  # pycrate takes it for the escape septet, which is no character
            raise PycrateErr
        packed, count = encode_7b(text)
    except PycrateErr:
        units = text.encode("utf-16-be", "surrogatepass")
        pieces = [units] if len(units) <= OCTETS_MAX else _cut_units(units)
        return _with_headers(pieces, reference, 0x08, Alphabet.UCS2)
    septets = _unpack(packed, count)
    pieces = [septets] if count <= SEPTETS_MAX else _cut_septets(septets)
    return _with_headers(pieces, reference, 0x00, Alphabet.GSM)


def _with_headers(pieces: list[bytes], reference: int, data_coding: int, alphabet: Alphabet) -> Outgoing:
    if len(pieces) == 1:
        return Outgoing(tuple(pieces), data_coding, has_header=False, alphabet=alphabet)
    head = bytes((5, 0, 3, reference & 0xFF, len(pieces) & 0xFF))  # 3GPP TS 23.040, 9.2.3.24.1
    parts = tuple(head + bytes((n & 0xFF,)) + piece for n, piece in enumerate(pieces, 1))
    return Outgoing(parts, data_coding, has_header=True, alphabet=alphabet)


def _cut_septets(septets: bytes) -> list[bytes]:
    """Parts of at most 153 septets; an escape stays with the character it escapes."""
    pieces = []
    while septets:
        end = SEPTETS_IN_PART
        if len(septets) > end and septets[end - 1] == ESCAPE:
            end -= 1
        pieces.append(septets[:end])
        septets = septets[end:]
    return pieces


def _cut_units(units: bytes) -> list[bytes]:
    """Parts of at most 67 UTF-16 units; a surrogate pair stays whole."""
    pieces = []
    while units:
        end = OCTETS_IN_PART
        if len(units) > end and 0xD8 <= units[end - 2] <= 0xDB:
            end -= 2
        pieces.append(units[:end])
        units = units[end:]
    return pieces


def _unpack(packed: bytes, count: int) -> bytes:
    """Packed septets (3GPP TS 23.038, 6.1.2.1) to one in each octet."""
    bits = int.from_bytes(packed, "little")
    return bytes(bits >> (7 * n) & 0x7F for n in range(count))


def _pack(septets: bytes) -> bytes:
    bits = sum((septet & 0x7F) << (7 * n) for n, septet in enumerate(septets))
    return bits.to_bytes(-(-len(septets) * 7 // 8), "little")


def _septets_to_text(septets: bytes, header: Header) -> str:
    if header.locking_shift in _LOCKING or header.single_shift in _SINGLE:
        return _national(septets, header)
    # pycrate drops a last @ or CR as padding: a guard after the text takes that place
    guard = b"x"
    return str(decode_7b(_pack(septets + guard))).removesuffix("x")


def _national(septets: bytes, header: Header) -> str:
    """Text in a national language (3GPP TS 23.038, 6.2.1.2 and annex A)."""
    locking = _LOCKING.get(header.locking_shift, {})
    single = {0x0A: "\f"} | _EXTENSION | _SINGLE.get(header.single_shift, {})
    shown: list[str] = []
    escaped = False
    for octet in septets:
        septet = octet & 0x7F
        if septet == ESCAPE and not escaped:
            escaped = True
            continue
        default = locking.get(septet) or _septets_to_text(bytes((septet,)), NO_HEADER)
        shown.append(single.get(septet, default) if escaped else default)
        escaped = False
    return "".join(shown)


def _table(spaced: str) -> dict[int, str]:
    """`41Á 49Í` as {0x41: "Á", 0x49: "Í"}."""
    return {int(cell[:2], 16): cell[2:] for cell in spaced.split()}


_EXTENSION = _table("14^ 28{ 29} 2F\\ 3C[ 3D~ 3E] 40| 65€")
# 3GPP TS 23.038, annex A.2: Turkish, Spanish, Portuguese. A phone without a table shows the default alphabet.
_SINGLE = {
    1: _table("47Ğ 49İ 53Ş 63ç 67ğ 69ı 73ş"),
    2: _table("09ç 41Á 49Í 4FÓ 55Ú 61á 69í 6Fó 75ú"),
    3: _table(
        "05ê 09ç 0BÔ 0Cô 0EÁ 0Fá 12Φ 13Γ 15Ω 16Π 17Ψ 18Σ 19Θ 1FÊ 41À 49Í 4FÓ 55Ú 5BÃ 5CÕ 61Â 69í 6Fó 75ú 7Bã 7Cõ 7Fâ"
    ),
}
# annex A.3: Turkish, Portuguese
_LOCKING = {
    1: _table("04€ 07ı 0BĞ 0Cğ 1CŞ 1Dş 40İ 60ç"),
    3: _table(
        "04ê 06ú 07í 08ó 09ç 0BÔ 0Cô 0EÁ 0Fá 12ª 13Ç 14À 15∞ 16^ 17\\ 18€ 19Ó 1A| 1CÂ 1Dâ 1EÊ 24º 40Í 5BÃ 5CÕ 5DÚ 60~ "
        "7Bã 7Cõ 7D`"
    ),
}
