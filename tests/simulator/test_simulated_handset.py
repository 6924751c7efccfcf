"""The phones: what they make of headers, alphabets, parts and cards, and what their owners can send."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable

import gsm0338  # noqa: F401 - registers its codec, an alphabet table that nobody here wrote
import pytest
import smpplib.consts
import smpplib.gsm
from esme import Esme
from hypothesis import example, given
from hypothesis import strategies as st

from simulator import Simulator, alphabets, cards
from simulator.alphabets import Alphabet
from simulator.events import Events
from simulator.frames import Address
from simulator.handset import MO_PARTS_MAX, SETS_MAX, Handset, Outcome, Refused, ShortMessage

ZHANG = "8613800138000"
WANJIRU = "254712345678"
Gateways = Callable[..., Awaitable[Esme]]
CODE = Address(3, 0, "20880")
PORT = bytes.fromhex("06050423f40000")  # 3GPP TS 23.040, 9.2.3.24.4: to port 9204


def phone(profile: str = "s30plus", policy: str = "yes") -> Handset:
    return Handset("+" + ZHANG, "A", profile, Events(), policy)


def message(
    data: bytes, *, esm_class: int = 0, data_coding: int = 0, tlvs: dict[int, bytes] | None = None
) -> ShortMessage:
    alphabet = alphabets.alphabet_of(data_coding)
    assert alphabet
    return ShortMessage(CODE, esm_class, data_coding, data, tlvs or {}, alphabet)


def card_message(vcard: bytes | str, data_coding: int = 0xF5) -> ShortMessage:
    octets = vcard.encode() if isinstance(vcard, str) else vcard
    return message(PORT + octets, esm_class=0x40, data_coding=data_coding)


def vcard(name: str, *numbers: str, charset: str = ";CHARSET=UTF-8") -> str:
    lines = ["BEGIN:VCARD", "VERSION:2.1", f"N{charset}:{name}", *(f"TEL:{one}" for one in numbers), "END:VCARD"]
    return "\r\n".join(lines)


def part(reference: int, total: int, number: int, data: bytes) -> ShortMessage:
    return message(bytes((5, 0, 3, reference, total, number)) + data, esm_class=0x40)


# -- what cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "header"),
        (b"\x40ab", "header"),
        (b"\x05\x00\x09\x01\x02\x01", "header"),
        (b"\x05\x00\x03\x01\x02\x03", "part 3 of 2"),
        (b"\x05\x00\x03\x01\x02\x00", "part 0 of 2"),
        (b"\x05\x00\x03\x01\x00\x00", "part 0 of 0"),
        (b"\x06\x08\x04\x00\x01\x02\x03", "part 3 of 2"),
    ],
)
def test_a_header_that_lies_is_dropped_with_the_reason(header: bytes, reason: str) -> None:
    one = phone()
    assert one.receive(message(header + b"hello", esm_class=0x40)) is Outcome.TAKEN
    assert not one.inbox
    assert reason in one.ignored[0]["reason"]


def test_sar_parameters_that_lie_are_dropped() -> None:
    one = phone()
    one.receive(message(b"hello", tlvs={0x020C: b"\0\1", 0x020E: b"\2", 0x020F: b"\3"}))
    assert "part 3 of 2" in one.ignored[0]["reason"]


@given(st.binary(max_size=140), st.integers(0, 255), st.sampled_from([0, 0x40]))
def test_noise_never_breaks_a_phone(noise: bytes, data_coding: int, esm_class: int) -> None:
    if alphabets.alphabet_of(data_coding):
        one = phone()
        assert one.receive(message(noise, esm_class=esm_class, data_coding=data_coding)) is Outcome.TAKEN


@pytest.mark.parametrize(
    "junk", [b"", b"hello", b"BEGIN:VCARD", b"BEGIN:VCARD\r\nEND:VCARD", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR"]
)
def test_what_is_no_card_is_dropped(junk: bytes) -> None:
    one = phone()
    one.receive(card_message(junk))
    assert not one.inbox
    assert "card" in one.ignored[0]["reason"].lower()


@given(st.binary(max_size=200))
def test_noise_on_the_card_port_raises_only_not_a_card(noise: bytes) -> None:
    for octets in (noise, b"BEGIN:VCARD\r\n" + noise + b"\r\nEND:VCARD"):
        with contextlib.suppress(cards.NotACard):
            assert len(cards.read_card(octets, name_chars_max=50, numbers_max=1).name) <= 50


# -- cards ----------------------------------------------------------------------------------------------------------


def test_a_card_is_saved_with_its_group_in_the_name() -> None:
    one = phone()
    one.receive(card_message(vcard("朋友/张三", "+8613800138000")))
    assert [(entry.name, entry.numbers) for entry in one.phonebook] == [("朋友/张三", ("+8613800138000",))]
    (item,) = one.inbox
    assert (item.kind, item.saved, item.alphabet, item.segments) == ("card", "saved", "8-bit", 1)


def test_only_the_first_card_name_and_number_survive() -> None:
    one = phone()
    one.receive(card_message(vcard("A", "1111", "2222") + "\r\n" + vcard("B", "3333")))
    assert [(entry.name, entry.numbers) for entry in one.phonebook] == [("A", ("1111",))]


def test_a_name_longer_than_the_phone_keeps_is_cut() -> None:
    one = phone()
    one.receive(card_message(vcard("é" * 60, "1111")))
    assert one.phonebook[0].name == "é" * 50


def test_a_field_without_charset_is_not_utf_8() -> None:
    one = phone()
    one.receive(card_message(vcard("张三", "1111", charset="")))
    assert one.phonebook[0].name == "张三".encode().decode("latin-1")


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"BEGIN:VCARD\nVERSION:2.1\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=E5=BC=A0;=E4=B8=89\nTEL:1\nEND:VCARD",
         "张三"),
        (b"BEGIN:VCARD\nVERSION:3.0\nFN:Jane Doe\nN:Doe;Jane;;;\nTEL:1\nEND:VCARD\n", "Jane Doe"),
        ("BEGIN:VCARD\nVERSION:2.1\nN;CHARSET=GB2312:张三\nTEL:1\nEND:VCARD".encode("gb2312"), "张三"),
        (b"BEGIN:VCARD\nVERSION:2.1\nFN:Only FN\nTEL:1\nEND:VCARD", "Only FN"),
        ("BEGIN:VCARD\nVERSION:2.1\nN;CHARSET=UTF-8:兄\nTEL:1\nEND:VCARD".encode(), "兄"),
    ],
)  # fmt: skip
def test_cards_in_any_dress_are_read(octets: bytes, name: str) -> None:
    assert cards.read_card(octets, name_chars_max=50, numbers_max=1).name == name


def test_a_card_in_a_text_alphabet_is_shown_as_text() -> None:
    one = phone()
    one.receive(card_message(vcard("A", "1111", charset=""), data_coding=0))
    assert not one.phonebook
    assert one.inbox[0].kind == "text"
    assert one.inbox[0].text.startswith("BEGIN:VCARD")


def test_a_phone_for_texts_drops_cards_and_every_phone_drops_unknown_ports() -> None:
    one = phone("text")
    one.receive(card_message(vcard("A", "1111")))
    other = phone()
    other.receive(message(bytes.fromhex("060504158a0000") + b"ring", esm_class=0x40, data_coding=4))
    assert not one.inbox + other.inbox
    assert "port 9204" in one.ignored[0]["reason"]
    assert "port 5514" in other.ignored[0]["reason"]


def test_the_same_entry_again_changes_nothing_and_another_number_is_a_new_entry() -> None:
    one = phone()
    for number in ("1111", "1111", "2222"):
        one.receive(card_message(vcard("A", number)))
    assert [entry.numbers for entry in one.phonebook] == [("1111",), ("2222",)]
    assert [item.saved for item in one.inbox] == ["saved", "already there", "saved"]


def test_the_owner_is_asked_and_answers_once() -> None:
    one = phone(policy="ask")
    for name in "AB":
        one.receive(card_message(vcard(name, "1111")))
    assert not one.phonebook
    assert one.answer_card(1, save=False) == "refused"
    assert one.answer_card(2, save=True) == "saved"
    assert [entry.name for entry in one.phonebook] == ["B"]
    for again in (1, 2, 3):
        with pytest.raises(Refused):
            one.answer_card(again, save=True)


def test_the_owner_may_refuse_all_cards() -> None:
    one = phone(policy="no")
    one.receive(card_message(vcard("A", "1111")))
    assert (one.inbox[0].saved, one.phonebook) == ("refused", [])


def test_a_full_phone_book_takes_no_card() -> None:
    one = phone()
    for n in range(one.can.phonebook_max):
        one._save(cards.Card(str(n), ("1",)))
    one.receive(card_message(vcard("A", "1111")))
    assert one.inbox[0].saved == "phone book full"
    assert len(one.phonebook) == one.can.phonebook_max


# -- alphabets and parts --------------------------------------------------------------------------------------------

GSM_TEXT = st.text(
    st.sampled_from([bytes([n]).decode("gsm03.38") for n in range(128) if n != 0x1B] + list("^{}\\[~]|€"))
)


@given(GSM_TEXT)
def test_the_default_alphabet_is_read_as_another_library_writes_it(text: str) -> None:
    assert alphabets.read_text(text.encode("gsm03.38"), Alphabet.GSM) == text


@example("\x1b", 1)
@given(st.one_of(GSM_TEXT, st.text()).filter(bool), st.integers(1, 5))
def test_what_a_phone_writes_another_phone_reads(text: str, times: int) -> None:
    text = (text * times)[:1200]
    try:
        text.encode("utf-16-be")
    except UnicodeEncodeError:
        return
    outgoing = alphabets.write_text(text, 7)
    one = phone()
    limit = 160 if outgoing.alphabet is Alphabet.GSM else 140
    for data in outgoing.parts:
        header = 7 if outgoing.has_header and outgoing.alphabet is Alphabet.GSM else 6 if outgoing.has_header else 0
        assert len(data) - (6 if outgoing.has_header else 0) + header <= limit
        one.receive(message(data, esm_class=0x40 if outgoing.has_header else 0, data_coding=outgoing.data_coding))
    assert [item.text for item in one.inbox] == [text]
    assert one.inbox[0].segments == len(outgoing.parts)


@pytest.mark.parametrize("before", range(150, 154))
def test_a_phone_cuts_its_texts_between_characters(before: int) -> None:
    for part in alphabets.write_text("a" * before + "€" * 80, 1).parts:
        assert not part.endswith(b"\x1b")
    for part in alphabets.write_text("张" * (before - 90) + "🎉" * 40, 1).parts:
        part[6:].decode("utf-16-be")  # a lone surrogate would raise


@pytest.mark.parametrize(
    ("data_coding", "alphabet"),
    [(0, Alphabet.GSM), (1, Alphabet.ASCII), (3, Alphabet.LATIN), (4, Alphabet.OCTETS), (8, Alphabet.UCS2),
     (0xF0, Alphabet.GSM), (0xF5, Alphabet.OCTETS), (0xF6, Alphabet.OCTETS), (0x11, Alphabet.GSM),
     (0x18, Alphabet.UCS2), (0xE0, Alphabet.UCS2), (0x0C, None), (0x0F, None), (0x9F, None)],
)  # fmt: skip
def test_data_coding_names_an_alphabet(data_coding: int, alphabet: Alphabet | None) -> None:
    assert alphabets.alphabet_of(data_coding) is alphabet


def test_national_tables_are_read_where_the_header_names_them() -> None:
    turkish = message(b"\x06\x24\x01\x01\x25\x01\x01" + b"\x1b\x73\x0d \x40", esm_class=0x40)
    one = phone()
    one.receive(turkish)
    assert one.inbox[0].text == "ş\r İ"
    one.receive(message(b"\x03\x24\x01\x0d" + b"\x1b\x28a", esm_class=0x40))  # a table that the phone lacks
    assert one.inbox[1].text == "{a"


def test_parts_in_any_order_and_twice_make_one_message() -> None:
    for order in itertools.permutations((1, 2, 3)):
        one = phone()
        for number in (order[0], *order):
            one.receive(part(9, 3, number, str(number).encode() * 3))
        assert [(item.text, item.segments) for item in one.inbox] == [("111222333", 3)]


def test_sets_of_other_references_and_senders_stay_apart() -> None:
    one = phone()
    one.receive(part(1, 2, 1, b"a"))
    one.receive(part(2, 2, 2, b"b"))
    one.receive(part(1, 3, 2, b"c"))
    assert not one.inbox
    one.receive(part(2, 2, 1, b"x"))
    assert one.inbox[0].text == "xb"


def test_a_phone_holds_so_many_incomplete_messages_and_no_more() -> None:
    one = phone()
    for reference in range(SETS_MAX + 1):
        one.receive(part(reference, 2, 1, b"a"))
    one.receive(part(0, 2, 2, b"b"))  # its first part was forgotten
    assert not one.inbox
    one.receive(part(SETS_MAX, 2, 2, b"b"))
    assert len(one.inbox) == 1


def test_a_character_cut_between_parts_is_whole_again() -> None:
    text = "🎉" * 40
    units = text.encode("utf-16-be")
    one = phone()
    for number, piece in enumerate((units[:66], units[66:]), 1):
        data = bytes((5, 0, 3, 1, 2, number)) + piece
        one.receive(message(data, esm_class=0x40, data_coding=8))
    assert one.inbox[0].text == text


# -- across the link ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x" * 160, "x" * 161, "{" * 100, "张" * 70, "张" * 71, "é€" * 200])
async def test_parts_made_by_smpplib_are_joined(network: Simulator, gateways: Gateways, text: str) -> None:
    parts, data_coding, esm_class = smpplib.gsm.make_parts(text)
    esme = await gateways()
    for one in random.sample(parts, len(parts)):
        await esme.submit(ZHANG, one, data_coding=data_coding, esm_class=esm_class)
    item = await network.handset(ZHANG).wait_inbox(lambda m: True)
    assert (item.text, item.segments) == (text, len(parts))


async def test_a_payload_is_cut_by_the_carrier_and_joined_by_the_phone(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    await esme.submit(ZHANG, b"", message_payload=("张" * 100).encode("utf-16-be"), data_coding=8)
    item = await network.handset(ZHANG).wait_inbox(lambda m: True)
    assert (item.text, item.segments) == ("张" * 100, 2)


async def test_sar_parts_are_joined(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    for number, text in ((2, b"world"), (1, b"hello ")):
        await esme.submit(ZHANG, text, sar_msg_ref_num=300, sar_total_segments=2, sar_segment_seqnum=number)
    item = await network.handset(ZHANG).wait_inbox(lambda m: True)
    assert (item.text, item.segments) == ("hello world", 2)


async def test_a_card_in_two_parts_crosses_the_link(network: Simulator, gateways: Gateways) -> None:
    octets = vcard("一二三四五六七八九十" * 4, "+8613800138000").encode()
    assert len(octets) > 133
    esme = await gateways()
    for number, piece in ((1, octets[:128]), (2, octets[128:])):
        head = bytes.fromhex("0b050423f400000003 07 02".replace(" ", "")) + bytes((number,))
        await esme.submit(ZHANG, head + piece, esm_class=0x40, data_coding=4)
    entry = await network.handset(ZHANG).wait_phonebook(lambda e: True)
    assert entry.name == "一二三四五六七八九十" * 4


async def test_parts_go_wrong_on_the_air_as_asked(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    parts, _, esm_class = smpplib.gsm.make_parts("y" * 300)
    phone = network.handset(ZHANG)

    async def send() -> None:
        for one in parts:
            last = await esme.submit(ZHANG, one, esm_class=esm_class)
        await esme.answer_to(last)

    network.set_faults({"handset_parts": "last lost"})
    await send()
    assert not phone.inbox
    for fault in ("doubled", "reversed"):
        network.set_faults({"handset_parts": fault})
        phone.empty_inbox()
        parts = [one[:3] + bytes((ord(fault[0]),)) + one[4:] for one in parts]
        await send()
        assert [item.text for item in phone.inbox][:1] == ["y" * 300]
    network.set_faults({"handset_parts": "doubled"})
    phone.empty_inbox()
    await esme.answer_to(await esme.submit(ZHANG, b"single"))
    assert [item.text for item in phone.inbox] == ["single", "single"]


@pytest.mark.parametrize("state", ["off", "out of coverage"])
async def test_messages_wait_for_a_phone_in_order(network: Simulator, gateways: Gateways, state: str) -> None:
    esme = await gateways()
    network.set_state(ZHANG, state)
    for text in (b"one", b"two"):
        await esme.answer_to(await esme.submit(ZHANG, text))
    assert network.carrier.as_json()["waiting_for_phones"] == 2
    network.set_state(ZHANG, "on")
    assert [item.text for item in network.handset(ZHANG).inbox] == ["one", "two"]
    assert all(b"stat:DELIVRD" in one.short_message for one in await esme.delivered(2))


async def test_a_message_expires_while_the_phone_is_off(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    network.set_state(ZHANG, "off")
    await esme.submit(ZHANG, b"late", validity_period="000000000001000R")
    (receipt,) = await esme.delivered()
    assert b"stat:EXPIRED err:001" in receipt.short_message
    network.set_state(ZHANG, "on")
    assert not network.handset(ZHANG).inbox


async def test_a_full_inbox_makes_messages_wait_for_room(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    phone = network.handset(WANJIRU)
    count = phone.can.inbox_max + 1
    for _ in range(count):
        last = await esme.submit(WANJIRU, b"hello")
    await esme.answer_to(last)
    assert len(phone.inbox) == count - 1
    assert network.carrier.as_json()["waiting_for_phones"] == 1
    network.empty_inbox(WANJIRU)
    assert len(phone.inbox) == 1
    await esme.delivered(count)


# -- what owners send -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "to", "said"),
    [("", "20880", "empty"), ("hi", "two", "digits"), ("hi", "1" * 30, "digits"), ("hi", "+", "digits"),
     ("x" * (153 * MO_PARTS_MAX + 1), "20880", "messages"), ("🎉" * 10_000, "20880", "messages")],
)  # fmt: skip
def test_a_phone_refuses_what_it_cannot_send(text: str, to: str, said: str) -> None:
    one = phone()
    with pytest.raises(Refused, match=said):
        one.write(text, to)
    assert not one.sent


def test_a_phone_that_is_off_sends_nothing() -> None:
    one = phone()
    one.state = "off"
    with pytest.raises(Refused, match="off"):
        one.write("hello", "20880")


async def test_a_text_to_somebody_else_does_not_reach_the_gateway(network: Simulator) -> None:
    network.send(ZHANG, "hello", "+254700000000")
    assert network.carrier.counters.mo == 0
    assert network.handset(ZHANG).sent[-1]["to"] == "+254700000000"


async def test_waiting_for_an_inbox_ends_in_time(network: Simulator) -> None:
    with pytest.raises(TimeoutError):
        await network.handset(ZHANG).wait_inbox(lambda m: True, timeout_s=0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"msisdn": "12"}, {"msisdn": "+" + "1" * 16}, {"msisdn": "hello"}, {"msisdn": "+" + ZHANG}, {"msisdn": "１２３４"},
     {"msisdn": "1234", "profile": "smart"}, {"msisdn": "1234", "cards": "maybe"},
     {"msisdn": "1234", "label": "x" * 41}],
)  # fmt: skip
async def test_a_phone_that_cannot_be_is_refused(network: Simulator, wrong: dict[str, str]) -> None:
    with pytest.raises(Refused):
        network.add_handset(**wrong)
    await asyncio.sleep(0)
    assert len(network.handsets) == 2
