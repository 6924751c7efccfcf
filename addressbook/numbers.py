"""What a person wrote as a number -> E.164. The only file that knows phonenumbers.

A number without a country code belongs to the region of the person who wrote it and must exist in that region's
numbering plan, which catches a digit too few or too many. With a country code it need only be possible there: plans
grow faster than the tables of a library. Three to six digits are a short code and stay as they are dialled.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumberFormat, ValidationResult

from addressbook.errors import Refused

SHORT_CODE_DIGITS = range(3, 7)
E164_DIGITS_MAX = 15  # ITU-T E.164, 6.1
_RAW_CHARACTERS_MAX = 60  # a number with every separator people use is shorter; more is not looked at
_SHOWN_CHARACTERS_MAX = 24  # of what was written, in the refusal
_FULL_NUMBER_DIGITS = 7  # two pieces of at least so many digits are two numbers
_CACHED = 16_384

_PLAIN = re.compile(r"\+?[0-9]+").fullmatch
_E164 = re.compile(r"\+[1-9][0-9]{4,14}").fullmatch
_BETWEEN_NUMBERS = re.compile(r"[,;/|&、，；]|[0-9] *\+ *[0-9]")
_DROPPED = frozenset({"Cc", "Cf", "Pd"})  # controls, bidi and other invisible marks, dashes
_BETWEEN_DIGITS = frozenset("().[]·•_'")


@dataclass(frozen=True, slots=True)
class Number:
    """e164 is what is stored and found; for a short code the digits as dialled, with country_code 0."""

    e164: str
    region: str  # ISO 3166-1; of a short code the region of the person who wrote it
    country_code: int
    short: bool


def parse(raw: str, region: str) -> Number:
    """Read one number as a person of this region wrote it. Raises Refused with words that say what is wrong."""
    if len(raw) > _RAW_CHARACTERS_MAX:
        raise Refused("That is too long for a number.")
    return _parse(raw, region)


@lru_cache(maxsize=_CACHED)
def _parse(raw: str, region: str) -> Number:
    digits = _digits(raw)
    if digits[0] != "+" and len(digits) in SHORT_CODE_DIGITS:
        return Number(digits, region, 0, short=True)
    if digits.startswith("00") and not digits.startswith("000"):
        digits = "+" + digits[2:]
    abroad = digits[0] == "+"
    shown = _shown(raw)
    if len(digits) - abroad < SHORT_CODE_DIGITS.start:
        raise Refused("{number} is too short for a number.", number=shown)
    if len(digits) - abroad > E164_DIGITS_MAX:
        raise Refused("{number} is too long for one number.", number=shown)
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        raise Refused("{number} is no number that can be called. Check the digits.", number=shown) from None
    if abroad and phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        raise Refused("{number} is no number that can be called. Check the digits.", number=shown)
    if not abroad and not phonenumbers.is_valid_number(number):
        raise Refused(
            "{number} is no number in your country. Check the digits, or write + and the country code first.",
            number=shown,
        )
    e164 = f"+{number.country_code}{phonenumbers.national_significant_number(number)}"
    return Number(e164, region_of(e164) or region, number.country_code or 0, short=False)


def _digits(raw: str) -> str:
    """The digits, with "+" before them if it was written; any script's digits, any spaces and dashes."""
    if _PLAIN(raw):
        return raw
    text = "".join(map(_plain, unicodedata.normalize("NFKC", raw))).strip()
    if not text:
        raise Refused("The number is missing.")
    if _BETWEEN_NUMBERS.search(text):
        raise Refused("One number at a time, please: {number}", number=_shown(raw))
    digits = text.replace(" ", "")
    if not _PLAIN(digits):
        raise Refused("A number has only digits: {number}", number=_shown(raw))
    if len(digits) > E164_DIGITS_MAX and sum(len(piece) >= _FULL_NUMBER_DIGITS for piece in text.split()) > 1:
        raise Refused("One number at a time, please: {number}", number=_shown(raw))
    return digits


def _plain(character: str) -> str:
    """ASCII for a digit, a space for any space, nothing for what people put between digits."""
    if character.isspace():
        return " "
    digit = unicodedata.decimal(character, -1)
    if digit >= 0:
        return str(digit)
    dropped = character in _BETWEEN_DIGITS or unicodedata.category(character) in _DROPPED
    return "" if dropped else character


def _shown(raw: str) -> str:
    text = "".join(character for character in raw if character.isprintable()).strip()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "..."


def is_e164(text: str) -> bool:
    """Whether a sender from the network is a person's number: not a short code, not a name, so it may be answered."""
    return _E164(text) is not None


def is_possible_e164(text: str) -> bool:
    """Whether this is "+", a country code that exists and as many digits as numbers there have; about 1 µs.

    What `parse` says of the same text, without its 30 µs; for machines, which write numbers in this form.
    """
    if _E164(text) is None:
        return False
    code = country_code_of(text)
    return bool(code) and len(text) - 1 - len(code) in _possible_lengths(int(code))


@lru_cache(maxsize=512)
def _possible_lengths(country_code: int) -> frozenset[int]:
    lengths: set[int] = set()
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[country_code]:
        metadata = (
            phonenumbers.PhoneMetadata.metadata_for_nongeo_region(country_code)
            if region == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY
            else phonenumbers.PhoneMetadata.metadata_for_region(region)
        )
        if metadata is not None and metadata.general_desc is not None:
            lengths.update(length for length in metadata.general_desc.possible_length if length > 0)
    return frozenset(lengths)


def country_code_of(e164: str) -> str:
    """Its digits, or "" for a short code or a code that no country has."""
    if e164[:1] != "+":
        return ""
    for length in (1, 2, 3):  # ITU-T E.164, 6.2.1: codes are prefix-free
        if int(e164[1 : 1 + length] or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return e164[1 : 1 + length]
    return ""


@lru_cache(maxsize=_CACHED)
def region_of(e164: str) -> str | None:
    """ISO 3166-1, or None if the numbering plan does not say."""
    code = country_code_of(e164)
    if not code:
        return None
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]
    if len(regions) == 1:
        return regions[0] if len(regions[0]) == 2 else None  # "001": no country
    region = phonenumbers.region_code_for_number(phonenumbers.parse(e164)) if _E164(e164) else None
    return region or regions[0]  # an unassigned number of a shared code: its main country


def route_of(e164: str, routes: tuple[str, ...]) -> str:
    """By what a link claims it: the longest of these prefixes (digits), else the country code; a short code: ""."""
    if e164[:1] != "+":
        return ""
    for prefix in _longest_first(routes):
        if e164.startswith(prefix, 1):
            return prefix
    return country_code_of(e164)


@lru_cache(maxsize=8)
def _longest_first(routes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(routes), key=len, reverse=True))


def mask(number: str) -> str:
    """For logs: enough to tell two apart in a support call, too little to call anyone."""
    return f"{number[:6]}…{number[-2:]}" if len(number) > 10 else f"{number[:2]}…"


@lru_cache(maxsize=_CACHED)
def display(number: str, region: str) -> str:
    """As a person of this region dials it: the national form at home, E.164 for abroad, without spaces."""
    if number[:1] != "+" or region_of(number) != region:
        return number
    if number[:3] == "+86" and len(number) == 14 and number[3] == "1" and number[4] in "3456789":
        return number[3:]  # a Chinese mobile: dialled as it is; saves 50 µs on the most frequent kind
    national = phonenumbers.format_number(phonenumbers.parse(number), PhoneNumberFormat.NATIONAL)
    digits = "".join(filter(str.isdigit, national))
    return digits if digits and _back(digits, region) == number else number


def _back(digits: str, region: str) -> str | None:
    try:
        return parse(digits, region).e164
    except Refused:
        return None  # the national form would not be understood if sent back to us
