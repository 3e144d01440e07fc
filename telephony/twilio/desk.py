"""Where streams report: who is let in, which calls are on, and how each of them ended.

connected -> start -> token -> answer(line). The ending is kept for the TwiML that Twilio fetches after
our WebSocket closed (`/twilio/after`), whoever closed it.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from pipeline.line import LineClosed, LineInfo
from pipeline.resuming import line_was_lost
from telephony.answer import Answer, Lines, PendingSocket, WhileAccepting
from telephony.pump import CALLER_HUNG_UP, CONNECTION_LOST
from telephony.socket import Socket
from telephony.socket_client import ClientSocket
from telephony.twilio.config import TwilioConfig
from telephony.twilio.elsewhere import (
    FRONT_END_PARAMETER,
    RESUMED_PARAMETER,
    CallsElsewhere,
    NeighbourTls,
    NowhereElse,
)
from telephony.twilio.errors import TokenRefused
from telephony.twilio.protocol import Limits, MediaStreamProtocol, StreamStarted
from telephony.twilio.relay import reach, relay
from telephony.twilio.stream import MessagePump, TwilioLine, message_pump
from telephony.twilio.tokens import TOKEN_PARAMETER, StreamTokens

logger = logging.getLogger(__name__)

_ENDINGS_KEPT: Final = 10_000
_RESUMPTIONS: Final = 3
_RESUMPTIONS_WITHIN_S: Final = 30.0
"""A stream that does not come about brings Twilio back at once, and would for ever."""
_OLD_CALL_ENDS_S: Final = 5.0
_TOKEN_PATIENCE_S: Final = 0.15
"""Callers wait for that, before the greeting: many times what it takes to ask a store that is well."""
_REPLAYED: Final = "token used before, at another front-end"
MEDIA: Final = "/twilio/media"
CALLER_PARAMETER: Final = "caller"
CALLED_PARAMETER: Final = "called"
ORDER_PARAMETER: Final = "order"
"""In the query of the webhooks of calls that we placed, and in their streams: which of our orders it was."""


class Ending(Enum):
    ON_PURPOSE = "on purpose"
    LOST = "lost"
    """Nobody wanted its end: the call may go on."""
    FAILED = "failed"
    TURNED_AWAY = "turned away"


class StreamDesk:
    """Serves every stream of one process. `lines`, or `accepting()`, is asked before a call is taken;
    `wall()` is the time of day in seconds since the epoch. `tokens` is None only where the configuration is
    insecure."""

    def __init__(
        self,
        config: TwilioConfig,
        answer: Answer,
        *,
        wall: Callable[[], float],
        accepting: Callable[[], bool] = lambda: True,
        lines: Lines | None = None,
        elsewhere: CallsElsewhere | None = None,
        neighbour_tls: NeighbourTls | None = None,
    ) -> None:
        ttl_s = config.token_ttl_s
        self.tokens = None if config.insecure else StreamTokens(config.auth_tokens, ttl_s, wall, _now)
        self.live: dict[str, TwilioLine] = {}
        self._targets: dict[str, str] = {}
        """Whom the callers of live calls are to be passed on to, until Twilio has asked for it."""
        self.pending = 0
        self._config = config
        self._answer = answer
        self._lines = lines or WhileAccepting(accepting)
        self._elsewhere = elsewhere or NowhereElse()
        self._neighbour_tls = neighbour_tls
        self._endings: OrderedDict[str, Ending] = OrderedDict()
        self._over: dict[str, asyncio.Event] = {}
        """Of live calls."""
        self._resumed: OrderedDict[str, list[float]] = OrderedDict()
        """When calls were let go on."""
        self._token_patience_s = _TOKEN_PATIENCE_S
        self._asking: set[asyncio.Task[bool]] = set()
        """Whether a token was used elsewhere."""
        self._limits = Limits(
            start_timeout_s=config.start_timeout_s,
            media_timeout_s=config.media_timeout_s,
        )

    def admit(self) -> PendingSocket | None:
        """A place for one more socket, to be taken before it is accepted; None when they are all taken."""
        if self.pending >= self._config.max_pending_sockets:
            return None
        return PendingSocket(self)

    def ending(self, call_sid: str) -> Ending | None:
        """How the call's stream ended; one that has not ended, as far as we know, is lost if anybody asks.
        None where no stream of this process was the call's."""
        return self._endings.get(call_sid)

    def may_resume(self, call_sid: str) -> bool:
        """One more stream may be opened for a call that was lost. Counts."""
        now = asyncio.get_running_loop().time()
        times = self._resumed.pop(call_sid, [])
        times = [at for at in times if now - at < _RESUMPTIONS_WITHIN_S]
        may = len(times) < _RESUMPTIONS
        self._resumed[call_sid] = [*times, now] if may else times
        if len(self._resumed) > _ENDINGS_KEPT:
            self._resumed.popitem(last=False)
        return may

    def take_target(self, call_sid: str) -> str | None:
        """Whom to dial now; None unless the agent has asked for a transfer."""
        return self._targets.pop(call_sid, None)

    def passed_on(self, call_sid: str) -> None:
        """Somebody has answered the transfer."""
        if (line := self.live.get(call_sid)) is not None:
            self._remember(call_sid, Ending.ON_PURPOSE)
            line.passed_on()

    def not_passed_on(self, call_sid: str, reason: str) -> bool:
        """Nobody has. False when the agent is no longer there to be told."""
        line = self.live.get(call_sid)
        if line is None or not line.away:
            return False
        line.not_passed_on(reason)
        return True

    def caller_gone(self, call_sid: str) -> None:
        """The carrier says that the call is over; streams learn it by themselves, transfers do not."""
        if (line := self.live.get(call_sid)) is not None:
            line.lost(CALLER_HUNG_UP)

    async def serve(
        self, socket: Socket, place: PendingSocket, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """One accepted socket, until its stream is over. `headers` of its handshake, by names in lower case.
        Raises nothing but cancellation."""
        now = asyncio.get_running_loop().time()
        pump = message_pump(socket, MediaStreamProtocol(now, self._limits))
        line: TwilioLine | ClientSocket | None = None
        try:
            line = await self._introduce(pump, headers)
        except LineClosed as closed:
            logger.info("a socket left before its call began: %s", closed.reason)
        finally:
            place.release()
            if pump.over is not None:
                await socket.close(pump.close_code, pump.over)
        if isinstance(line, ClientSocket):
            await relay(socket, line)
        elif line is not None:
            await self._hold(line)
        elif pump.over is None:
            # It belongs to a call that another task holds.
            await pump.wait_over()
            await socket.close(pump.close_code, pump.over or "")

    async def _introduce(
        self, pump: MessagePump, headers: Mapping[str, str]
    ) -> TwilioLine | ClientSocket | None:
        """Wait for `start` and check it. A socket when the stream is another front-end's; None when it is
        refused, or goes on with a call whose transfer failed."""
        started = await pump.next()
        if not isinstance(started, StreamStarted):
            # The table lets nothing else come first.
            pump.end(f"{type(started).__name__} before start", 1002)
            return None
        call_sid = started.call_sid
        parameters = dict(started.parameters)
        there = self._elsewhere.address(parameters.pop(FRONT_END_PARAMETER, ""))
        if there is not None:
            other = await reach(there, MEDIA, headers, started, self._neighbour_tls)
            if other is not None:
                logger.info("call %s: its stream is carried to %s", call_sid, there)
                return other
        token = parameters.pop(TOKEN_PARAMETER, None)
        held, resumed = self.live.get(call_sid), RESUMED_PARAMETER in parameters
        if held is not None and not held.away and not resumed:
            logger.warning("call %s: a second stream was refused", call_sid)
            pump.end("this call has a stream already", 1008)
            return None
        if self.tokens is not None:
            try:
                await self._use_once(pump, *self.tokens.redeem(token, call_sid))
            except TokenRefused as refused:
                logger.warning("call %s: stream refused: %s", call_sid, refused)
                pump.end("token refused", 1008)
                return None
        held = self.live.get(call_sid)
        if held is not None and held.away:
            if not held.resume(pump):
                pump.end("this call is over", 1008)
            return None
        if held is not None:
            # Twilio has given its stream up before we have.
            held.end(CONNECTION_LOST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_OLD_CALL_ENDS_S):
                    await self._over[call_sid].wait()
            if call_sid in self.live:
                pump.end("this call has a stream already", 1008)
                return None
        if not self._lines.take(parameters.get(ORDER_PARAMETER) or call_sid):
            self._remember(call_sid, Ending.TURNED_AWAY)
            pump.end("no line is free", 1013)
            return None
        info = LineInfo(
            call_id=call_sid,
            kind="twilio",
            caller=parameters.pop(CALLER_PARAMETER, ""),
            called=parameters.pop(CALLED_PARAMETER, ""),
            parameters=parameters,
        )
        return TwilioLine(pump, info, on_hang_up=self._hung_up, on_transfer=self._pass_on)

    async def _use_once(self, pump: MessagePump, nonce: str, until_s: float) -> None:
        """Raises `TokenRefused` where the token was used at another front-end. Where there is no knowing yet,
        the call begins, and ends once it is known; nobody else waits until an answer comes in time again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        asking = asyncio.create_task(self._elsewhere.use_once(nonce, until_s), name="token")

        def answered(_: asyncio.Task[bool]) -> None:
            self._asking.discard(asking)
            in_time = loop.time() - began < _TOKEN_PATIENCE_S
            self._token_patience_s = _TOKEN_PATIENCE_S if in_time else 0.0
            if not asking.cancelled() and not asking.result():
                pump.end(_REPLAYED, 1008)

        self._asking.add(asking)
        asking.add_done_callback(answered)
        await asyncio.wait([asking], timeout=self._token_patience_s)
        if not asking.done():
            self._token_patience_s = 0.0
        elif not asking.result():
            raise TokenRefused(_REPLAYED)

    async def _hold(self, line: TwilioLine) -> None:
        """The call itself. Whatever happens in it stays in it."""
        call_sid = line.info.call_id
        self.live[call_sid] = line
        over = self._over[call_sid] = asyncio.Event()
        # Twilio may ask before `answer` is through with its cleaning up, or before we know.
        self._remember(call_sid, Ending.LOST)
        why = ""
        try:
            outcome = await self._answer(line)
            why = outcome.reason
            if line.hung_up is None:
                expected = outcome.completed and line.over in (None, CALLER_HUNG_UP)
                self._remember(call_sid, Ending.ON_PURPOSE if expected else _unexpected(line.over))
        except LineClosed as closed:
            why = closed.reason
            self._remember(call_sid, Ending.ON_PURPOSE if why == CALLER_HUNG_UP else _unexpected(why))
        except Exception:
            logger.exception("call %s failed", call_sid)
            self._remember(call_sid, Ending.FAILED)
            line.end("internal error", 1011)
        finally:
            del self.live[call_sid], self._over[call_sid]
            over.set()
            self._targets.pop(call_sid, None)
            line.end("the call is over")
            ending = self._endings.get(call_sid, Ending.LOST)
            if line.over == _REPLAYED:
                # It was never the call's: where that is on, it is asked for.
                self._endings.pop(call_sid, None)
            elif ending is Ending.LOST:
                # Whoever comes next must not find the place before this caller is back.
                self._lines.take(call_sid, goes_on=True)
            # A socket whose other end is gone may take its time.
            await line.close()
        logger.info(
            "call %s is over (%s): %s; %s; stream: %s",
            call_sid,
            ending.value,
            why or "no reason given",
            line.over,
            line.counters or "in order",
        )

    def _pass_on(self, line: TwilioLine, target: str) -> None:
        self._targets[line.info.call_id] = target

    def _hung_up(self, line: TwilioLine) -> None:
        failed = line.hung_up == "apology"
        self._remember(line.info.call_id, Ending.FAILED if failed else Ending.ON_PURPOSE)

    def _remember(self, call_sid: str, ending: Ending) -> None:
        self._endings[call_sid] = ending
        self._endings.move_to_end(call_sid)
        if len(self._endings) > _ENDINGS_KEPT:
            self._endings.popitem(last=False)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _unexpected(over: str | None) -> Ending:
    return Ending.LOST if over is not None and line_was_lost(over) else Ending.FAILED
