"""Receipts in every form that was seen, and which message they are about."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsgw import smpp_numbers as smpp
from smsgw.pdu import Address, ShortMessage
from smsgw.receipts import IdMatcher, parse, receipt_keys, response_key

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "receipts.json").read_text())["receipts"]
THEM = Address(1, 1, "254712345678")
US = Address(3, 0, "20880")


def receipt_of(text: bytes, esm_class: int = 4, tlvs: dict[int, bytes] | None = None, coding: int = 0) -> ShortMessage:
    return ShortMessage("", THEM, US, esm_class=esm_class, data_coding=coding, short_message=text, tlvs=tlvs or {})


def message_of(vector: dict[str, object]) -> ShortMessage:
    given_tlvs = vector.get("tlv", {})
    assert isinstance(given_tlvs, dict)
    tlvs: dict[int, bytes] = {}
    if "receipted_message_id" in given_tlvs:
        tlvs[smpp.RECEIPTED_MESSAGE_ID] = given_tlvs["receipted_message_id"].encode() + b"\0"
    if "message_state" in given_tlvs:
        tlvs[smpp.MESSAGE_STATE] = bytes((given_tlvs["message_state"],))
    if "network_error_code" in given_tlvs:
        tlvs[smpp.NETWORK_ERROR_CODE] = bytes.fromhex(given_tlvs["network_error_code"])
    return receipt_of(
        str(vector["text"]).encode(), int(str(vector.get("esm_class", 4))), tlvs, int(str(vector.get("data_coding", 0)))
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["profile"])[:30])
def test_every_receipt_seen_is_read_and_matched(vector: dict[str, object]) -> None:
    receipt = parse(message_of(vector))
    if vector["stat"] is None:
        assert receipt is None
        return
    assert receipt is not None
    assert (receipt.stat, receipt.err) == (vector["stat"], vector["err"])
    link = IdMatcher("auto")
    response_id = str(vector["resp_id"])
    if str(vector["profile"]).startswith("by user_message_reference"):
        for _ in range(3):
            key = link.response_key(response_id)
        assert key is None  # an id that every message gets names none
        return
    assert link.response_key(response_id) in link.receipt_keys(receipt.message_id)


def test_a_text_without_the_type_is_no_receipt_unless_it_has_the_whole_form() -> None:
    assert parse(receipt_of(b"id:1 stat:DELIVRD", esm_class=0)) is None
    whole = b"id:1 sub:001 dlvrd:001 submit date:2401021504 done date:2401021505 stat:DELIVRD err:000 text:"
    assert parse(receipt_of(whole, esm_class=0)) is not None
    both = {smpp.RECEIPTED_MESSAGE_ID: b"1\0", smpp.MESSAGE_STATE: b"\2"}
    assert parse(receipt_of(b"", esm_class=0, tlvs=both)) is not None


@pytest.mark.parametrize("esm_class", [0x08, 0x10, 0x18])
def test_acknowledgements_by_people_and_phones_are_no_receipts(esm_class: int) -> None:
    assert parse(receipt_of(b"id:1 stat:DELIVRD", esm_class=esm_class)) is None


@given(
    st.binary(max_size=160),
    st.integers(0, 255),
    st.dictionaries(st.sampled_from(sorted(smpp.TLVS)), st.binary(max_size=8)),
)
def test_noise_is_never_an_error(text: bytes, esm_class: int, tlvs: dict[int, bytes]) -> None:
    receipt = parse(receipt_of(text, esm_class, tlvs))
    if receipt is not None:
        assert "\0" not in receipt.message_id + receipt.stat + (receipt.err or "")
        assert len(receipt.message_id) <= 255
        IdMatcher().receipt_keys(receipt.message_id)


@pytest.mark.parametrize(
    ("stat", "state", "final"),
    [("DELIVRD", "delivered", True), ("EXPIRED", "expired", True), ("DELETED", "deleted", True),
     ("UNDELIV", "undeliverable", True), ("REJECTD", "rejected", True), ("ACCEPTD", "accepted", False),
     ("ENROUTE", "enroute", False), ("UNKNOWN", "unknown", False), ("NONSENSE", "unknown", False)],
)  # fmt: skip
def test_the_state_says_whether_more_may_follow(stat: str, state: str, final: bool) -> None:
    text = f"id:1 sub:001 dlvrd:001 submit date:2401021504 done date:2401021505 stat:{stat} err:000 text:"
    receipt = parse(receipt_of(text.encode()))
    assert receipt is not None
    assert (receipt.stat, receipt.state, receipt.final) == (stat, state, final)


def test_tlvs_count_more_than_the_text_and_the_texts_id_is_kept() -> None:
    text = b"id:1552044317 sub:001 dlvrd:001 submit date:2401021504 done date:2401021505 stat:ENROUTE err:012 text:"
    tlvs = {
        smpp.RECEIPTED_MESSAGE_ID: b"5c82511d",  # without its NUL
        smpp.MESSAGE_STATE: b"\5",
        smpp.USER_MESSAGE_REFERENCE: b"\x01\x02",
        smpp.NETWORK_ERROR_CODE: b"\3\0\5",
    }
    receipt = parse(receipt_of(text, tlvs=tlvs))
    assert receipt is not None
    assert (receipt.message_id, receipt.text_id) == ("5c82511d", "1552044317")
    assert (receipt.stat, receipt.state, receipt.final, receipt.err) == ("UNDELIV", "undeliverable", True, "012")
    assert (receipt.user_message_reference, receipt.network_error_code) == (258, b"\3\0\5")


@pytest.mark.parametrize(
    "text",
    [b"ID: 42, STAT: DELIVRD, ERR: 000", b"stat=delivrd;id=42;err=000", b"err:000 stat:DELIVRD id:42",
     b"id:42 sub: dlvrd: stat:DELIVRD err:000 done date:2401021505"],
)  # fmt: skip
def test_other_orders_cases_and_signs_are_read(text: bytes) -> None:
    receipt = parse(receipt_of(text))
    assert receipt is not None
    assert (receipt.message_id, receipt.stat, receipt.err) == ("42", "DELIVRD", "000")


def test_a_missing_value_does_not_take_the_next_key_for_one() -> None:
    receipt = parse(receipt_of(b"id: sub:001 stat:UNDELIV err: text:hello"))
    assert receipt is not None
    assert (receipt.message_id, receipt.stat, receipt.err) == ("", "UNDELIV", None)


def test_what_the_message_itself_says_is_not_taken_for_the_receipts_own() -> None:
    receipt = parse(receipt_of(b"stat:DELIVRD text:id:42 err:001"))
    assert receipt is not None
    assert (receipt.message_id, receipt.stat, receipt.err) == ("", "DELIVRD", None)


def test_a_receipt_in_ucs2_or_in_the_payload_is_read() -> None:
    text = "id:42 stat:DELIVRD err:000"
    in_ucs2 = parse(receipt_of(text.encode("utf-16-be"), coding=8))
    in_payload = parse(receipt_of(b"", tlvs={smpp.MESSAGE_PAYLOAD: text.encode()}))
    for receipt in (in_ucs2, in_payload):
        assert receipt is not None
        assert (receipt.message_id, receipt.stat) == ("42", "DELIVRD")


def test_the_date_is_given_only_as_digits() -> None:
    form = "id:1 sub:001 dlvrd:001 submit date:{0} done date:{0} stat:DELIVRD err:000"
    dates = [parse(receipt_of(form.format(date).encode())) for date in ("2401021505", "YYMMDDhhmm")]
    assert [receipt.done_at for receipt in dates if receipt] == ["2401021505", None]


# ---- ids


@pytest.mark.parametrize(
    ("id_format", "response", "receipt"),
    [("same", "0005C82511D", "5c82511d"), ("hex to decimal", "5c82511d", "1552044317"),
     ("hex to decimal", "0x5C82511D".removeprefix("0x"), "01552044317"), ("decimal to hex", "1552044317", "5C82511D"),
     ("auto", "7F0C", "7f0c"), ("auto", "7F0C", "32524"), ("auto", "32524", "7F0C")],
)  # fmt: skip
def test_both_writings_of_an_id_meet(id_format: str, response: str, receipt: str) -> None:
    link = IdMatcher(id_format)  # type: ignore[arg-type]  # the parameters are these literals
    assert link.response_key(response) in link.receipt_keys(receipt)


@pytest.mark.parametrize("message_id", ["", "0", "000", " "])
def test_an_empty_id_or_zero_names_nothing(message_id: str) -> None:
    assert response_key(message_id, "auto") is None
    assert receipt_keys(message_id, "auto") == ()
    assert response_key(message_id, "hex to decimal") is None


def test_a_useless_link_gives_no_keys() -> None:
    assert response_key("7f0c", "useless") is None
    assert receipt_keys("7f0c", "useless") == ()


def test_a_constant_id_names_nothing_once_it_was_seen_three_times() -> None:
    link = IdMatcher()
    assert [link.response_key("same") for _ in range(4)] == ["same", "same", None, None]
    assert link.receipt_keys("SAME") == ()
    assert link.response_key("other") == "other"


def test_the_way_is_learned_from_matches_that_leave_no_doubt() -> None:
    link = IdMatcher()
    for number in range(10):
        link.matched(str(number % 10), str(number % 10))  # 7 is 7 in any base
    assert len(link.receipt_keys("1552044317")) == 3
    for number in range(1000, 1020):
        link.matched(str(number), format(number, "x"))
    assert link.receipt_keys("1552044317") == ("5c82511d",)


def test_matches_that_contradict_each_other_teach_nothing() -> None:
    link = IdMatcher()
    link.matched("1000", "1000")
    for number in range(1000, 1040):
        link.matched(str(number), format(number, "x"))
    assert len(link.receipt_keys("1552044317")) == 3
