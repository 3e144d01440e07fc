"""The endpoints that Asterisk calls.

`WS /asterisk/media` takes chan_websocket's connections. `POST /asterisk/calls` is where a dialplan tells of
an AudioSocket call before it connects: `uuid=...` and whatever the agent should know, in form or query.
`GET /asterisk/ending?id=...` answers `fine`, `failed` or `busy` when the call is over, so that the dialplan
may say sorry.
"""

import logging
import uuid
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.requests import ClientDisconnect

from telephony.answer import Answer, Lines
from telephony.asterisk.access import MAX_PARAMETER_CHARS, MAX_PARAMETERS, Doorkeeper
from telephony.asterisk.book import CallBook, Ending
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.desk import CallDesk
from telephony.asterisk.errors import AccessRefused
from telephony.socket_starlette import StarletteSocket

logger = logging.getLogger(__name__)

MEDIA: Final = "/asterisk/media"
CALLS: Final = "/asterisk/calls"
ENDING: Final = "/asterisk/ending"
SUBPROTOCOL: Final = "media"

_MAX_BODY_BYTES: Final = 65_536


def create_router(
    config: AsteriskConfig,
    answer: Answer,
    *,
    accepting: Callable[[], bool] = lambda: True,
    lines: Lines | None = None,
    book: CallBook | None = None,
) -> APIRouter:
    """Endpoints that hand every call of chan_websocket to `answer(line)`, each in its own task.

    `lines` has a place for each call, or `accepting()` says whether one more may come in; otherwise the
    channel is hung up at once. `book` is shared with `AudioSocketServer`; without it there are
    no announcements and no endings. Run it under uvicorn as `telephony.twilio.routes.create_router` says,
    with `proxy_headers=False`: `allowed` is about real peers.
    """
    desk = CallDesk(config, answer, accepting=accepting, lines=lines, book=book)
    return _Endpoints(desk, Doorkeeper(config), book).router()


class _Endpoints:
    def __init__(self, desk: CallDesk, door: Doorkeeper, book: CallBook | None) -> None:
        self._desk = desk
        self._door = door
        self._book = book

    def router(self) -> APIRouter:
        router = APIRouter()
        for spelling in (MEDIA, MEDIA + "/"):
            router.add_api_websocket_route(spelling, self.media)
        if self._book is not None:
            router.add_api_route(CALLS, self.calls, methods=["POST"], include_in_schema=False)
            router.add_api_route(ENDING, self.ending, methods=["GET"], include_in_schema=False)
        return router

    async def media(self, websocket: WebSocket) -> None:
        try:
            parameters = self._check(websocket)
        except AccessRefused as refused:
            logger.warning("a WebSocket was refused: %s", refused)
            await websocket.close()  # before accept: answered with 403
            return
        place = self._desk.admit()
        if place is None:
            logger.warning("a WebSocket was refused: too many wait for their MEDIA_START")
            await websocket.close()
            return
        try:
            offered = websocket.scope.get("subprotocols") or []
            await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await self._desk.serve_websocket(StarletteSocket(websocket), place, parameters)
        finally:
            place.release()

    async def calls(self, request: Request) -> Response:
        try:
            told = self._check(request)
        except AccessRefused as refused:
            logger.warning("an announcement was refused: %s", refused)
            return _plain(403, "refused")
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return _plain(413, "too long")
        except ClientDisconnect:
            return _plain(400, "the request broke off")
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
            told |= {name: value for name, value in pairs if len(name) + len(value) <= MAX_PARAMETER_CHARS}
            name = uuid.UUID(told.pop("uuid", ""))
        except ValueError:  # UnicodeDecodeError is one
            return _plain(400, "uuid= is missing or is none, or the form cannot be read")
        told.pop("token", None)
        if self._book is not None:
            self._book.announce(name, {name.lower(): value for name, value in told.items()})
        return _plain(200, "ok")

    async def ending(self, request: Request) -> Response:
        try:
            told = self._check(request)
        except AccessRefused as refused:
            logger.warning("a question for an ending was refused: %s", refused)
            return _plain(403, "refused")
        ending = self._book.ending(told.get("id", "")) if self._book is not None else Ending.FAILED
        return _plain(200, ending.value)

    def _check(self, connection: Request | WebSocket) -> dict[str, str]:
        host = connection.client.host if connection.client is not None else None
        query = connection.scope["query_string"].decode("latin-1")
        headers = {name.lower(): value for name, value in connection.headers.items()}
        return self._door.check_request(host, query, headers)


def _plain(status: int, text: str) -> Response:
    return Response(content=text + "\n", status_code=status, media_type="text/plain")
