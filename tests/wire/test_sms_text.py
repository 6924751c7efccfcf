"""Texts to segments and back: the cuts, the lies, then each way that a link may want."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrate_mobile.TS23040_SMS import TP_UDH

from smsgw import gsm7, sms_text
from smsgw import smpp_numbers as smpp
from smsgw.carriers import LinkProfile
from smsgw.pdu import Address, ShortMessage, decode_tlvs
from smsgw.sms_text import BadUdh, Part, Plan, TextTooLong

LINK = LinkProfile()
NATIONAL = LinkProfile(national_shift=True)
A = Address(1, 1, "254712345678")
LINKS = [
    LinkProfile(alphabet=alphabet, long_messages=long_messages, reference_bits=bits, national_shift=national)
    for alphabet in ("gsm7", "ascii", "latin1")
    for long_messages in ("udh", "sar", "payload")
    for bits in (8, 16)
    for national in (False, True)
]
TURKISH = "İstanbul'da ğüşıöç çok güzel "
HINDI = "नमस्ते, आप कैसे हैं? "


def as_messages(plan: Plan) -> list[ShortMessage]:
    return [
        ShortMessage("", A, A, esm_class=plan.esm_class, data_coding=plan.data_coding,
                     short_message=segment.short_message, tlvs=decode_tlvs(segment.tlvs))
        for segment in plan.segments
    ]  # fmt: skip


def read(messages: list[ShortMessage], link: LinkProfile) -> str:
    """Join messages in the order they came, as a receiver does."""
    contents = [sms_text.content_of(message) for message in messages]
    assert all(content.flaw is None for content in contents)
    parts = {content.part.number if content.part else 1: content.data for content in contents}
    first = contents[0]
    return sms_text.join(parts, first.data_coding, link, locking=first.locking, single=first.single)


# ---- what cannot be sent or read


@pytest.mark.parametrize("long_messages", ["udh", "sar"])
def test_more_than_255_parts_are_refused_but_counted(long_messages: str) -> None:
    link = LinkProfile(long_messages=long_messages)  # type: ignore[arg-type]  # both are its literals
    assert len(sms_text.plan("a" * 153 * 255, link).segments) == 255
    with pytest.raises(TextTooLong):
        sms_text.plan("a" * (153 * 255 + 1), link)
    assert sms_text.count("a" * (153 * 255 + 1), link).segments == 256
    with pytest.raises(TextTooLong):
        sms_text.binary(bytes(134 * 255 + 1))


@pytest.mark.parametrize("header", ["", "05000301", "02", "0300 05 01", "06 0003 010201", "FF", "03 0003 070201 6869"])
def test_a_udh_that_lies_is_a_declared_error_and_the_message_is_taken_whole(header: str) -> None:
    octets = bytes.fromhex(header)
    with pytest.raises(BadUdh):
        sms_text.parse_udh(octets)
    content = sms_text.content_of(ShortMessage("", A, A, esm_class=0x40, short_message=octets))
    assert (content.data, content.part) == (octets, None)
    assert content.flaw


@pytest.mark.parametrize(("total", "number"), [(2, 3), (0, 0), (0, 1), (2, 0)])
def test_part_numbers_that_make_no_sense_are_named_and_the_message_is_taken_whole(total: int, number: int) -> None:
    in_udh = ShortMessage("", A, A, esm_class=0x40, short_message=bytes((5, 0, 3, 7, total, number)) + b"hi")
    tlvs = {smpp.SAR_TOTAL_SEGMENTS: bytes((total,)), smpp.SAR_SEGMENT_SEQNUM: bytes((number,))}
    in_sar = ShortMessage("", A, A, short_message=b"hi", tlvs={smpp.SAR_MSG_REF_NUM: b"\0\7", **tlvs})
    for message in (in_udh, in_sar):
        assert sms_text.part_of(message) is None
        assert sms_text.body_bytes(message) == b"hi"
        assert sms_text.content_of(message).flaw == f"part {number} of {total}"


def test_sar_tlvs_of_a_wrong_length_are_named() -> None:
    tlvs = {smpp.SAR_TOTAL_SEGMENTS: b"\2" * 40, smpp.SAR_SEGMENT_SEQNUM: b"\1"}
    assert sms_text.content_of(ShortMessage("", A, A, tlvs=tlvs)).flaw == "sar TLVs of a wrong length"


def test_part_one_of_one_is_a_whole_text() -> None:
    content = sms_text.content_of(ShortMessage("", A, A, esm_class=0x40, short_message=b"\5\0\3\7\1\1hi"))
    assert (content.data, content.part, content.flaw) == (b"hi", None, None)


@given(st.integers(0, 255), st.binary(max_size=40), st.sampled_from(LINKS), st.integers(0, 255), st.integers(0, 255))
def test_no_octets_make_decoding_fail(coding: int, data: bytes, link: LinkProfile, locking: int, single: int) -> None:
    text = sms_text.decode(coding, data, link, locking=locking, single=single)
    text.encode()  # and no half of a surrogate pair comes out


sar_values = st.dictionaries(
    st.sampled_from([smpp.SAR_MSG_REF_NUM, smpp.SAR_TOTAL_SEGMENTS, smpp.SAR_SEGMENT_SEQNUM, smpp.MESSAGE_PAYLOAD]),
    st.binary(max_size=4),
)


@given(st.integers(0, 255), st.binary(max_size=40), sar_values)
def test_no_message_makes_reading_fail(esm_class: int, data: bytes, tlvs: dict[int, bytes]) -> None:
    content = sms_text.content_of(ShortMessage("", A, A, esm_class=esm_class, short_message=data, tlvs=tlvs))
    assert content.part is None or 1 <= content.part.number <= content.part.total


def test_half_a_surrogate_pair_in_a_text_is_replaced() -> None:
    plan = sms_text.plan("张\ud83d", LINK)
    assert read(as_messages(plan), LINK) == "张?"


# ---- where the cuts are


@pytest.mark.parametrize(
    ("text", "bits", "segments", "left"),
    [("", 8, 1, 160), ("a" * 160, 8, 1, 0), ("a" * 161, 8, 2, 145), ("a" * 306, 8, 2, 0), ("a" * 307, 8, 3, 152),
     ("a" * 305, 16, 3, 151), ("€" * 80, 8, 1, 0), ("€" * 81, 8, 2, 143), ("a" + "€" * 80, 8, 2, 145),
     ("张" * 70, 8, 1, 0), ("张" * 71, 8, 2, 63), ("张" * 134, 8, 2, 0), ("张" * 133, 16, 3, 65), ("😀" * 35, 8, 1, 0),
     ("😀" * 36, 8, 2, 61)],
)  # fmt: skip
def test_the_limits_of_the_standard(text: str, bits: int, segments: int, left: int) -> None:
    link = LinkProfile(reference_bits=bits)  # type: ignore[arg-type]  # 8 or 16
    plan = sms_text.plan(text, link)
    assert (len(plan.segments), plan.units_left) == (segments, left)
    assert sms_text.count(text, link) == (plan.alphabet, segments, plan.units, left)


@pytest.mark.parametrize("place", range(150, 160))
def test_an_escape_pair_is_never_split(place: int) -> None:
    plan = sms_text.plan("a" * place + "€" + "b" * 150, LINK)
    assert "".join(segment.text for segment in plan.segments) == "a" * place + "€" + "b" * 150
    for segment in plan.segments:
        assert segment.short_message[-1] != gsm7.ESCAPE
        assert len(segment.short_message) <= 6 + 153


@pytest.mark.parametrize("pair", ["\U00010000", "😀", "\U0010ffff"])
@pytest.mark.parametrize("place", range(62, 72))
def test_a_surrogate_pair_is_never_split(place: int, pair: str) -> None:
    text = "张" * place + pair + "三" * 60
    plan = sms_text.plan(text, LINK)
    assert "".join(segment.text for segment in plan.segments) == text
    for segment in plan.segments:
        segment.short_message[6:].decode("utf-16-be")  # strict
        assert len(segment.short_message) <= 140


mixed = st.text(st.sampled_from("aé@[€{\n" * 3 + "张😀ğşИ"), max_size=400) | st.text(max_size=300)


@given(mixed, st.sampled_from(LINKS), st.integers(0, 0xFFFFF), st.randoms())
def test_every_text_comes_back_over_every_link_in_any_order(
    text: str, link: LinkProfile, reference: int, random: Random
) -> None:
    plan = sms_text.plan(text, link, reference=reference)
    messages = as_messages(plan)
    random.shuffle(messages)
    messages += messages[:1]  # one comes twice
    got = read(messages, link).removeprefix("\ufeff")
    assert got == text.encode("utf-16-be", "replace").decode("utf-16-be").removeprefix("\ufeff")
    counted = sms_text.count(text, link)
    assert counted.units == plan.units
    if link.long_messages != "payload":
        assert counted == (plan.alphabet, len(plan.segments), plan.units, plan.units_left)
        assert "".join(segment.text for segment in plan.segments).removeprefix("\ufeff") == got


@given(mixed, st.sampled_from(LINKS))
def test_no_message_has_two_ways_at_once_or_is_too_long(text: str, link: LinkProfile) -> None:
    plan = sms_text.plan(text, link)
    for message in as_messages(plan):
        has_udh = bool(message.esm_class & 0x40)
        assert has_udh + (smpp.SAR_MSG_REF_NUM in message.tlvs) + (smpp.MESSAGE_PAYLOAD in message.tlvs) <= 1
        assert not (smpp.MESSAGE_PAYLOAD in message.tlvs and message.short_message)
        octets = message.short_message
        header = 1 + octets[0] if has_udh else 0
        bits = (len(octets) - header) * (7 if plan.alphabet == "gsm7" and link.alphabet == "gsm7" else 8)
        if plan.alphabet == "ucs2" or link.alphabet == "gsm7":
            assert header * 8 + bits <= 140 * 8


@pytest.mark.parametrize(
    ("cut_octets", "text"), [(1, "[a]"), (2, "[a]"), (3, "[a]"), (4, "[a]")],
)  # fmt: skip
def test_an_escape_that_the_sender_split_survives(cut_octets: int, text: str) -> None:
    septets = b"\x1b<a\x1b>"
    assert sms_text.join({2: septets[cut_octets:], 1: septets[:cut_octets]}, 0, LINK) == text


@pytest.mark.parametrize("cut_octets", range(1, 8))
def test_a_surrogate_pair_that_the_sender_split_survives(cut_octets: int) -> None:
    octets = "a😀b".encode("utf-16-be")
    assert sms_text.join({1: octets[:cut_octets], 2: octets[cut_octets:]}, 8, LINK) == "a😀b"


# ---- national tables


def test_a_national_table_is_used_only_where_it_saves_and_the_link_allows() -> None:
    assert sms_text.plan(TURKISH, NATIONAL).alphabet == "ucs2"  # one segment either way
    assert sms_text.plan(TURKISH * 5, LINK).alphabet == "ucs2"
    plan = sms_text.plan(TURKISH * 5, NATIONAL)
    assert (plan.alphabet, plan.data_coding, plan.esm_class) == ("gsm7", 0, 0x40)
    assert len(plan.segments) < len(sms_text.plan(TURKISH * 5, LINK).segments)
    assert sms_text.parse_udh(plan.segments[0].short_message) == [(0x25, b"\1")]
    parts = sms_text.plan(TURKISH * 9, NATIONAL).segments
    assert sms_text.parse_udh(parts[1].short_message) == [(0, b"\0\2\2"), (0x25, b"\1")]
    no_udh = LinkProfile(national_shift=True, passes_udh=False, long_messages="sar")
    assert sms_text.plan(TURKISH * 5, no_udh).alphabet == "ucs2"


def test_an_indic_text_needs_its_locking_table() -> None:
    plan = sms_text.plan(HINDI * 7, NATIONAL)
    assert len(plan.segments) == 1
    assert sms_text.parse_udh(plan.segments[0].short_message) == [(0x25, b"\6")]
    assert (plan.units, plan.units_left) == (140 + 7, 155 - 147)
    assert read(as_messages(plan), NATIONAL) == HINDI * 7


def test_a_table_beside_sar_is_used_only_for_a_single_segment() -> None:
    sar = LinkProfile(national_shift=True, long_messages="sar")
    assert sms_text.plan(HINDI * 7, sar).alphabet == "gsm7"
    assert sms_text.plan(HINDI * 14, sar).alphabet == "ucs2"


# ---- each way


def test_the_references_of_each_way() -> None:
    text = "a" * 161
    eight = as_messages(sms_text.plan(text, LINK, reference=0x1234))[1]
    sixteen = as_messages(sms_text.plan(text, LinkProfile(reference_bits=16), reference=0x1234))[1]
    sar = as_messages(sms_text.plan(text, LinkProfile(long_messages="sar", reference_bits=16), reference=0x1234))[1]
    assert sms_text.part_of(eight) == Part(0x34, 2, 2)
    assert sms_text.part_of(sixteen) == Part(0x1234, 2, 2)
    assert sms_text.part_of(sar) == Part(0x1234, 2, 2)
    assert eight.short_message[:6] == bytes.fromhex("050003340202")
    assert sixteen.short_message[:7] == bytes.fromhex("06080412340202")


def test_pycrate_reads_our_headers() -> None:
    plan = sms_text.plan(TURKISH * 9, LinkProfile(national_shift=True, reference_bits=16), reference=0x1234)
    header = plan.segments[1].short_message
    udh = TP_UDH()
    udh.from_bytes(header[: 1 + header[0]])
    assert udh.to_bytes() == header[: 1 + header[0]]
    assert "<MsgRef : 4660><MsgParts : 2><MsgNum : 2>" in str(udh)
    assert "National Language Locking Shift" in str(udh)


def test_a_link_with_another_default_alphabet_gets_its_octets() -> None:
    latin1 = LinkProfile(alphabet="latin1")
    assert sms_text.plan("é@[", latin1).segments[0].short_message == b"\xe9@["
    assert sms_text.plan("é", LinkProfile(alphabet="ascii")).alphabet == "ucs2"
    assert sms_text.plan("Δ", latin1).alphabet == "ucs2"
    assert sms_text.count("[" * 81, latin1).segments == 2  # on air it is two septets all the same


def test_a_vcard_for_port_9204_has_133_octets_alone_and_128_in_parts() -> None:
    ports = sms_text.port_addressing(9204)
    alone = sms_text.binary(bytes(133), elements=ports)
    assert (len(alone.segments), alone.units_left, alone.data_coding, alone.esm_class) == (1, 0, 4, 0x40)
    assert alone.segments[0].short_message[:7] == bytes.fromhex("06050423F40000")
    two = sms_text.binary(bytes(134), elements=ports, reference=7)
    assert [len(segment.short_message) for segment in two.segments] == [140, 12 + 6]
    assert two.segments[1].short_message[:12] == bytes.fromhex("0B050423F400000003070202")
    content = sms_text.content_of(as_messages(two)[1])
    assert (content.part, content.ports, content.data) == (Part(7, 2, 2), (9204, 0), bytes(6))


def test_plain_binary_has_no_header() -> None:
    plan = sms_text.binary(b"abc")
    assert (plan.esm_class, plan.segments[0].short_message) == (0, b"abc")


def test_eight_bit_ports_are_read() -> None:
    content = sms_text.content_of(ShortMessage("", A, A, esm_class=0x40, short_message=b"\4\4\2\xe2\xe3hi"))
    assert (content.ports, content.data) == ((0xE2, 0xE3), b"hi")


# ---- reading each alphabet


@pytest.mark.parametrize(
    ("coding", "alphabet"),
    [(0, "gsm7"), (1, "ascii"), (2, "binary"), (3, "latin1"), (4, "binary"), (6, "cyrillic"), (7, "hebrew"),
     (8, "ucs2"), (9, "gsm7"), (0x10, "gsm7"), (0x14, "binary"), (0x18, "ucs2"), (0x1C, "gsm7"), (0x20, "binary"),
     (0x48, "ucs2"), (0x80, "gsm7"), (0xC8, "gsm7"), (0xD0, "gsm7"), (0xE0, "ucs2"), (0xF0, "gsm7"),
     (0xF1, "gsm7"), (0xF4, "binary"), (0xF5, "binary"), (0xF6, "binary")],
)  # fmt: skip
def test_every_coding_group_has_its_alphabet(coding: int, alphabet: str) -> None:
    assert sms_text.alphabet_of(coding, LINK) == alphabet


@pytest.mark.parametrize(
    ("coding", "data", "text"),
    [(0, b"\x00\x1be", "@€"), (1, b"a\x80", "a\ufffd"), (3, b"\xe9", "é"), (6, b"\xbf\xe0\xd8\xd2\xd5\xe2", "Привет"),
     (7, b"\xf9\xec\xe5\xed", "שלום"), (8, "张三😀".encode("utf-16-be"), "张三😀"), (8, b"\0a\0", "a\ufffd"),
     (8, b"\xd8\x3d\0a", "\ufffda"), (8, b"\xff\xfea\0", "a"), (8, b"\xfe\xff\0a", "a"), (4, b"a\xff", "a\ufffd"),
     (0xF0, b"\x00", "@"), (14, "한국".encode("euc_kr"), "한국")],
)  # fmt: skip
def test_texts_in_each_alphabet_are_read(coding: int, data: bytes, text: str) -> None:
    assert sms_text.decode(coding, data, LINK) == text


def test_coding_zero_is_what_the_link_says() -> None:
    assert sms_text.decode(0, b"\x00@", LinkProfile(alphabet="ascii")) == "\0@"
    assert sms_text.decode(0, b"\xe9", LinkProfile(alphabet="latin1")) == "é"


def test_the_payload_is_the_body_where_the_short_message_is_empty() -> None:
    message = ShortMessage("", A, A, tlvs={smpp.MESSAGE_PAYLOAD: b"hi"})
    assert sms_text.body_bytes(message) == b"hi"
