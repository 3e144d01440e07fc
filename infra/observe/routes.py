"""/metrics, /healthz and /readyz, and the count of requests."""

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.access.door import is_loopback
from infra.access.web import require
from infra.observe.health import Checks
from infra.observe.house import HouseCollector
from infra.observe.metrics import Metrics
from infra.observe.settings import ObserveSettings

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_BY_PROXY: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
    "cf-connecting-ip",
)
_UNKNOWN: Final = "unknown"


def health_router(vital: Checks, welcome: Checks, live: Callable[[], dict[str, object]]) -> APIRouter:
    """`live` is told beside readiness: numbers that are no secret. Anybody may ask both."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        """The event loop turns, or else nobody answers; and everything lives that calls live by."""
        dead = vital.faults()
        if dead:
            return JSONResponse({"status": "dead", "dead": dead}, 503)
        return JSONResponse({"status": "alive"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """New calls are welcome. What is dead is not ready either."""
        reasons = vital.faults() | welcome.faults()
        if not reasons:
            return JSONResponse({"status": "ready", **live()})
        status = "draining" if "draining" in reasons else "not ready"
        return JSONResponse({"status": status, "reasons": reasons, **live()}, 503)

    return router


def metrics_router(settings: ObserveSettings, metrics: Metrics, house: HouseCollector) -> APIRouter:
    router = APIRouter()
    needs_key = require("metrics")

    @router.get("/metrics", include_in_schema=False)
    async def scrape(request: Request) -> Response:
        if settings.metrics == "viewers" or not asked_from_this_machine(request):
            await needs_key(request)
        house.look()
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        render = generate_openmetrics if openmetrics else generate_latest
        # A thread: rendering some thousand lines takes longer than a packet may wait.
        text = await asyncio.to_thread(render, metrics.registry)
        return Response(text, media_type=OPENMETRICS if openmetrics else TEXT)

    return router


def asked_from_this_machine(request: Request) -> bool:
    """Directly: behind a reverse proxy everybody seems to be this machine, and a page of the internet may
    point a name of its own at 127.0.0.1."""
    peer = request.client.host if request.client is not None else ""
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return (
        is_loopback(peer)
        and host in _LOOPBACK_HOSTS
        and not any(name in request.headers for name in _BY_PROXY)
    )


class CountRequests:
    """Around the application: every HTTP answer by its route and status. WebSockets pass untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # Here, not at the end: a stream of events goes on for as long as its page is open.
                route = _route_of(scope)
                self._metrics.request_seconds.labels(route).observe(time.perf_counter() - began)
                self._metrics.requests.labels(route, str(status)).inc()
            await send(message)

        await self._app(scope, receive, counted)


def _route_of(scope: Scope) -> str:
    """The route's template, whatever the caller wrote: there are only so many."""
    route = scope.get("route")
    return str(getattr(route, "path", _UNKNOWN))


def count_requests(app: FastAPI, metrics: Metrics) -> None:
    app.add_middleware(CountRequests, metrics=metrics)
