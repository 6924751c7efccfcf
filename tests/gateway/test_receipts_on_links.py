"""Receipts of every kind of carrier find their message: by any form of id, early, doubled, or by our own reference."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rig import AMINA, LI, PASSWORD, Rig, campaign, free_port, one, until, words_of

from addressbook.outbox import State
from simulator import Simulator
from simulator.faults import ID_FORMS, RECEIPT_FORMS


@pytest.mark.parametrize("form", [form for form in ID_FORMS if form != "useless"])
async def test_every_form_of_id_finds_its_message(rig: Rig, network: Simulator, form: str) -> None:
    network.set_faults({"message_ids": form})
    links = await rig.link(network)
    ids = await links.owe(*campaign(15), *campaign(15, to=AMINA))
    await rig.reached(ids, State.DELIVERED)


async def test_a_way_once_learned_still_finds_messages(rig: Rig, network: Simulator) -> None:
    network.set_faults({"message_ids": "hex response, decimal receipt"})
    links = await rig.link(network)
    await rig.reached(await links.owe(*campaign(30)), State.DELIVERED)
    await rig.reached(await links.owe(*campaign(30, to=AMINA)), State.DELIVERED)


async def test_failures_go_to_the_message_that_failed(rig: Rig, network: Simulator) -> None:
    network.set_faults({"message_ids": "hex response, decimal receipt", "unknown_number_fails": True})
    links = await rig.link(network)
    good, bad = await links.owe(one(LI), one("+8613900000999"))
    await rig.reached([bad], State.FAILED)
    await rig.reached([good], State.DELIVERED)
    assert "UNDELIV" in str((await rig.rows("select error from outbox where id = %s", bad))[0][0])


@pytest.mark.parametrize("form", RECEIPT_FORMS)
async def test_every_form_of_receipt_is_read(rig: Rig, network: Simulator, form: str) -> None:
    network.set_faults({"receipt_form": form})
    links = await rig.link(network)
    await rig.reached(await links.owe(*campaign(5)), State.DELIVERED)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("EXPIRED", State.EXPIRED), ("DELETED", State.FAILED), ("UNDELIV", State.FAILED), ("REJECTD", State.FAILED)],
)
async def test_the_carriers_last_word_is_kept(rig: Rig, network: Simulator, said: str, expected: State) -> None:
    network.set_faults({"receipt_state": said})
    links = await rig.link(network)
    await rig.reached(await links.owe(one()), expected)


@pytest.mark.parametrize("said", ["ACCEPTD", "UNKNOWN"])
async def test_a_word_that_is_not_the_last_is_acknowledged_and_ends_nothing(
    rig: Rig, network: Simulator, said: str
) -> None:
    network.set_faults({"receipt_state": said})
    links = await rig.link(network)
    ids = await links.owe(one())
    await until(lambda: _acknowledged(network, 1))
    assert await rig.states(ids) == [State.SENT]


async def test_a_receipt_before_its_answer_is_kept_until_the_answer_came(rig: Rig, network: Simulator) -> None:
    network.set_faults({"receipt_before_answer": True, "answer_delay_s": 0.3})
    links = await rig.link(network)
    ids = await links.owe(*campaign(10))
    await until(lambda: _acknowledged(network, 10))
    await rig.reached(ids, State.DELIVERED)


async def test_receipts_whose_addresses_are_not_swapped_are_matched(rig: Rig, network: Simulator) -> None:
    network.set_faults({"receipt_not_swapped": True})
    links = await rig.link(network)
    await rig.reached(await links.owe(*campaign(5), one(AMINA)), State.DELIVERED)


@pytest.mark.parametrize("profile", ["smppsim", "default"])
async def test_useless_ids_are_replaced_by_our_reference(rig: Rig, network: Simulator, profile: str) -> None:
    """Two texts may pass before an unknown carrier is seen to give one id to all of them."""
    network.set_faults({"message_ids": "useless"})
    links = await rig.link(network, profile=profile)
    ids = await links.owe(*campaign(20), *campaign(20, to=AMINA))
    await rig.reached(ids if profile == "smppsim" else ids[2:], State.DELIVERED)


async def test_a_useless_id_does_not_make_one_receipt_count_for_another(rig: Rig, network: Simulator) -> None:
    network.set_faults({"message_ids": "useless", "unknown_number_fails": True})
    links = await rig.link(network, profile="smppsim")
    good, bad, long = await links.owe(one(LI), one("+8613900000999"), one(AMINA, "a long text " * 30))
    await rig.reached([bad], State.FAILED)
    await rig.reached([good, long], State.DELIVERED)


async def test_receipts_for_messages_that_nobody_knows_are_acknowledged(rig: Rig, network: Simulator) -> None:
    """Else the carrier would send them again for ever, and after a while nothing else."""
    links = await rig.link(network)
    ids = await links.owe(one())
    await rig.reached(ids, State.DELIVERED)
    await rig.rows("delete from segment returning 1")
    network.carrier._owe_receipt(network.carrier.history[0])
    await until(lambda: _acknowledged(network, 2))
    assert (await rig.rows("select count(*) from parked_receipt")) != [(0,)]


async def test_an_id_longer_than_any_column_is_no_trouble(rig: Rig, network: Simulator) -> None:
    """SMPP allows 64 characters; who gives more must not stop the writing down of all others."""
    links = await rig.link(network)
    network.carrier._ids.next = lambda _form: (f"{next(_count):0100d}x", "gone")  # type: ignore[method-assign]  # a carrier that we do not own
    ids = await links.owe(*campaign(3))
    await rig.reached(ids, State.SENT)
    assert len({row[0] for row in await rig.rows("select message_id from segment")}) == 3


_count = iter(range(10**90, 10**91))


# ---- pairs, calls by the carrier, TLS


async def test_a_transmitter_and_a_receiver_of_one_carrier_work_together(rig: Rig, network: Simulator) -> None:
    pair = await rig.links(
        {"port": network.smpp_port, "name": "tx", "bind_type": "transmitter", "carrier": "acme"},
        {"port": network.smpp_port, "name": "rx", "bind_type": "receiver", "carrier": "acme"},
    )
    await pair.state("up")
    ids = await pair.owe(*campaign(10))
    await rig.reached(ids, State.DELIVERED)
    assert {link["bind_type"] for link in network.carrier.as_json()["links"]} == {"transmitter", "receiver"}


async def test_receipts_on_a_transmitter_are_taken(rig: Rig, network: Simulator) -> None:
    network.set_faults({"receipts_on_transmitter": True})
    links = await rig.link(network, bind_type="transmitter")
    await rig.reached(await links.owe(*campaign(5)), State.DELIVERED)


async def test_a_receiver_claims_nothing(rig: Rig, network: Simulator) -> None:
    links = await rig.link(network, bind_type="receiver")
    ids = await links.owe(one())
    await asyncio.sleep(0.3)
    assert await rig.states(ids) == [State.QUEUED]


async def test_the_carrier_may_call_first(rig: Rig, network: Simulator) -> None:
    port = free_port()
    links = await rig.links({"port": network.smpp_port, "outbind_port": port})
    await _call(network, port)
    await links.state("up")
    await rig.reached(await links.owe(one()), State.DELIVERED)
    network.carrier.cut()
    await links.state("down")
    await _call(network, port)
    await links.state("up")


async def test_a_stranger_who_calls_does_not_learn_the_password(rig: Rig, network: Simulator) -> None:
    port = free_port()
    links = await rig.links({"host": "192.0.2.1", "port": 2775, "outbind_port": port})
    reader = await until(lambda: _connect(port))
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            reader[1].write(bytes.fromhex("000000120000000b00000000000000010000"))
            assert await reader[0].read() == b""
            raise ConnectionResetError  # closed in good order is as good
    reader[1].close()
    assert links.bind.state == "connecting"


async def test_a_link_that_waits_for_a_call_stops_at_once(rig: Rig) -> None:
    links = await rig.links({"port": 2775, "outbind_port": free_port()})
    await links.state("connecting")
    async with asyncio.timeout(3):
        await links.stop()


async def test_a_carrier_behind_tls_is_reached(rig: Rig, tmp_path: Path) -> None:
    authority = _authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path, authority))
    async with Simulator(password=PASSWORD, tls=context) as network:
        phone = network.add_handset(LI)
        trusted = tmp_path / "ca.pem"
        trusted.write_bytes(authority[0].public_bytes(serialization.Encoding.PEM))
        links = await rig.link(network, tls=True, tls_ca_file=str(trusted))
        await rig.reached(await links.owe(one()), State.DELIVERED)
        assert words_of(phone) == ["hello"]
        await links.stop()


async def test_a_carrier_with_a_certificate_that_nobody_vouches_for_gets_no_password(rig: Rig, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path, _authority()))
    async with Simulator(password=PASSWORD, tls=context) as network:
        links = await rig.links({"port": network.smpp_port, "tls": True})
        assert "Cert" in str(await rig.network_says("down"))
        assert network.carrier.counters.binds == network.carrier.counters.binds_refused == 0
        await links.stop()


async def _acknowledged(network: Simulator, receipts: int) -> bool:
    return network.carrier.counters.receipts_answered >= receipts


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None


async def _call(network: Simulator, port: int) -> None:
    async def called() -> bool:
        try:
            await network.carrier.outbind("127.0.0.1", port, "smsgw")
        except OSError:
            return False
        return True

    await until(called)


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "carrier's authority")])
    return _signed(name, name, key, key, ca=True), key


def _certificate(folder: Path, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey]) -> Path:
    """A certificate and key for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "carrier")])
    certificate = _signed(name, authority[0].subject, key, authority[1], ca=False)
    path = folder / "carrier.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _signed(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(by, hashes.SHA256())
    )
