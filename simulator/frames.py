"""SMPP bytes: cutting the stream into PDUs, decoding bodies with smpp.pdu3, and building what the carrier sends.

Mandatory fields are decoded by smpp.pdu3, one at a time, so that a field it cannot read becomes a status for the peer.
Optional parameters are walked here and kept as raw bytes, since smpp.pdu3 refuses the USSD ones and drops vendors'.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from smpp.pdu import constants, operations, pdu_types
from smpp.pdu.error import PDUCorruptError, PDUParseError
from smpp.pdu.pdu_encoding import COctetStringEncoder, PDUEncoder

# SMPP 3.4, 5.1.2.1: command ids
GENERIC_NACK = 0x80000000
BIND_RECEIVER = 0x00000001
BIND_TRANSMITTER = 0x00000002
QUERY_SM = 0x00000003
SUBMIT_SM = 0x00000004
DELIVER_SM = 0x00000005
UNBIND = 0x00000006
BIND_TRANSCEIVER = 0x00000009
OUTBIND = 0x0000000B
ENQUIRE_LINK = 0x00000015
DATA_SM = 0x00000103
RESPONSE = 0x80000000

# SMPP 3.4, 5.1.3: command statuses
OK = 0x00
INVALID_MESSAGE_LENGTH = 0x01
INVALID_COMMAND_LENGTH = 0x02
INVALID_COMMAND_ID = 0x03
WRONG_BIND_STATE = 0x04
ALREADY_BOUND = 0x05
SYSTEM_ERROR = 0x08
INVALID_DESTINATION = 0x0B
INVALID_MESSAGE_ID = 0x0C
BIND_FAILED = 0x0D
INVALID_PASSWORD = 0x0E
INVALID_SYSTEM_ID = 0x0F
INVALID_ESM_CLASS = 0x43
INVALID_EXPIRY = 0x62
QUERY_FAILED = 0x67
PERMANENT_REFUSALS = frozenset({0x65, 0x66})  # ESME_RX_P_APPN, ESME_RX_R_APPN: do not send it again
INVALID_OPTIONAL_STREAM = 0xC0
INVALID_PARAMETER_LENGTH = 0xC2
INVALID_DATA_CODING = 0x0104  # SMPP 5.0, 4.7.6: ESME_RINVDCS

# SMPP 3.4, 5.3.2: optional parameters that the carrier itself reads or writes
RECEIPTED_MESSAGE_ID = 0x001E
USER_MESSAGE_REFERENCE = 0x0204
DESTINATION_PORT = 0x020B
SAR_MSG_REF_NUM = 0x020C
SAR_TOTAL_SEGMENTS = 0x020E
SAR_SEGMENT_SEQNUM = 0x020F
SC_INTERFACE_VERSION = 0x0210
NETWORK_ERROR_CODE = 0x0423
MESSAGE_PAYLOAD = 0x0424
MESSAGE_STATE = 0x0427
USSD_SERVICE_OP = 0x0501
ITS_SESSION_INFO = 0x1383
_FIXED_LENGTHS = {SAR_MSG_REF_NUM: 2, SAR_TOTAL_SEGMENTS: 1, SAR_SEGMENT_SEQNUM: 1, DESTINATION_PORT: 2}

HEADER = struct.Struct(">IIII")
FRAME_OCTETS_MAX = 70_000  # a 64 KiB message_payload and its surroundings; more is a stream that lost its framing


class FramingLost(Exception):
    """The stream cannot be followed any more: answer with generic_nack and close."""


class BodyRefused(Exception):
    """A body that cannot be read; the peer gets `status` and the link lives."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Frame:
    """One PDU: the header's numbers and the undecoded body."""

    command_id: int
    status: int
    sequence: int
    body: bytes

    @property
    def name(self) -> str:
        """The command as the standard names it, or its number."""
        return str(constants.command_id_value_map.get(self.command_id, f"0x{self.command_id:08X}"))

    def pack(self) -> bytes:
        """The bytes for the wire."""
        return HEADER.pack(HEADER.size + len(self.body), self.command_id, self.status, self.sequence) + self.body


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body: values as smpp.pdu3 reads them, the same fields as bytes, and the raw optional parameters."""

    values: Mapping[str, Any]
    raw: Mapping[str, bytes]
    tlvs: Mapping[int, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A C-octet string; bytes outside ASCII are shown, never an error."""
        return bytes(self.values.get(name) or b"").decode("ascii", "backslashreplace")

    def octet(self, name: str) -> int:
        """A one-octet field as the number that came."""
        raw = self.raw.get(name, b"\0")
        return raw[0] if raw else 0


class FrameReader:
    """Cuts a byte stream into frames; any cut of the stream gives the same frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """True in the middle of a PDU."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes in, give complete frames out; raises FramingLost at a length that cannot be true."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4:
                length = int.from_bytes(buffer[start : start + 4], "big")
                if not HEADER.size <= length <= FRAME_OCTETS_MAX:
                    raise FramingLost(f"command_length {length}")
                if len(buffer) - start < length:
                    return
                _, command_id, status, sequence = HEADER.unpack_from(buffer, start)
                body = bytes(buffer[start + HEADER.size : start + length])
                start += length
                yield Frame(command_id, status, sequence, body)
        finally:
            del buffer[:start]


_ENCODER = PDUEncoder()
# smpp.pdu3's time decoder prints to standard output; the carrier reads times itself.
_TIMES = {
    "schedule_delivery_time": COctetStringEncoder(17, decodeErrorStatus=pdu_types.CommandStatus.ESME_RINVSCHED),
    "validity_period": COctetStringEncoder(17, decodeErrorStatus=pdu_types.CommandStatus.ESME_RINVEXPIRY),
    "final_date": COctetStringEncoder(17),
}
# A response may come with an empty message_id or with one; smpp.pdu3 wants it empty in deliver_sm_resp.
_MESSAGE_ID = {"message_id": COctetStringEncoder(65)}
_LAYOUTS: dict[int, list[tuple[str, Any]]] = {}


def _layout(command_id: int) -> list[tuple[str, Any]]:
    """The mandatory fields of a command and their smpp.pdu3 decoders, in order."""
    if command_id not in _LAYOUTS:
        name = constants.command_id_value_map[command_id]
        pdu = operations.getPDUClass(getattr(pdu_types.CommandId, name))(1)
        decoders = {**_ENCODER.getRequiredParamEncoders(pdu), **_TIMES, **_MESSAGE_ID}
        # submit_multi's list of destinations has no decoder in smpp.pdu3
        _LAYOUTS[command_id] = [(one, decoders[one]) for one in pdu.mandatoryParams if one in decoders]
    return _LAYOUTS[command_id]


def decode(frame: Frame) -> Body:
    """Read a body; raises BodyRefused with the status that the peer deserves."""
    if frame.command_id not in constants.command_id_value_map:
        raise BodyRefused(INVALID_COMMAND_ID, "unknown command")
    if frame.command_id & RESPONSE and not frame.body:
        return Body({}, {})
    stream = io.BytesIO(frame.body)
    values: dict[str, Any] = {}
    raw: dict[str, bytes] = {}
    try:
        for name, decoder in _layout(frame.command_id):
            start = stream.tell()
            values[name] = decoder.decode(stream)
            raw[name] = frame.body[start : stream.tell()]
    except (PDUParseError, PDUCorruptError) as error:
        status = constants.command_status_name_map.get(error.status.name, SYSTEM_ERROR)
        raise BodyRefused(status, str(error)) from error
    except (ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        # smpp.pdu3 lets these through for values it does not know
        raise BodyRefused(INVALID_DATA_CODING if name == "data_coding" else SYSTEM_ERROR, str(error)) from error
    return Body(values, raw, _tlvs(frame.body[stream.tell() :]))


def _tlvs(data: bytes) -> dict[int, bytes]:
    """Optional parameters as they came (SMPP 3.4, 5.3); the first of two equal tags counts."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise BodyRefused(INVALID_OPTIONAL_STREAM, "an optional parameter ends in its header")
        tag, length = struct.unpack_from(">HH", data, at)
        if at + 4 + length > len(data):
            raise BodyRefused(INVALID_OPTIONAL_STREAM, f"optional parameter 0x{tag:04X} ends past the PDU")
        if length != _FIXED_LENGTHS.get(tag, length):
            raise BodyRefused(INVALID_PARAMETER_LENGTH, f"optional parameter 0x{tag:04X} has {length} octets")
        found.setdefault(tag, data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def tlv(tag: int, value: bytes) -> bytes:
    """One optional parameter for the wire."""
    return struct.pack(">HH", tag, len(value)) + value


@dataclass(frozen=True, slots=True)
class Address:
    """A number at the wire (SMPP 3.4, 5.2.5 to 5.2.9)."""

    ton: int
    npi: int
    digits: str

    def pack(self) -> bytes:
        """Type, plan and digits as the PDU carries them."""
        return bytes((self.ton, self.npi)) + self.digits.encode("ascii", "replace") + b"\0"

    @property
    def shown(self) -> str:
        """As a phone shows it: international numbers with their plus."""
        return "+" + self.digits.lstrip("+") if self.ton == 1 else self.digits


@dataclass(frozen=True, slots=True)
class Deliver:
    """What the carrier owes an ESME: a phone's text, a part of one, a USSD step or a receipt."""

    source: Address
    destination: Address
    esm_class: int
    data_coding: int
    short_message: bytes
    tlvs: Mapping[int, bytes] = field(default_factory=dict)
    protocol_id: int = 0

    def pack(self) -> bytes:
        """The body of deliver_sm (SMPP 3.4, 4.6.1)."""
        return b"".join(
            (
                b"\0",  # service_type
                self.source.pack(),
                self.destination.pack(),
                # priority 0; schedule and validity empty; no receipt; replace 0
                bytes((self.esm_class, self.protocol_id, 0, 0, 0, 0, 0, self.data_coding, 0, len(self.short_message))),
                self.short_message,
                *(tlv(tag, value) for tag, value in self.tlvs.items()),
            )
        )
