"""The simulator's web server: the page for people, the JSON API for stories and tests, live events, health, metrics."""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from simulator import api, pages
from simulator.api import problem
from simulator.events import TooManyWatchers
from simulator.pages import NONCE

if TYPE_CHECKING:
    from simulator.network import Simulator

log = logging.getLogger(__name__)

BODY_OCTETS_MAX = 64 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
EVENTS_PAUSE_S = 0.2  # a page hears of changes five times a second at most
EVENTS_IDLE_S = 15.0  # a sign of life, so that gone pages are noticed
STOP_WITHIN_S = 2.0
_STATIC = Path(__file__).parent / "static"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The HTTP side of one simulator."""

    def __init__(self, simulator: "Simulator") -> None:
        self.port = 0
        self._simulator = simulator
        self._stopping = False
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(simulator))
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 picks a free one."""
        app = web.Application(client_max_size=BODY_OCTETS_MAX, middlewares=[_headers, _errors, _same_site])
        app.add_routes([*api.routes(self._simulator), *pages.routes(self._simulator)])
        app.router.add_get("/api/events", self._events)
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_static("/static", _STATIC)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WITHIN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End live pages and close."""
        self._stopping = True
        self._simulator.events.tell("stopping")
        if self._runner:
            await self._runner.cleanup()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Topics that changed, as server-sent events; the reader fetches what it shows."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        _secure(response, request)
        await response.prepare(request)
        try:
            await response.write(b"retry: 1000\n\n")
            async for topics in self._simulator.events.watch(EVENTS_PAUSE_S, EVENTS_IDLE_S):
                if self._stopping:
                    break
                data = f"event: changed\ndata: {json.dumps(sorted(topics))}\n\n" if topics else ": alive\n\n"
                await response.write(data.encode())
        except ConnectionResetError:
            pass  # the page was closed
        except TooManyWatchers:
            await response.write(b"event: full\ndata: []\n\n")
        return response

    async def _ready(self, _: web.Request) -> web.Response:
        refusing = self._simulator.carrier.as_json()["refusing_s"]
        reasons = [f"the carrier lets nobody in for {refusing:.1f} s: a cut was ordered"] if refusing else []
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


async def _alive(_: web.Request) -> web.Response:
    return web.json_response({"alive": True})


class _Figures(Collector):
    """The carrier's counters, read when somebody asks."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Counters and gauges of this moment."""
        state = self._simulator.carrier.as_json()
        for name, value in state["counters"].items():
            yield CounterMetricFamily(f"simulator_{name}", f"Carrier: {name.replace('_', ' ')}", value=value)
        yield GaugeMetricFamily("simulator_links", "Bound sessions", value=len(state["links"]))
        yield GaugeMetricFamily("simulator_handsets", "Phones", value=len(self._simulator.handsets))
        yield GaugeMetricFamily("simulator_waiting", "Messages for absent phones", value=state["waiting_for_phones"])
        owed = GaugeMetricFamily("simulator_owed", "deliver_sm not sent yet", labels=["system_id"])
        for system_id, count in state["owed"].items():
            owed.add_metric([system_id], count)
        yield owed


def _secure(response: web.StreamResponse, request: web.Request) -> None:
    nonce = request.get(NONCE, "")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'self'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "simulator"


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Security headers on every answer, errors too."""
    request[NONCE] = secrets.token_urlsafe(16)
    response = await handler(request)
    if not response.prepared:
        _secure(response, request)
    return response


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as problem+json for programs and as a plain page for people."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        if request.path.startswith("/api/"):
            return problem(error.status, error.reason)
        return pages.error_page(error.status, error.reason)
    except Exception:  # the outermost one: a page that fails must not take the carrier with it
        log.exception("a request failed")
        return problem(500, "the simulator failed; its log says why")


@web.middleware
async def _same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Other sites' pages may not press our buttons (Fetch Metadata, Origin where a browser lacks it)."""
    if request.method not in SAFE_METHODS:
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        foreign = site not in ("same-origin", "none") if site else origin and urlsplit(origin).netloc != request.host
        if foreign:
            return problem(403, "requests from other sites are refused")
    return await handler(request)
