"""The HTTP and WebSocket endpoints that Twilio calls.

`POST /twilio/voice` answers a ringing call with TwiML that connects it to `WS /twilio/media`. When our
end of that socket closes, Twilio goes on with what follows `</Connect>`: a redirect to
`POST /twilio/after`, which ends the call or says sorry. https://www.twilio.com/docs/voice/twiml/stream
"""

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect
from twilio.twiml.voice_response import Connect, VoiceResponse  # type: ignore[import-untyped]

from telephony.socket_starlette import StarletteSocket
from telephony.twilio.access import Doorkeeper
from telephony.twilio.config import TwilioConfig
from telephony.twilio.desk import CALLED_PARAMETER, CALLER_PARAMETER, Answer, Ending, StreamDesk
from telephony.twilio.errors import AccessRefused
from telephony.twilio.tokens import TOKEN_PARAMETER

logger = logging.getLogger(__name__)

VOICE: Final = "/twilio/voice"
AFTER: Final = "/twilio/after"
STATUS: Final = "/twilio/status"
STREAM_STATUS: Final = "/twilio/stream-status"
MEDIA: Final = "/twilio/media"

_MAX_BODY_BYTES: Final = 65_536
_CALL_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def create_router(
    config: TwilioConfig,
    answer: Answer,
    *,
    accepting: Callable[[], bool] = lambda: True,
    wall: Callable[[], float] = time.time,
) -> APIRouter:
    """Endpoints that hand every call to `answer(line)`, each in its own task.

    `accepting()` says whether one more call may come in; otherwise callers hear `config.busy`.
    `wall()` is the time of day, for the tokens' expiry. Run it under uvicorn with `ws="websockets-sansio"`,
    without compression (mu-law in base64 hardly shrinks) and without pings: media flows all the time, and
    nothing says that Twilio answers them, so that a missing pong would end the call. `ws_max_size` of some
    2**21 bytes leaves it to the protocol to skip what is too long.
    """
    desk = StreamDesk(config, answer, wall=wall, accepting=accepting)
    return _Endpoints(config, desk, Doorkeeper(config), accepting).router()


class _Endpoints:
    def __init__(
        self,
        config: TwilioConfig,
        desk: StreamDesk,
        door: Doorkeeper,
        accepting: Callable[[], bool],
    ) -> None:
        self._config = config
        self._desk = desk
        self._door = door
        self._accepting = accepting

    def router(self) -> APIRouter:
        router = APIRouter()
        webhooks = {
            VOICE: self.voice,
            AFTER: self.after,
            STATUS: self.status,
            STREAM_STATUS: self.stream_status,
        }
        for path, endpoint in webhooks.items():
            for spelling in (path, path + "/"):
                router.add_api_route(spelling, endpoint, methods=["POST"], include_in_schema=False)
        for spelling in (MEDIA, MEDIA + "/"):
            router.add_api_websocket_route(spelling, self.media)
        return router

    async def voice(self, request: Request) -> Response:
        form = await self._parameters(request, VOICE)
        if isinstance(form, Response):
            return form
        call_sid = _field(form, "CallSid")
        if not _CALL_SID.fullmatch(call_sid):
            return _plain(400, "CallSid is missing")
        if not self._accepting():
            logger.warning("call %s: turned away, no line is free", call_sid)
            return _say(self._config.busy)
        logger.info("call %s rings: %r calls %r", call_sid, _field(form, "From"), _field(form, "To"))
        connect = Connect()
        stream = connect.stream(
            url=self._config.socket_url(MEDIA),
            status_callback=self._config.webhook_url(STREAM_STATUS),
            status_callback_method="POST",
        )
        if self._desk.tokens is not None:
            stream.parameter(name=TOKEN_PARAMETER, value=self._desk.tokens.issue(call_sid))
        for name, field in ((CALLER_PARAMETER, "From"), (CALLED_PARAMETER, "To")):
            value = _field(form, field)
            if value:
                stream.parameter(name=name, value=value)
        response = VoiceResponse()
        response.append(connect)
        response.redirect(self._config.webhook_url(AFTER), method="POST")
        return _twiml(response)

    async def after(self, request: Request) -> Response:
        """The stream is over and the caller still on the line. Also good as the number's fallback URL
        while this server lives: a call it knows nothing of has failed."""
        form = await self._parameters(request, AFTER)
        if isinstance(form, Response):
            return form
        ending = self._desk.ending(_field(form, "CallSid"))
        if ending is Ending.ON_PURPOSE:
            response = VoiceResponse()
            response.hangup()
            return _twiml(response)
        return _say(self._config.busy if ending is Ending.TURNED_AWAY else self._config.apology)

    async def status(self, request: Request) -> Response:
        form = await self._parameters(request, STATUS)
        if isinstance(form, Response):
            return form
        logger.info(
            "call %r is %r after %r s",
            _field(form, "CallSid"),
            _field(form, "CallStatus"),
            _field(form, "CallDuration"),
        )
        return Response(status_code=204)

    async def stream_status(self, request: Request) -> Response:
        form = await self._parameters(request, STREAM_STATUS)
        if isinstance(form, Response):
            return form
        event, error = _field(form, "StreamEvent"), _field(form, "StreamError")
        level = logging.WARNING if event == "stream-error" else logging.INFO
        logger.log(level, "call %r: %r %s", _field(form, "CallSid"), event, repr(error) if error else "")
        return Response(status_code=204)

    async def media(self, websocket: WebSocket) -> None:
        query = websocket.scope["query_string"].decode("latin-1")
        try:
            self._door.check_handshake(MEDIA, query, _headers(websocket))
        except AccessRefused as refused:
            logger.warning("stream refused: %s", refused.why)
            await websocket.close()  # before accept: answered with 403
            return
        place = self._desk.admit()
        if place is None:
            logger.warning("stream refused: too many sockets wait for their start")
            await websocket.close()
            return
        try:
            await websocket.accept()
            await self._desk.serve(StarletteSocket(websocket), place)
        finally:
            place.release()

    async def _parameters(self, request: Request, path: str) -> FormData | Response:
        """What Twilio sent, or the refusal to answer with."""
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return _plain(413, "too long")
        except ClientDisconnect:
            return _plain(400, "the request broke off")
        query = request.scope["query_string"].decode("latin-1")
        try:
            return self._door.check_webhook(path, query, _headers(request), body)
        except AccessRefused as refused:
            logger.warning("%s refused: %s", path, refused.why)
            return _plain(refused.status, "refused")


def _headers(connection: Request | WebSocket) -> dict[str, str]:
    return {name.lower(): value for name, value in connection.headers.items()}


def _field(form: FormData, name: str) -> str:
    """One parameter, fit for XML and for a log line; "" where it is missing. Nobody's number or status
    is longer than this."""
    value = form.get(name)
    return "".join(filter(str.isprintable, value))[:256] if isinstance(value, str) else ""


def _say(text: str) -> Response:
    response = VoiceResponse()
    response.say(text)
    response.hangup()
    return _twiml(response)


def _twiml(response: VoiceResponse) -> Response:
    return Response(content=str(response), media_type="text/xml")


def _plain(status: int, text: str) -> Response:
    return Response(content=text + "\n", status_code=status, media_type="text/plain")
