"""The API: messages accepted durably, posted one by one over many connections, and in batches."""

import asyncio
import json
import time
from typing import Any

import uvloop
from sqlalchemy import text

from addressbook import tokens
from bench.bed import bed, cpu_seconds, wait_ready

CONNECTIONS = 64
BATCH = 10_000


class _Client(asyncio.Protocol):
    """One keep-alive connection that posts the next request when the last is answered."""

    def __init__(self, requests: "asyncio.Queue[bytes]", accepted: list[int], done: "asyncio.Future[None]") -> None:
        self._requests = requests
        self._accepted = accepted
        self._done = done
        self._answer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._requests.empty():
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._transport.write(self._requests.get_nowait())

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) >= length:
            self._accepted.append(int(head.split(b" ", 2)[1]))
            self._answer = b""
            self._next()


async def _post(port: int, token: str, bodies: list[bytes], connections: int) -> tuple[float, list[int]]:
    requests: asyncio.Queue[bytes] = asyncio.Queue()
    for body in bodies:
        requests.put_nowait(
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (token.encode(), len(body), body)
        )
    loop = asyncio.get_running_loop()
    statuses: list[int] = []
    ends = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for end in ends:
        await loop.create_connection(lambda end=end: _Client(requests, statuses, end), "127.0.0.1", port)  # type: ignore[misc]  # the default binds the loop's variable
    async with asyncio.timeout(120):
        await asyncio.gather(*ends)
    return time.perf_counter() - began, statuses


def _message(number: int) -> dict[str, Any]:
    return {"to": f"+86138{number % 100_000_000:08}", "text": "Your order has arrived at the shop in Market Street"}


def run(singles: int = 20_000, batches: int = 20) -> dict[str, Any]:
    """No link is up, so that only accepting is measured."""
    with bed() as under:
        token = under.database.transact(tokens.add, "bench")
        gateway, port = under.gateway(1, bind_type="receiver")
        wait_ready(port, links=False)
        postgres = under.engines.postgres_pid()
        assert postgres is not None
        one = [json.dumps(_message(number)).encode() for number in range(singles)]
        many = [
            json.dumps({"messages": [_message(batch * BATCH + number) for number in range(BATCH)]}).encode()
            for batch in range(batches)
        ]
        uvloop.run(_post(port, token, one[:500], CONNECTIONS))  # warm: connections, statements, caches
        seconds, statuses = uvloop.run(_post(port, token, one, CONNECTIONS))
        before = cpu_seconds(gateway.pid), cpu_seconds(postgres, tree=True)
        batch_seconds, batch_statuses = uvloop.run(_post(port, token, many, 2))
        after = cpu_seconds(gateway.pid), cpu_seconds(postgres, tree=True)
        with under.database.engine.connect() as connection:
            rows = int(connection.execute(text("select count(*) from outbox")).scalar_one())
        messages = batches * BATCH
        return {
            "singles": statuses.count(202),
            "singles_per_second": round(statuses.count(202) / seconds),
            "batched": batch_statuses.count(202) * BATCH,
            "batched_per_second": round(batch_statuses.count(202) * BATCH / batch_seconds),
            "batched_gateway_cpu_us": round((after[0] - before[0]) / messages * 1e6, 1),
            "batched_postgres_cpu_us": round((after[1] - before[1]) / messages * 1e6, 1),
            "rows": rows,
        }


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
