"""The transcriber as calls share it: telephone audio in, and partial transcripts only while it is idle."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from models.base import STT_RATE_HZ, Glimpse, Samples, Transcriber
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import from_pcm, resample

Answer = TypeVar("Answer")

WORDS_WITHIN_S = 8.0
"""Nobody holds a line that long for an answer: work that is later would only delay the others'. Whoever has a
deadline is heard before partial transcripts, which have none."""


class Hearing:
    """One for all calls of a process. Audio is (n,) int16 at 8 kHz. Errors of the transcriber propagate.

    `inline` resamples on the loop: for virtual time.
    """

    def __init__(self, transcriber: Transcriber, *, inline: bool = False) -> None:
        self._transcriber = transcriber
        # Threads of its own: what waits for a disk or a database elsewhere must make nobody deaf.
        self._resampling = None if inline else ThreadPoolExecutor(2, thread_name_prefix="resampling")
        self._under_way = 0

    async def words(self, pcm: Pcm, *, language: str, hot_words: str) -> str:
        """Raises `ModelLate` when they are not there within `WORDS_WITHIN_S`."""
        return await self._transcribed(pcm, language, hot_words, WORDS_WITHIN_S)

    async def part(self, pcm: Pcm, *, language: str, hot_words: str) -> str | None:
        """The words so far of somebody who still speaks. None at once while anybody waits for the
        transcriber: it is a help, and must not be a burden."""
        if self._under_way:
            return None
        return await self._transcribed(pcm, language, hot_words, None)

    async def _transcribed(self, pcm: Pcm, language: str, hot_words: str, deadline_s: float | None) -> str:
        audio = await self._prepared(pcm)
        transcribing = self._transcriber.transcribe(
            audio, language=language, hot_words=hot_words, deadline_s=deadline_s
        )
        return (await self._counted(transcribing)).text.strip()

    async def glimpse(self, pcm: Pcm, *, language: str) -> Glimpse:
        return await self._transcriber.glimpse(await self._prepared(pcm), language=language)

    async def _counted(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        self._under_way += 1
        try:
            return await work
        finally:
            self._under_way -= 1

    async def _prepared(self, pcm: Pcm) -> Samples:
        if self._resampling is None:
            return _for_transcriber(pcm)
        return await asyncio.get_running_loop().run_in_executor(self._resampling, _for_transcriber, pcm)


def _for_transcriber(pcm: Pcm) -> Samples:
    return resample(from_pcm(pcm), LINE_RATE_HZ, STT_RATE_HZ)
