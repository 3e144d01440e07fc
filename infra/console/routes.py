"""`GET /console` is the page; what it asks for lies below. Whoever looks is a viewer at least; ending a call
takes an operator.

`GET /console/live` streams what is on, with the transcript of `?call=ID`. `POST /console/live/ID/end` lets
the agent say goodbye.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from infra.access.web import Principal, require, still_admitted
from infra.console.assets import PAGE, SECURITY_HEADERS, console_assets
from infra.console.console import Console
from infra.console.feed import EventStream
from telephony.browser.assets import Asset

CONSOLE: Final = "/console"
_NOT_KEPT: Final = SECURITY_HEADERS | {"Cache-Control": "no-store"}
_STREAM: Final = _NOT_KEPT | {"X-Accel-Buffering": "no"}

Viewer = Annotated[Principal, Depends(require("viewer"))]
Operator = Annotated[Principal, Depends(require("operator"))]
PageViewer = Annotated[Principal, Depends(require("viewer", page=True))]
CallId = Annotated[str, Query(max_length=200)]


def create_router(console: Console) -> APIRouter:
    """Raises `OSError` where the page's files are missing."""
    router = APIRouter(prefix=CONSOLE)
    assets = console_assets()

    @router.get("", include_in_schema=False)
    async def page(request: Request, who: PageViewer) -> Response:
        return _file(request, assets[PAGE])

    @router.get("/static/{name}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name)
        return problem(404, "no such file") if found is None else _file(request, found)

    @router.get("/me", include_in_schema=False)
    async def me(who: Viewer) -> Response:
        """Who looks, and what the buttons may do."""
        return answer({"name": who.name, "role": who.role, "ends_calls": who.may("operator")})

    @router.get("/live", include_in_schema=False)
    async def live(request: Request, who: Viewer, call: CallId = "") -> Response:
        if console.feed.crowded:
            return problem(503, "too many pages are open", {"Retry-After": "10"})
        return EventStream(console.feed, call, lambda: still_admitted(request, "viewer"), _STREAM)

    @router.post("/live/{call_id}/end", include_in_schema=False)
    async def end(call_id: str, who: Operator) -> Response:
        ended = console.end_call(call_id)
        return answer({"ended": True}) if ended else problem(404, "that call is not on")

    return router


def answer(content: Mapping[str, Any] | list[Any], status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, _NOT_KEPT, "application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    response = answer({"detail": detail}, status)
    response.headers.update(headers or {})
    return response


def _file(request: Request, asset: Asset) -> Response:
    headers = SECURITY_HEADERS | {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
