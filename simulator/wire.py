"""The decoded wire: the last PDUs in both directions, read by smpp.pdu3 when somebody looks."""

import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

from smpp.pdu import constants

from simulator import alphabets, frames
from simulator.events import Events

GIST_CHARS = 60
BIT_FIELDS = frozenset({"esm_class", "registered_delivery", "data_coding"})  # read as bits by those who know them
KEPT = 500  # what the page may ask for; older PDUs are forgotten


@dataclass(frozen=True, slots=True)
class Record:
    """One PDU as it passed."""

    serial: int
    at: float  # seconds since the epoch
    direction: str  # "in": from the gateway; "out": to it
    peer: str
    frame: frames.Frame


class Wire:
    """The last PDUs; recording costs next to nothing, decoding is left to the reader."""

    def __init__(self, events: Events) -> None:
        self._records: deque[Record] = deque(maxlen=KEPT)
        self._events = events
        self._serial = 0

    def record(self, direction: str, peer: str, frame: frames.Frame) -> None:
        """Keep one PDU."""
        self._serial += 1
        self._records.append(Record(self._serial, time.time(), direction, peer, frame))
        self._events.tell("wire")

    def tell_links(self) -> None:
        """Binds came or went."""
        self._events.tell("links")

    def newest(self, limit: int = KEPT, after: int = 0) -> list[dict[str, Any]]:
        """Decoded PDUs younger than serial `after`, newest first."""
        chosen = [one for one in reversed(self._records) if one.serial > after][: max(0, limit)]
        return [describe(one) for one in chosen]


def describe(record: Record) -> dict[str, Any]:
    """One PDU in words: its gist, its fields as (name, value) pairs, and its bytes."""
    frame = record.frame
    route = ""
    gist = "" if frame.status == frames.OK else status_name(frame.status)
    fields: list[tuple[str, str]] = [
        ("command_status", status_name(frame.status)),
        ("sequence_number", str(frame.sequence)),
    ]
    try:
        body = frames.decode(frame)
    except frames.BodyRefused as error:
        fields.append(("unreadable", f"{error} ({status_name(error.status)})"))
    else:
        for name, value in body.values.items():
            fields.append((name, f"0x{body.octet(name):02X}" if name in BIT_FIELDS else _shown(name, value)))
        fields += [(_tag_name(tag), value.hex(" ")) for tag, value in body.tlvs.items()]
        content = _user_data(body)
        fields += content
        if "destination_addr" in body.values:
            route = f"{body.text('source_addr')} → {body.text('destination_addr')}"
            gist = " ".join(content[-1][1].split())[:GIST_CHARS] if content else ""
    return {
        "serial": record.serial,
        "at": record.at,
        "direction": record.direction,
        "peer": record.peer,
        "name": frame.name,
        "route": route,
        "gist": gist,
        "fields": fields,
        "hex": frame.pack().hex(" "),
    }


def status_name(status: int) -> str:
    """A command status as the standard names it."""
    known = constants.command_status_value_map.get(status)
    return known["name"] if known else f"0x{status:08X}"


def _tag_name(tag: int) -> str:
    known = constants.tag_value_map.get(tag)
    return f"{known} (0x{tag:04X})" if known else f"0x{tag:04X}"


def _shown(name: str, value: object) -> str:
    if name == "password":
        return "•••"
    if name == "short_message":
        return bytes(value).hex(" ") if isinstance(value, bytes) else ""
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return value.name if isinstance(value, Enum) else "" if value is None else str(value)


def _user_data(body: frames.Body) -> list[tuple[str, str]]:
    """The user data header and the text of a message, as pycrate reads them."""
    if "short_message" not in body.values and frames.MESSAGE_PAYLOAD not in body.tlvs:
        return []
    data = body.tlvs.get(frames.MESSAGE_PAYLOAD) or bytes(body.values.get("short_message") or b"")
    alphabet = alphabets.alphabet_of(body.octet("data_coding"))
    header = alphabets.NO_HEADER
    found = []
    if body.octet("esm_class") & 0x40:
        try:
            header = alphabets.read_header(data)
        except alphabets.Unreadable as error:
            return [("user data header", str(error))]
        parts = f"part {header.number} of {header.total}" if header.reference else ""
        port = f"port {header.port}" if header.port is not None else ""
        found.append(("user data header", ", ".join(filter(None, (parts, port))) or data[: header.octets].hex(" ")))
    if alphabet is None:
        return [*found, ("alphabet", f"unknown (0x{body.octet('data_coding'):02X})")]
    found.append(("alphabet", alphabet.value))
    if alphabet is not alphabets.Alphabet.OCTETS:
        found.append(("text", alphabets.read_text(data[header.octets :], alphabet, header)))
    elif header.port is not None:
        found.append(("content", data[header.octets :].decode("utf-8", "replace")))
    return found
