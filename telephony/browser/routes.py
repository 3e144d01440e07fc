"""The page on which one clicks and talks, and the socket behind it.

`GET /talk` is the page, `GET /talk/session` says whether it needs a login, `POST /talk/login` takes the
password, `WS /talk/media` is the call.
"""

import json
import logging
import time
from typing import Final

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.requests import ClientDisconnect

from telephony.browser.access import COOKIE, PageDoor
from telephony.browser.assets import PAGE, SECURITY_HEADERS, Asset, load_assets
from telephony.browser.desk import BrowserDesk
from telephony.browser.errors import AccessRefused
from telephony.socket_starlette import StarletteSocket

logger = logging.getLogger(__name__)

TALK: Final = "/talk"
ASSETS: Final = "/talk/static/{name}"
SESSION: Final = "/talk/session"
LOGIN: Final = "/talk/login"
MEDIA: Final = "/talk/media"

_MAX_BODY_BYTES: Final = 4_096


def create_router(desk: BrowserDesk) -> APIRouter:
    """Endpoints of the page, whose calls `desk` serves; none at all where its configuration has the page off.

    Run it under uvicorn as `telephony.twilio.routes.create_router` says.
    """
    router = APIRouter()
    if not desk.config.on:
        return router
    pages = _Endpoints(desk)
    router.add_api_route(TALK, pages.page, methods=["GET"], include_in_schema=False)
    router.add_api_route(ASSETS, pages.asset, methods=["GET"], include_in_schema=False)
    router.add_api_route(SESSION, pages.session, methods=["GET"], include_in_schema=False)
    router.add_api_route(LOGIN, pages.login, methods=["POST"], include_in_schema=False)
    router.add_api_websocket_route(MEDIA, pages.media)
    return router


class _Endpoints:
    def __init__(self, desk: BrowserDesk) -> None:
        self._desk = desk
        self._door = PageDoor(desk.config, wall=desk.wall, monotonic=time.monotonic)
        self._assets = load_assets()

    async def page(self, request: Request) -> Response:
        return self._file(request, self._assets[PAGE])

    async def asset(self, request: Request, name: str) -> Response:
        asset = self._assets.get(name)
        if asset is None:
            return _json(404, {"error": "no such file"})
        return self._file(request, asset)

    async def session(self, request: Request) -> Response:
        """What the page must know before a call."""
        try:
            self._door.check_visit(_headers(request))
        except AccessRefused as refused:
            return _refusal(refused, SESSION)
        try:
            self._door.check_session(request.cookies.get(COOKIE))
            logged_in = True
        except AccessRefused:
            logged_in = False
        return _json(200, {"title": self._desk.config.title, "logged_in": logged_in})

    async def login(self, request: Request) -> Response:
        try:
            self._door.check_origin(_headers(request))
            address = request.client.host if request.client else ""
            cookie = self._door.log_in(await _password(request), address)
        except AccessRefused as refused:
            return _refusal(refused, LOGIN)
        response = _json(200, {"logged_in": True})
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(self._desk.config.session_s),
            path=self._desk.config.path + TALK,
            httponly=True,
            samesite="strict",
            secure=not self._desk.config.loopback,
        )
        return response

    async def media(self, websocket: WebSocket) -> None:
        try:
            self._door.check_origin(_headers(websocket))
            self._door.check_session(websocket.cookies.get(COOKIE))
        except AccessRefused as refused:
            logger.warning("%s refused: %s", MEDIA, refused.why)
            await websocket.close()  # before accept: answered with 403
            return
        if self._desk.crowded:
            logger.warning("%s refused: too many sockets wait for their start", MEDIA)
            await websocket.close()
            return
        await websocket.accept()
        await self._desk.serve(StarletteSocket(websocket))

    def _file(self, request: Request, asset: Asset) -> Response:
        try:
            self._door.check_visit(_headers(request))
        except AccessRefused as refused:
            return _refusal(refused, request.url.path)
        headers = SECURITY_HEADERS | {"ETag": asset.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers, media_type=asset.media_type)


async def _password(request: Request) -> str:
    """Raises `AccessRefused` for a body that holds none."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise AccessRefused("the request is too long", 413)
        fields = json.loads(body)
    except (ClientDisconnect, ValueError, RecursionError):
        raise AccessRefused("the request is not JSON", 400) from None
    password = fields.get("password") if isinstance(fields, dict) else None
    if not isinstance(password, str):
        raise AccessRefused("the request has no password", 400)
    return password


def _headers(connection: Request | WebSocket) -> dict[str, str]:
    return {name.lower(): value for name, value in connection.headers.items()}


def _json(status: int, content: dict[str, object]) -> Response:
    headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
    return Response(json.dumps(content), status, headers, "application/json")


def _refusal(refused: AccessRefused, path: str) -> Response:
    logger.warning("%s refused: %s", path, refused.why)
    words = {401: "wrong password", 429: "too many tries"}.get(refused.status, "refused")
    response = _json(refused.status, {"error": words})
    if refused.retry_after_s:
        response.headers["Retry-After"] = str(int(refused.retry_after_s) + 1)
    return response
