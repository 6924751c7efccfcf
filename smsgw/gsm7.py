"""The GSM 7-bit alphabets: the default one, its extension, and the national shift tables. 3GPP TS 23.038, 6.2.1.

A septet stands in an octet of its own here, as SMPP carries it. An alphabet is a pair (locking shift, single shift)
of national language identifiers, 0 for the default tables. `encode` and `decode` run in C for all but escapes:

    text ──charmap──▶ octets: 0x00–0x7F locking table, 0x80|code single shift table ──▶ 0x1B code

In that intermediate form ASCII octets need no escape, and 0x9B stands for code 0x00: a charmap must keep octet 0 for
NUL, or Python builds it as a slow dictionary.
"""

from __future__ import annotations

import codecs
from functools import cache
from typing import Final

ESCAPE: Final = 0x1B
_NOTHING: Final = "\ufffe"  # what the charmap codecs take for "no character here"
_CODE_ZERO: Final = 0x9B

# 3GPP TS 23.038, 6.2.1.2.4, table 6.2.1.2.4.1
TURKISH: Final = 1
SPANISH: Final = 2
PORTUGUESE: Final = 3
BENGALI: Final = 4
GUJARATI: Final = 5
HINDI: Final = 6
KANNADA: Final = 7
MALAYALAM: Final = 8
ORIYA: Final = 9
PUNJABI: Final = 10
TAMIL: Final = 11
TELUGU: Final = 12
URDU: Final = 13
LANGUAGES: Final = range(1, 14)

_ASCII_LETTERS_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASCII_LETTERS_LOWER: Final = "abcdefghijklmnopqrstuvwxyz"


def _placed(base: str, changes: dict[int, str]) -> str:
    """`base` with runs of characters put at the given codes."""
    table = list(base)
    for code, run in changes.items():
        table[code : code + len(run)] = run
    return "".join(table)


_EMPTY: Final = _NOTHING * 128

# ---- locking shift tables: 128 characters by code, U+FFFE where there is none

_DEFAULT: Final = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞ\ufffeÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)

# The Indic tables of A.3.4 to A.3.12 are one table: each code has the same place in each script's Unicode block, and
# stays empty where that script has no such letter. Here `.` is empty, and the codes 0x00 to 0x5F are given as offsets.
_INDIC_OFFSETS: Final = {
    **dict(zip(range(0x03), range(0x01, 0x04), strict=True)),
    **dict(zip(range(0x03, 0x0A), range(0x05, 0x0C), strict=True)),
    0x0B: 0x0C,
    0x0C: 0x0D,
    **dict(zip(range(0x0E, 0x1B), range(0x0E, 0x1B), strict=True)),
    **dict(zip(range(0x1C, 0x20), range(0x1B, 0x1F), strict=True)),
    **dict(zip(range(0x22, 0x28), range(0x1F, 0x25), strict=True)),
    0x2A: 0x25,
    0x2B: 0x26,
    0x2D: 0x27,
    0x2F: 0x28,
    **dict(zip(range(0x3C, 0x3F), range(0x29, 0x2C), strict=True)),
    **dict(zip(range(0x40, 0x4E), range(0x2C, 0x3A), strict=True)),
    **dict(zip(range(0x4E, 0x60), range(0x3C, 0x4E), strict=True)),
}
_INDIC_SIGNS: Final = {
    0x0A: "\n",
    0x0D: "\r",
    0x20: " !",
    0x28: ")(",  # sic: in this order
    0x2C: ",",
    0x2E: ".",
    0x30: "0123456789:;",
    0x3F: "?",
    0x61: _ASCII_LETTERS_LOWER,
}


def _indic(block: int, missing: str, at_60: str, from_7b: str) -> str:
    """A locking table: the script's Unicode block, the offsets it lacks (hex), its characters at 0x60 and 0x7B."""
    lacks = {int(offset, 16) for offset in missing.split()}
    letters = {code: chr(block + offset) for code, offset in _INDIC_OFFSETS.items() if offset not in lacks}
    return _placed(_EMPTY, {**letters, **_INDIC_SIGNS, 0x60: at_60, 0x7B: from_7b})


_LOCKING: Final[dict[int, str]] = {
    0: _DEFAULT,
    # A.3.1
    TURKISH: _placed(_DEFAULT, {0x04: "€", 0x07: "ı", 0x0B: "Ğğ", 0x1C: "Şş", 0x40: "İ", 0x60: "ç"}),
    # A.3.3
    PORTUGUESE: _placed(
        _DEFAULT,
        {
            0x04: "êéúíóç",
            0x0B: "Ôô",
            0x0E: "Áá",
            0x12: "ªÇÀ∞^\\€Ó|",
            0x1C: "ÂâÊ",
            0x24: "º",
            0x40: "Í",
            0x5B: "ÃÕÚ",
            0x60: "~",
            0x7B: "ãõ`",
        },
    ),
    # A.3.4 to A.3.12
    BENGALI: _indic(0x0980, "0D 0E 11 12 29 31 33 34 35 45 46 49 4A", "\u09ce", "\u09d7\u09dc\u09dd\u09f0\u09f1"),
    GUJARATI: _indic(0x0A80, "0E 12 29 31 34 46 4A", "\u0ad0", "\u0ae0\u0ae1\u0ae2\u0ae3\u0af1"),
    HINDI: _indic(0x0900, "", "\u0950", "\u0972\u097b\u097c\u097e\u097f"),
    KANNADA: _indic(0x0C80, "01 0D 11 29 34 45 49", "\u0cd5", "\u0cd6\u0ce0\u0ce1\u0ce2\u0ce3"),
    MALAYALAM: _indic(0x0D00, "01 0D 11 29 3C 45 49", "\u0d57", "\u0d60\u0d61\u0d62\u0d63\u0d79"),
    ORIYA: _indic(0x0B00, "0D 0E 11 12 29 31 34 45 46 49 4A", "\u0b56", "\u0b57\u0b60\u0b61\u0b62\u0b63"),
    PUNJABI: _indic(
        0x0A00, "0B 0C 0D 0E 11 12 29 31 34 37 3D 43 44 45 46 49 4A", "\u0a51", "\u0a70\u0a71\u0a72\u0a73\u0a74"
    ),
    TAMIL: _indic(
        0x0B80,
        "01 0B 0C 0D 11 16 17 18 1B 1D 20 21 22 25 26 27 2B 2C 2D 3C 3D 43 44 45 49",
        "\u0bd0",
        "\u0bd7\u0bf0\u0bf1\u0bf2\u0bf9",
    ),
    TELUGU: _indic(0x0C00, "0D 11 29 34 3C 45 49", "\u0c55", "\u0c56\u0c60\u0c61\u0c62\u0c63"),
    # A.3.13
    URDU: _placed(
        _EMPTY,
        {
            **_INDIC_SIGNS,
            0x00: "\u0627\u0622\u0628\u067b\u0680\u067e\u06a6\u062a\u06c2\u067f",
            0x0B: "\u0679\u067d",
            0x0E: "\u067a\u067c\u062b\u062c\u0681\u0684\u0683\u0685\u0686\u0687\u062d\u062e\u062f",
            0x1C: "\u068c\u0688\u0689\u068a",
            0x22: "\u068f\u068d\u0630\u0631\u0691\u0693",
            0x2A: "\u0699\u0632",
            0x2D: "\u0696",
            0x2F: "\u0698",
            0x3C: "\u069a\u0633\u0634",
            0x40: "\u0635\u0636\u0637\u0638\u0639\u0641\u0642\u06a9\u06aa\u06ab\u06af\u06b3\u06b1\u0644\u0645\u0646",
            0x50: "\u06ba\u06bb\u06bc\u0648\u06c4\u06d5\u06c1\u06be\u0621\u06cc\u06d0\u06d2\u064d\u0650\u064f\u0657",
            0x60: "\u0654",
            0x7B: "\u0655\u0651\u0653\u0656\u0670",
        },
    ),
}

# ---- single shift tables: what 0x1B and a code mean

_BRACKETS: Final = {0x0A: "\f", 0x14: "^", 0x28: "{}", 0x2F: "\\", 0x3C: "[~]", 0x40: "|", 0x65: "€"}
# The Indic and Urdu tables share their signs and capitals; what differs are digits (0x1C) and further letters.
_INDIC_SHIFT: Final = {
    **_BRACKETS,
    0x00: "@£$¥¿\"¤%&'",
    0x0B: "*+",
    0x0E: "-/<=>¡^¡_#*",
    0x41: _ASCII_LETTERS_UPPER,
}
_DANDAS: Final = "\u0964\u0965"


def _run(first: int, count: int) -> str:
    return "".join(chr(first + offset) for offset in range(count))


_SINGLE: Final[dict[int, str]] = {
    language: _placed(_EMPTY, changes)
    for language, changes in {
        0: _BRACKETS,
        # A.2.1 to A.2.3
        TURKISH: {**_BRACKETS, 0x47: "Ğ", 0x49: "İ", 0x53: "Ş", 0x63: "ç", 0x67: "ğ", 0x69: "ı", 0x73: "ş"},
        SPANISH: {
            **_BRACKETS,
            0x09: "ç",
            0x41: "Á",
            0x49: "Í",
            0x4F: "Ó",
            0x55: "Ú",
            0x61: "á",
            0x69: "í",
            0x6F: "ó",
            0x75: "ú",
        },
        PORTUGUESE: {
            **_BRACKETS,
            0x05: "ê",
            0x09: "ç",
            0x0B: "Ôô",
            0x0E: "Áá",
            0x12: "ΦΓ^ΩΠΨΣΘ",
            0x1F: "Ê",
            0x41: "À",
            0x49: "Í",
            0x4F: "Ó",
            0x55: "Ú",
            0x5B: "ÃÕ",
            0x61: "Â",
            0x69: "í",
            0x6F: "ó",
            0x75: "ú",
            0x7B: "ãõ",
            0x7F: "â",
        },
        # A.2.4 to A.2.12
        BENGALI: {
            **_INDIC_SHIFT,
            0x19: _run(0x09E6, 2),
            0x1C: _run(0x09E8, 8),
            0x24: "\u09df\u09e0\u09e1\u09e2",
            0x2A: "\u09e3\u09f2\u09f3\u09f4\u09f5",
            0x30: _run(0x09F6, 5),
        },
        GUJARATI: {**_INDIC_SHIFT, 0x19: _DANDAS, 0x1C: _run(0x0AE6, 10)},
        HINDI: {
            **_INDIC_SHIFT,
            0x19: _DANDAS,
            0x1C: _run(0x0966, 10),
            0x26: "\u0951\u0952",
            0x2A: "\u0953\u0954" + _run(0x0958, 3),
            0x30: _run(0x095B, 9) + "\u0970\u0971",
        },
        KANNADA: {**_INDIC_SHIFT, 0x19: _DANDAS, 0x1C: _run(0x0CE6, 10), 0x26: "\u0cde\u0cf1", 0x2A: "\u0cf2"},
        MALAYALAM: {
            **_INDIC_SHIFT,
            0x19: _DANDAS,
            0x1C: _run(0x0D66, 12),
            0x2A: _run(0x0D72, 4) + "\u0d7a",
            0x30: _run(0x0D7B, 5),
        },
        ORIYA: {
            **_INDIC_SHIFT,
            0x19: _DANDAS,
            0x1C: _run(0x0B66, 10),
            0x26: "\u0b5c\u0b5d",
            0x2A: "\u0b5f\u0b70\u0b71",
        },
        PUNJABI: {
            **_INDIC_SHIFT,
            0x19: _DANDAS,
            0x1C: _run(0x0A66, 10),
            0x26: "\u0a59\u0a5a",
            0x2A: "\u0a5b\u0a5c\u0a5e\u0a75",
        },
        TAMIL: {
            **_INDIC_SHIFT,
            0x19: _DANDAS,
            0x1C: _run(0x0BE6, 10),
            0x26: "\u0bf3\u0bf4",
            0x2A: _run(0x0BF5, 4) + "\u0bfa",
        },
        TELUGU: {
            **_INDIC_SHIFT,
            0x1C: _run(0x0C66, 10),
            0x26: "\u0c58\u0c59",
            0x2A: _run(0x0C78, 5),
            0x30: _run(0x0C7D, 3),
        },
        # A.2.13
        URDU: {
            **_INDIC_SHIFT,
            0x19: "\u0600\u0601",
            0x1C: _run(0x06F0, 10),
            0x26: "\u060c\u060d",
            0x2A: "\u060e\u060f\u0610\u0611\u0612",
            0x30: "\u0613\u0614\u061b\u061f\u0640\u0652\u0658\u066b\u066c\u0672\u0673\u06cd",
            0x3F: "\u06d4",
        },
    }.items()
}

# ---- encoding


@cache
def _charmap(locking: int, single: int) -> object:
    """The charmap of the intermediate form in the module's picture; 14 x 14 pairs at most, built when first used."""
    base = _LOCKING[locking]
    shifted = "".join(_NOTHING if char in base else char for char in _SINGLE[single])
    whole = "\0" + base[1:] + shifted
    return codecs.charmap_build(_placed(whole, {_CODE_ZERO: base[0]}))


@cache
def _escapes(locking: int, single: int) -> tuple[tuple[bytes, bytes], ...]:
    """What to replace in the intermediate form. A replace for each possible escape is 20 times faster than re.sub."""
    zero = [(bytes((_CODE_ZERO,)), b"\0")]
    base = _LOCKING[locking]
    return tuple(
        zero
        + [
            (bytes((0x80 | code,)), bytes((ESCAPE, code)))
            for code, char in enumerate(_SINGLE[single])
            if char != _NOTHING and char not in base
        ]
    )


_DEFAULT_CHARMAP = _charmap(0, 0)
_charmap_encode = codecs.charmap_encode


def encode(text: str, locking: int = 0, single: int = 0) -> bytes | None:
    """The septets of `text`, one an octet; None if the alphabet lacks one of its characters."""
    charmap = _charmap(locking, single) if locking or single else _DEFAULT_CHARMAP
    try:
        octets: bytes = _charmap_encode(text, "strict", charmap)[0]  # type: ignore[arg-type]  # typeshed knows no EncodingMap
    except UnicodeEncodeError:
        return None
    if 0 in octets:  # NUL in the text: no alphabet has it
        return None
    if octets.isascii():
        return octets
    for octet, septets in _escapes(locking, single):
        octets = octets.replace(octet, septets)
    return octets


def languages_of(text: str) -> list[int]:
    """The national languages whose two tables together hold every character of `text`."""
    mask = -1
    for char in set(text):
        mask &= _LANGUAGES_BY_CHAR.get(char, 0)
        if not mask:
            return []
    return [language for language in LANGUAGES if mask >> language & 1]


def _languages_by_char() -> dict[str, int]:
    masks: dict[str, int] = {}
    for language in LANGUAGES:
        for char in {*_LOCKING.get(language, ""), *_DEFAULT, *_SINGLE[language], *_SINGLE[0]} - {_NOTHING}:
            masks[char] = masks.get(char, 0) | 1 << language
    return masks


_LANGUAGES_BY_CHAR: Final = _languages_by_char()


def locking_exists(language: int) -> bool:
    """Whether there is a locking shift table: Spanish has none."""
    return language in _LOCKING


# ---- decoding


@cache
def _decoding(language: int) -> str:
    """The locking table with U+FFFD for what it lacks and for octets that are no septets.

    An identifier that is not known falls back to the default table. 3GPP TS 23.038, 6.2.1.2.4
    """
    return _LOCKING.get(language, _DEFAULT).replace(_NOTHING, "\ufffd") + "\ufffd" * 128


_charmap_decode = codecs.charmap_decode


def decode(septets: bytes, locking: int = 0, single: int = 0) -> str:
    """The text of septets that stand one an octet. Never fails: what has no meaning becomes U+FFFD."""
    table = _decoding(locking)
    text: str = _charmap_decode(septets, "strict", table)[0]
    if ESCAPE not in septets:
        return text
    shifted = _SINGLE.get(single, _SINGLE[0])
    result: list[str] = []
    at = 0
    while (escape := septets.find(ESCAPE, at)) >= 0:
        result.append(text[at:escape])
        at = escape + 2
        if escape + 1 >= len(septets):
            result.append("\ufffd")  # the code was cut off
            break
        code = septets[escape + 1]
        if code == ESCAPE:
            result.append(" ")  # 3GPP TS 23.038, 6.2.1.1, note 1: reserved for another extension, shown as a space
        elif code < 128 and shifted[code] != _NOTHING:
            result.append(shifted[code])
        else:
            result.append(table[code])  # 3GPP TS 23.038, 6.2.1.1: shown as the main table has it
    result.append(text[at:])
    return "".join(result)
