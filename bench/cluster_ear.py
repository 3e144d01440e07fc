"""A simulated caller without a network: speaks when told, and hears exactly what comes when it comes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

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

BLOCK_S = 0.010
SILENT_DBFS = -50.0


@dataclass(frozen=True, slots=True)
class Silence:
    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


class EarLine:
    """`pipeline.line.Line`. Audio plays from the moment it comes or from the end of what came before; where
    nothing is left to play the caller hears nothing. Times are seconds since `begin`."""

    lead_s = 0.2

    def __init__(self, call_id: str) -> None:
        self.info = LineInfo(call_id, "bench")
        self.hung_up: HangUpReason | None = None
        self._loop = asyncio.get_running_loop()
        self.began_s = self._loop.time()
        self._played: list[tuple[float, Pcm]] = []
        self._end_s = 0.0
        self.dry: list[Silence] = []
        """When nothing was left to play, though more came later."""
        self._marks: list[tuple[float, str]] = []
        self._over: str | None = None
        self._speech: list[Pcm] = []

    def now(self) -> float:
        return self._loop.time() - self.began_s

    # The caller

    def say(self, pcm: Pcm) -> None:
        self._speech += [pcm[at : at + AUDIO_FRAME_SAMPLES] for at in range(0, len(pcm), AUDIO_FRAME_SAMPLES)]

    async def until_heard(self, within_s: float) -> bool:
        """True once the caller hears something that has not sounded yet when this is called."""
        start = max(self.now(), self._end_s)
        while self.now() < start + within_s:
            if self._end_s > start:
                return True
            await asyncio.sleep(0.01)
        return False

    async def until_quiet(self, quiet_s: float, within_s: float) -> bool:
        """True once nothing has come for so long and all was played."""
        end = self.now() + within_s
        while self.now() < end:
            if self.now() > self._end_s + quiet_s:
                return True
            await asyncio.sleep(0.02)
        return False

    def close(self) -> None:
        self._over = self._over or "caller hung up"

    def heard(self) -> Pcm:
        """What the caller heard since the call began, silence included."""
        length = round(max([self.now(), self._end_s]) * LINE_RATE_HZ)
        heard = np.zeros(length + LINE_RATE_HZ, np.int16)
        for at_s, pcm in self._played:
            start = round(at_s * LINE_RATE_HZ)
            heard[start : start + len(pcm)] = pcm
        return heard[:length]

    def silences(self) -> list[Silence]:
        heard = self.heard().astype(np.float32) / 32_768
        size = round(BLOCK_S * LINE_RATE_HZ)
        blocks = heard[: len(heard) // size * size].reshape(-1, size)
        quiet = np.sqrt(np.mean(blocks**2, axis=1)) < 10 ** (SILENT_DBFS / 20)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
        return [
            Silence(start * BLOCK_S, end * BLOCK_S)
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        ]

    # The agent

    async def events(self) -> AsyncIterator[LineEvent]:
        """An AudioFrame every 20 ms, of speech or of silence."""
        silence = np.zeros(AUDIO_FRAME_SAMPLES, np.int16)
        number = 0
        while self._over is None:
            number += 1
            await asyncio.sleep(max(0.0, number * AUDIO_FRAME_SAMPLES / LINE_RATE_HZ - self.now()))
            while self._marks and self._marks[0][0] <= self.now():
                yield MarkReached(self._marks.pop(0)[1], True)
            yield AudioReceived(self._speech.pop(0) if self._speech else silence)
        raise LineClosed(self._over)

    async def send_audio(self, pcm: Pcm) -> None:
        self._check_open()
        at_s = max(self.now(), self._end_s)
        if at_s > self._end_s + BLOCK_S:
            self.dry.append(Silence(self._end_s, at_s))
        self._played.append((at_s, pcm.copy()))
        self._end_s = at_s + len(pcm) / LINE_RATE_HZ

    async def send_mark(self, name: str) -> None:
        self._check_open()
        self._marks.append((max(self.now(), self._end_s), name))

    async def clear(self) -> None:
        self._check_open()
        now_s = self.now()
        kept: list[tuple[float, Pcm]] = []
        for at_s, pcm in self._played:
            left = round((now_s - at_s) * LINE_RATE_HZ)
            if left > 0:
                kept.append((at_s, pcm[:left]))
        self._played = kept
        self._end_s = min(self._end_s, now_s)
        self._marks = [(now_s, name) for _, name in self._marks]

    async def hang_up(self, reason: HangUpReason) -> None:
        self.hung_up = self.hung_up or reason
        self._over = self._over or f"we hung up: {reason}"

    def _check_open(self) -> None:
        if self._over is not None:
            raise LineClosed(self._over)
