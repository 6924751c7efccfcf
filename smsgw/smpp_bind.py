"""One link to a carrier: the only file with a carrier's socket.

    waiting ─ advisory lock ─> connecting ─ TCP, TLS, bind ─> up ─ dead, unbound, cut ─> down ─ back-off ─> connecting
       ^                                    └─ bad credentials ─> refused: nothing more until the configuration changes
       └── the lock's connection is lost: somebody else may hold the bind now, so let go of the link at once

The protocol decides nothing: bytes go to the Session (smpp_session.py), its events to Outbound and Inbound.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from addressbook import network, outbox
from runtime.config import BadConfig, BindConfig
from runtime.database import Database
from runtime.locks import AdvisoryLock
from runtime.tasks import end
from smsgw.asking import Asking
from smsgw.inbound import Inbound
from smsgw.metrics import Metrics
from smsgw.outbound import Outbound, Piece
from smsgw.receipt_desk import ReceiptDesk
from smsgw.receipts import parse as parse_receipt
from smsgw.smpp_numbers import status_text
from smsgw.smpp_session import (
    BindRefused,
    BindType,
    BodyRefused,
    Bound,
    Delivered,
    Event,
    LateAnswer,
    LinkDead,
    PeerUnbound,
    QueryAnswered,
    Session,
    SessionConfig,
    SubmitAnswered,
    TimedOut,
    Unbound,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
RECONNECT_FIRST_S = 0.25
RECONNECT_MAX_S = 30.0
STEADY_S = 30.0  # a link that stood so long starts its back-off anew
LOCK_RETRY_S = 1.0
LOCK_CHECK_S = 0.5
REPORT_S = 3.0  # a dead link shows in the table within 5 s (R4.16)
TICK_MAX_S = 1.0
DRAIN_S = 5.0  # at the stop: answers still under way


class Bind:
    """Owns one configured link for as long as the process runs."""

    def __init__(
        self,
        config: BindConfig,
        outbound: Outbound,
        receipts: ReceiptDesk,
        inbound: Inbound,
        database: Database,
        metrics: Metrics,
        lock: AdvisoryLock,
        asking: Asking | None = None,
    ) -> None:
        self.config = config
        self.state = "waiting"
        self.last_error: str | None = None
        self._outbound = outbound
        self._receipts = receipts
        self._inbound = inbound
        self._database = database
        self._metrics = metrics.of_link(config.name)
        self._lock = lock
        self._changed = asyncio.Event()
        self._asking = asking

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the link up until `stop`; then unbind, write everything down and let go of the lock."""
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._outbound.claim_forever()),
                    tasks.create_task(self._outbound.flush_forever()),
                    tasks.create_task(self._receipts.flush_forever()),
                    tasks.create_task(self._inbound.flush_forever()),
                    tasks.create_task(self._report_forever()),
                ]
                try:
                    await self._hold(stop)
                finally:
                    await end(helpers)
            with suppress(Exception):  # the database may be gone already: then the leases end by themselves
                async with asyncio.timeout(DRAIN_S):
                    await self._outbound.flush()
                    await self._receipts.flush()
                    self._set("down", "stopped")
                    await self._report()
        finally:
            await self._lock.release()

    async def _hold(self, stop: asyncio.Event) -> None:
        back_off = RECONNECT_FIRST_S
        while not stop.is_set():
            if not await self._own(stop):
                return
            self._set("connecting")
            began = time.monotonic()
            try:
                await self._connection(stop)
            except (OSError, TimeoutError, BadConfig) as error:  # ssl.SSLError is an OSError
                self._set("down", _reason(error))
            if self.state == "refused":
                log.error("the carrier refuses our credentials: not trying again", extra={"link": self.config.name})
                await stop.wait()
                return
            if time.monotonic() - began > STEADY_S:
                back_off = RECONNECT_FIRST_S
            if not stop.is_set():
                await _wait(stop, back_off * random.uniform(0.7, 1.3))
                back_off = min(RECONNECT_MAX_S, back_off * 2)

    async def _own(self, stop: asyncio.Event) -> bool:
        """Wait until this process holds the bind; whatever a former owner had claimed goes back first."""
        while not stop.is_set():
            if await self._lock.check():
                return True
            try:
                if await self._lock.acquire():
                    await self._outbound.flush()  # what we know ourselves of our claims is no riddle
                    await self._database.transact(outbox.end_leases, self.config.name)
                    return True
                self._set("waiting", "another process holds this link")
            except Exception as error:  # noqa: BLE001 -- no database, no lock: ask again
                self._set("waiting", f"no database: {type(error).__name__}")
            await _wait(stop, LOCK_RETRY_S)
        return False

    async def _connection(self, stop: asyncio.Event) -> None:
        """One connection from connect to close."""
        session = Session(self._session_config())
        wire = _Wire(session, self._on_events)
        try:
            if await self._connect(wire, stop):
                async with asyncio.TaskGroup() as tasks:
                    asking = tasks.create_task(self._ask(session, wire))
                    try:
                        await self._drive(session, wire, stop)
                    finally:
                        await end([asking])
        finally:
            if self.state in ("up", "connecting"):
                self._set("down", wire.reason)
            self._outbound.link_down(session)
            wire.close()

    async def _ask(self, session: Session, wire: "_Wire") -> None:
        if self._asking is not None:
            await self._asking.ask_forever(session, wire.write)

    async def _drive(self, session: Session, wire: "_Wire", stop: asyncio.Event) -> None:
        lock_checked = time.monotonic()
        while not wire.closed.is_set():
            now = time.monotonic()
            wire.handle(session.tick(now))
            if stop.is_set():
                await self._say_goodbye(session, wire)
                return
            if now - lock_checked > LOCK_CHECK_S:
                lock_checked = now
                if not await self._lock.check():
                    wire.reason = "lost the right to this link"
                    return
            due = session.next_tick()
            pause = TICK_MAX_S if due is None else min(TICK_MAX_S, max(0.01, due - time.monotonic()))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await wire.closed.wait()

    async def _say_goodbye(self, session: Session, wire: "_Wire") -> None:
        """No more submits; what is under way may still be answered; then unbind."""
        self._outbound.pause()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await wire.drained(session)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._outbound.flush()
        session.unbind(time.monotonic())
        wire.write()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await wire.closed.wait()

    async def _connect(self, wire: "_Wire", stop: asyncio.Event) -> bool:
        """Connect, or wait for the carrier to; False if there is no reason to wait any more."""
        config = self.config
        if config.outbind_port is not None:
            return await self._connected_by_carrier(wire, config.outbind_port, stop)
        context = None
        if config.tls:
            context = ssl.create_default_context(cafile=config.tls_ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2  # S37
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(
                lambda: wire, config.host, config.port, ssl=context, server_hostname=config.host if config.tls else None
            )
        return True

    async def _connected_by_carrier(self, wire: "_Wire", port: int, stop: asyncio.Event) -> bool:
        """Only `host` may call: whoever is answered with a bind learns our password."""
        loop = asyncio.get_running_loop()
        callers = {str(found[4][0]) for found in await loop.getaddrinfo(self.config.host, None)}
        server = await loop.create_server(lambda: _Caller(wire, callers), port=port)
        try:
            while not wire.connected.is_set():
                await _wait(wire.connected, LOCK_CHECK_S)
                if stop.is_set() or not await self._lock.check():
                    wire.reason = "no longer waiting for the carrier's outbind"
                    return wire.connected.is_set()
            return True
        finally:
            server.close()

    def _session_config(self) -> SessionConfig:
        config = self.config
        return SessionConfig(
            system_id=config.system_id,
            password=config.secret(),
            bind_type=BindType(config.bind_type),
            system_type=config.system_type,
            window=config.window,
            wait_outbind=config.outbind_port is not None,
            response_timeout_s=config.response_timeout_s,
            enquire_link_interval_s=config.enquire_link_s,
        )

    # ---- events

    def _on_events(self, wire: "_Wire", events: list[Event]) -> None:
        outbound, desk, inbound = self._outbound, self._receipts, self._inbound
        session = wire.session
        for event in events:
            if isinstance(event, SubmitAnswered):
                assert isinstance(event.token, Piece)
                outbound.answered(event.token, event.status, event.message_id)
            elif isinstance(event, Delivered):
                receipt = parse_receipt(event.message)
                if receipt is not None:
                    desk.take(session, wire.write, event.sequence, receipt, event.message)
                else:
                    inbound.delivered(session, wire.write, event.sequence, event.message)
            else:
                self._on_rare(wire, event)
        outbound.fill()

    def _on_rare(self, wire: "_Wire", event: Event) -> None:
        extra = {"link": self.config.name}
        match event:
            case LateAnswer(token, status, message_id):
                assert isinstance(token, Piece)
                self._outbound.answered_late(token, status, message_id)
            case TimedOut(token):
                assert isinstance(token, Piece)
                self._outbound.timed_out(token)
            case Bound():
                log.info("bound", extra=extra)
                self._set("up")
                self._outbound.link_up(wire.session, wire.write)
            case BindRefused(status, permanent):
                self._set("refused" if permanent else "down", status_text(status))
                wire.end(status_text(status))
            case LinkDead(reason):
                wire.end(reason)
            case PeerUnbound():
                wire.end("the carrier unbound")
            case QueryAnswered() if self._asking is not None:
                self._asking.answered(event)
            case Unbound():
                wire.end("unbound")
            case BodyRefused(_, _, status, reason):
                self._metrics.broken.inc()
                log.warning("a message could not be read", extra=extra | {"status": status, "reason": reason})
            case _:
                log.debug("answer to nothing we know", extra=extra | {"event": type(event).__name__})

    # ---- the link table

    def _set(self, state: str, error: str | None = None) -> None:
        if error is not None:
            self.last_error = error
        if state != self.state:
            log.info("link state", extra={"link": self.config.name, "state": state, "reason": error})
            self.state = state
            self._metrics.up.set(state == "up")
            self._changed.set()

    async def _report_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()
            self._changed.clear()
            with suppress(Exception):  # the table is for people; without a database nobody can read it anyway
                await self._report()

    async def _report(self) -> None:
        await self._database.transact(
            network.report,
            network.LinkStatus(
                self.config.name, self.state, self._outbound.queue, self.last_error, self._outbound.last_success
            ),
        )


class _Wire(asyncio.Protocol):
    """The socket of one connection."""

    def __init__(self, session: Session, on_events: Callable[["_Wire", list[Event]], None]) -> None:
        self.session = session
        self.connected = asyncio.Event()
        self.closed = asyncio.Event()
        self._heard = asyncio.Event()
        self.reason = "the connection was closed"
        self._on_events = on_events
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.connected.set()
        self.session.connected(time.monotonic())
        self.write()

    def data_received(self, data: bytes) -> None:
        self.handle(self.session.receive(data, time.monotonic()))
        self._heard.set()

    def handle(self, events: list[Event]) -> None:
        if events:
            self._on_events(self, events)
        self.write()

    def write(self) -> None:
        data = self.session.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.reason = _reason(exc)
        self.session.connection_lost()
        self.closed.set()
        self._heard.set()

    async def drained(self, session: Session) -> None:
        """Wait until no submit is unanswered, or the connection is gone."""
        while session.unanswered() and not self.closed.is_set():
            self._heard.clear()
            await self._heard.wait()

    def end(self, reason: str) -> None:
        """Close after what is queued is written."""
        self.reason = reason
        self.write()
        self.close()
        self.closed.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Caller(asyncio.Protocol):
    """A connection to our outbind port: the carrier's, and the first, becomes the wire; any other is dropped."""

    def __init__(self, wire: _Wire, callers: set[str]) -> None:
        self._wire = wire
        self._callers = callers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)
        peer = made.get_extra_info("peername") or ("nobody",)
        if self._wire.connected.is_set() or str(peer[0]).removeprefix("::ffff:") not in self._callers:
            log.warning("a caller on the outbind port was turned away")
            made.abort()
            return
        made.set_protocol(self._wire)
        self._wire.connection_made(made)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no connection within the time-out"
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"[:200]


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
