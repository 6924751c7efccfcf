"""What every process tells an operator: /healthz (alive), /readyz (can do its job, with reasons), /metrics."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], Awaitable[str | None]]  # None: fine; else the reason in words
READY_CHECK_S = 2.0


def add_routes(app: web.Application, registry: CollectorRegistry, checks: Mapping[str, Check]) -> None:
    """Put the three routes on an application. They say nothing about people and need no token."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        reasons = {}
        for name, check in checks.items():
            reason = await check()
            if reason is not None:
                reasons[name] = reason
        status = "ready" if not reasons else "not ready"
        return web.json_response({"status": status, "reasons": reasons}, status=503 if reasons else 200)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
