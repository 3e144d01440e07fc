"""Where Asterisk's calls report, over either protocol: who is let in, which calls are on, how each ended."""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pipeline.line import HangUpReason, LineClosed, LineInfo
from telephony.answer import Answer, CallOutcome, Lines, PendingSocket, WhileAccepting
from telephony.asterisk.audiosocket import AudioSocketLimits, AudioSocketProtocol
from telephony.asterisk.book import CallBook, Ending
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import WrongAudio
from telephony.asterisk.events import MediaStarted, UuidReceived
from telephony.asterisk.metronome import Metronome
from telephony.asterisk.protocol import Limits, MediaWebSocketProtocol
from telephony.asterisk.stream import (
    AsteriskLine,
    AudioSocketLine,
    CallPump,
    MediaWebSocketLine,
    PacedSocket,
)
from telephony.pump import SERVER_SHUT_DOWN
from telephony.socket import Socket

logger = logging.getLogger(__name__)

CALLER_PARAMETER: Final = "caller"
CALLED_PARAMETER: Final = "called"
KEY_PARAMETER: Final = "uniq"
"""The name under which the dialplan asks later how the call ended; without it the channel's id."""

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_MAX_ID_CHARS: Final = 48


AnyPump = CallPump[Any, Any]
AnyLine = AsteriskLine[Any, Any]


class CallDesk:
    """Serves the calls of one process over one protocol or both. `lines`, or `accepting()`, is asked before a
    call is taken. `book` is what the dialplan tells and is told."""

    def __init__(
        self,
        config: AsteriskConfig,
        answer: Answer,
        *,
        accepting: Callable[[], bool] = lambda: True,
        lines: Lines | None = None,
        book: CallBook | None = None,
    ) -> None:
        self.live: dict[str, AnyLine] = {}
        self.pending = 0
        self._config = config
        self._answer = answer
        self._lines = lines or WhileAccepting(accepting)
        self._book = book
        self._metronome = Metronome()
        self._waiting: set[AnyPump] = set()

    def admit(self) -> PendingSocket | None:
        """A place for one more socket, to be taken before it is accepted; None when they are all taken."""
        if self.pending >= self._config.max_pending_sockets:
            return None
        return PendingSocket(self)

    def shut_down(self) -> None:
        """End every connection. Returns at once; whoever serves them then returns."""
        for pump in self._waiting:
            pump.end(SERVER_SHUT_DOWN, 1001)
        for line in self.live.values():
            line.end(SERVER_SHUT_DOWN, 1001)

    async def serve_websocket(
        self, socket: Socket, place: PendingSocket, parameters: Mapping[str, str] | None = None
    ) -> CallOutcome | None:
        """One open chan_websocket, until its call is over. `parameters` are those of the query. Returns what
        `answer` returned; None where the call never began or failed. Raises nothing but cancellation."""
        limits = Limits(
            start_timeout_s=self._config.start_timeout_s, media_timeout_s=self._config.media_timeout_s
        )
        now = asyncio.get_running_loop().time()
        pump = CallPump(socket, MediaWebSocketProtocol(now, limits))
        return await self._serve(pump, place, lambda: self._introduce_channel(pump, parameters or {}))

    async def serve_audiosocket(self, socket: PacedSocket, place: PendingSocket) -> CallOutcome | None:
        """One AudioSocket connection, until its call is over; as `serve_websocket`."""
        limits = AudioSocketLimits(
            start_timeout_s=self._config.start_timeout_s, media_timeout_s=self._config.media_timeout_s
        )
        now = asyncio.get_running_loop().time()
        pump = CallPump(socket, AudioSocketProtocol(now, limits))
        return await self._serve(pump, place, lambda: self._introduce_uuid(pump))

    async def _serve(
        self, pump: AnyPump, place: PendingSocket, introduce: Callable[[], Awaitable[AnyLine | None]]
    ) -> CallOutcome | None:
        self._waiting.add(pump)
        try:
            line = await introduce()
        except LineClosed as closed:
            logger.info("a connection ended before its call began: %s", closed.reason)
            _advise(pump)
            line = None
        finally:
            self._waiting.discard(pump)
            place.release()
            if pump.over is not None:
                await pump.close()
        return None if line is None else await self._hold(line, pump)

    async def _introduce_channel(
        self, pump: CallPump[Socket, MediaWebSocketProtocol], query: Mapping[str, str]
    ) -> MediaWebSocketLine | None:
        started = await pump.next()
        if not isinstance(started, MediaStarted):
            pump.end(f"{type(started).__name__} before MEDIA_START", 1002)
            return None
        told = {name.lower(): value for name, value in started.variables.items()}
        told |= {name.lower(): value for name, value in query.items()}
        told |= {"channel": started.channel, "channel_id": started.channel_id}
        told |= {"connection_id": started.connection_id}
        key = told.get(KEY_PARAMETER) or started.channel_id
        info = _info("asterisk", started.channel_id, told)
        if not self._is_free(pump, info, key):
            return None
        return MediaWebSocketLine(pump, info, on_hang_up=self._hung_up(key))

    async def _introduce_uuid(
        self, pump: CallPump[PacedSocket, AudioSocketProtocol]
    ) -> AudioSocketLine | None:
        received = await pump.next()
        if not isinstance(received, UuidReceived):
            pump.end(f"{type(received).__name__} before the UUID", 1002)
            return None
        name = str(received.uuid)
        told = self._book.redeem(received.uuid) if self._book is not None else None
        if told is None and self._config.announced_only:
            logger.warning(
                "AudioSocket call %s was refused: nobody announced it, or too long ago, or it was used "
                "already; the dialplan does so by POST /asterisk/calls, right before AudioSocket()",
                name,
            )
            pump.end("unknown UUID", 1008)
            return None
        info = _info("audiosocket", name, {**(told or {}), "uuid": name})
        if not self._is_free(pump, info, name):
            return None
        return AudioSocketLine(pump, info, self._metronome, on_hang_up=self._hung_up(name))

    def _is_free(self, pump: AnyPump, info: LineInfo, key: str) -> bool:
        if self._lines.take(info.call_id):
            return True
        logger.warning("Asterisk's call %r was turned away: no line is free", key[:_MAX_ID_CHARS])
        self._remember(key, Ending.BUSY)
        pump.core.hang_up()
        pump.end("no line is free", 1013)
        return False

    def _hung_up(self, key: str) -> Callable[[HangUpReason], None]:
        """Written down before the channel hears of it: the dialplan may ask at once."""

        def hung_up(reason: HangUpReason) -> None:
            self._remember(key, Ending.FAILED if reason == "apology" else Ending.FINE)

        return hung_up

    def _remember(self, key: str, ending: Ending) -> None:
        if self._book is not None:
            self._book.ended(key, ending)

    async def _hold(self, line: AnyLine, pump: AnyPump) -> CallOutcome | None:
        """The call itself. Whatever happens in it stays in it."""
        call_id = line.info.call_id
        self.live[call_id] = line
        outcome: CallOutcome | None = None
        why = ""
        try:
            line.begin()
            outcome = await self._answer(line)
            why = outcome.reason
        except LineClosed as closed:
            why = closed.reason
        except Exception:
            logger.exception("call %s failed", call_id)
            pump.end("internal error", 1011)
        finally:
            del self.live[call_id]
            line.release()
            pump.end("the call is over")
            await pump.close()
        _advise(pump)
        logger.info(
            "call %s is over: %s; %s; stream: %s",
            call_id,
            why or "no reason given",
            pump.over,
            line.counters or "in order",
        )
        return outcome


def _advise(pump: AnyPump) -> None:
    """What the operator of Asterisk can do about it."""
    if isinstance(pump.fault, WrongAudio):
        logger.error("Asterisk sends %s: %s", pump.fault.reason, pump.fault.advice)
    elif error := getattr(pump.core, "last_error", ""):
        logger.warning("Asterisk complained during a call: %r", error)


def _info(kind: str, name: str, told: dict[str, str]) -> LineInfo:
    """The id ends in a few random characters: the names that two Asterisks give may be the same, and a
    peer may say anything."""
    fit = _UNFIT.sub("-", name)[:_MAX_ID_CHARS].strip("-")
    return LineInfo(
        call_id=f"{fit or kind}-{secrets.token_hex(3)}",
        kind=kind,
        caller=told.pop(CALLER_PARAMETER, ""),
        called=told.pop(CALLED_PARAMETER, ""),
        parameters=told,
    )
