"""How each carrier's link differs: its profile, and what follows from it for addresses and times.

A profile is chosen by name in the configuration; single keys can be overridden there. Only what was seen of a peer
stands in `PROFILES`; a carrier that is not listed starts from "default", which suits every peer that keeps to SMPP 3.4.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

from smsgw.pdu import Address

IdFormat = Literal["auto", "same", "hex to decimal", "decimal to hex", "useless"]
LinkAlphabet = Literal["gsm7", "ascii", "latin1"]
LongMessages = Literal["udh", "sar", "payload"]
ValidityForm = Literal["absolute", "relative", "none"]

ALPHANUMERIC_CHARS_MAX: Final = 11  # 3GPP TS 23.040, 9.1.2.5: 10 octets of packed septets
DIGITS_MAX: Final = 20  # SMPP 3.4, 5.2.8
VALIDITY_S_MAX: Final = 63 * 7 * 86_400  # 3GPP TS 23.040, 9.2.3.12.1: no message centre keeps a text longer


class BadProfile(ValueError):
    """The configuration names a profile, a key or a value that does not exist: stop the start and say so."""


class BadSource(ValueError):
    """A text that no phone can show as a sender: ours to correct."""


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """What one link takes and gives. Every field can be overridden in the configuration."""

    # How the message_id of a receipt is written, seen from that of the response.
    id_format: IdFormat = "auto"
    # What data_coding 0 means on this link. SMPP 3.4, 5.2.19 leaves it to the message centre.
    alphabet: LinkAlphabet = "gsm7"
    long_messages: LongMessages = "udh"
    reference_bits: Literal[8, 16] = 8
    national_shift: bool = False  # the link takes the UDHs of 3GPP TS 23.038, 6.2.1.2
    passes_udh: bool = True
    short_code_ton: int = 3
    short_code_npi: int = 0
    validity_form: ValidityForm = "absolute"
    query_sm: bool = False
    receipts_expected: bool = True
    send_user_message_reference: bool = True


PROFILES: Final[Mapping[str, LinkProfile]] = MappingProxyType(
    {
        "default": LinkProfile(),
        # One constant message_id for all, and no receipts at all.
        "osmocom": LinkProfile(id_format="useless", receipts_expected=False),
        # Responses name a message in hexadecimal, receipts the same one in decimal.
        "jsmpp": LinkProfile(id_format="hex to decimal"),
        # Responses carry "0" or nothing.
        "smppsim": LinkProfile(id_format="useless"),
    }
)


def profile(name: str, **overrides: object) -> LinkProfile:
    """A named profile with single keys changed. Raises BadProfile naming everything that is wrong with it."""
    base = PROFILES.get(name)
    if base is None:
        raise BadProfile(f"profile {name!r} is not known; there are: {', '.join(sorted(PROFILES))}")
    kinds = {field.name: str(field.type) for field in dataclasses.fields(LinkProfile)}
    wrong = [f"{key!r} is not a key of a profile" for key in overrides if key not in kinds]
    wrong += [
        f"{key} = {value!r}: {problem}"
        for key, value in overrides.items()
        if key in kinds and (problem := _problem(kinds[key], value))
    ]
    if wrong:
        raise BadProfile("; ".join(wrong))
    changed: LinkProfile = dataclasses.replace(base, **overrides)  # type: ignore[arg-type]  # checked just above
    if changed.long_messages == "udh" and not changed.passes_udh:
        raise BadProfile("long_messages = 'udh' needs passes_udh")
    return changed


_CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    "IdFormat": get_args(IdFormat),
    "LinkAlphabet": get_args(LinkAlphabet),
    "LongMessages": get_args(LongMessages),
    "ValidityForm": get_args(ValidityForm),
    "Literal[8, 16]": (8, 16),
    "bool": (True, False),
    "int": tuple(range(8)),  # TON and NPI of a short code. SMPP 3.4, 5.2.5
}


def _problem(kind: str, value: object) -> str:
    """Why `value` does not fit a field annotated `kind`; "" if it does."""
    choices = _CHOICES[kind]
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return ""
    return "must be one of " + ", ".join(repr(choice) for choice in choices)


def source_address(text: str, link: LinkProfile) -> Address:
    """Who the text comes from: "+digits", a short code, or up to 11 letters. Raises BadSource. SMPP 3.4, 5.2.5."""
    digits = text.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        if len(digits) > DIGITS_MAX:
            raise BadSource(f"a sender has at most {DIGITS_MAX} digits")
        if text.startswith("+"):
            return Address(1, 1, digits)
        return Address(link.short_code_ton, link.short_code_npi, digits)
    shown = text.isascii() and text.isprintable() and any(char.isalnum() for char in text)
    if not shown or len(text) > ALPHANUMERIC_CHARS_MAX:
        raise BadSource(f"a sender is a number or 1 to {ALPHANUMERIC_CHARS_MAX} Latin letters, digits and signs")
    return Address(5, 0, text)


def validity_period(now: dt.datetime, seconds: int, link: LinkProfile) -> str:
    """The validity_period of a text that is worthless after `seconds`. `now` is aware. SMPP 3.4, 7.1.1."""
    seconds = max(1, min(seconds, VALIDITY_S_MAX))
    if link.validity_form == "none":
        return ""
    if link.validity_form == "absolute":
        until = now.astimezone(dt.UTC) + dt.timedelta(seconds=seconds)
        return until.strftime("%y%m%d%H%M%S000+")
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    months, days = divmod(days, 30)  # YYMMDDhhmmss000R counts in parts of a calendar; a month is near enough
    return f"00{months:02}{days:02}{hours:02}{minutes:02}{seconds:02}000R"
