"""Sits between gateway and carrier, passes every octet on, and writes what passed as a capture file.

It needs no right to listen at an interface, so the same recording can be made anywhere. Addresses in the file:
10.0.0.1 is the gateway, 10.0.0.2 the carrier at port 2775; each connection has a gateway port of its own.
"""

import selectors
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Self

READ_OCTETS = 16_384  # a packet's payload must stay under 64 KiB
GATEWAY, CARRIER = b"\x0a\0\0\1", b"\x0a\0\0\2"
CARRIER_PORT, GATEWAY_PORTS = 2775, 40_000
SYN, ACK, PUSH = 0x02, 0x10, 0x08


class Recorder:
    """A TCP proxy on a port of its own; the capture file grows while it runs."""

    def __init__(self, target_port: int, path: Path) -> None:
        self._target = target_port
        self._path = path
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recorder")

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))  # pcap, raw IP
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._connections = 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
        self._selector.close()
        self._file.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listening:
                    self._accept()
                else:
                    key.data.pass_on(key.fileobj)
            self._file.flush()

    def _accept(self) -> None:
        gateway, _ = self._listening.accept()
        try:
            carrier = socket.create_connection(("127.0.0.1", self._target), timeout=2)
        except OSError:
            gateway.close()
            return
        self._connections += 1
        pair = _Pair(self, GATEWAY_PORTS + self._connections, gateway, carrier)
        for one in (gateway, carrier):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ, pair)

    def forget(self, one: socket.socket) -> None:
        self._selector.unregister(one)
        one.close()

    def packet(self, port: int, *, up: bool, flags: int, sequence: int, seen: int, payload: bytes = b"") -> None:
        """One packet into the file."""
        ports = (port, CARRIER_PORT) if up else (CARRIER_PORT, port)
        addresses = GATEWAY + CARRIER if up else CARRIER + GATEWAY
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, seen, 5 << 4, flags, 65_535, 0, 0) + payload
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp
        now = time.time_ns()
        stamp = struct.pack("<IIII", now // 1_000_000_000, now % 1_000_000_000 // 1_000, len(ip), len(ip))
        self._file.write(stamp + ip)


class _Pair:
    """One connection on each side; what comes from one goes to the other."""

    def __init__(self, recorder: Recorder, port: int, gateway: socket.socket, carrier: socket.socket) -> None:
        self._recorder = recorder
        self._port = port
        self._gateway, self._carrier = gateway, carrier
        self._sent = {True: 1, False: 1}  # sequence numbers, up and down
        recorder.packet(port, up=True, flags=SYN, sequence=0, seen=0)
        recorder.packet(port, up=False, flags=SYN | ACK, sequence=0, seen=1)
        recorder.packet(port, up=True, flags=ACK, sequence=1, seen=1)

    def pass_on(self, one: socket.socket) -> None:
        if one.fileno() < 0:
            return  # closed with its other side in this same round
        up = one is self._gateway
        other = self._carrier if up else self._gateway
        try:
            data = one.recv(READ_OCTETS)
            if data:
                self._recorder.packet(
                    self._port, up=up, flags=PUSH | ACK, sequence=self._sent[up], seen=self._sent[not up], payload=data
                )
                self._sent[up] += len(data)
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._recorder.forget(end)
