"""What we send, as the network analyser tshark reads it: no malformed frame, every field as meant."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from smsgw import pdu, sms_text
from smsgw import smpp_numbers as smpp
from smsgw.carriers import LinkProfile
from smsgw.pdu import Address, SubmitTemplate

CODE = Address(3, 0, "20880")
TO = "254712345678"


def capture(path: Path, payloads: list[bytes]) -> None:
    """A capture file of one TCP connection to port 2775: pcap, raw IP, no handshake."""
    octets = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)]
    sequence = 1
    for number, payload in enumerate(payloads):
        tcp = struct.pack(">HHIIBBHHH", 40_000, 2775, sequence, 1, 5 << 4, 0x18, 65_535, 0, 0) + payload
        addresses = b"\x0a\0\0\1\x0a\0\0\2"
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 28 - 8 + len(tcp), number, 0, 64, 6, 0) + addresses + tcp
        octets.append(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
        sequence += len(payload)
    path.write_bytes(b"".join(octets))


def analysed(tmp_path: Path, payloads: list[bytes]) -> list[dict[str, list[str]]]:
    """For each PDU the fields that tshark found, by name."""
    tshark = shutil.which("tshark")
    assert tshark, "tshark is needed: Debian package tshark"
    path = tmp_path / "wire.pcap"
    capture(path, payloads)
    ran = subprocess.run(
        [tshark, "-r", path, "-d", "tcp.port==2775,smpp", "-T", "json", "--no-duplicate-keys"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert b"_ws.malformed" not in ran.stdout
    packets = json.loads(ran.stdout)
    assert len(packets) == len(payloads)
    return [flat(packet["_source"]["layers"]) for packet in packets]


def flat(layers: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, key)
        elif isinstance(node, list):
            for value in node:
                walk(value, name)
        else:
            found.setdefault(name, []).append(str(node))

    walk(layers, "")
    return found


def submits(text: str, link: LinkProfile, reference: int = 0x1234) -> list[bytes]:
    plan = sms_text.plan(text, link, reference=reference)
    template = SubmitTemplate(CODE, esm_class=plan.esm_class, data_coding=plan.data_coding, registered_delivery=1)
    return [
        template.encode(number, TO, segment.short_message, segment.tlvs)
        for number, segment in enumerate(plan.segments, 1)
    ]


@pytest.mark.parametrize(
    ("bits", "field_prefix", "reference"), [(8, "gsm_sms.udh.mm", "0x34"), (16, "gsm_sms.udh.mm", "0x1234")]
)
def test_the_parts_of_a_long_text_are_put_together(
    tmp_path: Path, bits: int, field_prefix: str, reference: str
) -> None:
    text = "Hello [world] " * 20
    parts = analysed(tmp_path, submits(text, LinkProfile(reference_bits=bits)))  # type: ignore[arg-type]  # 8 or 16
    for number, part in enumerate(parts, 1):
        assert {int(value, 0) for value in part[f"{field_prefix}.msg_id"]} == {int(reference, 0)}
        assert part[f"{field_prefix}.msg_parts"] == [str(len(parts))]
        assert part[f"{field_prefix}.msg_part"] == [str(number)]
    assert parts[-1]["gsm_sms_ud.reassembled.length"] == [str(len(text) + 40)]  # each bracket is two septets


def test_chinese_in_parts_is_put_together(tmp_path: Path) -> None:
    parts = analysed(tmp_path, submits("张三丰已加入您的好友群😀" * 8, LinkProfile()))
    assert len(parts) == 2
    assert parts[0]["smpp.data_coding"] == ["0x08"]
    assert parts[-1]["gsm_sms_ud.reassembled.length"] == [str(len("张三丰已加入您的好友群😀" * 8) * 2 + 16)]


def test_a_single_text_is_read(tmp_path: Path) -> None:
    (message,) = analysed(tmp_path, submits("Hello", LinkProfile()))
    assert message["smpp.source_addr"] == ["20880"]
    assert message["smpp.source_addr_ton"] == ["0x03"]
    assert message["smpp.destination_addr"] == [TO]
    assert message["smpp.regdel.receipt"] == ["0x01"]
    assert bytes.fromhex(message["smpp.message"][0].replace(":", "")) == b"Hello"


def test_a_national_table_is_named(tmp_path: Path) -> None:
    parts = analysed(tmp_path, submits("नमस्ते, आप कैसे हैं? " * 14, LinkProfile(national_shift=True)))
    for part in parts:
        assert [int(value, 0) for value in part["gsm_sms.dis_iei_lang.locking_shift"]] == [6]
    (turkish,) = analysed(tmp_path, submits("ığşİç" * 20, LinkProfile(national_shift=True)))
    named = {name: int(values[0], 0) for name, values in turkish.items() if "dis_iei_lang" in name}
    assert set(named.values()) == {1}


def test_sar_tlvs_are_read(tmp_path: Path) -> None:
    parts = analysed(tmp_path, submits("sar " * 60, LinkProfile(long_messages="sar", reference_bits=16)))
    for number, part in enumerate(parts, 1):
        assert int(part["smpp.sar_msg_ref_num"][0], 0) == 0x1234
        assert part["smpp.sar_total_segments"] == [str(len(parts))]
        assert part["smpp.sar_segment_seqnum"] == [str(number)]


def test_a_payload_is_read(tmp_path: Path) -> None:
    (message,) = analysed(tmp_path, submits("payload " * 50, LinkProfile(long_messages="payload")))
    assert message["smpp.sm_length"] == ["0"]
    assert bytes.fromhex(message["smpp.message_payload"][0].replace(":", "")) == b"payload " * 50


def test_a_vcard_goes_to_its_port(tmp_path: Path) -> None:
    plan = sms_text.binary(b"BEGIN:VCARD\r\n" * 12, elements=sms_text.port_addressing(9204), reference=7)
    template = SubmitTemplate(CODE, esm_class=plan.esm_class, data_coding=plan.data_coding)
    parts = analysed(tmp_path, [template.encode(1, TO, part.short_message) for part in plan.segments])
    assert [part["gsm_sms.destination_port"] for part in parts] == [["9204"], ["9204"]]


def test_the_other_pdus_are_read(tmp_path: Path) -> None:
    payloads = [
        pdu.encode(smpp.BIND_TRANSCEIVER, 0, 1, {"system_id": "us", "password": "secret", "interface_version": 0x34}),
        pdu.encode(smpp.QUERY_SM, 0, 2, {"message_id": "7f0c", "source_addr": "20880"}),
        pdu.encode_empty(smpp.ENQUIRE_LINK, 3),
        pdu.encode_deliver_sm_resp(4, 0x64),
        pdu.encode_empty(smpp.GENERIC_NACK, 5, smpp.RINVCMDID),
        pdu.encode_empty(smpp.UNBIND, 6),
    ]
    bind, query, *others = analysed(tmp_path, payloads)
    assert bind["smpp.system_id"] == ["us"]
    assert query["smpp.message_id"] == ["7f0c"]
    assert [int(read["smpp.command_id"][0], 0) for read in others] == [0x15, 0x8000_0005, 0x8000_0000, 0x06]
    assert [int(read["smpp.sequence_number"][0], 0) for read in others] == [3, 4, 5, 6]
