"""A voice that costs next to nothing: what a bench measures is around it."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from typing import Literal

from models.base import Samples, Speech
from models.scripted import voiced_signal

_CHARACTER_S = 0.06
_CHUNK_S = 0.1
_SPEED = 20
"""Times as fast as it is spoken."""


class ToneSynthesizer:
    """A tone for every text, at `rate_hz`, remembered: nothing is made twice, and nothing kept of a call."""

    def __init__(self, rate_hz: int, *, latency_s: float = 0.0) -> None:
        self._rate_hz = rate_hz
        self._latency_s = latency_s

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "ToneVoice":
        return ToneVoice(self._rate_hz, self._latency_s)

    async def aclose(self) -> None:
        return None


class ToneVoice:
    takes_context: Literal["nothing", "text", "audio"] = "nothing"

    def __init__(self, rate_hz: int, latency_s: float) -> None:
        self.sample_rate_hz = rate_hz
        self._latency_s = latency_s

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        audio = _tone(text, self.sample_rate_hz)
        step = round(_CHUNK_S * self.sample_rate_hz)
        await asyncio.sleep(self._latency_s)
        for start in range(0, len(audio), step):
            if start:
                await asyncio.sleep(_CHUNK_S / _SPEED)
            yield audio[start : start + step]

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return ()

    def prepare(self, context: Sequence[Speech]) -> None:
        return None

    async def aclose(self) -> None:
        return None


@lru_cache(maxsize=64)
def _tone(text: str, rate_hz: int) -> Samples:
    return voiced_signal(text, len(text) * _CHARACTER_S, rate_hz)
