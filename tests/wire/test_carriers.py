"""Profiles, senders and validity: the configuration's mistakes first."""

import datetime as dt

import pytest

from smsgw.carriers import BadProfile, BadSource, LinkProfile, profile, source_address, validity_period
from smsgw.pdu import Address

NOW = dt.datetime(2026, 11, 20, 13, 11, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def test_a_profile_that_does_not_exist_is_named() -> None:
    with pytest.raises(BadProfile, match=r"'nokia' is not known; there are: default, jsmpp"):
        profile("nokia")


def test_everything_wrong_with_the_overrides_is_named_at_once() -> None:
    with pytest.raises(BadProfile) as caught:
        profile("default", colour="red", alphabet="klingon", reference_bits=12, national_shift=1, short_code_ton=True)
    for key in ("colour", "alphabet", "reference_bits", "national_shift", "short_code_ton"):
        assert key in str(caught.value)


def test_a_udh_for_long_texts_needs_a_link_that_passes_it() -> None:
    with pytest.raises(BadProfile, match="passes_udh"):
        profile("default", passes_udh=False)
    assert profile("default", passes_udh=False, long_messages="sar").long_messages == "sar"


def test_single_keys_are_overridden() -> None:
    assert profile("default", reference_bits=16) == LinkProfile(reference_bits=16)
    assert profile("jsmpp", query_sm=True).id_format == "hex to decimal"


@pytest.mark.parametrize("text", ["", "+", "twelve chars", "张三", "+" + "1" * 21, "a\nb", "１２３"])
def test_a_sender_that_no_phone_shows_is_refused(text: str) -> None:
    with pytest.raises(BadSource):
        source_address(text, LinkProfile())


@pytest.mark.parametrize(
    ("text", "address"),
    [("+254712345678", Address(1, 1, "254712345678")), ("20880", Address(3, 0, "20880")),
     ("Friends 1", Address(5, 0, "Friends 1"))],
)  # fmt: skip
def test_a_sender_has_the_type_of_its_form(text: str, address: Address) -> None:
    assert source_address(text, LinkProfile()) == address


def test_a_links_own_short_code_type_is_used() -> None:
    assert source_address("20880", LinkProfile(short_code_ton=0, short_code_npi=1)) == Address(0, 1, "20880")


@pytest.mark.parametrize(
    ("form", "seconds", "written"),
    [("none", 60, ""), ("absolute", 60, "261120111212000+"), ("absolute", 0, "261120111113000+"),
     ("relative", 60, "000000000100000R"), ("relative", 90_061, "000001010101000R"),
     ("relative", 86_400 * 45, "000115000000000R"), ("relative", 10**9, "001421000000000R")],
)  # fmt: skip
def test_validity_is_written_in_the_links_form(form: str, seconds: int, written: str) -> None:
    link = LinkProfile(validity_form=form)  # type: ignore[arg-type]  # its literals
    assert validity_period(NOW, seconds, link) == written
