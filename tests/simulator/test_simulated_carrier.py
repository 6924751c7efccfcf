"""The carrier, against python-smpplib's client and against octets that no client would send."""

import asyncio
import itertools
import logging
import ssl
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import smpplib.exceptions
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from esme import BareSocket, Esme, submit_body
from hypothesis import given
from hypothesis import strategies as st

from simulator import Simulator, frames, messages
from simulator.carrier import Account
from simulator.faults import BadFault, Faults

ZHANG = "8613800138000"
STRANGER = "4915112345678"
Gateways = Callable[..., Awaitable[Esme]]
SUBMIT, SUBMIT_RESP, NACK = 0x04, 0x80000004, 0x80000000


# -- binds ----------------------------------------------------------------------------------------------------------


async def bind_status(network: Simulator, **bind: str) -> int:
    esme = Esme(network.smpp_port, **bind)
    with pytest.raises(smpplib.exceptions.PDUError) as refused:
        await asyncio.to_thread(esme.bind)
    return int(refused.value.args[1])


async def test_a_wrong_password_is_refused(network: Simulator) -> None:
    assert await bind_status(network, password="wrong") == 0x0E


async def test_an_unknown_system_id_is_refused(network: Simulator) -> None:
    assert await bind_status(network, system_id="nobody") == 0x0F


async def test_a_bind_is_refused_with_the_status_of_the_fault(network: Simulator) -> None:
    network.set_faults({"refuse_bind": 0x0D})
    assert await bind_status(network) == 0x0D
    assert network.carrier.counters.binds_refused == 1


async def test_a_bind_can_be_answered_with_the_wrong_command(network: Simulator, bare: Callable) -> None:
    network.set_faults({"bind_answer_wrong_id": True})
    link = await bare()
    link.pdu(0x09, b"smsgw\0secret\0\0\x34\0\0\0", sequence=7)
    assert (await link.read())[:3] == (0x80000002, 0, 7)


async def test_nothing_is_accepted_before_a_bind(bare: Callable) -> None:
    link = await bare()
    link.pdu(SUBMIT, submit_body(), sequence=3)
    assert await link.read() == (SUBMIT_RESP, 0x04, 3, b"")


async def test_a_receiver_submits_nothing_and_nobody_binds_twice(bare: Callable) -> None:
    link = await bare()
    await link.bind(0x01)
    link.pdu(SUBMIT, submit_body(), sequence=3)
    assert (await link.read())[1] == 0x04
    link.pdu(0x09, b"smsgw\0secret\0\0\x34\0\0\0", sequence=4)
    assert (await link.read())[1] == 0x05


async def test_unbind_is_answered_and_ends_the_link(bare: Callable) -> None:
    link = await bare()
    await link.bind()
    link.pdu(0x06, sequence=9)
    assert await link.read() == (0x80000006, 0, 9, b"")
    assert await link.ended()


async def test_a_stopping_carrier_unbinds_its_peers() -> None:
    async with Simulator(password="secret") as network:
        link = await BareSocket.connect(network.smpp_port)
        await link.bind()
    assert (await link.read())[0] == 0x06
    assert await link.ended()
    await link.close()


async def test_a_silent_peer_is_asked_twice_and_then_dropped() -> None:
    async with Simulator(password="secret", enquire_link_s=0.1) as network:
        link = await BareSocket.connect(network.smpp_port)
        await link.bind()
        assert [(await link.read())[0] for _ in range(2)] == [0x15, 0x15]
        assert await link.ended()
        await link.close()


async def test_a_peer_that_answers_enquire_link_stays() -> None:
    async with Simulator(password="secret", enquire_link_s=0.05) as network:
        link = await BareSocket.connect(network.smpp_port)
        await link.bind()
        for _ in range(5):
            command_id, _, sequence, _ = await link.read()
            assert command_id == 0x15
            link.pdu(0x80000015, sequence=sequence)
        assert network.carrier.as_json()["links"]
        await link.close()


async def test_outbind_makes_the_carrier_call_and_the_gateway_bind(network: Simulator) -> None:
    called = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *pair: called.set_result(BareSocket(*pair)), "127.0.0.1", 0)
    await network.carrier.outbind("127.0.0.1", server.sockets[0].getsockname()[1], "smsgw")
    link: BareSocket = await called
    assert await link.read() == (0x0B, 0, 1, b"simulator\0secret\0")
    await link.bind(0x01)
    network.send(ZHANG, "hello")
    assert (await link.read())[0] == 0x05
    await link.close()
    server.close()


async def test_smpp_over_tls_is_served_and_cut_in_good_order(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    _self_signed(key, certificate)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    async with Simulator(password="secret", tls=server) as network:
        trusting = ssl.create_default_context(cafile=str(certificate))
        link = BareSocket(
            *await asyncio.open_connection("127.0.0.1", network.smpp_port, ssl=trusting, server_hostname="localhost")
        )
        await link.bind()
        network.set_faults({"cut_after": 1})
        link.pdu(SUBMIT, submit_body(STRANGER, registered=0), sequence=8)
        assert (await link.read())[:3] == (SUBMIT_RESP, 0, 8)
        assert await link.ended()
        await link.close()


def _self_signed(key: Path, certificate: Path) -> None:
    """A certificate for localhost that only this test trusts."""
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(secret.public_key())
        .serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(secret, hashes.SHA256())
    )  # fmt: skip
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


async def test_a_port_in_use_is_an_error_at_the_start(network: Simulator) -> None:
    with pytest.raises(OSError, match="in use"):
        await Simulator(smpp_port=network.smpp_port).__aenter__()


# -- broken PDUs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 15, 0x7FFFFFFF])
async def test_a_length_that_cannot_be_true_ends_the_link(bare: Callable, length: int) -> None:
    link = await bare()
    link.send(struct.pack(">IIII", length, SUBMIT, 0, 1))
    assert (await link.read())[:2] == (NACK, 0x02)
    assert await link.ended()


async def test_an_unknown_command_is_nacked_and_the_link_lives(bare: Callable) -> None:
    link = await bare()
    await link.bind()
    link.pdu(0x0999, b"junk", sequence=5)
    assert await link.read() == (NACK, 0x03, 5, b"")
    link.pdu(0x15, sequence=6)
    assert await link.read() == (0x80000015, 0, 6, b"")


BROKEN = {
    "empty": (b"", 0x01),
    "cut in an address": (submit_body()[:9], 0x01),
    "text shorter than declared": (submit_body()[:-2], 0x01),
    "optional parameter past the end": (submit_body(tlvs=b"\x02\x0c\x00\x09\x01"), 0xC0),
    "optional parameter cut in its header": (submit_body(tlvs=b"\x02\x0c\x00"), 0xC0),
    "sar reference of one octet": (submit_body(tlvs=b"\x02\x0c\x00\x01\x01"), 0xC2),
    "destination without digits": (submit_body("hello"), 0x0B),
    "empty destination": (submit_body(""), 0x0B),
    "address too long": (submit_body("1" * 30), 0x0B),
    "junk validity": (submit_body(validity=b"soon"), 0x62),
    "validity of no calendar": (submit_body(validity=b"269950101010000+"), 0x62),
    "unknown type of number": (submit_body().replace(b"\x01\x01861", b"\x99\x01861"), 0x50),
    "unknown alphabet": (submit_body(data_coding=0x0C), 0x0104),
    "161 septets": (submit_body(text=b"a" * 161), 0x01),
    "71 UCS-2 characters": (submit_body(text=b"\x5f\x20" * 71, data_coding=8), 0x01),
    "141 octets": (submit_body(text=b"a" * 141, data_coding=4), 0x01),
    "154 septets after a header": (submit_body(text=b"\x05\0\x03\x01\x02\x01" + b"a" * 154, esm_class=0x40), 0x01),
    "payload of 256 parts": (
        submit_body(text=b"", tlvs=b"\x04\x24" + (39_016).to_bytes(2, "big") + b"a" * 39_016),
        0x01,
    ),
    "text twice": (submit_body(tlvs=b"\x04\x24\x00\x02hi"), 0x01),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_body_gets_a_status_and_the_link_lives(network: Simulator, bare: Callable, name: str) -> None:
    body, status = BROKEN[name]
    link = await bare()
    await link.bind()
    link.pdu(SUBMIT, body, sequence=2)
    assert await link.read() == (SUBMIT_RESP, status, 2, b"")
    link.pdu(SUBMIT, submit_body(registered=0), sequence=3)
    assert (await link.read())[:3] == (SUBMIT_RESP, 0, 3)
    assert network.carrier.counters.refused == 1


@given(noise=st.binary(max_size=300), command_id=st.sampled_from([1, 2, 3, 4, 5, 6, 9, 0x0B, 0x15, 0x21, 0x103, 7, 8]))
def test_noise_raises_declared_errors_only(noise: bytes, command_id: int) -> None:
    try:
        frames.decode(frames.Frame(command_id, 0, 1, noise))
    except frames.BodyRefused as refused:
        assert refused.status > 0


@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_of_the_stream_gives_the_same_frames(cuts: list[int]) -> None:
    sent = [frames.Frame(4, 0, n, submit_body(text=b"x" * n)) for n in range(1, 4)]
    stream = b"".join(one.pack() for one in sent)
    reader, edges = frames.FrameReader(), [0, *sorted(cuts), len(stream)]
    got = [one for start, end in itertools.pairwise(edges) for one in reader.feed(stream[start:end])]
    assert got == sent
    assert not reader.pending


async def test_noise_on_the_socket_never_stops_the_carrier(
    network: Simulator, bare: Callable, gateways: Gateways
) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(255, -1, -1)), b"\0" * 64):
        link = await bare()
        link.send(noise)
        assert (await link.read())[0] == NACK
    esme = await gateways()
    assert (await esme.answer_to(await esme.submit(ZHANG))).status == 0


# -- receipts and message ids ---------------------------------------------------------------------------------------


async def test_a_text_is_answered_delivered_and_receipted(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    answer = await esme.answer_to(await esme.submit(ZHANG, b"hello there"))
    item = await network.handset(ZHANG).wait_inbox(lambda m: m.text == "hello there")
    assert (item.sender, item.segments, item.alphabet) == ("20880", 1, "GSM 7-bit")
    (receipt,) = await esme.delivered()
    text = receipt.short_message.decode()
    assert text.startswith(f"id:{answer.message_id.decode()} sub:001 dlvrd:001 submit date:")
    assert text.endswith("stat:DELIVRD err:000 text:hello there")
    assert (receipt.source_addr, receipt.destination_addr, receipt.esm_class) == (ZHANG.encode(), b"20880", 4)
    assert receipt.receipted_message_id == answer.message_id
    assert int(receipt.message_state) == 2


async def test_no_receipt_comes_where_none_was_asked_for(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    await esme.submit(ZHANG, b"quiet", registered_delivery=0)
    await esme.submit(ZHANG, b"failures only", registered_delivery=2)
    await esme.submit(ZHANG, b"loud")
    (receipt,) = await esme.delivered()
    assert receipt.short_message.endswith(b"text:loud")
    assert network.carrier.counters.receipts == 1


@pytest.mark.parametrize(
    ("form", "same"),
    [
        ("decimal", lambda answered, receipted: answered == receipted and answered.isdecimal()),
        ("hex", lambda answered, receipted: answered == receipted and int(answered, 16)),
        ("hex response, decimal receipt", lambda answered, receipted: int(answered, 16) == int(receipted)),
        ("zero padded upper", lambda a, r: a == a.lower() and a.rjust(11, "0").upper() == r != a),
        ("uuid", lambda answered, receipted: answered == receipted and len(answered) == 36),
        ("useless", lambda answered, receipted: (answered, receipted) == ("msg_id_not_implemented", "00000001")),
    ],
)
async def test_message_ids_take_the_form_of_the_fault(
    network: Simulator, gateways: Gateways, form: str, same: Callable[[str, str], bool]
) -> None:
    network.set_faults({"message_ids": form, "receipt_form": "text"})
    esme = await gateways()
    answer = await esme.answer_to(await esme.submit(ZHANG, user_message_reference=0x1234))
    (receipt,) = await esme.delivered()
    assert same(answer.message_id.decode(), receipt.short_message.decode().split()[0].removeprefix("id:"))
    assert receipt.user_message_reference == 0x1234


def test_ids_never_come_twice() -> None:
    ids = messages.MessageIds()
    assert len({ids.next("hex")[0] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("form", ["text", "tlv"])
async def test_receipts_carry_text_or_parameters(network: Simulator, gateways: Gateways, form: str) -> None:
    network.set_faults({"receipt_form": form, "receipt_state": "UNDELIV"})
    esme = await gateways()
    await esme.submit(ZHANG)
    (receipt,) = await esme.delivered()
    assert bool(receipt.short_message) is (form == "text")
    assert bool(getattr(receipt, "receipted_message_id", None)) is (form == "tlv")
    if form == "text":
        assert b"dlvrd:000" in receipt.short_message
        assert b"stat:UNDELIV err:001" in receipt.short_message
    else:
        assert int(receipt.message_state) == 5


async def test_receipts_can_keep_source_and_destination(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"receipt_not_swapped": True})
    esme = await gateways()
    await esme.submit(ZHANG)
    (receipt,) = await esme.delivered()
    assert (receipt.source_addr, receipt.destination_addr) == (b"20880", ZHANG.encode())


async def test_a_receipt_can_come_before_its_answer(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"receipt_before_answer": True})
    esme = await gateways()
    await esme.answer_to(await esme.submit(ZHANG))
    assert [one.command for one in esme.seen] == ["deliver_sm", "submit_sm_resp"]


async def test_receipts_are_lost_doubled_and_late_as_asked(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"drop_receipts": 1, "double_receipts": 1, "receipt_delay_s": 0.2})
    esme = await gateways()
    await esme.answer_to(await esme.submit(ZHANG, b"lost"))
    await esme.answer_to(await esme.submit(ZHANG, b"twice"))
    assert all(one.command == "submit_sm_resp" for one in esme.seen)
    found = await esme.delivered(2)
    assert all(one.short_message.endswith(b"text:twice") for one in found)


async def test_numbers_without_a_phone_are_delivered_or_not_as_asked(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    await esme.submit(STRANGER)
    assert b"stat:DELIVRD" in (await esme.delivered(1))[0].short_message
    network.set_faults({"unknown_number_fails": True})
    await esme.submit(STRANGER)
    assert b"stat:UNDELIV" in (await esme.delivered(2))[1].short_message


async def test_old_messages_are_forgotten() -> None:
    async with Simulator(password="secret", history_max=2) as network:
        link = await BareSocket.connect(network.smpp_port)
        await link.bind()
        ids = []
        for sequence in range(3):
            link.pdu(SUBMIT, submit_body(STRANGER, registered=0), sequence=sequence)
            ids.append((await link.read())[3])
        for message_id, status in zip(ids, (0x0C, 0, 0), strict=True):
            link.pdu(0x03, message_id + b"\x03\x0020880\0")
            assert (await link.read())[1] == status
        await link.close()


async def test_query_sm_tells_the_state(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    answer = await esme.answer_to(await esme.submit(ZHANG))
    ask = {"source_addr_ton": 3, "source_addr_npi": 0, "source_addr": "20880"}
    await asyncio.to_thread(esme.client.query_message, message_id=answer.message_id.decode(), **ask)
    found = await esme.wait(lambda seen: next((p for p in seen if p.command == "query_sm_resp"), None))
    assert int(found.message_state) == 2
    await asyncio.to_thread(esme.client.query_message, message_id="unknown", **ask)
    assert await esme.wait(lambda seen: [p for p in seen if p.command == "query_sm_resp" and p.status == 0x0C])


async def test_data_sm_is_carried_too(network: Simulator, bare: Callable) -> None:
    link = await bare()
    await link.bind()
    head = b"\0" + b"\x03\x0020880\0" + b"\x01\x01" + ZHANG.encode() + b"\0"
    link.pdu(0x103, head + b"\0\0\0" + b"\x04\x24\x00\x05hello", sequence=4)
    command_id, status, _, body = await link.read()
    assert (command_id, status) == (0x80000103, 0)
    assert body.endswith(b"\0")
    await network.handset(ZHANG).wait_inbox(lambda m: m.text == "hello")


# -- faults of the link ---------------------------------------------------------------------------------------------


async def test_the_next_messages_are_throttled(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"throttle_next": 2, "throttle_status": 0x14})
    esme = await gateways()
    statuses = [(await esme.answer_to(await esme.submit(ZHANG))).status for _ in range(3)]
    assert statuses == [0x14, 0x14, 0]


async def test_more_than_the_rate_is_throttled(network: Simulator, bare: Callable) -> None:
    network.set_faults({"throttle_per_s": 5})
    link = await bare()
    await link.bind()
    link.send(b"".join(frames.Frame(SUBMIT, 0, n, submit_body(STRANGER, registered=0)).pack() for n in range(12)))
    statuses = [(await link.read())[1] for _ in range(12)]
    # read as one piece: two seconds of the clock at most
    assert 2 <= statuses.count(0x58) <= 7
    assert statuses.count(0) + statuses.count(0x58) == 12


async def test_every_message_gets_the_status_of_the_fault(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"submit_status": 0x45})
    esme = await gateways()
    assert (await esme.answer_to(await esme.submit(ZHANG))).status == 0x45
    assert not network.handset(ZHANG).inbox


async def test_answers_are_dropped_and_doubled(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"drop_answers": 1})
    esme = await gateways()
    unanswered = await esme.submit(ZHANG, b"one", registered_delivery=0)
    answered = await esme.submit(ZHANG, b"two", registered_delivery=0)
    await esme.answer_to(answered)
    assert unanswered not in [one.sequence for one in esme.seen]
    assert [one.text for one in network.handset(ZHANG).inbox] == ["one", "two"]
    network.set_faults({"double_answers": 1})
    doubled = await esme.submit(ZHANG, registered_delivery=0)
    await esme.wait(lambda seen: len([p for p in seen if p.sequence == doubled]) == 2)


async def test_answers_wait_as_asked(network: Simulator, gateways: Gateways) -> None:
    network.set_faults({"answer_delay_s": 0.2})
    esme = await gateways()
    slow = await esme.submit(ZHANG)
    await esme.delivered()  # the receipt is first
    assert slow not in [p.sequence for p in esme.seen if p.command == "submit_sm_resp"]
    assert (await esme.answer_to(slow)).status == 0


async def test_a_cut_comes_after_its_last_answer_and_keeps_everybody_out_for_a_while(
    network: Simulator, bare: Callable
) -> None:
    network.set_faults({"cut_after": 3, "refuse_after_cut_s": 0.3})
    link = await bare()
    await link.bind()
    for sequence in range(5000):  # more than the carrier has read when it cuts
        link.pdu(SUBMIT, submit_body(STRANGER, registered=0), sequence=sequence)
    assert [(await link.read())[2] for _ in range(3)] == [0, 1, 2]
    assert await link.ended(reset=False)
    assert network.carrier.counters.accepted == 3
    refused = await bare()
    assert await refused.ended()
    await asyncio.sleep(0.3)  # as long as the carrier refuses
    again = await bare()
    await again.bind()


async def test_a_cut_can_lose_answers(network: Simulator, bare: Callable) -> None:
    network.set_faults({"cut_after": 1, "cut_loses_answers": True})
    link = await bare()
    await link.bind()
    link.pdu(SUBMIT, submit_body(STRANGER))
    assert await link.ended()
    assert network.carrier.counters.accepted == 1


async def test_a_half_open_link_says_nothing_until_it_heals(network: Simulator, bare: Callable) -> None:
    link = await bare()
    await link.bind()
    network.set_faults({"half_open": True})
    link.pdu(0x15, sequence=5)
    network.send(ZHANG, "hello")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await link.read()
    network.set_faults({"half_open": False})
    assert (await link.read())[0] == 0x05


# -- what phones send -----------------------------------------------------------------------------------------------


async def test_a_phones_text_waits_for_a_link(network: Simulator, gateways: Gateways) -> None:
    network.send(ZHANG, "ADD 张三")
    assert network.carrier.as_json()["owed"] == {"smsgw": 1}
    esme = await gateways("receiver")
    (text,) = await esme.delivered()
    assert text.short_message.decode("utf-16-be") == "ADD 张三"
    assert (text.source_addr, text.source_addr_ton, text.source_addr_npi) == (ZHANG.encode(), 1, 1)
    assert (text.destination_addr, text.dest_addr_ton, text.data_coding, text.esm_class) == (b"20880", 3, 8, 0)


async def test_transmitters_get_no_texts_and_receipts_only_as_a_fault(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways("transmitter")
    network.send(ZHANG, "hello")
    await esme.answer_to(await esme.submit(ZHANG))
    assert network.carrier.as_json()["owed"] == {"smsgw": 2}
    receiver = await gateways("receiver")
    assert [one.esm_class for one in await receiver.delivered(2)] == [0, 4]
    await asyncio.to_thread(receiver.close)
    network.set_faults({"receipts_on_transmitter": True})
    await esme.submit(ZHANG)
    assert (await esme.delivered())[0].esm_class == 4


async def test_a_text_comes_again_after_a_temporary_error_and_not_after_a_final_one(
    network: Simulator, gateways: Gateways
) -> None:
    esme = await gateways()
    esme.reply = lambda _: 0x64 if len(esme.seen) == 1 else 0x65
    network.send(ZHANG, "hello")
    assert len(await esme.delivered(2)) == 2
    network.send(ZHANG, "next")
    assert (await esme.delivered(3))[2].short_message == b"next"
    counters = network.carrier.counters
    assert (counters.deliver_repeats, counters.mo_answered) == (1, 0)


async def test_a_text_without_an_answer_comes_again_on_the_next_link(network: Simulator, bare: Callable) -> None:
    first = await bare()
    await first.bind()
    network.send(ZHANG, "one")
    network.send(ZHANG, "two")
    assert (await first.read())[0] == 0x05
    await first.close()
    second = await bare()
    await second.bind()
    texts = []
    for _ in range(2):
        command_id, _, sequence, body = await second.read()
        assert command_id == 0x05
        second.pdu(0x80000005, b"\0", sequence=sequence)
        texts.append(body[-3:])
    assert texts == [b"one", b"two"]
    second.pdu(0x15)
    assert (await second.read())[0] == 0x80000015
    assert network.carrier.counters.mo_answered == 2


async def test_no_more_than_the_window_is_unanswered() -> None:
    async with Simulator(password="secret", deliver_window=2) as network:
        network.add_handset(ZHANG)
        link = await BareSocket.connect(network.smpp_port)
        await link.bind()
        for _ in range(5):
            network.send(ZHANG, "hello")
        sequences = [(await link.read())[2] for _ in range(2)]
        link.pdu(0x15, sequence=77)
        assert (await link.read())[2] == 77  # not a third deliver_sm
        link.pdu(0x80000005, b"\0", sequence=sequences[0])
        assert (await link.read())[0] == 0x05
        await link.close()


async def test_each_account_gets_the_texts_to_its_own_number() -> None:
    async with Simulator(password="secret", accounts=[Account("other", None, "30900")]) as network:
        network.add_handset(ZHANG)
        other = Esme(network.smpp_port, system_id="other", password="any")
        await asyncio.to_thread(other.bind)
        network.send(ZHANG, "for us")
        network.send(ZHANG, "for them", "30900")
        assert (await other.delivered())[0].short_message == b"for them"
        assert network.carrier.as_json()["owed"] == {"smsgw": 1, "other": 0}
        await asyncio.to_thread(other.close)


async def test_parts_of_a_phones_text_go_wrong_as_asked(network: Simulator, gateways: Gateways) -> None:
    esme = await gateways()
    numbers = []
    for fault in ("as sent", "doubled", "reversed", "last lost"):
        network.set_faults({"mo_parts": fault})
        before = network.carrier.counters.mo
        network.send(ZHANG, "x" * 400)
        await esme.delivered(network.carrier.counters.mo)
        numbers.append([one.short_message[5] for one in esme.seen[before:]])
        assert all(one.esm_class == 0x40 for one in esme.seen)
    assert numbers == [[1, 2, 3], [1, 1, 2, 2, 3, 3], [3, 2, 1], [1, 2]]


async def test_ussd_parameters_pass_in_both_directions(network: Simulator, bare: Callable) -> None:
    link = await bare()
    await link.bind()
    ussd = b"\x05\x01\x00\x01\x02" + b"\x13\x83\x00\x02\x12\x35" + b"\x14\x01\x00\x03abc"
    link.pdu(SUBMIT, submit_body(tlvs=ussd, text=b"1. Names"), sequence=2)
    assert (await link.read())[1] == 0
    (message,) = network.carrier.history
    assert message.tlvs == {0x0501: b"\x02", 0x1383: b"\x12\x35", 0x1401: b"abc"}
    assert not network.handset(ZHANG).inbox
    step = frames.Deliver(message.destination, message.source, 0, 0, b"*123#", {0x0501: b"\x01", 0x1383: b"\0\x01"})
    network.deliver(step)
    command_id, _, _, body = await link.read()
    assert command_id == 0x05
    assert body.endswith(b"*123#" + b"\x05\x01\x00\x01\x01" + b"\x13\x83\x00\x02\0\x01")


# -- times, faults, logs, speed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "seconds"),
    [(b"", 48 * 3600), (b"000000000130000R", 90), (b"000001020304000R", 93784), (b"700101000130000+", 90 - 1000)],
)
def test_validity_is_relative_or_absolute(period: bytes, seconds: float) -> None:
    assert messages.validity_deadline(period, 1000.0) == 1000 + seconds


def test_absolute_validity_minds_its_time_zone() -> None:
    assert messages.validity_deadline(b"700101100000032+", 0.0) == 2 * 3600


@pytest.mark.parametrize(
    ("name", "value"),
    [("throttle_next", -1), ("throttle_next", 1.5), ("throttle_next", float("nan")), ("half_open", 1),
     ("message_ids", "octal"), ("answer_delay_s", "1"), ("answer_delay_s", True), ("answer_delay_s", float("inf")),
     ("unheard_of", 1), ("receipt_form", ["text"])],
)  # fmt: skip
def test_a_fault_that_cannot_be_is_refused_and_nothing_changes(name: str, value: object) -> None:
    faults = Faults()
    with pytest.raises(BadFault) as refused:
        faults.update({"drop_answers": 5, name: value})
    assert list(refused.value.problems) == [name]
    assert faults == Faults()


async def test_logs_hold_no_number_and_no_text(
    network: Simulator, gateways: Gateways, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "simulator"):
        esme = await gateways()
        await esme.submit(ZHANG, b"canary text", validity_period="000000000130000R")
        network.send(ZHANG, "canary text")
        await esme.delivered(2)
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("simulator")]
    said = "".join(ours) + "".join(capfd.readouterr())
    assert ZHANG not in said
    assert "canary" not in said


async def test_a_thousand_messages_a_second_pass(network: Simulator, bare: Callable) -> None:
    link = await bare()
    await link.bind()
    count = 3000
    started = asyncio.get_running_loop().time()
    for sequence in range(count):
        link.pdu(SUBMIT, submit_body(STRANGER, registered=0), sequence=sequence)
    for _ in range(count):
        assert (await link.read())[:2] == (SUBMIT_RESP, 0)
    assert count / (asyncio.get_running_loop().time() - started) > 1000
