"""The WebSocket shell around `MediaStreamProtocol`: one stream as a `pipeline.line.Line`.

Reads the running loop's clock and nothing else, so it runs in virtual time over an in-memory socket.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np

from pipeline.line import (
    LINE_RATE_HZ,
    AudioReceived,
    HangUpReason,
    LineClosed,
    LineEvent,
    LineInfo,
    MarkReached,
    Pcm,
    TransferFailed,
)
from telephony.pump import CALLER_HUNG_UP, Pump
from telephony.socket import Socket
from telephony.twilio.protocol import MediaStreamProtocol, StreamEvent, StreamStarted, StreamStopped

TRANSFERRED: Final = "transferred"
TRANSFER_LIMIT_S: Final = 60.0
"""Ringing, and Twilio's way back to us with its outcome."""
_LOST: Final = "lost in a transfer"
_SILENCE_S: Final = 0.1


MessagePump = Pump[Socket, MediaStreamProtocol, StreamEvent]


def message_pump(socket: Socket, protocol: MediaStreamProtocol) -> MessagePump:
    return Pump(socket, protocol, lambda event: CALLER_HUNG_UP if isinstance(event, StreamStopped) else None)


class _Absence:
    """The caller is being passed on: no stream of ours is on the call."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.settled: asyncio.Future[MessagePump] = loop.create_future()
        """The stream on which the caller comes back; `LineClosed` when that will not be."""
        self.reason = "no answer"
        self._clock = loop.time
        self._since = loop.time()
        self._silent_samples = 0

    async def silence(self) -> AudioReceived | None:
        """What the caller's line gives meanwhile, at its pace. Once the absence is settled, what is missing
        up to this moment, so that the call's clock loses nothing; None where the call is over."""
        if self._clock() - self._since > TRANSFER_LIMIT_S:
            self.over(_LOST)  # whoever waited for the transfer may have been cancelled
        until = self._since + self._silent_samples / LINE_RATE_HZ + _SILENCE_S
        await asyncio.wait([self.settled], timeout=max(0.0, until - self._clock()))
        samples = round((self._clock() - self._since) * LINE_RATE_HZ) - self._silent_samples
        if samples <= 0 or (self.settled.done() and self.settled.exception() is not None):
            return None
        self._silent_samples += samples
        return AudioReceived(np.zeros(samples, np.int16))

    def over(self, reason: str) -> None:
        """The call is over for us."""
        if not self.settled.done():
            self.settled.set_exception(LineClosed(reason))


class TwilioLine:
    """A `pipeline.line.Line` over a stream that has started and is trusted. `on_hang_up` and `on_transfer`
    are called before the socket closes, for Twilio may ask what to do next before we are through with
    closing. A transfer that fails brings the caller back on a new stream: `resume`."""

    lead_s = 0.2
    """Twilio paces what it is sent out of its own buffer. Survives a collection pause or a busy core; short
    enough that little is taken back on `clear`."""

    def __init__(
        self,
        pump: MessagePump,
        info: LineInfo,
        *,
        on_hang_up: Callable[["TwilioLine"], None] = lambda line: None,
        on_transfer: Callable[["TwilioLine", str], None] = lambda line, target: None,
    ) -> None:
        self.info = info
        self.hung_up: HangUpReason | None = None
        self._pump = pump
        self._on_hang_up = on_hang_up
        self._on_transfer = on_transfer
        self._absence: _Absence | None = None
        self._owed: deque[LineEvent] = deque()
        """Marks of a stream that ended under them."""
        self._listener: Callable[[LineEvent], None] | None = None

    def listen(self, listener: Callable[[LineEvent], None]) -> None:
        """See `pipeline.line.TellsAtOnce`."""
        self._listener = listener
        self._pump.listen(self._tell)

    def _tell(self, event: StreamEvent) -> None:
        if self._listener is not None and not isinstance(event, StreamStarted | StreamStopped):
            self._listener(event)

    def events(self) -> "TwilioLine":
        return self

    def __aiter__(self) -> "TwilioLine":
        return self

    async def __anext__(self) -> LineEvent:
        while True:
            if self._owed:
                return self._owed.popleft()
            absence = self._absence
            if absence is not None:
                silence = await absence.silence()
                if absence.settled.done():
                    # `transfer` raises the same; whoever of us comes first takes the new stream.
                    self._come_back(absence)
                if silence is not None:
                    return silence
                continue
            try:
                event = await self._pump.next()
            except LineClosed:
                if self._absence is None:
                    raise
                continue
            if not isinstance(event, StreamStarted | StreamStopped):
                return event

    @property
    def over(self) -> str | None:
        """Why the stream ended, None while it lives; a transfer that is under way has ended nothing."""
        return None if self._absence is not None else self._pump.over

    @property
    def away(self) -> bool:
        """A transfer is under way."""
        return self._absence is not None

    @property
    def counters(self) -> dict[str, int]:
        """What was odd about this stream, by name."""
        return dict(self._pump.core.counters)

    def play_now(self, pcm: Pcm) -> bool:
        """See `pipeline.line.PlaysAtOnce`."""
        pump = self._pump
        if self._absence is not None or pump.over is not None or not len(pcm):
            return False
        return pump.send_at_once(pump.core.media(pcm))

    def mark_now(self, name: str) -> bool:
        """See `pipeline.line.PlaysAtOnce`."""
        pump = self._pump
        if self._absence is not None or pump.over is not None:
            return False
        # Where that fails, `send_mark` gives it another serial number, and this one never comes back.
        return pump.send_at_once(pump.core.mark(name))

    async def send_audio(self, pcm: Pcm) -> None:
        if self._must_live() and len(pcm):
            await self._pump.send(self._pump.core.media(pcm))

    async def send_mark(self, name: str) -> None:
        if self._must_live():
            await self._pump.send(self._pump.core.mark(name))
        else:
            self._owed.append(MarkReached(name, heard=False))

    async def clear(self) -> None:
        if self._must_live():
            await self._pump.send(self._pump.core.clear())

    async def transfer(self, target: str) -> None:
        """Twilio dials `target` once our stream is closed; `<Dial>` stands in what it fetches then. See
        `pipeline.line.TransfersCalls`."""
        self._must_live()
        if self._absence is not None:
            raise TransferFailed("another transfer is under way")
        absence = self._absence = _Absence()
        self._owed.extend(MarkReached(name, heard=False) for name in self._pump.core.take_marks())
        self._on_transfer(self, target)
        self._pump.end("the caller is passed on")
        await self._pump.socket.close(1000, "transfer")
        try:
            async with asyncio.timeout(TRANSFER_LIMIT_S):
                await asyncio.shield(absence.settled)
        except TimeoutError:
            absence.over(_LOST)
        except LineClosed:
            pass
        self._come_back(absence)
        if self._pump.over == TRANSFERRED:
            return
        if self._pump.over is not None:
            raise LineClosed(self._pump.over)
        raise TransferFailed(absence.reason)

    def passed_on(self) -> None:
        """Somebody has taken the caller over."""
        self.lost(TRANSFERRED)

    def not_passed_on(self, reason: str) -> None:
        """Nobody has; a new stream will come."""
        if self._absence is not None:
            self._absence.reason = reason

    def lost(self, reason: str) -> None:
        """The call has ended while no stream was on it."""
        if self._absence is not None:
            self._absence.over(reason)

    def resume(self, pump: MessagePump) -> bool:
        """The caller is back, on another stream of the same call. False when nobody waits for that."""
        if self._absence is None or self._absence.settled.done():
            return False
        self._absence.settled.set_result(pump)
        return True

    def _come_back(self, absence: _Absence) -> None:
        if self._absence is not absence:
            return
        self._absence = None
        error = absence.settled.exception()
        if error is None:
            self._pump = absence.settled.result()
            if self._listener is not None:
                self._pump.listen(self._tell)
        elif isinstance(error, LineClosed):
            self._pump.over = error.reason

    def end(self, reason: str, close_code: int = 1000) -> None:
        """End the stream, or the wait for one; a stream that has just come back, too."""
        if self._absence is not None:
            self.lost(reason)
            self._come_back(self._absence)
        self._pump.end(reason, close_code)

    async def close(self) -> None:
        await self._pump.socket.close(self._pump.close_code, self._pump.over or "")

    async def hang_up(self, reason: HangUpReason) -> None:
        """Closes the WebSocket; Twilio then fetches what follows `</Connect>`, where
        `telephony.twilio.desk` tells it to hang up or, after "apology", to say sorry first."""
        if self._pump.over is not None and self._absence is None:
            return
        self.hung_up = reason
        self._on_hang_up(self)
        self.end(f"we hung up: {reason}")
        await self._pump.socket.close(1000, reason)

    def _must_live(self) -> bool:
        """Before the protocol is asked, for which sending on a stream that is over is our own mistake.
        False while the caller is being passed on, and hears nothing of us."""
        if self._absence is not None:
            return False
        if self._pump.over is not None:
            raise LineClosed(self._pump.over)
        return True
