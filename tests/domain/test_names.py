"""Names are kept as they are read, or refused."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addressbook.errors import Refused
from addressbook.names import clean_name, same_name


@pytest.mark.parametrize("raw", ["", "   ", "\u3000", "\u200b\u200e\u202e", "\x00\x07\r\n", "\ud800", "\u200d"])
def test_an_empty_name_is_refused(raw: str) -> None:
    with pytest.raises(Refused, match="missing"):
        clean_name(raw, 40)


@pytest.mark.parametrize("length", [41, 10_000, 1_000_000])
def test_a_name_that_is_too_long_is_refused_with_the_limit(length: int) -> None:
    with pytest.raises(Refused) as refused:
        clean_name("王" * length, 40)
    assert "40" in refused.value.render()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("  张  三\t", "张 三"),
        ("Ami\u200bna\ufeff", "Amina"),
        ("\u202eanimA\u202c\u2066x\u2069\u200e\u200f", "animAx"),
        ("Two\nlines\u2028here", "Two lines here"),
        ("Zoe\u0301", "Zo\u00e9"),
        ("妈妈❤️", "妈妈❤️"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("a\u200db", "ab"),
        ("a" + "\u0336" * 50, "a" + "\u0336" * 4),
        ("'; drop table contact; --", "'; drop table contact; --"),
    ],
)
def test_invisible_characters_go_and_visible_ones_stay(raw: str, name: str) -> None:
    assert clean_name(raw, 40) == name


@given(st.text(max_size=60))
def test_any_name_comes_back_as_itself_or_is_refused(raw: str) -> None:
    try:
        name = clean_name(raw, 40)
    except Refused:
        return
    assert 0 < len(name) <= 40
    assert clean_name(name, 40) == name
    assert not {unicodedata.category(character) for character in name if character != "\u200d"} & {"Cc", "Cf", "Cs"}
    name.encode()


def test_case_and_width_do_not_tell_names_apart() -> None:
    assert same_name("Ｗork") == same_name("WORK")
    assert same_name("张三") != same_name("张三丰")
