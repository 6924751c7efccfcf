"""Business cards, read back by libraries that are not ours: gammu, pycrate, vobject."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import vobject
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycrate_mobile.TS23040_SMS import SMS_DELIVER

from addressbook.errors import Refused
from addressbook.names import clean_name
from smsgw import sms_text
from smsgw.ota.vcard import Card, Dropped, card, plain

NUMBER = "+8613800138000"
E164 = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
GAMMU = Path(__file__).parent / "gammu_decode.py"
Gammu = Callable[[Card], dict[str, Any]]


def segments(one: Card, reference: int = 7) -> list[bytes]:
    """The user data of each short message, as the gateway makes them."""
    return [
        each.short_message for each in sms_text.binary(one.data, elements=one.elements, reference=reference).segments
    ]


def tpdu(user_data: bytes) -> bytes:
    """An SMS-DELIVER with a header, 8-bit, as it reaches a phone. 3GPP TS 23.040, 9.2.2.1."""
    address = bytes((13, 0x91)) + bytes.fromhex("683108108300F0")
    return b"\x44" + address + b"\0\x04" + bytes.fromhex("62013120000000") + bytes((len(user_data),)) + user_data


@pytest.fixture(scope="module")
def gammu() -> Iterator[Gammu]:
    """What Gammu, a program of its own, makes of a card."""
    with subprocess.Popen(
        [sys.executable, str(GAMMU)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def decode(one: Card) -> dict[str, Any]:
            stdin.write(json.dumps([tpdu(each).hex() for each in segments(one)]) + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            return answer

        yield decode
        stdin.close()


def fields(one: Card) -> dict[str, str]:
    """The card's lines as vobject reads them, after pycrate took the headers off; and CHARSET, if N names one."""
    data = b""
    for place, user_data in enumerate(segments(one), 1):
        decoded = SMS_DELIVER()
        decoded.from_bytes(tpdu(user_data))
        headers = {each["T"].get_val(): each["V"] for each in decoded["TP_UD"]["UDH"]["UDH"]}
        assert headers[5]["Dest"].get_val() == 9204
        if one.parts > 1:
            assert bytes(headers[0].to_bytes()) == bytes((7, one.parts, place))
        data += decoded["TP_UD"]["UD"].get_val()
    assert data == one.data
    # Untransformed: vobject reads every N by the rules of vCard 3.0, where a comma is the mark between two names.
    found = list(vobject.readComponents(data.decode(), transform=False, allowQP=True))
    assert len(found) == 1  # a phone keeps the first card of a message only
    lines = list(found[0].lines())
    assert [line.name for line in lines] == ["VERSION", "N", "TEL"]
    name = lines[1].value
    assert not set(name) & set(";\\\r\n")
    return {"N": name, "TEL": lines[2].value, "CHARSET": "".join(lines[1].params.get("CHARSET", ()))}


# --- names that mean trouble


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Eve\r\nTEL:+1900", "Eve TEL:+1900"),
        ("Eve\nEND:VCARD", "Eve END.VCARD"),
        ("Eve\u2028x\u202etrap\x00", "Eve xtrap"),
        ("Doe;John", "Doe,John"),
        ("back\\slash", "back/slash"),
        ("half \ud83d pair", "half pair"),
        ("ends with =", "ends with ="),
        ("a: b", "a: b"),
    ],
)
def test_a_name_cannot_leave_its_field(name: str, shown: str, gammu: Gammu) -> None:
    one = card(name, NUMBER)
    assert one.name == fields(one)["N"] == shown
    assert gammu(one)["entries"] == {"Text_Name": shown, "Number_General": NUMBER}
    assert (Dropped("signs", "a card cannot carry them") in one.dropped) == (shown != name)


def test_a_number_cannot_leave_its_field() -> None:
    assert fields(card("Eve", "+86 138\r\nN:Bob"))["TEL"] == "+86138"


def test_a_name_that_no_two_parts_hold_is_cut_and_shows_it() -> None:
    one = card("张三" * 50, NUMBER, ("球队",))
    assert (one.parts, len(one.data) <= 256) == (2, True)
    assert one.name.endswith("三…") or one.name.endswith("张…")
    assert ("张三" * 50).startswith(one.name[:-1])
    assert [each.what for each in one.dropped] == ["name", "group"]
    assert card("x" * 500, NUMBER).name.endswith("x..")


def test_a_cut_leaves_no_letter_without_its_marks() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for length in range(12):
        shown = card("a" * length + family * 30, NUMBER).name
        assert shown.endswith("…")
        assert shown[length:-1].replace(family, "") in ("", "\U0001f468")  # whole signs; never a joiner at the end
    shown = card("क\u093f" * 100, NUMBER).name  # a consonant with its vowel sign
    assert shown[-2:] == "\u093f…"


# --- what fits


def test_a_group_stands_before_the_name(gammu: Gammu) -> None:
    one = card("张三", NUMBER, ("球队",))
    assert (one.parts, one.dropped) == (1, ())
    assert gammu(one)["entries"] == {"Text_Name": "球队/张三", "Number_General": NUMBER}


def test_of_several_groups_the_first_is_shown_and_the_rest_reported() -> None:
    one = card("Amina", NUMBER, ("Work", "Choir"))
    assert one.name == "Choir/Amina"
    assert one.dropped == (Dropped("group", "a card shows one"),)


def test_a_group_goes_before_a_card_takes_a_second_sms() -> None:
    name = "张三丰的朋友李四光先生"
    one = card(name, NUMBER, ("非常长的一个分组名称啊啊啊",))
    assert (one.parts, one.name) == (1, name)
    assert one.dropped == (Dropped("group", "does not fit 1 SMS"),)


def test_a_name_that_takes_two_sms_anyway_keeps_its_group() -> None:
    one = card("张" * 30, NUMBER, ("球队",))
    assert (one.parts, one.name, one.dropped) == (2, "球队/" + "张" * 30, ())


@pytest.mark.parametrize("octets", [132, 133, 134])
def test_one_sms_holds_133_octets(octets: int) -> None:
    one = card("x" * (octets - len(card("", NUMBER).data)), NUMBER)
    assert len(one.data) == octets
    assert one.parts == len(segments(one)) == (1 if octets <= 133 else 2)


def test_the_octets_are_those_that_phones_take() -> None:
    assert segments(card("张三丰", NUMBER)) == [
        bytes.fromhex("0605 0423F40000".replace(" ", ""))
        + b"BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8:"
        + "张三丰".encode()
        + b"\r\nTEL:+8613800138000\r\nEND:VCARD"
    ]
    first, second = segments(card("x" * 100, NUMBER), reference=0x1A2)
    assert first[:12] == bytes.fromhex("0B050423F400000003A20201")
    assert second[:12] == bytes.fromhex("0B050423F400000003A20202")
    assert len(first) == 140


def test_gammu_joins_two_parts(gammu: Gammu) -> None:
    # In ASCII: its binding reads each part as a text, and fails where a character stands in both. Phones join octets.
    one = card("Maximilian " * 9 + "X", NUMBER)
    assert one.parts == 2
    assert gammu(one)["entries"] == {"Text_Name": one.name, "Number_General": NUMBER}


# --- any name, any number


@given(name=st.text(max_size=120), number=E164, groups=st.lists(st.text(min_size=1, max_size=40), max_size=3))
@example(name="=", number=NUMBER, groups=[])
@settings(max_examples=300, deadline=None)
def test_any_name_comes_back_as_itself_or_visibly_cut(name: str, number: str, groups: list[str]) -> None:
    one = card(name, number, tuple(groups))
    lines = fields(one)
    assert one.parts == len(segments(one)) <= 2
    assert lines["TEL"] == number
    assert lines["N"] == one.name
    assert (lines["CHARSET"] == "UTF-8") == (not one.name.isascii())
    cut = {each.what for each in one.dropped}
    if "name" in cut:
        assert one.name.endswith(("…", ".."))
        assert plain(name).startswith(one.name.rstrip("…").removesuffix(".."))
    else:
        before = f"{plain(min(groups))}/" if groups and ("group" not in cut or len(groups) > 1) else ""
        assert one.name in (before + plain(name), plain(name))


@given(name=st.text(min_size=1, max_size=40), number=E164)
@settings(max_examples=200, deadline=None)
def test_a_name_of_the_book_is_never_cut(name: str, number: str, gammu: Gammu) -> None:
    try:
        name = clean_name(name, 40)
    except Refused:
        return
    one = card(name, number)
    assert one.name == name.replace(";", ",").replace("\\", "/")
    if one.parts == 1:
        assert gammu(one)["entries"] == {"Text_Name": one.name, "Number_General": number}
