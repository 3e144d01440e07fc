"""One reply in the making: tokens -> clauses -> voice -> line rate -> playout, behind a gate."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from models.base import AgentSpeech, ChatSession, Message, Speech, Voice
from pipeline.clauses import ClauseChunker
from pipeline.conversation import SpokenClause
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import Resampler, to_pcm
from pipeline.speakable import speakable
from pipeline.tools.use import Filler, Pause, ToolUse, Written

CLAUSES_AHEAD = 4
"""Clauses that may wait for the voice; beyond that the language model waits."""


@dataclass(slots=True)
class ReplyTimes:
    """When each stage was reached (monotonic seconds); None where it was not."""

    first_token: float | None = None
    first_clause: float | None = None
    first_audio: float | None = None


@dataclass(frozen=True, slots=True)
class _Clause:
    """A clause as written; see `SpokenClause`."""

    text: str
    part: int
    filler: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """A reply that was lost in its middle. `notice` says that the line had dropped; `clauses` were written
    and not heard; where it `goes_on`, the language model writes what follows `begun`, which is all that it
    had written."""

    notice: str
    clauses: tuple[str, ...]
    begun: str
    goes_on: bool


async def _at_once() -> None:
    return None


class Reply:
    """`run()` makes the reply and hands it to `on_clause(clause)` and `on_audio(pcm)`, which are called on
    the event loop, only once `gate` is set. Until then the first clause is written and voiced ahead,
    and nothing leaves. Cancelling `run` stops both models within one step. Errors of models propagate.
    `context` is the conversation before the reply, for the voice; `name` begins the keys of its utterances.
    `on_turn_end` is told how likely the caller's turn ends with the words that are answered. With `tools` the
    reply is what they make of it; `on_silence()` returns when the caller has heard all audio so far.
    `resumes` makes it the rest of a reply that was lost.
    """

    def __init__(
        self,
        session: ChatSession,
        voice: Voice,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        if_silent: str,
        name: str,
        context: Sequence[Speech],
        on_clause: Callable[[SpokenClause], None],
        on_audio: Callable[[Pcm], None],
        on_turn_end: Callable[[float], None],
        tools: ToolUse | None = None,
        on_silence: Callable[[], Awaitable[None]] = _at_once,
        resumes: "Resumed | None" = None,
    ) -> None:
        self._session = session
        self._voice = voice
        self._messages = messages
        self._max_tokens = max_tokens
        self._if_silent = if_silent
        self._name = name
        self._context = tuple(context)
        self._voiced = 0
        self._on_clause = on_clause
        self._on_audio = on_audio
        self._on_turn_end = on_turn_end
        self._tools = tools
        self._on_silence = on_silence
        self._resumes = resumes
        self._clauses: asyncio.Queue[_Clause | None] = asyncio.Queue(CLAUSES_AHEAD)
        self._stopped = False
        self.gate = asyncio.Event()
        self.times = ReplyTimes()

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """Nothing more reaches the callbacks, even if a stage runs once more before its cancellation."""
        self._stopped = True

    @property
    def tools(self) -> ToolUse | None:
        return self._tools

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(), name="reply-write")
                group.create_task(self._speak(), name="reply-speak")
        except BaseExceptionGroup as errors:
            # One stage's failure cancels the other: the first error says what went wrong.
            raise errors.exceptions[0] from None

    async def _write(self) -> None:
        async for clause in self._written():
            if self.times.first_clause is None:
                self.times.first_clause = _now()
            await self._clauses.put(clause)
        await self._clauses.put(None)

    async def _written(self) -> AsyncIterator[_Clause]:
        chunker = ClauseChunker()
        resumes = self._resumes
        if resumes is not None:
            if resumes.notice:
                yield _Clause(resumes.notice, 0, filler=True)
            for text in resumes.clauses:
                yield _Clause(text, 0)
            if not resumes.goes_on:
                return
        # What was known of the reply may have been all of it.
        spoke = resumes is not None and bool(resumes.begun)
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                if self.times.first_token is None:
                    self.times.first_token = _now()
                part = len(self._tools.runs) if self._tools else 0
                if isinstance(piece, Filler):
                    # What it waits for has begun; its place is before the result.
                    yield _Clause(piece.text, part - 1, filler=True)
                    continue
                for clause in chunker.flush() if isinstance(piece, Pause) else chunker.push(piece):
                    spoke = spoke or bool(speakable(clause).strip())
                    yield _Clause(clause, part)
        part = len(self._tools.runs) if self._tools else 0
        for clause in chunker.flush():
            spoke = spoke or bool(speakable(clause).strip())
            yield _Clause(clause, part)
        if not spoke and not (self._tools and self._tools.ended):
            yield _Clause(self._if_silent, part)

    def _pieces(self) -> AsyncGenerator[Written, None]:
        if self._tools is not None:
            return self._tools.write(self.gate, self._heard)
        if self._resumes is not None:
            return self._session.reply(self._messages, max_tokens=self._max_tokens, begun=self._resumes.begun)
        return self._session.reply(
            self._messages, max_tokens=self._max_tokens, on_turn_end=self._tell_turn_end
        )

    async def _heard(self) -> None:
        """Returns when the caller has heard what was written so far."""
        await self._clauses.join()
        await self._on_silence()

    def _tell_turn_end(self, probability: float) -> None:
        if not self._stopped:
            self._on_turn_end(probability)

    async def _speak(self) -> None:
        resampler = Resampler(self._voice.sample_rate_hz, LINE_RATE_HZ)
        while (clause := await self._clauses.get()) is not None:
            words = speakable(clause.text).strip()
            if words and not self._stopped:
                self._voiced += 1
                key = f"{self._name}/{self._voiced}"
                spoken = SpokenClause(clause.text, words, key, clause.part, clause.filler)
                await self._voice_clause(spoken, resampler)
            self._clauses.task_done()
        await self.gate.wait()
        if not self._stopped:
            self._on_audio(to_pcm(resampler.flush()))

    async def _voice_clause(self, clause: SpokenClause, resampler: Resampler) -> None:
        announced = False
        speaking = self._voice.speak(clause.words, utterance=clause.utterance, context=self._context)
        async with aclosing(speaking) as chunks:
            async for chunk in chunks:
                pcm = to_pcm(resampler.push(chunk))
                if self.times.first_audio is None:
                    self.times.first_audio = _now()
                await self.gate.wait()
                if self._stopped:
                    return
                if not announced:
                    self._on_clause(clause)
                    announced = True
                self._on_audio(pcm)
        if announced and self._voice.takes_context != "nothing":
            self._context = (*self._context, AgentSpeech(clause.utterance, clause.words))


def _now() -> float:
    return asyncio.get_running_loop().time()
