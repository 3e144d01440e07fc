"""`GET /console` is the page; what it asks for lies below. Whoever looks is a viewer at least; ending a call
takes an operator.

`GET /console/live` streams what is on, with the transcript of `?call=ID`. `POST /console/live/ID/end` lets
the agent say goodbye. `infra.console.past_routes` has the rest.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from infra.access.web import still_admitted
from infra.console.answers import NOT_KEPT, Operator, PageViewer, Viewer, answer, file, problem
from infra.console.assets import PAGE, console_assets
from infra.console.console import Console
from infra.console.feed import EventStream
from infra.console.past_routes import add_past_routes

CONSOLE: Final = "/console"
_STREAM: Final = NOT_KEPT | {"X-Accel-Buffering": "no"}
_LONGEST_ID: Final = 200


def create_router(console: Console) -> APIRouter:
    """Raises `OSError` where the page's files are missing."""
    router = APIRouter(prefix=CONSOLE)
    assets = console_assets()

    @router.get("", include_in_schema=False)
    async def page(request: Request, who: PageViewer) -> Response:
        return file(request, assets[PAGE])

    @router.get("/static/{name}", include_in_schema=False)
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name)
        return problem(404, "no such file") if found is None else file(request, found)

    @router.get("/me", include_in_schema=False)
    async def me(who: Viewer) -> Response:
        """Who looks, and what the buttons may do."""
        past = console.clerk is not None
        return answer({"name": who.name, "role": who.role, "ends_calls": who.may("operator"), "past": past})

    @router.get("/live", include_in_schema=False)
    async def live(
        request: Request, who: Viewer, call: Annotated[str, Query(max_length=_LONGEST_ID)] = ""
    ) -> Response:
        if console.feed.crowded or console.closing:
            return problem(503, "too many pages are open, or the server stops", {"Retry-After": "10"})

        def allowed() -> bool:
            return not console.closing and still_admitted(request, "viewer")

        return EventStream(console.feed, call, allowed, _STREAM)

    @router.post("/live/{call_id}/end", include_in_schema=False)
    async def end(call_id: Annotated[str, Path(max_length=_LONGEST_ID)], who: Operator) -> Response:
        ended = console.end_call(call_id)
        return answer({"ended": True}) if ended else problem(404, "that call is not on")

    if console.clerk is not None:
        add_past_routes(router, console.clerk, console.house)
    return router
