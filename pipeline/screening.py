"""Listens on a line that somebody has just answered: `pipeline.answer_judge` over real sound and words."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import numpy as np

from pipeline.answer_judge import AnswerJudge, AskWords, Verdict
from pipeline.answering import GreetingEnd
from pipeline.audible import level_dbfs
from pipeline.hearing import Hearing
from pipeline.line import AudioReceived, HeardBefore, Line, LineEvent, Pcm
from pipeline.voice_hub import VoiceHub

log = logging.getLogger(__name__)

VOICED = 0.5


class Screening:
    """`await listen()` gives the verdict, `await listened_to_the_end()` waits for a machine's beep; `line`
    then goes on with the call, what was heard so far included as `HeardBefore`."""

    def __init__(self, line: Line, hub: VoiceHub, hearing: Hearing, *, language: str) -> None:
        self.verdict: Verdict | None = None
        self._judge = AnswerJudge()
        self._hearing = hearing
        self._language = language
        self._heard: list[Pcm] = []
        self._samples = 0
        self._voiced = False
        self._error: Exception | None = None
        self._asking: asyncio.Task[None] | None = None
        self._events = line.events()
        self._inner = line
        self._ear = hub.open(self._on_voice, self._on_failure)

    @property
    def line(self) -> Line:
        heard = np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)
        line: Any = _ScreenedLine(self._inner, self._events, heard)
        screened: Line = line
        return screened

    async def listen(self) -> Verdict:
        """Until it is known who answered: after four seconds of silence or of greeting at the latest, while
        the line gives samples. Raises `LineClosed`, and what the models raise."""
        try:
            await self._listen_until(lambda: self._judge.verdict is not None)
        finally:
            if self._asking is not None:
                self._asking.cancel()
        assert self._judge.verdict is not None  # noqa: S101  (what was waited for)
        self.verdict = self._judge.verdict
        return self.verdict

    async def listened_to_the_end(self) -> None:
        """Until a machine has finished its greeting and records. Raises `LineClosed`."""
        end = GreetingEnd()
        done = False

        def hear(pcm: Pcm) -> None:
            nonlocal done
            done = end.push(pcm, voiced=self._voiced) or done

        await self._listen_until(lambda: done, hear)

    def close(self) -> None:
        self._ear.close()

    async def _listen_until(
        self, done: Callable[[], bool], hear: Callable[[Pcm], None] = lambda pcm: None
    ) -> None:
        while not done():
            event = await anext(self._events)
            if isinstance(event, AudioReceived):
                self._heard.append(event.pcm)
                self._samples += len(event.pcm)
                self._ear.push(event.pcm)
                hear(event.pcm)
            if self._error is not None:
                raise self._error

    def _on_voice(self, probability: float, start: int, end: int) -> None:
        self._voiced = probability > VOICED
        ask = self._judge.voice(probability, level_dbfs(self._slice(start, end)), start, end)
        if ask is not None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(ask), name="who-answers")

    def _on_failure(self, error: Exception) -> None:
        self._error = error

    async def _ask(self, ask: AskWords) -> None:
        pcm = self._slice(ask.start_sample, ask.end_sample)
        try:
            text = await self._hearing.words(pcm, language=self._language, hot_words="")
        except Exception as error:
            # How long the greeting lasts has to tell then.
            log.warning("the words of whoever answered cannot be had: %s", error)
            self._judge.failed(ask)
            return
        self._judge.words(text, ask, self._samples)

    def _slice(self, start: int, end: int) -> Pcm:
        # Some seconds of 20 ms each: joining them is cheap, and done a hundred times a call.
        return np.concatenate(self._heard)[start:end]


_ABILITIES: Final = ("listen", "play_now", "mark_now", "transfer", "send_keys")
"""What not every line has (`pipeline.line`). From Python 3.12 on `isinstance` with a protocol does not ask
`__getattr__`."""


class _ScreenedLine:
    """The same line, whose events go on where the screening stopped. What else the line can do, it can."""

    def __init__(self, line: Line, events: AsyncIterator[LineEvent], heard: Pcm) -> None:
        self._line = line
        self._rest = events
        self._heard = heard
        for ability in _ABILITIES:
            if (method := getattr(line, ability, None)) is not None:
                setattr(self, ability, method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    async def events(self) -> AsyncIterator[LineEvent]:
        if len(self._heard):
            yield HeardBefore(self._heard)
        async for event in self._rest:
            yield event
