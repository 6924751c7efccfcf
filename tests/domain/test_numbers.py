"""What people write as a number, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressbook import numbers
from addressbook.errors import Refused


@pytest.mark.parametrize(
    ("raw", "region", "words"),
    [
        ("", "CN", "The number is missing."),
        (" \u3000\u200e", "CN", "The number is missing."),
        ("12", "CN", "12 is too short for a number."),
        ("+12", "CN", "+12 is too short for a number."),
        ("+1234567890123456", "CN", "+1234567890123456 is too long for one number."),
        ("1" * 10_000, "CN", "That is too long for a number."),
        ("07I2345678", "KE", "A number has only digits: 07I2345678"),
        ("#31#0712345678", "KE", "A number has only digits: #31#0712345678"),
        ("+", "KE", "A number has only digits: +"),
        ("0712345678+", "KE", "A number has only digits: 0712345678+"),
        ("13800138000, 13900139000", "CN", "One number at a time, please: 13800138000, 13900139000"),
        ("13800138000 13900139000", "CN", "One number at a time, please: 13800138000 13900139000"),
        ("13800138000/13900139000", "CN", "One number at a time, please: 13800138000/13900139000"),
        ("+254712345678+254712345679", "KE", "One number at a time, please: +254712345678+2547123456..."),
        ("+999123456789", "CN", "+999123456789 is no number that can be called. Check the digits."),
        ("+861", "CN", "+861 is no number that can be called. Check the digits."),
    ],
)
def test_each_bad_number_is_refused_with_its_own_words(raw: str, region: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        numbers.parse(raw, region)
    assert refused.value.render() == words


@pytest.mark.parametrize(
    ("raw", "region"),
    [("13800138000", "KE"), ("1380013800", "CN"), ("138001380000", "CN"), ("12345678", "CN"), ("0712345678", "US")],
)
def test_a_number_that_the_region_does_not_have_is_refused(raw: str, region: str) -> None:
    with pytest.raises(Refused, match="no number in your country"):
        numbers.parse(raw, region)


@pytest.mark.parametrize(
    ("raw", "region", "e164"),
    [
        ("13800138000", "CN", "+8613800138000"),
        ("138 0013-8000", "CN", "+8613800138000"),
        ("１３８００１３８０００", "CN", "+8613800138000"),
        ("　138\u00a00013\u20118000 ", "CN", "+8613800138000"),
        ("\u202a+86 138 0013 8000\u202c", "KE", "+8613800138000"),
        ("008613800138000", "KE", "+8613800138000"),
        ("＋8613800138000", "KE", "+8613800138000"),
        ("(010) 8800-1234", "CN", "+861088001234"),
        ("0712345678", "KE", "+254712345678"),
        ("000254712345678", "KE", "+254712345678"),  # Kenya's own prefix for abroad is 000
        ("٠٧١٢٣٤٥٦٧٨", "KE", "+254712345678"),
        ("+39 06 6982", "CN", "+39066982"),  # Italy keeps the 0
        ("(202) 555-0143", "US", "+12025550143"),
    ],
)
def test_a_number_is_understood_as_people_write_it(raw: str, region: str, e164: str) -> None:
    number = numbers.parse(raw, region)
    assert (number.e164, number.short) == (e164, False)
    assert numbers.parse(number.e164, "TV").e164 == e164  # and again from its own form, anywhere


@pytest.mark.parametrize("code", ["110", "10086", "955555"])
def test_a_short_code_stays_as_it_is_dialled(code: str) -> None:
    assert numbers.parse(code, "CN") == numbers.Number(code, "CN", 0, short=True)
    assert numbers.route_of(code, ("1", "86")) == ""
    assert numbers.display(code, "CN") == code


@pytest.mark.parametrize(
    ("e164", "region"),
    [("+8613800138000", "CN"), ("+85251234567", "HK"), ("+254712345678", "KE"), ("+77012345678", "KZ"),
     ("+79161234567", "RU"), ("+12025550143", "US"), ("+447400123456", "GB"), ("+88213300100", None),
     ("+999", None), ("20880", None), ("", None), ("+", None)],
)  # fmt: skip
def test_the_region_of_a_number(e164: str, region: str | None) -> None:
    assert numbers.region_of(e164) == region


def test_the_longest_prefix_is_the_route_and_else_the_country() -> None:
    routes = ("86", "861380", "8613", "254")
    assert numbers.route_of("+8613800138000", routes) == "861380"
    assert numbers.route_of("+8613900138000", routes) == "8613"
    assert numbers.route_of("+861088001234", routes) == "86"
    assert numbers.route_of("+12025550143", routes) == "1"
    assert numbers.route_of("+85251234567", ()) == "852"
    assert numbers.route_of("+999123", ()) == ""


@pytest.mark.parametrize(
    ("number", "region", "shown"),
    [("+8613800138000", "CN", "13800138000"), ("+8613800138000", "KE", "+8613800138000"),
     ("+254712345678", "KE", "0712345678"), ("+861088001234", "CN", "01088001234"),
     ("+254712345678", "", "+254712345678")],
)  # fmt: skip
def test_a_number_is_shown_as_it_is_dialled_at_home(number: str, region: str, shown: str) -> None:
    assert numbers.display(number, region) == shown


def test_a_masked_number_calls_nobody() -> None:
    assert numbers.mask("+8613800138000") == "+86138…00"
    assert numbers.mask("10086") == "10…"
    assert numbers.mask("") == "…"


@pytest.mark.parametrize(
    ("sender", "person"),
    [("+8613800138000", True), ("8613800138000", False), ("20880", False), ("BANK", False), ("+0123456", False),
     ("+86138001380001234", False), ("+8613800138000\n", False)],
)  # fmt: skip
def test_only_whole_numbers_are_people(sender: str, person: bool) -> None:
    assert numbers.is_e164(sender) is person


@given(st.text(max_size=80), st.sampled_from(["CN", "KE", "US", "IT", "KZ"]))
def test_any_text_is_a_number_or_refused(raw: str, region: str) -> None:
    try:
        number = numbers.parse(raw, region)
    except Refused as refused:
        assert refused.render()
    else:
        assert numbers.parse(number.e164, region).e164 == number.e164
        assert numbers.parse(numbers.display(number.e164, region), region).e164 == number.e164


@given(st.from_regex(r"\+[0-9]{3,16}|[0-9]{3,16}", fullmatch=True), st.sampled_from(["CN", "KE", "US", "IT", "KZ"]))
def test_a_shown_number_sent_back_is_the_same_number(raw: str, region: str) -> None:
    try:
        number = numbers.parse(raw, region)
    except Refused:
        return
    assert numbers.parse(numbers.display(number.e164, region), region).e164 == number.e164
    assert len(numbers.route_of(number.e164, ())) <= 3
