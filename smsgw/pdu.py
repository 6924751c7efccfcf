"""SMPP 3.4 PDUs, with the TLVs of 5.0, to bytes and back.

    stream --FrameReader--> (command_id, status, sequence, body) --decode_short_message--> ShortMessage
    SubmitTemplate.encode(sequence, digits, short_message) --> bytes

Two kinds of code stand here. `FrameReader`, `decode_short_message`, `SubmitTemplate` and `decode_submit_sm_resp` run
once or more per message and are written by hand. All other PDUs go through the table `LAYOUTS` and `encode`, `decode`.

Nothing here does I/O. A peer's mistake is one of two errors: `FramingLost` (close the link) or `BodyError`
(answer with its status, keep the link). TLVs that we do not know, vendor TLVs among them, are kept as raw bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from smsgw import smpp_numbers as smpp
from smsgw.smpp_numbers import (
    DATA_SM,
    DELIVER_SM_RESP,
    RINVCMDLEN,
    RINVDSTADR,
    RINVEXPIRY,
    RINVMSGLEN,
    RINVOPTPARSTREAM,
    RINVPARLEN,
    RINVSCHED,
    RINVSERTYP,
    RINVSRCADR,
    ROK,
    SUBMIT_SM,
)

HEADER_OCTETS: Final = 16  # SMPP 3.4, 3.2
PDU_OCTETS_MAX: Final = 65_536  # message_payload holds 64 KiB at most; a longer length is noise, not a PDU
SHORT_MESSAGE_OCTETS_MAX: Final = 254  # SMPP 3.4, 4.4.1: sm_length
# SMPP 3.4, 5.2.23 allows 64 characters; some peers send more. Beyond this an id is cut, so that it can be indexed.
MESSAGE_ID_CHARS_MAX: Final = 255

_HEADER = struct.Struct(">IIII")
_HEADER_AND_OCTET = struct.Struct(">IIIIB")
_TLV_HEADER = struct.Struct(">HH")
_OCTETS = [bytes((value,)) for value in range(256)]


class FramingLost(Exception):
    """The peer's stream cannot be cut into PDUs any more: close the link.

    `frames` holds what was complete before the place where the stream broke.
    """

    def __init__(self, command_length: int, frames: list[Frame]) -> None:
        super().__init__(f"command_length {command_length} cannot be true")
        self.frames = frames


class BodyError(Exception):
    """The peer's PDU cannot be read: answer with `status`, keep the link."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


Frame = tuple[int, int, int, bytes]
"""command_id, command_status, sequence_number, body"""


class FrameReader:
    """Cuts the peer's byte stream into PDUs, however the network cut it before."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> bool:
        """Whether the stream stands inside a PDU: the caller's read time-out runs while this is so."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes, give the PDUs they complete. Raises FramingLost; the reader is of no use after that."""
        if self._rest:
            data = self._rest + data
        end = len(data)
        at = 0
        frames: list[Frame] = []
        unpack = _HEADER.unpack_from
        while end - at >= 16:  # HEADER_OCTETS; a literal saves a look-up for every PDU
            length, command_id, status, sequence = unpack(data, at)
            if not 16 <= length <= 65_536:
                raise FramingLost(length, frames)
            stop = at + length
            if stop > end:
                break
            frames.append((command_id, status, sequence, data[at + 16 : stop]))
            at = stop
        self._rest = data[at:]
        if 4 <= end - at < HEADER_OCTETS:
            # Say so at once: noise of a few octets may be all that ever comes.
            length = int.from_bytes(data[at : at + 4])
            if not HEADER_OCTETS <= length <= PDU_OCTETS_MAX:
                raise FramingLost(length, frames)
        return frames


class Address(NamedTuple):
    """One end of a message. SMPP 3.4, 5.2.5 to 5.2.9."""

    ton: int
    npi: int
    digits: str


@dataclass(slots=True)
class ShortMessage:
    """The one body that submit_sm, deliver_sm and data_sm share. SMPP 3.4, 4.4.1, 4.6.1, 4.7.1.

    data_sm has no short_message, times or priority: they keep their defaults and are not encoded.
    Of a TLV that comes twice the last one is kept.
    """

    service_type: str
    source: Address
    destination: Address
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    replace_if_present: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""
    tlvs: dict[int, bytes] = field(default_factory=dict)


# ---- decoding what comes in, once per message


def decode_short_message(body: bytes, command_id: int) -> ShortMessage:
    """Read the body of a deliver_sm or submit_sm, or of a data_sm. Raises BodyError."""
    if command_id == DATA_SM:
        return _decode_data_sm(body)
    find = body.find
    try:
        # Finding the NULs and slicing between them costs a third of a general field table.
        start = 1
        service_type = ""
        if body[0]:
            start = find(0) + 1
            if not 0 < start <= 6:
                raise _bad_string(start, RINVSERTYP, "service_type")
            service_type = body[: start - 1].decode("latin-1")
        end = find(0, start + 2)
        if not 0 <= end - start <= 22:
            raise _bad_string(end + 1, RINVSRCADR, "source_addr")
        source = _new_tuple(Address, (body[start], body[start + 1], body[start + 2 : end].decode("latin-1")))
        start = end + 1
        end = find(0, start + 2)
        if not 0 <= end - start <= 22:
            raise _bad_string(end + 1, RINVDSTADR, "destination_addr")
        destination = _new_tuple(Address, (body[start], body[start + 1], body[start + 2 : end].decode("latin-1")))
        esm_class = body[end + 1]
        protocol_id = body[end + 2]
        priority_flag = body[end + 3]
        at = end + 4
        schedule = validity = ""
        if body[at]:
            schedule, at = _c_octet_string(body, at, 16, RINVSCHED, "schedule_delivery_time")
        else:
            at += 1
        if body[at]:
            validity, at = _c_octet_string(body, at, 16, RINVEXPIRY, "validity_period")
        else:
            at += 1
        registered_delivery, replace_if_present, data_coding, sm_default_msg_id, length = _FIVE_OCTETS(body, at)
    except (IndexError, struct.error):
        raise BodyError(RINVCMDLEN, "the body ends before its fields do") from None
    at += 5
    end = at + length
    size = len(body)
    if end > size:
        raise BodyError(RINVMSGLEN, f"sm_length {length}, but {size - at} octets follow")
    return ShortMessage(
        service_type,
        source,
        destination,
        esm_class,
        protocol_id,
        priority_flag,
        schedule,
        validity,
        registered_delivery,
        replace_if_present,
        data_coding,
        sm_default_msg_id,
        body[at:end],
        decode_tlvs(body, end) if end < size else {},
    )


_FIVE_OCTETS = struct.Struct(">5B").unpack_from
_new_tuple = tuple.__new__  # twice as fast as the NamedTuple's own constructor


def _decode_data_sm(body: bytes) -> ShortMessage:
    try:
        service_type, at = _c_octet_string(body, 0, 5, RINVSERTYP, "service_type")
        source_ton, source_npi = body[at], body[at + 1]
        source, at = _c_octet_string(body, at + 2, 64, RINVSRCADR, "source_addr")
        ton, npi = body[at], body[at + 1]
        destination, at = _c_octet_string(body, at + 2, 64, RINVDSTADR, "destination_addr")
        esm_class, registered_delivery, data_coding = body[at], body[at + 1], body[at + 2]
    except IndexError:
        raise BodyError(RINVCMDLEN, "the body ends before its fields do") from None
    return ShortMessage(
        service_type,
        Address(source_ton, source_npi, source),
        Address(ton, npi, destination),
        esm_class=esm_class,
        registered_delivery=registered_delivery,
        data_coding=data_coding,
        tlvs=decode_tlvs(body, at + 3),
    )


def _c_octet_string(body: bytes, at: int, chars_max: int, status: int, name: str) -> tuple[str, int]:
    """The string at `at` and the place after its NUL."""
    if at >= len(body):
        raise BodyError(RINVCMDLEN, f"the body ends before {name}")
    end = body.find(0, at)
    if end < 0 or end - at > chars_max:
        raise _bad_string(end + 1, status, name)
    return body[at:end].decode("latin-1"), end + 1


def _bad_string(after_nul: int, status: int, name: str) -> BodyError:
    """A string that never ends makes the body too short; one that ends too late is its own field's error."""
    if after_nul <= 0:
        return BodyError(RINVCMDLEN, f"{name} never ends")
    return BodyError(status, f"{name} is too long")


def decode_tlvs(body: bytes, at: int = 0) -> dict[int, bytes]:
    """The optional parameters from `at` to the end. Raises BodyError. SMPP 3.4, 3.2.4.1."""
    tlvs: dict[int, bytes] = {}
    size = len(body)
    while at < size:
        if at + 4 > size:
            raise BodyError(RINVOPTPARSTREAM, "octets after the last TLV")
        tag, length = _TLV_HEADER.unpack_from(body, at)
        at += 4
        end = at + length
        if end > size:
            raise BodyError(RINVPARLEN, f"TLV 0x{tag:04X} goes past the end")
        tlvs[tag] = body[at:end]
        at = end
    return tlvs


def decode_submit_sm_resp(body: bytes) -> str:
    """The message_id; "" without a body, as the peer may answer an error (SMPP 3.4, 4.4.2) and some answer always."""
    end = body.find(0)
    if 0 <= end <= 255:  # MESSAGE_ID_CHARS_MAX
        return body[:end].decode("latin-1")
    return body[:MESSAGE_ID_CHARS_MAX].decode("latin-1")


# ---- encoding what goes out, once per message


class SubmitTemplate:
    """Everything of a submit_sm that many messages share, encoded once.

    Keep one for each (source, kind, alphabet, validity) in use: making one costs microseconds, using it less than one.
    Raises ValueError for fields that no PDU can hold.
    """

    __slots__ = ("_fixed_octets", "_head", "_tail")

    def __init__(
        self,
        source: Address,
        *,
        esm_class: int = 0,
        data_coding: int = 0,
        registered_delivery: int = 0,
        validity_period: str = "",
        schedule_delivery_time: str = "",
        service_type: str = "",
        protocol_id: int = 0,
        priority_flag: int = 0,
        destination_ton: int = 1,
        destination_npi: int = 1,
    ) -> None:
        self._head = (
            _encode_string(service_type, 5, "service_type")
            + bytes((source.ton, source.npi))
            + _encode_string(source.digits, 20, "source_addr")
            + bytes((destination_ton, destination_npi))
        )
        self._tail = (
            bytes((0, esm_class, protocol_id, priority_flag))
            + _encode_string(schedule_delivery_time, 16, "schedule_delivery_time")
            + _encode_string(validity_period, 16, "validity_period")
            + bytes((registered_delivery, 0, data_coding, 0))
        )
        self._fixed_octets = HEADER_OCTETS + len(self._head) + len(self._tail) + 1

    def encode(self, sequence: int, digits: str, short_message: bytes, tlvs: bytes = b"") -> bytes:
        """One submit_sm to 1 to 20 ASCII `digits`, with at most 254 octets of `short_message` and `tlvs` as encoded.

        The caller has checked these: numbers when they were stored, octets by `sms_text.plan`.
        """
        length = len(short_message)
        return b"".join(
            (
                _pack_header(self._fixed_octets + len(digits) + length + len(tlvs), 4, 0, sequence),  # 4: SUBMIT_SM
                self._head,
                digits.encode(),
                self._tail,
                _OCTETS[length],
                short_message,
                tlvs,
            )
        )


_pack_header = _HEADER.pack


def encode_submit_sm(sequence: int, message: ShortMessage) -> bytes:
    """One submit_sm from a whole message. Raises ValueError for what no PDU can hold."""
    return encode_short_message(SUBMIT_SM, sequence, message)


def encode_short_message(command_id: int, sequence: int, message: ShortMessage) -> bytes:
    """A submit_sm, deliver_sm or data_sm. Raises ValueError for what no PDU can hold."""
    address_chars = 64 if command_id == DATA_SM else 20
    source, destination = message.source, message.destination
    body = [
        _encode_string(message.service_type, 5, "service_type"),
        bytes((source.ton, source.npi)),
        _encode_string(source.digits, address_chars, "source_addr"),
        bytes((destination.ton, destination.npi)),
        _encode_string(destination.digits, address_chars, "destination_addr"),
    ]
    if command_id == DATA_SM:
        body.append(bytes((message.esm_class, message.registered_delivery, message.data_coding)))
    else:
        if len(message.short_message) > 255:
            raise ValueError("short_message holds more than 255 octets")
        body += (
            bytes((message.esm_class, message.protocol_id, message.priority_flag)),
            _encode_string(message.schedule_delivery_time, 16, "schedule_delivery_time"),
            _encode_string(message.validity_period, 16, "validity_period"),
            bytes(
                (
                    message.registered_delivery,
                    message.replace_if_present,
                    message.data_coding,
                    message.sm_default_msg_id,
                    len(message.short_message),
                )
            ),
            message.short_message,
        )
    body.append(encode_tlvs(message.tlvs))
    return _with_header(command_id, ROK, sequence, b"".join(body))


def encode_tlv(tag: int, value: bytes) -> bytes:
    """One optional parameter."""
    return _TLV_HEADER.pack(tag, len(value)) + value


def encode_tlvs(tlvs: Mapping[int, bytes] | Iterable[tuple[int, bytes]]) -> bytes:
    """Optional parameters in the order given; pairs may repeat a tag."""
    pairs = tlvs.items() if isinstance(tlvs, Mapping) else tlvs
    return b"".join([encode_tlv(tag, value) for tag, value in pairs])


def encode_deliver_sm_resps(sequences: Iterable[int], status: int = ROK) -> bytes:
    """Answers to many deliver_sm in one piece. The message_id is unused: one NUL. SMPP 3.4, 4.6.2."""
    pack = _HEADER_AND_OCTET.pack
    return b"".join([pack(17, DELIVER_SM_RESP, status, sequence, 0) for sequence in sequences])


def encode_deliver_sm_resp(sequence: int, status: int = ROK) -> bytes:
    """The answer to one deliver_sm."""
    return _HEADER_AND_OCTET.pack(17, DELIVER_SM_RESP, status, sequence, 0)


def encode_empty(command_id: int, sequence: int, status: int = ROK) -> bytes:
    """A PDU that is its header: enquire_link, unbind, their responses, generic_nack."""
    return _HEADER.pack(HEADER_OCTETS, command_id, status, sequence)


# ---- all other PDUs: one table


class Field(NamedTuple):
    """A mandatory parameter: an octet where `chars_max` is None, else a C-octet string."""

    name: str
    chars_max: int | None = None
    status: int = RINVCMDLEN  # what a string that is too long is answered with


_BIND: Final = (
    Field("system_id", 15, smpp.RINVSYSID),
    Field("password", 8),
    Field("system_type", 12),
    Field("interface_version"),
    Field("addr_ton"),
    Field("addr_npi"),
    Field("address_range", 40),
)
_SOURCE: Final = (Field("source_addr_ton"), Field("source_addr_npi"), Field("source_addr", 20, RINVSRCADR))
_DESTINATION: Final = (Field("dest_addr_ton"), Field("dest_addr_npi"), Field("destination_addr", 20, RINVDSTADR))
_MESSAGE_ID: Final = Field("message_id", MESSAGE_ID_CHARS_MAX)

# SMPP 3.4, 4.1 to 4.12. submit_sm, deliver_sm and data_sm are ShortMessages, above.
LAYOUTS: Final[dict[int, tuple[Field, ...]]] = {
    smpp.BIND_TRANSMITTER: _BIND,
    smpp.BIND_RECEIVER: _BIND,
    smpp.BIND_TRANSCEIVER: _BIND,
    smpp.BIND_TRANSMITTER_RESP: (Field("system_id", 15),),
    smpp.BIND_RECEIVER_RESP: (Field("system_id", 15),),
    smpp.BIND_TRANSCEIVER_RESP: (Field("system_id", 15),),
    smpp.OUTBIND: (Field("system_id", 15), Field("password", 8)),
    smpp.UNBIND: (),
    smpp.UNBIND_RESP: (),
    smpp.GENERIC_NACK: (),
    smpp.ENQUIRE_LINK: (),
    smpp.ENQUIRE_LINK_RESP: (),
    smpp.SUBMIT_SM_RESP: (_MESSAGE_ID,),
    DELIVER_SM_RESP: (_MESSAGE_ID,),
    smpp.DATA_SM_RESP: (_MESSAGE_ID,),
    smpp.QUERY_SM: (_MESSAGE_ID, *_SOURCE),
    smpp.QUERY_SM_RESP: (_MESSAGE_ID, Field("final_date", 16), Field("message_state"), Field("error_code")),
    smpp.CANCEL_SM: (Field("service_type", 5, RINVSERTYP), _MESSAGE_ID, *_SOURCE, *_DESTINATION),
    smpp.CANCEL_SM_RESP: (),
    smpp.REPLACE_SM_RESP: (),
    smpp.ALERT_NOTIFICATION: (
        Field("source_addr_ton"),
        Field("source_addr_npi"),
        Field("source_addr", 64, RINVSRCADR),
        Field("esme_addr_ton"),
        Field("esme_addr_npi"),
        Field("esme_addr", 64),
    ),
}
_RESPONSE: Final = 0x8000_0000  # SMPP 3.4, 5.1.2.1


def encode(
    command_id: int,
    status: int,
    sequence: int,
    fields: Mapping[str, str | int] | None = None,
    tlvs: Mapping[int, bytes] | None = None,
) -> bytes:
    """A PDU of `LAYOUTS`; fields left out are empty or 0. Raises ValueError for a value that its field cannot hold."""
    given = dict(fields or {})
    body: list[bytes] = []
    for name, chars_max, _ in LAYOUTS[command_id]:
        value = given.pop(name, None)
        if chars_max is None:
            octet = value or 0
            if not isinstance(octet, int) or not 0 <= octet <= 255:
                raise ValueError(f"{name} is one octet")
            body.append(_OCTETS[octet])
        else:
            body.append(_encode_string(str(value or ""), chars_max, name))
    if given:
        raise ValueError(f"no such field: {', '.join(sorted(given))}")
    body.append(encode_tlvs(tlvs or {}))
    return _with_header(command_id, status, sequence, b"".join(body))


def decode(command_id: int, status: int, body: bytes) -> tuple[dict[str, str | int], dict[int, bytes]]:
    """Fields and TLVs of a PDU of `LAYOUTS`. Raises BodyError.

    A response without a body gives its fields empty: with an error that is the rule, and some peers always do it.
    """
    layout = LAYOUTS.get(command_id)
    if layout is None:
        raise BodyError(smpp.RINVCMDID, f"command 0x{command_id:08X} has no layout here")
    if not body and (status or command_id & _RESPONSE):
        return {name: "" if chars_max is not None else 0 for name, chars_max, _ in layout}, {}
    fields: dict[str, str | int] = {}
    at = 0
    for name, chars_max, too_long in layout:
        if chars_max is not None:
            fields[name], at = _c_octet_string(body, at, chars_max, too_long, name)
        elif at < len(body):
            fields[name] = body[at]
            at += 1
        else:
            raise BodyError(RINVCMDLEN, f"the body ends before {name}")
    return fields, decode_tlvs(body, at)


def _encode_string(text: str, chars_max: int, name: str) -> bytes:
    if len(text) > chars_max or "\0" in text:
        raise ValueError(f"{name} is at most {chars_max} characters and holds no NUL")
    return text.encode("latin-1") + b"\0"  # UnicodeEncodeError is a ValueError


def _with_header(command_id: int, status: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(HEADER_OCTETS + len(body), command_id, status, sequence) + body
