"""A carrier with nothing but speed: takes every submit_sm, answers, and sends a receipt after a delay.

`python -m bench.carrier --receipt-after-ms 300` prints its port, then serves until SIGTERM; on SIGUSR1 it prints what
it counted. It shares no code with the gateway and checks nothing: the simulator is for that.

With --deliver N it sends N texts from phones instead, as fast as a window of unanswered deliver_sm allows.
"""

import argparse
import asyncio
import json
import signal
import struct
import time
from collections import deque
from typing import cast

import uvloop

_HEADER = struct.Struct(">IIII")
_SUBMIT, _SUBMIT_RESP, _DELIVER, _DELIVER_RESP = 4, 0x80000004, 5, 0x80000005
_BINDS = {1, 2, 9}
_ENQUIRE, _UNBIND = 0x15, 6
TICK_S = 0.005
_LETTERS = str.maketrans("0123456789", "abcdefghij")


class Carrier(asyncio.Protocol):
    """One connection."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.submits = self.receipts_sent = self.receipts_answered = self.delivered = self.refused = 0
        self.first = self.last = 0.0
        self.due: deque[tuple[float, bytes]] = deque()
        self.rest = b""
        self.sequence = 0
        self.pending = 0  # deliver_sm not answered
        self.texts = arguments.deliver
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:  # noqa: C901 -- flat, because it must cost the gateway nothing
        if self.rest:
            data = self.rest + data
        at, end = 0, len(data)
        out: list[bytes] = []
        due_at = time.monotonic() + self.arguments.receipt_after_ms / 1000
        receipts: list[bytes] = []
        while end - at >= 16:
            length, command, status, sequence = _HEADER.unpack_from(data, at)
            if at + length > end:
                break
            if command == _SUBMIT:
                self.submits += 1
                message_id = b"%d" % (4_000_000_000 + self.submits)
                out.append(_HEADER.pack(17 + len(message_id), _SUBMIT_RESP, 0, sequence) + message_id + b"\0")
                start = at + 17 + 2
                source_end = data.index(0, start)
                phone_end = data.index(0, source_end + 3)
                if self.arguments.stamp and data[phone_end + 1] & 0x40:  # esm_class. SMPP 3.4, 5.2.12
                    phone = data[source_end + 3 : phone_end].decode()
                    print(json.dumps({"phone": phone, "at": time.monotonic()}), flush=True)
                text = (
                    b"id:%s sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:"
                    % (message_id)
                )
                receipts.append(
                    b"\0\1\1" + data[source_end + 3 : phone_end + 1] + data[at + 17 : source_end + 1]
                    + b"\x04\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text
                )  # fmt: skip
            elif command == _DELIVER_RESP:
                self.pending -= 1
                if status:
                    self.refused += 1
                self.last = time.monotonic()
                if self.arguments.deliver:
                    self.delivered += 1
                else:
                    self.receipts_answered += 1
            elif command in _BINDS:
                out.append(_HEADER.pack(22, command | 0x80000000, 0, sequence) + b"bench\0")
                self.first = time.monotonic()
            elif command in (_ENQUIRE, _UNBIND):
                out.append(_HEADER.pack(16, command | 0x80000000, 0, sequence))
            at += length
        self.rest = data[at:]
        if out and self.transport is not None:
            self.transport.write(b"".join(out))
        if receipts:
            self.due.append((due_at, b"".join(self._numbered(receipts))))
        if self.arguments.deliver:
            self.send_texts()

    def _numbered(self, bodies: list[bytes]) -> list[bytes]:
        numbered = []
        for body in bodies:
            self.sequence += 1
            numbered.append(_HEADER.pack(16 + len(body), _DELIVER, 0, self.sequence) + body)
        return numbered

    def tick(self) -> None:
        now = time.monotonic()
        ready = []
        while self.due and self.due[0][0] <= now:
            ready.append(self.due.popleft()[1])
        if ready and self.transport is not None:
            self.transport.write(b"".join(ready))

    def send_texts(self) -> None:
        """Keep the window of unanswered deliver_sm full."""
        if self.transport is None or not self.first:
            return
        out = []
        while self.texts and self.pending < self.arguments.window:
            number = self.arguments.deliver - self.texts
            self.texts -= 1
            self.pending += 1
            words = self.arguments.text.replace("{n}", f"{number:07}").replace(
                "{w}", f"{number:07}".translate(_LETTERS)
            )
            text = words.encode("ascii")
            phone = b"86139%08d" % (number % self.arguments.phones)
            out.append(b"\0\1\1" + phone + b"\0\3\0" + b"20880\0" + b"\0\0\0\0\0\0\0\0\0" + bytes((len(text),)) + text)
        if out:
            self.transport.write(b"".join(self._numbered(out)))

    def counted(self) -> str:
        return json.dumps({
            "submits": self.submits, "receipts": self.receipts_answered, "delivered": self.delivered,
            "refused": self.refused, "seconds": self.last - self.first,
        })  # fmt: skip


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    made: list[Carrier] = []

    def connection() -> Carrier:
        made.append(Carrier(arguments))
        return made[-1]

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(made[-1].counted() if made else "{}", flush=True))
    server = await loop.create_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while not stop.is_set():
        if made:
            made[-1].tick()
            if arguments.deliver and made[-1].transport is not None:
                made[-1].send_texts()
        try:
            async with asyncio.timeout(TICK_S):
                await stop.wait()
        except TimeoutError:
            pass
    server.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.carrier")
    parser.add_argument("--receipt-after-ms", type=int, default=300)
    parser.add_argument("--deliver", type=int, default=0, help="send so many texts from phones")
    parser.add_argument("--stamp", action="store_true", help="print when each message with a header comes")
    parser.add_argument("--phones", type=int, default=10_000)
    parser.add_argument("--window", type=int, default=1_000)
    parser.add_argument("--text", default="HELP", help="{n} becomes a running number, {w} the same in letters")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
