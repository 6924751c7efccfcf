"""A gateway that nobody here wrote, python-smpplib's client on a thread; and a bare socket for broken PDUs."""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable
from typing import Any

import smpplib.client
import smpplib.exceptions

WAIT_S = 5.0
HEADER = struct.Struct(">IIII")


class Esme:
    """python-smpplib bound to the simulator; everything it reads is kept in `seen`."""

    def __init__(self, port: int, **bind: Any) -> None:
        self.client = smpplib.client.Client("127.0.0.1", port, timeout=WAIT_S, allow_unknown_opt_params=True)
        self.seen: list[Any] = []
        self.reply: Callable[[Any], int | None] = lambda _: None  # the status for each deliver_sm
        self.ended = False
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._bind = bind

    def bind(self, kind: str = "transceiver") -> "Esme":
        """Connect, bind, and read from then on."""
        self.client.connect()
        arguments = {"system_id": "smsgw", "password": "secret"} | self._bind
        try:
            getattr(self.client, f"bind_{kind}")(**arguments)
        except Exception:  # whatever smpplib raises: close, and let it pass
            self.close()
            raise
        self.client.set_message_received_handler(lambda pdu: self._keep(pdu) or self.reply(pdu))
        self.client.set_message_sent_handler(self._keep)
        self.client.set_query_resp_handler(self._keep)
        self.client.set_error_pdu_handler(self._keep)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        closed = (smpplib.exceptions.ConnectionError, smpplib.exceptions.PDUError, OSError, AttributeError)
        with contextlib.suppress(*closed):  # by either side
            self.client.listen()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def _keep(self, pdu: Any, **_: Any) -> None:
        with self._news:
            self.seen.append(pdu)
            self._news.notify_all()

    async def submit(self, to: str, text: bytes = b"hello", **more: Any) -> int:
        """Send a submit_sm; returns its sequence number."""
        fields = {
            "source_addr_ton": 3, "source_addr": "20880", "dest_addr_ton": 1, "dest_addr_npi": 1,
            "destination_addr": to, "short_message": text, "registered_delivery": 1,
        }  # fmt: skip
        return (await asyncio.to_thread(self.client.send_message, **fields | more)).sequence

    async def wait(self, look: Callable[[list[Any]], Any], timeout_s: float = WAIT_S) -> Any:
        """Wait until `look(seen)` finds something; TimeoutError."""

        def waiting() -> Any:
            with self._news:
                if not self._news.wait_for(lambda: look(self.seen), timeout_s):
                    raise TimeoutError([(one.command, int(one.status)) for one in self.seen])
                return look(self.seen)

        return await asyncio.to_thread(waiting)

    async def answer_to(self, sequence: int) -> Any:
        """The response with this sequence number."""
        return await self.wait(
            lambda seen: next((p for p in seen if p.sequence == sequence and p.command.endswith("_resp")), None)
        )

    async def delivered(self, count: int = 1, *, receipts: bool | None = None) -> list[Any]:
        """The first `count` deliver_sm: receipts, phones' texts, or both."""

        def look(seen: list[Any]) -> list[Any] | None:
            found = [p for p in seen if p.command == "deliver_sm" and receipts in (None, bool(p.esm_class & 0x04))]
            return found[:count] if len(found) >= count else None

        return await self.wait(look)

    async def until_ended(self) -> None:
        """Wait until the connection is gone."""

        def waiting() -> None:
            with self._news:
                assert self._news.wait_for(lambda: self.ended, WAIT_S), "the connection lives"

        await asyncio.to_thread(waiting)

    def close(self) -> None:
        """Drop the connection."""
        sock = self.client._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
            self.client.state = "OPEN"
            self.client.disconnect()
        if self._thread:
            self._thread.join(WAIT_S)


class BareSocket:
    """Octets to the carrier and PDUs back, for what no client library would send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "BareSocket":
        """Open a connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        """Any octets."""
        self._writer.write(data)

    def pdu(self, command_id: int, body: bytes = b"", sequence: int = 1, status: int = 0) -> None:
        """A PDU with a true length."""
        self.send(HEADER.pack(16 + len(body), command_id, status, sequence) + body)

    async def read(self) -> tuple[int, int, int, bytes]:
        """Command id, status, sequence and body of the next PDU."""
        async with asyncio.timeout(WAIT_S):
            length, command_id, status, sequence = HEADER.unpack(await self._reader.readexactly(16))
            return command_id, status, sequence, await self._reader.readexactly(length - 16)

    async def ended(self, *, reset: bool = True) -> bool:
        """True once the carrier closed; with `reset` also by a reset."""
        async with asyncio.timeout(WAIT_S):
            try:
                return not await self._reader.read()
            except ConnectionResetError:
                return reset

    async def bind(self, command_id: int = 9) -> None:
        """Bind as system_id smsgw."""
        self.pdu(command_id, b"smsgw\0secret\0\0\x34\0\0\0")
        answered = await self.read()
        assert answered[:2] == (command_id | 0x80000000, 0), answered

    async def close(self) -> None:
        """Close and wait."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def submit_body(
    to: str = "8613800138000", text: bytes = b"hello", *, esm_class: int = 0, data_coding: int = 0,
    validity: bytes = b"", registered: int = 1, tlvs: bytes = b"", source: bytes = b"20880",
) -> bytes:  # fmt: skip
    """The body of submit_sm (SMPP 3.4, 4.4.1), written out for the tests."""
    return (
        b"\0" + b"\x03\0" + source + b"\0" + b"\x01\x01" + to.encode() + b"\0" + bytes((esm_class, 0, 0)) + b"\0"
        + validity + b"\0" + bytes((registered, 0, data_coding, 0, len(text))) + text + tlvs
    )  # fmt: skip
