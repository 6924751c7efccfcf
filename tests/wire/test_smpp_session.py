"""One connection's life: what goes wrong first; bytes and time in, events and bytes out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsgw import pdu
from smsgw import smpp_numbers as smpp
from smsgw.pdu import Address, FrameReader, ShortMessage, SubmitTemplate
from smsgw.smpp_session import (
    SEQUENCE_MAX,
    BindRefused,
    BindType,
    BodyRefused,
    Bound,
    CommandRefused,
    Delivered,
    Event,
    LateAnswer,
    LinkDead,
    OutbindReceived,
    PeerUnbound,
    QueryAnswered,
    Session,
    SessionConfig,
    State,
    SubmitAnswered,
    TimedOut,
    Unbound,
    UnknownAnswer,
    WindowFull,
)

CODE = Address(3, 0, "20880")
PHONE = Address(1, 1, "254712345678")
TEMPLATE = SubmitTemplate(CODE)
RECEIPT = ShortMessage("", PHONE, CODE, esm_class=4, short_message=b"id:1 stat:DELIVRD")


def config(**changes: object) -> SessionConfig:
    return SessionConfig("us", "secret", **changes)  # type: ignore[arg-type]  # each test names real fields


def sent(session: Session) -> list[pdu.Frame]:
    return FrameReader().feed(session.data_to_send())


def bound(**changes: object) -> Session:
    session = Session(config(**changes))
    session.connected(0.0)
    ((command_id, _, sequence, _),) = sent(session)
    events = session.receive(pdu.encode(command_id | 0x8000_0000, 0, sequence, {"system_id": "peer"}), 0.0)
    assert events == [Bound("peer", None)]
    return session


def submit(session: Session, token: object, now: float = 0.0) -> int:
    session.submit(TEMPLATE, PHONE.digits, b"hi", b"", token, now)
    return sent(session)[-1][2]


def response(sequence: int, message_id: str = "7f0c", status: int = 0) -> bytes:
    return pdu.encode(smpp.SUBMIT_SM_RESP, status, sequence, {"message_id": message_id})


# ---- the bind


@pytest.mark.parametrize("status", [0x0D, 0x0E, 0x0F])
def test_bad_credentials_stop_the_retrying(status: int) -> None:
    session = Session(config())
    session.connected(0.0)
    ((_, _, sequence, _),) = sent(session)
    refusal = pdu.encode(smpp.BIND_TRANSCEIVER_RESP, status, sequence)
    assert session.receive(refusal, 0.1) == [BindRefused(status, permanent=True)]
    assert session.state is State.CLOSED


def test_any_other_refusal_may_be_tried_again() -> None:
    session = Session(config())
    session.connected(0.0)
    answer = pdu.encode_empty(smpp.BIND_TRANSCEIVER_RESP, sent(session)[0][2], 0x08)
    assert session.receive(answer, 0.1) == [BindRefused(0x08, permanent=False)]


@pytest.mark.parametrize("sequence", [0, 1, 99])
def test_a_nack_while_binding_can_only_mean_the_bind(sequence: int) -> None:
    session = Session(config())
    session.connected(0.0)
    assert session.receive(pdu.encode_empty(smpp.GENERIC_NACK, sequence, 0x03), 0.1) == [BindRefused(0x03, False)]


def test_a_bind_that_is_not_answered_is_given_up() -> None:
    session = Session(config())
    session.connected(5.0)
    assert session.next_tick() == 15.0
    assert session.tick(14.9) == []
    assert session.tick(15.0) == [LinkDead("bind was not answered")]


def test_a_bind_response_for_another_sequence_number_is_not_ours() -> None:
    session = Session(config())
    session.connected(0.0)
    stray = pdu.encode(smpp.BIND_TRANSCEIVER_RESP, 0, 99, {"system_id": "peer"})
    assert session.receive(stray, 0.1) == [UnknownAnswer(99, smpp.BIND_TRANSCEIVER_RESP, 0)]
    assert session.state is State.BINDING


def test_a_bind_response_of_the_wrong_kind_is_taken() -> None:
    session = Session(config())
    session.connected(0.0)
    wrong = pdu.encode(smpp.BIND_TRANSMITTER_RESP, 0, sent(session)[0][2], {"system_id": "osmo"})
    assert session.receive(wrong, 0.1) == [Bound("osmo", None)]
    assert session.free_window() == 100


@pytest.mark.parametrize("body", [b"", b"no end", b"x" * 99 + b"\0"])
def test_a_bind_response_with_an_odd_body_still_binds(body: bytes) -> None:
    session = Session(config())
    session.connected(0.0)
    head = (16 + len(body)).to_bytes(4) + smpp.BIND_TRANSCEIVER_RESP.to_bytes(4) + bytes(4) + b"\0\0\0\1"
    assert session.receive(head + body, 0.1) == [Bound("", None)]


def test_the_bind_says_who_we_are_and_the_peer_which_version_it_speaks() -> None:
    session = Session(config(bind_type=BindType.RECEIVER, system_type="VMA", address_range="20880", address_ton=3))
    session.connected(0.0)
    ((command_id, _, sequence, body),) = sent(session)
    assert command_id == smpp.BIND_RECEIVER
    assert pdu.decode(command_id, 0, body)[0] == {
        "system_id": "us", "password": "secret", "system_type": "VMA", "interface_version": 0x34,
        "addr_ton": 3, "addr_npi": 0, "address_range": "20880",
    }  # fmt: skip
    answer = pdu.encode(
        smpp.BIND_RECEIVER_RESP, 0, sequence, {"system_id": "peer"}, {smpp.SC_INTERFACE_VERSION: b"\x50"}
    )
    assert session.receive(answer, 0.1) == [Bound("peer", 0x50)]


def test_a_receiver_has_no_window() -> None:
    session = bound(bind_type=BindType.RECEIVER)
    assert session.free_window() == 0
    with pytest.raises(WindowFull):
        submit(session, "a")


def test_outbind_brings_the_bind() -> None:
    session = Session(config(wait_outbind=True))
    session.connected(0.0)
    assert session.data_to_send() == b""
    outbind = pdu.encode(smpp.OUTBIND, 0, 1, {"system_id": "peer", "password": "pw"})
    assert session.receive(outbind, 1.0) == [OutbindReceived("peer", "pw")]
    assert [frame[0] for frame in sent(session)] == [smpp.BIND_TRANSCEIVER]


def test_an_outbind_that_does_not_come_is_given_up() -> None:
    session = Session(config(wait_outbind=True))
    session.connected(0.0)
    assert session.tick(10.0) == [LinkDead("no outbind came")]


# ---- submits


def test_the_window_holds() -> None:
    session = bound(window=2)
    submit(session, "a")
    first = submit(session, "b") - 1
    assert session.free_window() == 0
    with pytest.raises(WindowFull):
        submit(session, "c")
    assert session.unanswered() == 2
    session.receive(response(first), 0.1)
    assert (session.free_window(), session.unanswered()) == (1, 1)


@pytest.mark.parametrize("status", [0, 0x14, 0x58, 0x0B, 0x0400])
def test_an_answer_names_its_submit_and_status(status: int) -> None:
    session = bound()
    sequence = submit(session, "a")
    assert session.receive(response(sequence, "7f0c", status), 0.1) == [SubmitAnswered("a", status, "7f0c")]


def test_an_answer_without_a_body_has_an_empty_id() -> None:
    session = bound()
    sequence = submit(session, "a")
    bare = pdu.encode_empty(smpp.SUBMIT_SM_RESP, sequence, 0x0B)
    assert session.receive(bare, 0.1) == [SubmitAnswered("a", 0x0B, "")]


def test_a_doubled_answer_counts_once() -> None:
    session = bound()
    sequence = submit(session, "a")
    events = session.receive(response(sequence) * 2, 0.1)
    assert events == [SubmitAnswered("a", 0, "7f0c"), UnknownAnswer(sequence, smpp.SUBMIT_SM_RESP, 0)]


def test_a_nack_with_our_number_answers_that_submit() -> None:
    session = bound()
    sequence = submit(session, "a")
    assert session.receive(pdu.encode_empty(smpp.GENERIC_NACK, sequence, 0x03), 0.1) == [SubmitAnswered("a", 0x03, "")]


def test_a_nack_without_a_status_is_no_success() -> None:
    session = bound()
    sequence = submit(session, "a")
    assert session.receive(pdu.encode_empty(smpp.GENERIC_NACK, sequence, 0), 0.1) == [SubmitAnswered("a", 0xFF, "")]


@pytest.mark.parametrize("sequence", [0, 12_345])
def test_a_nack_with_a_wrong_number_harms_no_submit(sequence: int) -> None:
    session = bound()
    submit(session, "a")
    nack = pdu.encode_empty(smpp.GENERIC_NACK, sequence, 0x03)
    assert session.receive(nack, 0.1) == [UnknownAnswer(sequence, smpp.GENERIC_NACK, 0x03)]
    assert session.outstanding() == ["a"]


def test_an_answer_under_another_command_still_answers() -> None:
    session = bound()
    sequence = submit(session, "a")
    odd = pdu.encode(smpp.DATA_SM_RESP, 0, sequence, {"message_id": "9"})
    assert session.receive(odd, 0.1) == [SubmitAnswered("a", 0, "9")]


def test_a_late_answer_still_counts_once() -> None:
    session = bound()
    sequence = submit(session, "a", now=1.0)
    session.receive(pdu.encode_empty(smpp.ENQUIRE_LINK, 1), 50.0)
    assert session.tick(60.9) == []
    assert session.tick(61.0) == [TimedOut("a")]
    assert session.free_window() == 100
    events = session.receive(response(sequence) * 2, 70.0)
    assert events == [LateAnswer("a", 0, "7f0c"), UnknownAnswer(sequence, smpp.SUBMIT_SM_RESP, 0)]


def test_an_answer_after_an_hour_is_unknown() -> None:
    session = bound(enquire_link_interval_s=1e9)
    sequence = submit(session, "a", now=0.0)
    assert session.tick(60.0) == [TimedOut("a")]
    session.tick(3_600.0)
    assert session.receive(response(sequence), 3_601.0) == [UnknownAnswer(sequence, smpp.SUBMIT_SM_RESP, 0)]


def test_late_submits_are_kept_in_bounded_number() -> None:
    session = bound(window=20_000, enquire_link_interval_s=1e9)
    sequences = [submit(session, number) for number in range(10_001)]
    assert len(session.tick(60.0)) == 10_001
    assert isinstance(session.receive(response(sequences[0]), 61.0)[0], UnknownAnswer)
    assert session.receive(response(sequences[-1]), 61.0) == [LateAnswer(10_000, 0, "7f0c")]


def test_sequence_numbers_wrap_and_skip_those_that_wait() -> None:
    session = bound()
    session._sequence = 0
    assert submit(session, "first") == 1
    session._sequence = SEQUENCE_MAX - 1
    assert submit(session, "a") == SEQUENCE_MAX
    assert submit(session, "b") == 2  # 1 still waits
    session.query("7f0c", CODE, "q", 0.0)
    assert sent(session)[0][2] == 3


def test_a_message_that_no_template_fits_is_sent_whole() -> None:
    session = bound()
    session.submit_message(RECEIPT, "a", 0.0)
    ((command_id, _, sequence, body),) = sent(session)
    assert (command_id, pdu.decode_short_message(body, command_id)) == (smpp.SUBMIT_SM, RECEIPT)
    assert session.receive(response(sequence), 0.1) == [SubmitAnswered("a", 0, "7f0c")]


def test_a_message_that_no_pdu_holds_takes_no_place_in_the_window() -> None:
    session = bound()
    with pytest.raises(ValueError, match="short_message"):
        session.submit_message(ShortMessage("", CODE, PHONE, short_message=bytes(256)), "a", 0.0)
    assert session.outstanding() == []


# ---- what comes in


@pytest.mark.parametrize("sequence", [0, 7])
@pytest.mark.parametrize("bind_type", list(BindType))
def test_a_receipt_is_taken_on_any_bind_with_any_sequence(bind_type: BindType, sequence: int) -> None:
    session = bound(bind_type=bind_type)
    arriving = pdu.encode_short_message(smpp.DELIVER_SM, sequence, RECEIPT)
    assert session.receive(arriving, 0.1) == [Delivered(sequence, smpp.DELIVER_SM, RECEIPT)]
    assert session.data_to_send() == b""  # not before its owner stored it
    session.answer([sequence])
    assert session.data_to_send() == pdu.encode_deliver_sm_resp(sequence)


def test_a_message_before_the_bind_response_is_taken() -> None:
    session = Session(config())
    session.connected(0.0)
    arriving = pdu.encode_short_message(smpp.DELIVER_SM, 5, RECEIPT)
    assert session.receive(arriving, 0.1) == [Delivered(5, smpp.DELIVER_SM, RECEIPT)]


def test_a_data_sm_gets_an_answer_of_its_own_kind() -> None:
    session = bound()
    message = ShortMessage("", PHONE, CODE, tlvs={smpp.MESSAGE_PAYLOAD: b"hi"})
    arriving = pdu.encode_short_message(smpp.DATA_SM, 5, message)
    assert session.receive(arriving, 0.1) == [Delivered(5, smpp.DATA_SM, message)]
    session.answer([4, 5], 0x64)
    assert [frame[:3] for frame in sent(session)] == [(smpp.DELIVER_SM_RESP, 0x64, 4), (smpp.DATA_SM_RESP, 0x64, 5)]


@pytest.mark.parametrize("command_id", [smpp.DELIVER_SM, smpp.DATA_SM])
def test_a_message_that_cannot_be_read_is_refused_and_the_link_lives(command_id: int) -> None:
    session = bound()
    broken = (18).to_bytes(4) + command_id.to_bytes(4) + bytes(4) + (9).to_bytes(4) + b"ab"
    (event,) = session.receive(broken, 0.1)
    assert isinstance(event, BodyRefused)
    assert [frame[:3] for frame in sent(session)] == [(command_id | 0x8000_0000, smpp.RINVCMDLEN, 9)]
    assert session.state is State.BOUND


def test_an_unknown_command_gets_a_nack() -> None:
    session = bound()
    assert session.receive(pdu.encode_empty(0x0999, 8), 0.1) == [CommandRefused(8, 0x0999)]
    assert sent(session) == [(smpp.GENERIC_NACK, smpp.RINVCMDID, 8, b"")]


def test_an_unknown_answer_gets_none() -> None:
    session = bound()
    assert session.receive(pdu.encode_empty(0x8000_0999, 8), 0.1) == [UnknownAnswer(8, 0x8000_0999, 0)]
    assert session.data_to_send() == b""


def test_an_alert_notification_is_let_pass() -> None:
    session = bound()
    assert session.receive(pdu.encode(smpp.ALERT_NOTIFICATION, 0, 8), 0.1) == []
    assert session.data_to_send() == b""


# ---- queries


def test_a_query_brings_the_state() -> None:
    session = bound()
    session.query("7f0c", CODE, "q", 0.0)
    ((command_id, _, sequence, body),) = sent(session)
    assert (command_id, pdu.decode(command_id, 0, body)[0]["message_id"]) == (smpp.QUERY_SM, "7f0c")
    answer = pdu.encode(smpp.QUERY_SM_RESP, 0, sequence, {"message_id": "7f0c", "message_state": 2, "error_code": 0})
    assert session.receive(answer, 0.1) == [QueryAnswered("q", 0, "7f0c", "", 2, 0)]


def test_a_query_may_be_nacked_garbled_or_never_answered() -> None:
    session = bound(enquire_link_interval_s=1e9)
    sequences = []
    for token in "abc":
        session.query("7f0c", CODE, token, 0.0)
        sequences.append(sent(session)[0][2])
    assert session.receive(pdu.encode_empty(smpp.GENERIC_NACK, sequences[0], 3), 0.1) == [QueryAnswered("a", 3)]
    garbled = (17).to_bytes(4) + smpp.QUERY_SM_RESP.to_bytes(4) + bytes(4) + sequences[1].to_bytes(4) + b"x"
    assert session.receive(garbled, 0.1) == [QueryAnswered("b", smpp.RINVCMDLEN)]
    assert session.tick(60.0) == [QueryAnswered("c", None)]


# ---- the link's end


def test_a_lost_framing_ends_the_link_after_what_came_before() -> None:
    session = bound()
    sequence = submit(session, "a")
    events = session.receive(response(sequence) + b"HTTP/1.1 400 Bad Request", 0.1)
    assert events[0] == SubmitAnswered("a", 0, "7f0c")
    assert isinstance(events[1], LinkDead)
    assert session.receive(response(sequence), 0.2) == []
    assert session.next_tick() is None


def test_a_peer_that_stops_inside_a_pdu_is_dead_after_ten_seconds() -> None:
    session = bound()
    session.receive(response(1)[:9], 1.0)
    session.receive(response(1)[9:12], 8.0)  # a trickle is no life
    assert session.tick(10.9) == []
    assert session.tick(11.0) == [LinkDead("the peer stopped inside a PDU")]


def test_a_pdu_that_is_completed_stops_that_clock() -> None:
    session = bound()
    whole = response(1)
    session.receive(whole[:9], 1.0)
    session.receive(whole[9:] + whole[:9], 10.0)  # a new one began
    assert session.tick(11.0) == []
    session.receive(whole[9:], 12.0)
    assert session.tick(30.0) == []


def test_silence_is_asked_twice_and_then_taken_for_death() -> None:
    session = bound()
    submit(session, "a", now=29.0)
    assert session.next_tick() == 30.0
    assert session.tick(30.0) == []
    assert [frame[0] for frame in sent(session)] == [smpp.ENQUIRE_LINK]
    assert session.tick(60.0) == []
    assert [frame[0] for frame in sent(session)] == [smpp.ENQUIRE_LINK]
    assert session.tick(90.0) == [TimedOut("a"), LinkDead("2 enquire_link were not answered")]


def test_anything_heard_shows_that_the_peer_lives() -> None:
    session = bound()
    for round_ in range(1, 5):
        assert session.tick(round_ * 60.0 - 30.0) == []
        ((command_id, _, sequence, _),) = sent(session)
        assert command_id == smpp.ENQUIRE_LINK
        session.receive(pdu.encode_empty(smpp.ENQUIRE_LINK_RESP, sequence), round_ * 60.0 - 30.0)
        assert session.tick(round_ * 60.0 - 1.0) == []
        session.receive(pdu.encode_empty(smpp.ENQUIRE_LINK, 1), round_ * 60.0)
        assert sent(session) == [(smpp.ENQUIRE_LINK_RESP, 0, 1, b"")]


def test_the_peers_unbind_is_answered_and_what_waits_is_told_once() -> None:
    session = bound()
    submit(session, "a")
    assert session.receive(pdu.encode_empty(smpp.UNBIND, 3) + response(99), 0.1) == [PeerUnbound()]
    assert sent(session) == [(smpp.UNBIND_RESP, 0, 3, b"")]
    assert session.free_window() == 0
    assert session.outstanding() == ["a"]
    assert session.outstanding() == []


def test_our_unbind_waits_for_answers_and_then_closes() -> None:
    session = bound()
    waiting = submit(session, "a")
    session.unbind(1.0)
    ((command_id, _, sequence, _),) = sent(session)
    assert (command_id, session.free_window()) == (smpp.UNBIND, 0)
    assert session.receive(response(waiting), 1.1) == [SubmitAnswered("a", 0, "7f0c")]
    assert session.receive(pdu.encode_empty(smpp.UNBIND_RESP, sequence), 1.2) == [Unbound()]
    assert session.state is State.CLOSED


def test_an_unbind_that_is_not_answered_or_nacked_ends_as_well() -> None:
    session = bound()
    session.unbind(1.0)
    assert session.tick(11.0) == [LinkDead("unbind was not answered")]
    session = bound()
    session.unbind(1.0)
    nack = pdu.encode_empty(smpp.GENERIC_NACK, sent(session)[0][2], 3)
    assert session.receive(nack, 1.1) == [Unbound()]


def test_a_closed_socket_leaves_the_outstanding() -> None:
    session = bound()
    submit(session, "a")
    session.connection_lost()
    assert (session.outstanding(), session.tick(1e9), session.next_tick()) == (["a"], [], None)


# ---- any cut, any noise


def busy() -> tuple[Session, bytes]:
    """A session with five submits under way, and a stream that answers, delivers, errs, asks and says goodbye."""
    session = bound()
    numbers = [submit(session, n) for n in range(5)]
    stream = (
        response(numbers[0])
        + pdu.encode_short_message(smpp.DELIVER_SM, 0, RECEIPT)
        + pdu.encode_empty(smpp.ENQUIRE_LINK, 4)
        + response(numbers[1], status=0x58)
        + (18).to_bytes(4) + smpp.DELIVER_SM.to_bytes(4) + bytes(4) + (9).to_bytes(4) + b"ab"
        + pdu.encode_empty(smpp.GENERIC_NACK, numbers[2], 0x03)
        + pdu.encode_short_message(smpp.DATA_SM, 6, ShortMessage("", PHONE, CODE))
        + pdu.encode_empty(0x0999, 8)
        + response(numbers[1])
        + pdu.encode_empty(smpp.UNBIND, 3)
        + response(numbers[3])
    )  # fmt: skip
    return session, stream


@given(st.data())
def test_any_cut_of_the_stream_gives_the_same_events_and_bytes(data: st.DataObject) -> None:
    session, stream = busy()
    expected = session.receive(stream, 0.1)
    assert len(expected) == 9
    wanted_bytes = session.data_to_send()
    session, _ = busy()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += session.receive(stream[start:end], 0.1)
    assert events == expected
    assert session.data_to_send() == wanted_bytes
    assert session.outstanding() == [3, 4]


commands = st.sampled_from([*pdu.LAYOUTS, smpp.SUBMIT_SM, smpp.DELIVER_SM, smpp.DATA_SM, smpp.REPLACE_SM, 0x999, 0])
framed = st.builds(
    lambda command_id, status, sequence, body: (16 + len(body)).to_bytes(4)
    + command_id.to_bytes(4) + status.to_bytes(4) + sequence.to_bytes(4) + body,
    commands, st.sampled_from([0, 1, 0x0D, 0xFFFF_FFFF]), st.integers(0, 9), st.binary(max_size=50),
)  # fmt: skip


@settings(max_examples=300)
@given(st.booleans(), st.lists(framed | st.binary(max_size=40), max_size=8), st.lists(st.floats(0, 200), max_size=8))
def test_noise_never_raises(is_bound: bool, chunks: list[bytes], times: list[float]) -> None:
    session = bound() if is_bound else Session(config())
    if is_bound:
        submit(session, "a")
        session.query("1", CODE, "q", 0.0)
    else:
        session.connected(0.0)
    for chunk in chunks:
        session.receive(chunk, 1.0)
        FrameReader().feed(session.data_to_send())  # what we say is always well framed
    for now in sorted(times):
        session.tick(now)
        due = session.next_tick()
        assert due is None or due > now or session.state is State.CLOSED
