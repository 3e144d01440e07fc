"""A voice slowed down: drills and benches put it in the place of one that needs a GPU."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from models.base import Samples, Speech, Synthesizer, Voice


class PacedSynthesizer:
    """`models.base.Synthesizer`: another one's sound, delivered no faster than a second of it in `pace`
    seconds. Below 1 it still speaks without a break, and never far ahead: a replica that dies takes words
    along."""

    def __init__(self, synthesizer: Synthesizer, pace: float) -> None:
        self._synthesizer = synthesizer
        self._pace = pace

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "PacedVoice":
        return PacedVoice(await self._synthesizer.open(voice, speed=speed), self._pace)

    async def aclose(self) -> None:
        await self._synthesizer.aclose()


class PacedVoice:
    """`models.base.Voice`."""

    def __init__(self, voice: Voice, pace: float) -> None:
        self._voice = voice
        self._pace = pace
        self.sample_rate_hz = voice.sample_rate_hz
        self.takes_context = voice.takes_context

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        async with aclosing(self._voice.speak(text, utterance=utterance, context=context)) as chunks:
            async for chunk in chunks:
                await asyncio.sleep(self._pace * len(chunk) / self.sample_rate_hz)
                yield chunk

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return self._voice.word_spans(utterance)

    def prepare(self, context: Sequence[Speech]) -> None:
        self._voice.prepare(context)

    async def aclose(self) -> None:
        await self._voice.aclose()
