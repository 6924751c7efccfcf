"""A carrier made of a bare socket: it can say anything, also what no library would."""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

HEADER = struct.Struct(">IIII")
DELIVER_SM, SUBMIT_SM, DATA_SM, ENQUIRE_LINK, UNBIND, NACK = 5, 4, 0x103, 0x15, 6, 0x80000000
BINDS = (1, 2, 9)


@dataclass(frozen=True)
class Pdu:
    command: int
    status: int
    sequence: int
    body: bytes


class Closed(Exception):
    """The gateway closed the connection."""


def packed(command: int, sequence: int, body: bytes = b"", status: int = 0, length: int | None = None) -> bytes:
    return HEADER.pack(16 + len(body) if length is None else length, command, status, sequence) + body


def text_body(phone: str, text: bytes, *, esm_class: int = 0, data_coding: int = 0, tlvs: bytes = b"") -> bytes:
    """A deliver_sm's body. SMPP 3.4, 4.6.1."""
    addresses = b"\0\1\1" + phone.encode() + b"\0" + b"\3\0" + b"20880\0"
    return addresses + bytes((esm_class, 0, 0, 0, 0, 0, 0, data_coding, 0, len(text))) + text + tlvs


class RawCarrier:
    """Listens on a port of its own; serves one connection at a time, only when asked to."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(15)
        self.port: int = self._listening.getsockname()[1]
        self._peer: socket.socket | None = None
        self._rest = b""
        self._sequence = 0
        self.submits: list[Pdu] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        if self._peer is not None:
            self._peer.close()

    def accept(self) -> None:
        """Take the next connection and let it bind."""
        if self._peer is not None:
            self._peer.close()
        self._peer, _ = self._listening.accept()
        self._rest = b""
        bind = self.read()
        assert bind.command in BINDS
        self.send(packed(bind.command | NACK, bind.sequence, b"raw\0"))

    def send(self, octets: bytes) -> None:
        assert self._peer is not None
        try:
            self._peer.sendall(octets)
        except OSError as error:
            raise Closed from error

    def read(self, timeout_s: float = 10.0) -> Pdu:
        """The next PDU. Raises Closed or TimeoutError."""
        assert self._peer is not None
        self._peer.settimeout(timeout_s)
        while len(self._rest) < 16 or len(self._rest) < HEADER.unpack_from(self._rest)[0]:
            try:
                data = self._peer.recv(65_536)
            except ConnectionError as error:
                raise Closed from error
            if not data:
                raise Closed
            self._rest += data
        length, command, status, sequence = HEADER.unpack_from(self._rest)
        body, self._rest = self._rest[16:length], self._rest[length:]
        return Pdu(command, status, sequence, body)

    def until(self, wanted: Callable[[Pdu], bool], timeout_s: float = 10.0) -> Pdu:
        """Do what a carrier must until the wanted PDU comes: take every submit_sm, answer every enquire_link."""
        deadline = time.monotonic() + timeout_s
        while True:
            pdu = self.read(max(0.01, deadline - time.monotonic()))
            if pdu.command == SUBMIT_SM:
                self.submits.append(pdu)
                self.send(packed(SUBMIT_SM | NACK, pdu.sequence, b"id%d\0" % pdu.sequence))
            elif pdu.command in (ENQUIRE_LINK, UNBIND):
                self.send(packed(pdu.command | NACK, pdu.sequence))
            if wanted(pdu):
                return pdu

    def ask(self, command: int, body: bytes = b"", timeout_s: float = 10.0) -> Pdu:
        """Send a request and wait for the response with its number."""
        self._sequence += 1
        sequence = self._sequence
        self.send(packed(command, sequence, body))
        return self.until(lambda one: one.command >= NACK and one.sequence == sequence, timeout_s)

    def is_alive(self) -> bool:
        """Whether the gateway still answers on this connection."""
        try:
            return self.ask(ENQUIRE_LINK).status == 0
        except Closed:
            return False

    def wait_submit(self, wanted: Callable[[Pdu], bool], timeout_s: float = 10.0) -> Pdu:
        """A submit_sm that came, or comes."""
        found = next((one for one in self.submits if wanted(one)), None)
        return found or self.until(lambda one: one.command == SUBMIT_SM and wanted(one), timeout_s)
