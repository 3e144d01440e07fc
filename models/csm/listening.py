"""One utterance on its way from the engine's thread to whoever awaits it on the event loop."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import numpy as np

from models.csm.context import Said
from models.csm.ending import EndRules
from models.csm.prebuffer import Lateness
from models.csm.shapes import RATE_HZ
from models.csm.stepping import Samples
from models.csm.utterance import EndReason, SpokenFrame

_FADE_IN = np.linspace(0.0, 1.0, RATE_HZ // 200, endpoint=False, dtype=np.float32)
"""5 ms: Mimi's first sample need not be near zero."""
_FADE_OUT = np.linspace(1.0, 0.0, RATE_HZ // 50, dtype=np.float32)
"""20 ms: a rule ends an utterance in the middle of a sound."""


class Listener:
    """Make it on the event loop. `on_frame` and `on_end` are for the engine. `said` takes the codes."""

    def __init__(self, said: Said, rules: EndRules) -> None:
        self.ended: EndReason | None = None
        self._loop = asyncio.get_running_loop()
        self._said = said
        self._rules = rules
        self._lateness = Lateness()
        self._pcm: deque[Samples] = deque()
        self._released = False
        self._news = asyncio.Event()

    @property
    def late(self) -> int:
        """CodecFrames that came after their moment."""
        return self._lateness.late

    # On the engine's thread

    def on_frame(self, frame: SpokenFrame) -> None:
        # The engine's arrays may be its device's buffers, which the next tick writes.
        copy = replace(frame, codes=frame.codes.copy(), pcm=faded(frame))
        self._hand_over(lambda: self._take(copy))

    def on_end(self, reason: EndReason) -> None:
        self._hand_over(lambda: self._end(reason))

    def _hand_over(self, told: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(told)

    # On the event loop

    def _take(self, frame: SpokenFrame) -> None:
        self._said.add(frame.codes)
        self._pcm.append(frame.pcm)
        if self._released:
            self._lateness.given(self._loop.time())
        self._news.set()

    def _end(self, reason: EndReason) -> None:
        self._said.drop(self._rules.surplus(reason))
        self.ended = reason
        self._news.set()

    async def samples(self, held: int) -> AsyncGenerator[Samples, None]:
        """(1920,) float32 at 24 kHz each, as they come, from when `held` of them have come; ends with the
        utterance, whatever its end was."""
        while len(self._pcm) < held and self.ended is None:
            await self._next()
        self._released = True
        for _ in self._pcm:
            self._lateness.given(self._loop.time())
        while self._pcm or self.ended is None:
            if self._pcm:
                yield self._pcm.popleft()
            else:
                await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


def faded(frame: SpokenFrame) -> Samples:
    """A copy of the CodecFrame's samples: in at an utterance's first, out where a rule ends it."""
    pcm = np.array(frame.pcm, np.float32)
    if frame.index == 0:
        pcm[: len(_FADE_IN)] *= _FADE_IN
    if frame.last:
        pcm[-len(_FADE_OUT) :] *= _FADE_OUT
    return pcm
