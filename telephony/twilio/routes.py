"""The HTTP and WebSocket endpoints that Twilio calls.

`POST /twilio/voice` answers a ringing call with TwiML that connects it to `WS /twilio/media`. When our
end of that socket closes, Twilio goes on with what follows `</Connect>`: a redirect to
`POST /twilio/after`, which ends the call, says sorry, connects a call that was lost to a new stream, or dials
whom the caller is passed on to. Of that
`POST /twilio/transfer` tells that somebody answered, and `POST /twilio/dialled` that the dialling is over:
if nobody took the caller, its TwiML connects another stream to the agent who still waits.
https://www.twilio.com/docs/voice/twiml/stream, https://www.twilio.com/docs/voice/twiml/dial
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect
from twilio.twiml.voice_response import Connect, Dial, VoiceResponse  # type: ignore[import-untyped]

from telephony.answer import Answer, Lines, WhileAccepting
from telephony.socket_starlette import StarletteSocket
from telephony.twilio import desk as desks
from telephony.twilio.access import Doorkeeper
from telephony.twilio.config import TwilioConfig
from telephony.twilio.desk import CALLED_PARAMETER, CALLER_PARAMETER, Ending, StreamDesk
from telephony.twilio.elsewhere import (
    FORWARDED_HEADER,
    FRONT_END_PARAMETER,
    RESUMED_PARAMETER,
    CallsElsewhere,
    Found,
    Neighbours,
    NeighbourTls,
    NowhereElse,
)
from telephony.twilio.errors import AccessRefused
from telephony.twilio.tokens import TOKEN_PARAMETER
from telephony.twilio.waiting import ASKED_PARAMETER, WAITING, WaitingRoom, asked_before

logger = logging.getLogger(__name__)

VOICE: Final = "/twilio/voice"
AFTER: Final = "/twilio/after"
ANSWERED: Final = "/twilio/answered"
STATUS: Final = "/twilio/status"
STREAM_STATUS: Final = "/twilio/stream-status"
TRANSFER: Final = "/twilio/transfer"
DIALLED: Final = "/twilio/dialled"
MEDIA: Final = desks.MEDIA

ORDER_PARAMETER: Final = desks.ORDER_PARAMETER

_MAX_BODY_BYTES: Final = 65_536
_RINGING_S: Final = 25
_ARRIVES_WITHIN_S: Final = 3.0
"""Of a stream that has started Twilio tells about as soon as it has said so on the stream."""
_REASONS: Final = {"busy": "busy", "no-answer": "no answer", "canceled": "no answer", "failed": "failed"}
"""Why nobody took the caller, by Twilio's DialCallStatus, in words that an agent can say."""
_FINAL: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
"""Values of CallStatus after which nothing more comes."""
_SIP_HEADER: Final = "SipHeader_"
_MOST_SIP_HEADERS: Final = 16
_CALL_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def create_router(
    config: TwilioConfig,
    answer: Answer,
    *,
    accepting: Callable[[], bool] = lambda: True,
    lines: Lines | None = None,
    wall: Callable[[], float] = time.time,
    on_order_over: Callable[[str, str], None] = lambda order, detail: None,
    elsewhere: CallsElsewhere | None = None,
    waiting: WaitingRoom | None = None,
    neighbour_tls: NeighbourTls | None = None,
) -> APIRouter:
    """Endpoints that hand every call to `answer(line)`, each in its own task.

    `lines` has a place for each call, kept from its webhook to its stream, or callers hear `config.busy`;
    `accepting()` is its simplest form: whether one more call may come in.
    `wall()` is the time of day, for the tokens' expiry. `on_order_over(order, detail)` hears of calls that we
    placed when they end, or never begin. `elsewhere` knows calls that another process holds, or held until it
    was lost; `neighbour_tls` is how such a process is known where it has TLS. With `waiting`, callers for
    whom there is no place hold the line for a while.
    Run it under uvicorn with `ws="websockets-sansio"`, without compression (mu-law in base64 hardly shrinks)
    and without pings: media flows all the time, and nothing says that Twilio answers them, so that a missing
    pong would end the call. `ws_max_size` of some 2**21 bytes leaves it to the protocol to skip what is too
    long.
    """
    lines = lines or WhileAccepting(accepting)
    elsewhere = elsewhere or NowhereElse()
    desk = StreamDesk(
        config, answer, wall=wall, lines=lines, elsewhere=elsewhere, neighbour_tls=neighbour_tls
    )
    neighbours = Neighbours(neighbour_tls)
    door = Doorkeeper(config)
    return _Endpoints(config, desk, door, lines, on_order_over, elsewhere, neighbours, waiting).router()


class _Endpoints:
    def __init__(
        self,
        config: TwilioConfig,
        desk: StreamDesk,
        door: Doorkeeper,
        lines: Lines,
        on_order_over: Callable[[str, str], None],
        elsewhere: CallsElsewhere,
        neighbours: Neighbours,
        waiting: WaitingRoom | None,
    ) -> None:
        self._waiting = waiting
        self._elsewhere = elsewhere
        self._neighbours = neighbours
        self._on_order_over = on_order_over
        self._config = config
        self._desk = desk
        self._door = door
        self._lines = lines

    def router(self) -> APIRouter:
        router = APIRouter()
        webhooks = {
            VOICE: self.voice,
            WAITING: self.waiting,
            ANSWERED: self.answered,
            AFTER: self.after,
            STATUS: self.status,
            STREAM_STATUS: self.stream_status,
            TRANSFER: self.transfer,
            DIALLED: self.dialled,
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
        if (full := self._full(call_sid, 0)) is not None:
            return full
        logger.info("call %s rings: %r calls %r", call_sid, _field(form, "From"), _field(form, "To"))
        return self._connect(form, call_sid)

    async def waiting(self, request: Request) -> Response:
        """A caller who holds the line until there is a place."""
        form = await self._parameters(request, WAITING)
        if isinstance(form, Response):
            return form
        call_sid = _field(form, "CallSid")
        asked = asked_before(request.query_params.get(ASKED_PARAMETER))
        if not _CALL_SID.fullmatch(call_sid) or asked is None:
            return _plain(400, "CallSid is missing, or it is not known how often it was asked")
        if (full := self._full(call_sid, asked)) is not None:
            return full
        logger.info("call %s: there is a place, after %d time(s) of asking", call_sid, asked)
        return self._connect(form, call_sid)

    def _full(self, call_sid: str, asked: int) -> Response | None:
        """None where the call has a place now; else what its caller is told."""
        room = self._waiting
        if room is not None:
            room.keep_turn(call_sid, asked)
        if self._lines.take(call_sid):
            return None
        if room is not None and room.may_wait(call_sid, asked):
            return _twiml(room.twiml(self._config.webhook_url(WAITING), asked))
        logger.warning("call %s: turned away, no line is free", call_sid)
        return _say(self._config.busy)

    async def answered(self, request: Request) -> Response:
        """Somebody has answered a call that we placed."""
        form = await self._parameters(request, ANSWERED)
        if isinstance(form, Response):
            return form
        call_sid, order = _field(form, "CallSid"), _order(request)
        if not _CALL_SID.fullmatch(call_sid) or not order:
            return _plain(400, "CallSid or order is missing")
        if (there := self._whose(request)) is not None:
            # Only who gave the order knows who is to speak.
            return await self._pass_on(request, ANSWERED, there) or _hang_up()
        logger.info("call %s, order %s: answered", call_sid, order)
        # The far end is the caller in our own terms, whoever dialled.
        told = {"CallSid": call_sid, "From": _field(form, "To"), "To": _field(form, "From")}
        return self._connect(FormData(told), call_sid, order, comes_here=True)

    def _connect(
        self,
        form: FormData,
        call_sid: str,
        order: str = "",
        resumed: str = "",
        *,
        comes_here: bool = False,
    ) -> Response:
        """`comes_here`: no other front-end can hold the call: what arrives there is carried to us."""
        here = self._elsewhere.here
        at = f"?{FRONT_END_PARAMETER}={quote(here, safe='')}" if here else ""
        connect = Connect()
        stream = connect.stream(
            url=self._config.socket_url(MEDIA),
            status_callback=self._config.webhook_url(STREAM_STATUS) + at,
            status_callback_method="POST",
        )
        if self._desk.tokens is not None:
            stream.parameter(name=TOKEN_PARAMETER, value=self._desk.tokens.issue(call_sid))
        parameters = {CALLER_PARAMETER: _field(form, "From"), CALLED_PARAMETER: _field(form, "To")}
        if order:
            parameters[ORDER_PARAMETER] = order
        if resumed:
            parameters[RESUMED_PARAMETER] = resumed
        if comes_here:
            parameters[FRONT_END_PARAMETER] = here
        headers = [name for name in form if name.startswith(_SIP_HEADER)]
        for name in headers[:_MOST_SIP_HEADERS]:
            parameters[_parameter(name)] = _field(form, name)
        for name, value in parameters.items():
            if value:
                stream.parameter(name=name, value=value)
        response = VoiceResponse()
        response.append(connect)
        response.redirect(self._config.webhook_url(AFTER), method="POST")
        return _twiml(response)

    async def after(self, request: Request) -> Response:
        """The stream is over and the caller still on the line. Also good as the number's fallback URL
        while this server lives: a call that nobody knows anything of has failed."""
        form = await self._parameters(request, AFTER)
        if isinstance(form, Response):
            return form
        call_sid = _field(form, "CallSid")
        target = self._desk.take_target(call_sid)
        if target is not None:
            return self._dial(call_sid, target)
        ending = self._desk.ending(call_sid)
        if ending is Ending.ON_PURPOSE:
            return _hang_up()
        if ending is Ending.TURNED_AWAY:
            return _say(self._config.busy)
        if ending is None or ending is Ending.LOST:
            found = await self._elsewhere.find(call_sid)
            answer = await self._forward(request, AFTER, call_sid, found)
            if answer is not None:
                return answer
            if found is not None and self._desk.may_resume(call_sid):
                return self._resume(form, found)
            if found is None and await self._elsewhere.ended_well(call_sid):
                # Its front-end has said goodbye, closed the stream and left, as in a rolling restart.
                return _hang_up()
        return _say(self._config.apology)

    def _resume(self, form: FormData, found: Found) -> Response:
        call_sid, info = found.info.call_id, found.info
        logger.warning("call %s was lost, and goes on", call_sid)
        if self._waiting is not None:
            self._waiting.goes_on(call_sid)
        # Who dialled may be us; the far end is the caller in our own terms.
        told = {"CallSid": call_sid, "From": info.caller, "To": info.called}
        direction = "outbound" if _field(form, "Direction").startswith("outbound") else "inbound"
        return self._connect(FormData(told), call_sid, resumed=direction)

    async def _forward(
        self, request: Request, path: str, call_sid: str, found: Found | None
    ) -> Response | None:
        """What the front-end answers that holds the call; None where that is us, or where it is gone."""
        if call_sid in self._desk.live or found is None or found.held_by is None:
            return None
        return await self._pass_on(request, path, found.held_by)

    async def _pass_on(self, request: Request, path: str, front_end: str) -> Response | None:
        """What the front-end at that URL answers; None where it is gone, or we were passed it ourselves."""
        headers = _headers(request)
        if FORWARDED_HEADER in headers:
            return None
        query = request.scope["query_string"].decode("latin-1")
        answered = await self._neighbours.pass_on(front_end, path, query, headers, request.state.body)
        if answered is None:
            return None
        return Response(answered.body, answered.status, media_type=answered.media_type)

    def _whose(self, request: Request) -> str | None:
        """The URL of the other front-end that gave Twilio the URL of this request."""
        return self._elsewhere.address(request.query_params.get(FRONT_END_PARAMETER, ""))

    def _dial(self, call_sid: str, target: str) -> Response:
        logger.info("call %s: its caller is passed on", call_sid)
        dial = Dial(action=self._config.webhook_url(DIALLED), method="POST", timeout=_RINGING_S)
        told = {
            "status_callback": self._config.webhook_url(TRANSFER),
            "status_callback_event": "answered",
            "status_callback_method": "POST",
        }
        if target.lower().startswith(("sip:", "sips:")):
            dial.sip(target, **told)
        else:
            dial.number(target, **told)
        response = VoiceResponse()
        response.append(dial)
        return _twiml(response)

    async def transfer(self, request: Request) -> Response:
        """Somebody answered whom we had passed a caller on to: this is about the second call, the child of
        ours."""
        form = await self._parameters(request, TRANSFER)
        if isinstance(form, Response):
            return form
        call_sid = _field(form, "ParentCallSid")
        if (answer := await self._ask_holder(request, TRANSFER, call_sid)) is not None:
            return answer
        self._desk.passed_on(call_sid)
        return Response(status_code=204)

    async def _ask_holder(self, request: Request, path: str, call_sid: str) -> Response | None:
        """Where another front-end holds the call, its answer."""
        return await self._forward(request, path, call_sid, await self._find(call_sid))

    async def _find(self, call_sid: str) -> Found | None:
        """A call that this process knows nothing of."""
        known = call_sid in self._desk.live or self._desk.ending(call_sid) is not None
        return None if known else await self._elsewhere.find(call_sid)

    async def dialled(self, request: Request) -> Response:
        """The call that we passed a caller on to is over, or never began."""
        form = await self._parameters(request, DIALLED)
        if isinstance(form, Response):
            return form
        call_sid, status = _field(form, "CallSid"), _field(form, "DialCallStatus")
        found = await self._find(call_sid)
        if (answer := await self._forward(request, DIALLED, call_sid, found)) is not None:
            return answer
        reason = _REASONS.get(status)
        if reason is not None and _field(form, "CallStatus") in _FINAL:
            # The caller has hung up while it rang; no stream will come.
            self._desk.caller_gone(call_sid)
        elif reason is not None and self._desk.not_passed_on(call_sid, reason):
            logger.info("call %s: its caller comes back, the transfer failed: %s", call_sid, reason)
            # Should another front-end get the stream and not reach us, it knows that this is no new call.
            return self._connect(form, call_sid, resumed="inbound", comes_here=True)
        elif reason is not None and found is not None and self._desk.may_resume(call_sid):
            # Whoever waited for the caller to come back is gone.
            return self._resume(form, found)
        self._desk.passed_on(call_sid)
        return _hang_up()

    async def status(self, request: Request) -> Response:
        form = await self._parameters(request, STATUS)
        if isinstance(form, Response):
            return form
        there = self._whose(request)
        if there is not None and (answer := await self._pass_on(request, STATUS, there)) is not None:
            return answer
        status = _field(form, "CallStatus")
        if status == "completed":
            call_sid = _field(form, "CallSid")
            await self._ask_holder(request, STATUS, call_sid)
            self._desk.caller_gone(call_sid)
        if status in _FINAL:
            # A caller who hung up before the stream came leaves a place.
            self._lines.give_back(_field(form, "CallSid"))
        if status in _FINAL and (order := _order(request)):
            self._on_order_over(order, status)
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
        call_sid = _field(form, "CallSid")
        logger.log(level, "call %r: %r %s", call_sid, event, repr(error) if error else "")
        if event == "stream-started":
            there = self._whose(request)
            if there is not None:
                await self._pass_on(request, STREAM_STATUS, there)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(_ARRIVES_WITHIN_S, self._has_started, call_sid)
        return Response(status_code=204)

    def _has_started(self, call_sid: str) -> None:
        """The call whose webhook we answered has its stream; if that is not here, its place is free."""
        if call_sid not in self._desk.live:
            self._lines.give_back(call_sid)

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
            await self._desk.serve(StarletteSocket(websocket), place, _headers(websocket))
        finally:
            place.release()

    async def _parameters(self, request: Request, path: str) -> FormData | Response:
        """What Twilio sent, or the refusal to answer with. The body stays with the request."""
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return _plain(413, "too long")
        except ClientDisconnect:
            return _plain(400, "the request broke off")
        request.state.body = body
        query = request.scope["query_string"].decode("latin-1")
        try:
            return self._door.check_webhook(path, query, _headers(request), body)
        except AccessRefused as refused:
            logger.warning("%s refused: %s", path, refused.why)
            return _plain(refused.status, "refused")


def _headers(connection: Request | WebSocket) -> dict[str, str]:
    return {name.lower(): value for name, value in connection.headers.items()}


def _order(request: Request) -> str:
    """Ours, from a URL that Twilio has signed."""
    order = request.query_params.get(ORDER_PARAMETER, "")
    return order if _CALL_SID.fullmatch(order) else ""


def _field(form: FormData, name: str) -> str:
    """One parameter, fit for XML and for a log line; "" where it is missing. Nobody's number or status
    is longer than this."""
    value = form.get(name)
    return "".join(filter(str.isprintable, value))[:256] if isinstance(value, str) else ""


def _parameter(sip_header: str) -> str:
    """SipHeader_X-Account becomes sip_header_x_account, as other ways in name it."""
    return re.sub(r"[^a-z0-9]+", "_", f"sip_header_{sip_header.removeprefix(_SIP_HEADER)}".lower())[:64]


def _hang_up() -> Response:
    response = VoiceResponse()
    response.hangup()
    return _twiml(response)


def _say(text: str) -> Response:
    response = VoiceResponse()
    response.say(text)
    response.hangup()
    return _twiml(response)


def _twiml(response: VoiceResponse) -> Response:
    return Response(content=str(response), media_type="text/xml")


def _plain(status: int, text: str) -> Response:
    return Response(content=text + "\n", status_code=status, media_type="text/plain")
