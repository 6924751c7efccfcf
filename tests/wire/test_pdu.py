"""PDUs: the peer's mistakes first, then the standard's bytes, then readers and writers that others wrote."""

from io import BytesIO

import pytest
import smpplib.smpp
from hypothesis import given
from hypothesis import strategies as st
from smpp.pdu.pdu_encoding import PDUEncoder

from smsgw import pdu
from smsgw import smpp_numbers as smpp
from smsgw.pdu import Address, BodyError, FrameReader, FramingLost, ShortMessage

SENDER = Address(1, 1, "254712345678")
CODE = Address(3, 0, "20880")


def body_of(encoded: bytes) -> bytes:
    ((_, _, _, body),) = FrameReader().feed(encoded)
    return body


def deliver(message: ShortMessage) -> bytes:
    return pdu.encode_short_message(smpp.DELIVER_SM, 1, message)


# ---- framing


@pytest.mark.parametrize("length", [0, 15, 65_537, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_true_loses_the_framing(length: int) -> None:
    with pytest.raises(FramingLost):
        FrameReader().feed(length.to_bytes(4) + bytes(12))


def test_a_lying_length_is_told_from_its_four_octets_alone() -> None:
    reader = FrameReader()
    assert reader.feed(b"HTT") == []
    with pytest.raises(FramingLost):
        reader.feed(b"P")


def test_what_was_complete_before_the_stream_broke_is_not_lost() -> None:
    good = pdu.encode_empty(smpp.ENQUIRE_LINK, 7)
    with pytest.raises(FramingLost) as caught:
        FrameReader().feed(good + bytes(16))
    assert caught.value.frames == [(smpp.ENQUIRE_LINK, 0, 7, b"")]


def test_the_largest_pdu_passes() -> None:
    whole = (65_536).to_bytes(4) + bytes(3) + b"\x05" + bytes(65_528)
    ((command_id, _, _, body),) = FrameReader().feed(whole)
    assert (command_id, len(body)) == (smpp.DELIVER_SM, 65_520)


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(
        (16 + len(body)).to_bytes(4) + (5).to_bytes(4) + bytes(4) + n.to_bytes(4) + body
        for n, body in enumerate(bodies)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader()
    frames = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in reader.feed(stream[start:end])
    ]
    assert [body for _, _, _, body in frames] == bodies
    assert not reader.pending


def test_a_reader_inside_a_pdu_says_so() -> None:
    reader = FrameReader()
    whole = pdu.encode_empty(smpp.UNBIND, 1)
    reader.feed(whole[:-1])
    assert reader.pending
    reader.feed(whole[-1:])
    assert not reader.pending


# ---- bodies of the peer that are wrong

PLAIN = body_of(deliver(ShortMessage("", SENDER, CODE, short_message=b"hello")))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", smpp.RINVCMDLEN),
        (b"\0", smpp.RINVCMDLEN),
        (PLAIN[:10], smpp.RINVCMDLEN),
        (PLAIN[: PLAIN.index(b"20880") + 6], smpp.RINVCMDLEN),
        (PLAIN[:-1], smpp.RINVMSGLEN),
        (b"toolong" + PLAIN, smpp.RINVSERTYP),
        (b"\0\1\1" + b"1" * 21 + PLAIN[15:], smpp.RINVSRCADR),
        (PLAIN.replace(b"20880", b"2" * 21), smpp.RINVDSTADR),
        (PLAIN.replace(b"20880\0\0\0\0\0", b"20880\0\0\0\0" + b"9" * 17 + b"\0"), smpp.RINVSCHED),
        (PLAIN.replace(b"20880\0\0\0\0\0\0", b"20880\0\0\0\0\0" + b"9" * 17 + b"\0"), smpp.RINVEXPIRY),
        (PLAIN + b"\x14", smpp.RINVOPTPARSTREAM),
        (PLAIN + b"\x14\x00\x00\x05abcd", smpp.RINVPARLEN),
    ],
)
def test_a_bad_body_says_what_to_answer(body: bytes, status: int) -> None:
    with pytest.raises(BodyError) as caught:
        pdu.decode_short_message(body, smpp.DELIVER_SM)
    assert caught.value.status == status


@pytest.mark.parametrize("end", range(len(PLAIN)))
def test_a_body_cut_anywhere_is_refused(end: int) -> None:
    with pytest.raises(BodyError):
        pdu.decode_short_message(PLAIN[:end], smpp.DELIVER_SM)


@given(st.sampled_from([smpp.DELIVER_SM, smpp.DATA_SM]), st.binary(max_size=120))
def test_noise_for_a_body_raises_nothing_but_body_error(command_id: int, body: bytes) -> None:
    try:
        pdu.decode_short_message(body, command_id)
    except BodyError as error:
        assert error.status in smpp.STATUSES


@given(st.sampled_from(sorted(pdu.LAYOUTS)), st.integers(0, 255), st.binary(max_size=80))
def test_noise_for_any_other_body_raises_nothing_but_body_error(command_id: int, status: int, body: bytes) -> None:
    try:
        pdu.decode(command_id, status, body)
    except BodyError as error:
        assert error.status in smpp.STATUSES


def test_a_command_without_a_layout_is_refused() -> None:
    with pytest.raises(BodyError) as caught:
        pdu.decode(0x99, 0, b"")
    assert caught.value.status == smpp.RINVCMDID


# ---- our own mistakes


@pytest.mark.parametrize(
    "message",
    [
        ShortMessage("", SENDER, CODE, short_message=bytes(256)),
        ShortMessage("", Address(1, 1, "1" * 21), CODE),
        ShortMessage("", Address(5, 0, "张三"), CODE),
        ShortMessage("", Address(5, 0, "a\0b"), CODE),
        ShortMessage("", Address(256, 0, "a"), CODE),
    ],
)
def test_what_no_pdu_can_hold_is_refused(message: ShortMessage) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pdu.encode_submit_sm(1, message)


@pytest.mark.parametrize("fields", [{"system_id": "x" * 16}, {"interface_version": 256}, {"no_such": 1}])
def test_fields_that_do_not_fit_are_refused(fields: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pdu.encode(smpp.BIND_TRANSCEIVER, 0, 1, fields)


# ---- the standard's bytes, both ways


def test_the_bind_of_the_standard() -> None:
    """The PDU that SMPP 3.4, chapter 3, takes apart as its example."""
    printed = bytes.fromhex(
        "0000002F 00000002 00000000 00000001 534D50503354455354 00 7365637265743038 00 5355424D495431 00 00 01 01 00"
    )
    fields: dict[str, str | int] = {
        "system_id": "SMPP3TEST",
        "password": "secret08",
        "system_type": "SUBMIT1",
        "interface_version": 0,
        "addr_ton": 1,
        "addr_npi": 1,
        "address_range": "",
    }
    assert pdu.encode(smpp.BIND_TRANSMITTER, 0, 1, fields) == printed
    assert pdu.decode(smpp.BIND_TRANSMITTER, 0, printed[16:]) == (fields, {})


def test_a_deliver_sm_written_by_hand() -> None:
    body = (
        b"CMT\0" b"\x01\x01254712345678\0" b"\x03\x0020880\0" b"\x40\x00\x00" b"\0" b"\0" b"\x01\x00\x08\x00"
        b"\x08\x05\x00\x03\x07\x02\x01\x5f\x20" b"\x14\x01\x00\x02\xca\xfe" b"\x02\x04\x00\x02\x00\x09"
    )  # fmt: skip
    message = pdu.decode_short_message(body, smpp.DELIVER_SM)
    assert message == ShortMessage(
        "CMT", SENDER, CODE, esm_class=0x40, registered_delivery=1, data_coding=8,
        short_message=b"\x05\x00\x03\x07\x02\x01\x5f\x20", tlvs={0x1401: b"\xca\xfe", 0x0204: b"\0\x09"},
    )  # fmt: skip
    assert body_of(deliver(message)) == body


def test_a_vendor_tlv_is_kept_and_the_last_of_two_counts() -> None:
    assert pdu.decode_tlvs(b"\x3f\xff\x00\x01a\x3f\xff\x00\x01b") == {0x3FFF: b"b"}
    assert smpp.tlv_name(0x3FFF) == "vendor_0x3FFF"
    assert smpp.tlv_name(smpp.MESSAGE_STATE) == "message_state"


@pytest.mark.parametrize(
    ("body", "message_id"),
    [(b"", ""), (b"\0", ""), (b"7f0c\0", "7f0c"), (b"7f0c", "7f0c"), (b"7f0c\0\x04\x25\0\1\1", "7f0c"),
     (b"\xe9\0", "é"), (b"a" * 400, "a" * 255), (b"a" * 400 + b"\0", "a" * 255)],
)  # fmt: skip
def test_a_response_without_body_without_nul_or_with_tlvs_is_read(body: bytes, message_id: str) -> None:
    assert pdu.decode_submit_sm_resp(body) == message_id


@pytest.mark.parametrize("command_id", [smpp.BIND_TRANSCEIVER_RESP, smpp.QUERY_SM_RESP, smpp.SUBMIT_SM_RESP])
def test_a_response_without_a_body_gives_empty_fields(command_id: int) -> None:
    fields, tlvs = pdu.decode(command_id, 0x0D, b"")
    assert set(fields.values()) <= {"", 0}
    assert tlvs == {}


# ---- round trips

octet = st.integers(0, 255)
digits = st.text("0123456789", max_size=20)
addresses = st.builds(Address, octet, octet, digits)
time = st.sampled_from(["", "261120101112000+", "000000010000000R"])
messages = st.builds(
    ShortMessage,
    st.text("ABC", max_size=5), addresses, addresses, octet, octet, octet, time, time, octet, octet, octet, octet,
    st.binary(max_size=254), st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=300), max_size=4),
)  # fmt: skip


@given(messages)
def test_a_message_comes_back_as_it_went(message: ShortMessage) -> None:
    ((command_id, status, sequence, body),) = FrameReader().feed(pdu.encode_submit_sm(77, message))
    assert (command_id, status, sequence) == (smpp.SUBMIT_SM, 0, 77)
    assert pdu.decode_short_message(body, smpp.SUBMIT_SM) == message


@given(addresses, addresses, st.binary(max_size=300), octet, octet, octet)
def test_a_data_sm_comes_back_as_it_went(
    source: Address, destination: Address, payload: bytes, esm: int, registered: int, coding: int
) -> None:
    message = ShortMessage(
        "", source, destination, esm_class=esm, registered_delivery=registered, data_coding=coding,
        tlvs={smpp.MESSAGE_PAYLOAD: payload},
    )  # fmt: skip
    body = body_of(pdu.encode_short_message(smpp.DATA_SM, 1, message))
    assert pdu.decode_short_message(body, smpp.DATA_SM) == message


@given(messages, digits.filter(bool), st.binary(max_size=254))
def test_the_template_writes_what_the_whole_message_writes(message: ShortMessage, to: str, text: bytes) -> None:
    message.destination = Address(1, 1, to)
    message.short_message = text
    message.replace_if_present = message.sm_default_msg_id = 0
    template = pdu.SubmitTemplate(
        message.source, esm_class=message.esm_class, data_coding=message.data_coding, service_type=message.service_type,
        registered_delivery=message.registered_delivery, validity_period=message.validity_period,
        schedule_delivery_time=message.schedule_delivery_time, protocol_id=message.protocol_id,
        priority_flag=message.priority_flag,
    )  # fmt: skip
    assert template.encode(9, to, text, pdu.encode_tlvs(message.tlvs)) == pdu.encode_submit_sm(9, message)


@given(st.data())
def test_every_layout_comes_back_as_it_went(data: st.DataObject) -> None:
    command_id = data.draw(st.sampled_from(sorted(pdu.LAYOUTS)))
    fields: dict[str, str | int] = {
        name: data.draw(octet if chars_max is None else st.text("abcé-", min_size=1, max_size=min(chars_max, 40)))
        for name, chars_max, _ in pdu.LAYOUTS[command_id]
    }
    tlvs = data.draw(st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=9), max_size=2))
    encoded = pdu.encode(command_id, 3, 2, fields, tlvs)
    ((got_id, status, sequence, body),) = FrameReader().feed(encoded)
    assert (got_id, status, sequence) == (command_id, 3, 2)
    if fields or not tlvs:
        assert pdu.decode(command_id, status, body) == (fields, tlvs)


def test_answers_in_one_piece_are_the_answers_one_by_one() -> None:
    assert pdu.encode_deliver_sm_resps([1, 0, 9], 0x08) == b"".join(
        pdu.encode(smpp.DELIVER_SM_RESP, 0x08, sequence) for sequence in (1, 0, 9)
    )


# ---- codecs that we did not write

SUBMITS = [
    ShortMessage("", CODE, SENDER, registered_delivery=1, short_message=b"hi \x1b<x\x1b>"),
    ShortMessage("WAP", Address(5, 0, "Friends"), SENDER, esm_class=0x40, data_coding=8,
                 validity_period="261120101112000+", short_message=b"\x05\0\3\1\2\1" + "张三".encode("utf-16-be")),
    ShortMessage("", CODE, SENDER, tlvs={smpp.MESSAGE_PAYLOAD: b"x" * 400}),
    ShortMessage("", CODE, SENDER, short_message=b"a",
                 tlvs={smpp.SAR_MSG_REF_NUM: b"\0\5", smpp.SAR_TOTAL_SEGMENTS: b"\2", smpp.SAR_SEGMENT_SEQNUM: b"\1"}),
    ShortMessage("", CODE, SENDER, short_message=b"a", tlvs={smpp.USER_MESSAGE_REFERENCE: b"\1\2"}),
]  # fmt: skip


class Sequences:
    """What python-smpplib wants of its client to write a PDU."""

    sequence = 0

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence


@pytest.mark.parametrize("message", SUBMITS)
def test_smpplib_reads_our_submit_sm(message: ShortMessage) -> None:
    read = smpplib.smpp.parse_pdu(pdu.encode_submit_sm(5, message), client=Sequences())
    assert (read.command, read.sequence) == ("submit_sm", 5)
    assert read.source_addr.decode() == message.source.digits
    assert (read.dest_addr_ton, read.destination_addr.decode()) == (1, message.destination.digits)
    assert (read.esm_class, read.data_coding) == (message.esm_class, message.data_coding)
    assert (read.short_message or b"") == message.short_message
    assert (read.validity_period or b"").decode() == message.validity_period
    if smpp.MESSAGE_PAYLOAD in message.tlvs:
        assert read.message_payload == message.tlvs[smpp.MESSAGE_PAYLOAD]
    if smpp.SAR_MSG_REF_NUM in message.tlvs:
        assert (read.sar_msg_ref_num, read.sar_total_segments, read.sar_segment_seqnum) == (5, 2, 1)


@pytest.mark.parametrize("message", SUBMITS)
def test_smpp_pdu3_reads_our_submit_sm(message: ShortMessage) -> None:
    read = PDUEncoder().decode(BytesIO(pdu.encode_submit_sm(5, message)))
    assert read.id.name == "submit_sm"
    assert read.params["source_addr"].decode() == message.source.digits
    assert read.params["destination_addr"].decode() == message.destination.digits
    assert (read.params["short_message"] or b"") == message.short_message
    assert read.params.get("message_payload", b"") == message.tlvs.get(smpp.MESSAGE_PAYLOAD, b"")
    assert read.params.get("user_message_reference") == (258 if smpp.USER_MESSAGE_REFERENCE in message.tlvs else None)


def test_we_read_what_smpplib_writes() -> None:
    written = smpplib.smpp.make_pdu(
        "submit_sm", client=Sequences(), source_addr_ton=3, source_addr_npi=0, source_addr="20880", dest_addr_ton=1,
        dest_addr_npi=1, destination_addr=SENDER.digits, short_message=b"hello", data_coding=8, esm_class=0x40,
        registered_delivery=1, user_message_reference=7,
    ).generate()  # fmt: skip
    assert pdu.decode_short_message(body_of(written), smpp.SUBMIT_SM) == ShortMessage(
        "", CODE, SENDER, esm_class=0x40, data_coding=8, registered_delivery=1, short_message=b"hello",
        tlvs={smpp.USER_MESSAGE_REFERENCE: b"\0\7"},
    )  # fmt: skip


def test_smpp_pdu3_reads_a_receipt_and_a_bind_of_ours() -> None:
    tlvs = {smpp.RECEIPTED_MESSAGE_ID: b"7\0", smpp.MESSAGE_STATE: b"\2"}
    receipt = ShortMessage("", SENDER, CODE, esm_class=4, short_message=b"id:7", tlvs=tlvs)
    read = PDUEncoder().decode(BytesIO(deliver(receipt)))
    assert (read.params["receipted_message_id"], read.params["message_state"].name) == (b"7", "DELIVERED")
    bind = pdu.encode(smpp.BIND_TRANSCEIVER, 0, 1, {"system_id": "us", "password": "secret", "interface_version": 0x34})
    assert PDUEncoder().decode(BytesIO(bind)).params["system_id"] == b"us"


# ---- names


def test_a_status_is_told_in_words() -> None:
    assert smpp.status_text(0x58) == "0x58 ESME_RTHROTTLED: throttled: more messages than the link allows"
    assert smpp.status_text(0x0400) == "0x400 (the carrier's own)"
