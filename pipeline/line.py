"""The phone line as a call needs it; Twilio, SIP, Asterisk, the browser, a simulated caller implement it."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

LINE_RATE_HZ = 8_000
AUDIO_FRAME_SAMPLES = 160
"""One AudioFrame: 20 ms at 8 kHz."""
AUDIO_FRAME_S = 0.020

Pcm = NDArray[np.int16]
"""Mono audio at 8 kHz, (n_samples,) int16."""


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """The caller's next samples, in order, without gaps: a line fills what it lost with silence."""

    pcm: Pcm


@dataclass(frozen=True, slots=True)
class KeyPressed:
    digit: str


@dataclass(frozen=True, slots=True)
class MarkReached:
    """A mark came back. `heard` is False when our own `clear` sent it back: what stood before it in
    the buffer was discarded, not played."""

    name: str
    heard: bool


@dataclass(frozen=True, slots=True)
class HeardBefore:
    """The caller's first samples, where somebody has listened to them already: they are on record and on
    the call's clock, and nobody answers them. At most once, before all else."""

    pcm: Pcm


LineEvent = AudioReceived | KeyPressed | MarkReached | HeardBefore

HangUpReason = Literal["goodbye", "apology", "limit", "shutdown", "silence"]
"""Why we end a call. Only "apology" is a failure: the line then lets its carrier say sorry."""


class LineError(Exception):
    """Base of what goes wrong on a line."""


class LineClosed(LineError):
    """The line is gone. `reason` is one of the lines' words: "caller hung up", "connection lost",
    "no media for 10 s", "protocol error: ..."."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransferFailed(LineError):
    """The caller could not be passed on and is still on the line. `reason` is a word or two that the agent
    can say: "busy", "no answer", "declined"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LineInfo:
    """Who is on the line. `call_id` is unique, made of letters, digits, `-` and `_`. `caller` is the far end,
    `called` our number, whoever dialled; `parameters` are what the way in tells beyond that, such as
    `sip_header_x_account`."""

    call_id: str
    kind: str
    caller: str = ""
    called: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


class Line(Protocol):
    """One live call. Every method may raise `LineClosed`, and is safe to cancel."""

    info: LineInfo
    lead_s: float
    """How far ahead of the caller's ear audio may be sent: 0.2 s where the line paces it out of a buffer
    of its own, at most 0.06 s where the line sends at once what it is given."""

    def events(self) -> AsyncIterator[LineEvent]:
        """What arrives, until the line closes; then the iterator raises `LineClosed`. Iterate once."""
        ...

    async def send_audio(self, pcm: Pcm) -> None:
        """Queue (n,) int16 at 8 kHz for the caller, after what is queued already. The pipeline keeps
        the lead short; the line need not pace."""
        ...

    async def send_mark(self, name: str) -> None:
        """`MarkReached(name)` returns once everything queued before it was played or cleared."""
        ...

    async def clear(self) -> None:
        """Discard what is queued and not yet played."""
        ...

    async def hang_up(self, reason: HangUpReason) -> None:
        """End the call. Never raises; a second call does nothing."""
        ...


@runtime_checkable
class TellsAtOnce(Protocol):
    """A line that need not wake a task for everything that arrives."""

    def listen(self, listener: Callable[[LineEvent], None]) -> None:
        """Before iterating: events that arrive while the iterator waits may be told to `listener` instead,
        all in their order; the others come out of the iterator. What `listener` raises, that raises."""
        ...


@runtime_checkable
class PlaysAtOnce(Protocol):
    """A line on which sending seldom means waiting."""

    def play_now(self, pcm: Pcm) -> bool:
        """`send_audio`, done when it returns True. False: nothing was done, and `send_audio` will do it or
        say why not."""
        ...

    def mark_now(self, name: str) -> bool:
        """`send_mark`, likewise."""
        ...


@runtime_checkable
class TransfersCalls(Protocol):
    """A line that can pass its caller on."""

    async def transfer(self, target: str) -> None:
        """Pass the caller on to `target`, a number in E.164 form or a SIP URI. Returns when somebody else has
        the caller; the line then closes with "transferred". Raises `TransferFailed` while the line goes on,
        and `LineClosed`. Until either, audio of both sides may be silence."""
        ...


@runtime_checkable
class SendsKeys(Protocol):
    """A line with a better way to press keys than tones in its audio."""

    async def send_keys(self, digits: str) -> None:
        """Press `digits` (0-9, *, #, A-D), after the audio that is queued already; returns when the last one
        is on its way. Raises `LineClosed`."""
        ...
