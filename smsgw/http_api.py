"""The gateway's API: messages in, their state out; health and metrics beside it.

    POST /v1/messages ─ token ─ check ─> batcher ─ one transaction for all requests that wait ─> 202 with ids
    GET  /v1/messages/{id}                      state and segments of a message of the same token
    GET  /v1/openapi.json                       the document of all this, made from the code that checks

A 202 means: committed. Errors are problem details (RFC 9457).
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from addressbook import messages, tokens
from addressbook.errors import Refused
from addressbook.outbox import Outgoing
from addressbook.service import Service
from runtime.database import Database
from runtime.health import Check, add_routes
from runtime.tasks import end
from smsgw.api_document import document
from smsgw.api_models import BATCH_MAX, MessageIn, Parsed, outgoing, parse_body, problems_of
from smsgw.metrics import Metrics

log = logging.getLogger(__name__)

BODY_OCTETS_MAX = 16 * 1024 * 1024  # a full batch of long texts
WAITING_MAX = 20_000  # messages in requests that wait for their commit; beyond it: 503
COMMIT_BATCH_MAX = 5_000
COMMITTERS = 2  # while one waits for the disk, the other fills PostgreSQL's hands
TOKEN_KEPT_S = 5.0  # a revoked token lives this long at most
TOKENS_KEPT_MAX = 10_000
KEY_CHARACTERS_MAX = 128
RETRY_AFTER_S = 2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """An error as the client sees it (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str = "", **more: Any) -> None:
        super().__init__(title)
        self.status = status
        self.body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}

    def response(self) -> web.Response:
        headers = {"Cache-Control": "no-store"}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in {429, 503}:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return web.json_response(
            self.body, status=self.status, content_type="application/problem+json", headers=headers
        )


def application(database: Database, service: Service, metrics: Metrics, checks: Mapping[str, Check]) -> web.Application:
    """The aiohttp application; its batcher runs between start-up and clean-up."""
    api = _Api(database, service)
    app = web.Application(
        client_max_size=BODY_OCTETS_MAX, middlewares=[_with_problems(metrics)], handler_args={"access_log": None}
    )
    app.router.add_post("/v1/messages", api.send)
    app.router.add_get("/v1/messages/{id}", api.read)
    app.router.add_get("/v1/openapi.json", api.openapi)
    add_routes(app, metrics.registry, checks)
    app.cleanup_ctx.append(api.running)
    return app


def _with_problems(metrics: Metrics) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except web.HTTPRequestEntityTooLarge:
            response = Problem(413, "Too large", f"A body has at most {BODY_OCTETS_MAX} octets.").response()
        except web.HTTPException as error:
            response = Problem(error.status, error.reason).response()
            if "Allow" in error.headers:  # of 405: RFC 9110, 15.5.6
                response.headers["Allow"] = error.headers["Allow"]
        except (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError):
            response = Problem(503, "Try again", "The database does not answer; nothing was accepted.").response()
        except Exception:  # the outermost one: a client is owed a problem document for our faults, too
            log.exception("a request failed")
            response = Problem(500, "A fault of ours", "It is in our log; nothing was accepted.").response()
        route = request.match_info.route.resource
        metrics.api_seconds.labels(route.canonical if route else "none", str(response.status)).observe(
            time.perf_counter() - began
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return middleware


class _Batcher:
    """Commits the messages of many requests together: while one transaction runs, the next batch gathers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[list[Outgoing], asyncio.Future[list[int]]]] = []
        self._count = 0
        self._filled = asyncio.Event()

    async def add(self, outgoing: list[Outgoing]) -> list[int]:
        """Commit these and return their ids. Raises Problem 503 when too much waits already."""
        if self._count + len(outgoing) > WAITING_MAX:
            raise Problem(503, "Try again", "More messages are waiting than can be accepted.")
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((outgoing, future))
        self._count += len(outgoing)
        self._filled.set()
        return await future

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            batch = self._next()
            if not self._waiting:
                self._filled.clear()
            if not batch:
                continue
            try:
                ids = await self._database.transact(messages.accept, [message for part, _ in batch for message in part])
            except Exception as error:  # noqa: BLE001 -- it belongs to the requests that wait, each gets it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            start = 0
            for part, future in batch:
                if not future.done():  # the client may have gone
                    future.set_result(ids[start : start + len(part)])
                start += len(part)

    def _next(self) -> list[tuple[list[Outgoing], asyncio.Future[list[int]]]]:
        taken = count = 0
        for part, _ in self._waiting:
            if taken and count + len(part) > COMMIT_BATCH_MAX:
                break
            taken += 1
            count += len(part)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._count -= count
        return batch


class _Api:
    def __init__(self, database: Database, service: Service) -> None:
        self._database = database
        self._service = service
        self._batcher = _Batcher(database)
        self._tokens: dict[str, tuple[tokens.Token, float]] = {}
        self._document = json.dumps(document()).encode()

    async def running(self, _app: web.Application) -> Any:
        tasks = [asyncio.create_task(self._batcher.run()) for _ in range(COMMITTERS)]
        yield
        await end(tasks)

    async def send(self, request: web.Request) -> web.Response:
        token = await self._authorise(request, "send")
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > KEY_CHARACTERS_MAX or not (key.isascii() and (key.isprintable() or not key)):
            raise Problem(400, "Bad Idempotency-Key", f"It has at most {KEY_CHARACTERS_MAX} ASCII characters.")
        body = await request.read()
        parsed = self._parse(body)
        messages_out = self._outgoing(parsed, token)
        if key:
            status, answer = await self._send_once(token, key, body, parsed, messages_out)
        else:
            status, answer = 202, _answer(parsed, await self._batcher.add(messages_out))
        return web.json_response(answer, status=status, headers={"Cache-Control": "no-store"})

    def _parse(self, body: bytes) -> Parsed:
        try:
            return parse_body(body)
        except ValidationError as error:
            title, status = "The body is not as it must be", 422
            if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
                title, status = "The body is not JSON", 400
            raise Problem(status, title, errors=problems_of(error)) from None

    def _outgoing(self, parsed: Parsed, token: tokens.Token) -> list[Outgoing]:
        """Check numbers; all wrong ones are named, and nothing is accepted."""
        ready: list[Outgoing] = []
        wrong: list[dict[str, str]] = []
        region = self._service.default_region
        for place, message in enumerate(parsed.messages):
            try:
                ready.append(outgoing(message, region, token.id))
            except Refused as refused:
                if len(wrong) < 100:
                    wrong.append(
                        {"where": f"messages.{place}.to" if parsed.is_batch else "to", "what": refused.render()}
                    )
        if wrong:
            raise Problem(422, "A number cannot be texted", errors=wrong)
        return ready

    async def _send_once(
        self, token: tokens.Token, key: str, body: bytes, parsed: Parsed, out: list[Outgoing]
    ) -> tuple[int, dict[str, Any]]:
        """The same key again gets the same answer and sends nothing; with another body it is refused."""
        try:
            return await self._database.transact(
                messages.accept_once, token.id, key, hashlib.sha256(body).digest(), out,
                lambda ids: _answer(parsed, ids),
            )  # fmt: skip
        except messages.KeyReused:
            raise Problem(
                422, "Idempotency-Key used before", "The key was used with another body: take a new one."
            ) from None

    async def read(self, request: web.Request) -> web.Response:
        token = await self._authorise(request, "read")
        raw = request.match_info["id"]
        found = None
        if raw.isascii() and raw.isdigit() and len(raw) < 19:
            found = await self._database.transact(messages.state, int(raw), token.id)
        if found is None:
            raise Problem(404, "No such message", "No message of this token has that id.")
        return web.json_response(found, headers={"Cache-Control": "no-store"})

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _authorise(self, request: web.Request, scope: str) -> tokens.Token:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(given) <= 128 or not given.isascii():
            raise Problem(401, "A token is needed", "Authorization: Bearer TOKEN; `smsgw token add NAME` makes one.")
        now = time.monotonic()
        known = self._tokens.get(given)
        if known is None or now - known[1] > TOKEN_KEPT_S:
            token = await self._database.transact(tokens.find, given)
            if token is None:
                self._tokens.pop(given, None)
                raise Problem(401, "Unknown token", "This token does not exist or was revoked.")
            if len(self._tokens) >= TOKENS_KEPT_MAX:
                self._tokens.clear()
            known = self._tokens[given] = (token, now)
        if scope not in known[0].scopes:
            raise Problem(403, "Not allowed", f"This token lacks the scope {scope!r}.")
        return known[0]


def _answer(parsed: Parsed, ids: Sequence[int]) -> dict[str, Any]:
    if parsed.is_batch:
        return {"ids": [str(number) for number in ids]}
    return {"id": str(ids[0])}


__all__ = ["BATCH_MAX", "MessageIn", "Problem", "application"]
