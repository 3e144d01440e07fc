"""A phone line whose every event the test decides: when audio comes and how, whether marks come back."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from pipeline.line import (
    AUDIO_FRAME_SAMPLES,
    LINE_RATE_HZ,
    AudioReceived,
    HangUpReason,
    LineClosed,
    LineEvent,
    LineInfo,
    MarkReached,
    Pcm,
)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * LINE_RATE_HZ), np.int16)


class HandLine:
    """`pipeline.line.Line`. A mark comes back `echo_s` after its audio was played, or never."""

    lead_s = 0.2

    def __init__(
        self, call_id: str = "hand-1", *, marks: bool = True, echo_s: float = 0.06, closing_s: float = 0.0
    ) -> None:
        self.info = LineInfo(call_id, "hand")
        self.play_end_s = 0.0
        self.hung_up: HangUpReason | None = None
        self._marks_return = marks
        self._echo_s = echo_s
        self._closing_s = closing_s
        self._arrived: asyncio.Queue[LineEvent | None] = asyncio.Queue()
        self._over: str | None = None
        self._marks: dict[str, asyncio.TimerHandle] = {}

    # The caller's side

    async def say(self, pcm: Pcm, payload_samples: int = AUDIO_FRAME_SAMPLES) -> None:
        """Each payload arrives when its first sample is spoken, and returns when the last one was."""
        for start in range(0, pcm.size, payload_samples):
            payload = pcm[start : start + payload_samples]
            self._arrived.put_nowait(AudioReceived(payload))
            await asyncio.sleep(payload.size / LINE_RATE_HZ)

    async def silent(self, seconds: float) -> None:
        await self.say(silence(seconds))

    def burst(self, pcm: Pcm) -> None:
        """AudioFrames that all arrive now: a network that had stalled."""
        for start in range(0, pcm.size, AUDIO_FRAME_SAMPLES):
            self._arrived.put_nowait(AudioReceived(pcm[start : start + AUDIO_FRAME_SAMPLES]))

    async def end_of_reply(self) -> None:
        """Silence until the agent has begun to play, and what it sent has sounded."""
        while self.play_end_s <= self.now():
            await self.silent(0.02)
        while self.play_end_s > self.now():
            await self.silent(0.02)

    def close(self, reason: str = "caller hung up") -> None:
        if self._over is None:
            self._over = reason
            self._arrived.put_nowait(None)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # The agent's side

    async def events(self) -> AsyncIterator[LineEvent]:
        while (event := await self._arrived.get()) is not None:
            yield event
        raise LineClosed(self._over or "")

    async def send_audio(self, pcm: Pcm) -> None:
        self._check_open()
        self.play_end_s = max(self.play_end_s, self.now()) + pcm.size / LINE_RATE_HZ

    async def send_mark(self, name: str) -> None:
        self._check_open()
        if self._marks_return:
            at = max(self.play_end_s, self.now()) + self._echo_s
            self._marks[name] = asyncio.get_running_loop().call_at(at, self._return_mark, name, True)

    async def clear(self) -> None:
        self._check_open()
        self.play_end_s = self.now()
        for name, echo in tuple(self._marks.items()):
            echo.cancel()
            self._return_mark(name, False)

    async def hang_up(self, reason: HangUpReason) -> None:
        if self.hung_up is None:
            self.hung_up = reason
            self.close(f"we hung up: {reason}")
            await asyncio.sleep(self._closing_s)

    def _return_mark(self, name: str, heard: bool) -> None:
        del self._marks[name]
        self._arrived.put_nowait(MarkReached(name, heard))

    def _check_open(self) -> None:
        if self._over is not None:
            raise LineClosed(self._over)
