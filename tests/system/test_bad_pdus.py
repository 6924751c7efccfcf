"""What a carrier may send: a bare socket says what no library would, to the real gateway process."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation
from raw_carrier import DATA_SM, DELIVER_SM, NACK, Closed, RawCarrier, packed, text_body

pytestmark = pytest.mark.slow

RAW = "8613900000009"
SEED = 20_241_120  # of the noise
_phones = itertools.count(100)


@pytest.fixture(scope="module")
def installation(module_folder: Path) -> Iterator[Installation]:
    with Installation(module_folder) as one:
        yield one


@pytest.fixture
def raw(installation: Installation) -> Iterator[RawCarrier]:
    """A carrier of octets with a gateway bound to it."""
    with RawCarrier() as carrier:
        gateway = installation.gateway(carrier.port, ready=False)
        carrier.accept()
        yield carrier
        gateway.kill()


def answered(carrier: RawCarrier) -> None:
    """A good text on this connection still gets its answer."""
    phone = f"8613900{next(_phones):06}"
    assert carrier.ask(DELIVER_SM, text_body(phone, b"HELP")).status == 0
    carrier.wait_submit(lambda one: phone.encode() in one.body)


def tlv(tag: int, value: bytes, length: int | None = None) -> bytes:
    return tag.to_bytes(2, "big") + (len(value) if length is None else length).to_bytes(2, "big") + value


LIES = [
    ("nothing at all", b""),
    ("an address that never ends", b"\0\1\1" + b"9" * 50),
    ("shorter than its text says", text_body(RAW, b"HELP")[:-2]),
    ("a TLV past the end", text_body(RAW, b"HELP", tlvs=tlv(0x0424, b"x", 0xFFFF))),
    ("half a TLV", text_body(RAW, b"HELP", tlvs=b"\x04\x24\x00")),
    ("noise", random.Random(SEED).randbytes(200)),
]
ODD = [
    ("a header that goes past the text", text_body(RAW, b"\x20\0\3\7\2\1HELP", esm_class=0x40)),
    ("a header element that goes past the header", text_body(RAW, b"\5\0\x09\7\2\1HELP", esm_class=0x40)),
    ("a header of nothing", text_body(RAW, b"", esm_class=0x40)),
    ("part 3 of 2", text_body(RAW, b"\5\0\3\7\2\3HELP", esm_class=0x40)),
    ("part 0 of 2", text_body(RAW, b"\5\0\3\7\2\0HELP", esm_class=0x40)),
    ("part 1 of 0", text_body(RAW, b"\5\0\3\7\0\1HELP", esm_class=0x40)),
    ("half a character", text_body(RAW, b"\x5f", data_coding=8)),
    ("half of a pair", text_body(RAW, b"\xd8\x3d", data_coding=8)),
    ("an alphabet that nobody has", text_body(RAW, b"HELP", data_coding=0xEE)),
    ("octets", text_body(RAW, bytes(range(256))[:140], data_coding=4)),
    ("no text", text_body(RAW, b"")),
    ("unknown TLVs", text_body(RAW, b"HELP", tlvs=tlv(0x1401, b"vendor") + tlv(0x3FFF, b"") + tlv(0x0002, b"?"))),
    ("10,000 characters", text_body(RAW, b"", tlvs=tlv(0x0424, b"ADD " + b"W" * 10_000 + b" 13800138000"))),
    ("a receipt for an unknown id", text_body(
        RAW, b"id:4242424242 sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:",
        esm_class=4)),
    ("a receipt of nothing", text_body(RAW, b"", esm_class=4)),
    ("a receipt in an unknown form", text_body(RAW, b"delivered, thanks", esm_class=4)),
]  # fmt: skip


def test_bodies_that_lie_are_refused_odd_ones_taken_and_the_link_lives(raw: RawCarrier) -> None:
    for what, body in LIES:
        assert raw.ask(DELIVER_SM, body).status != 0, what
        assert raw.is_alive(), what
    for what, body in ODD:
        assert raw.ask(DELIVER_SM, body).status == 0, what
        assert raw.is_alive(), what
    answered(raw)


def test_pdus_out_of_order_and_unknown_ones_are_answered_or_passed_over(raw: RawCarrier) -> None:
    for command in (0x0000_00FF, 0x0001_0200, 0x0000_0103):  # nobody's, a vendor's, data_sm
        assert raw.ask(command, b"").status != 0
    # Responses to nothing, a second bind, a bind's response again
    for command in (0x80000004, 0x80000005, NACK, 0x80000009, 0x80000015, 0x80000003):
        raw.send(packed(command, 4_000_000, b"x\0"))
    assert raw.is_alive()
    raw.send(packed(9, 77, b"us\0pw\0\0\x34\0\0\0"))  # an ESME's own request, from a carrier
    assert raw.until(lambda one: one.sequence == 77).status != 0
    answered(raw)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(packed(DELIVER_SM, 1, length=8), id="too short to be a PDU"),
        pytest.param(packed(DELIVER_SM, 1, length=0), id="of length nought"),
        pytest.param(packed(DELIVER_SM, 1, length=0x7FFF_FFFF), id="longer than any"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", id="another protocol"),
    ],
)
def test_a_length_that_cannot_be_ends_the_connection_and_the_link_comes_back(raw: RawCarrier, octets: bytes) -> None:
    raw.send(octets)
    with pytest.raises(Closed):
        raw.until(lambda _: False)
    raw.accept()
    answered(raw)


def test_two_thousand_damaged_pdus_kill_neither_process_nor_link(raw: RawCarrier, installation: Installation) -> None:
    noise = random.Random(SEED)
    good = [body for _, body in ODD if body]
    for number in range(2_000):
        octets = bytearray(noise.choice(good))
        for _ in range(noise.randint(1, 4)):
            octets[noise.randrange(len(octets))] = noise.randrange(256)
        raw.send(packed(noise.choice((DELIVER_SM, DELIVER_SM, DATA_SM)), 1_000 + number, bytes(octets)))
        if number % 50 == 0:
            assert raw.is_alive(), number
    answered(raw)
    assert installation.one("select count(*) from inbox where state = 2") == 0  # none broke the answering
