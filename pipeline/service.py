"""Answers calls: one set of models, any number of personas and lines."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import get_args

import numpy as np

from models.base import SHARED, AgentSpeech, ModelBusy, Models, Speech, Voice
from pipeline.call import Call, CallOutcome, StockSpeech
from pipeline.events import CallEnded, CallObserver, CallStarted, Fault
from pipeline.hearing import Hearing
from pipeline.line import LINE_RATE_HZ, Line, LineInfo
from pipeline.persona import Persona
from pipeline.resample import resample, to_pcm
from pipeline.resuming import CallSoFar, LaterOn
from pipeline.screening import Screening
from pipeline.speakable import speakable
from pipeline.turn_events import StockPhrase
from pipeline.voice_hub import VoiceHub

__all__ = ["CallOutcome", "CallService"]

log = logging.getLogger(__name__)

STOCK_PHRASES: tuple[StockPhrase, ...] = get_args(StockPhrase)
"""The greeting comes first: the other phrases are voiced as what follows it in a call."""


Stock = Mapping[StockPhrase, StockSpeech]


class CallService:
    """`start()`, then `answer(line)` for every call, then `aclose()`. All on one event loop.

    `persona` answers where `answer` is told no other. `observe` gives each call its observer. `inline` keeps
    every thread out: for virtual time.
    """

    def __init__(
        self,
        models: Models,
        persona: Persona,
        *,
        observe: Callable[[LineInfo], CallObserver],
        inline: bool = False,
    ) -> None:
        self._models = models
        self._persona = persona
        self._observe = observe
        self._hearing = Hearing(models.transcriber, inline=inline)
        self._hub = VoiceHub(models.voice_activity, inline=inline)
        self._hub_task: asyncio.Task[None] | None = None
        self._rehearsed: dict[str, Stock] = {}
        self._calls: set[Call] = set()
        self._answering = 0
        self._ending = False

    @property
    def live_calls(self) -> int:
        """Calls that `answer` holds, those still being set up included."""
        return self._answering

    @property
    def hears(self) -> bool:
        """The voice hub runs, without which no caller is heard."""
        return self._hub_task is not None and not self._hub_task.done()

    async def start(self) -> None:
        """Rehearse the persona, so that the first caller waits for nothing. Raises `ModelError`."""
        await self.rehearse(self._persona)
        self._hub_task = asyncio.create_task(self._hub.run(), name="voice-hub")

    async def rehearse(self, persona: Persona) -> None:
        """Voice the stock phrases and evaluate the prompt of one more persona; once is enough. Takes some
        seconds on a CPU, while calls go on. Raises `ModelError`."""
        await self._stock_of(persona)

    def forget(self, persona: Persona) -> None:
        """It takes no more calls. Those that it holds go on."""
        self._rehearsed.pop(_key(persona), None)

    async def _stock_of(self, persona: Persona) -> Stock:
        stock = self._rehearsed.get(_key(persona))
        if stock is not None:
            return stock
        voiced: dict[StockPhrase, StockSpeech] = {}
        voice = await self._open_voice(persona)
        try:
            context: tuple[Speech, ...] = ()
            for phrase in STOCK_PHRASES:
                words = speakable(getattr(persona, phrase)).strip()
                voiced[phrase] = await _synthesise(voice, words, SHARED + phrase, context)
                context = context or (AgentSpeech(SHARED + phrase, words),)
        finally:
            await voice.aclose()
        session = await self._models.chat.open(persona.prefix())
        await session.aclose()
        self._rehearsed[_key(persona)] = voiced
        return voiced

    async def _open_voice(self, persona: Persona) -> Voice:
        choice = persona.voice
        return await self._models.synthesizer.open(choice.name, speed=choice.speed)

    def screen(self, line: Line) -> Screening:
        """To hear who has answered a call that we made; then `answer(screening.line)`."""
        return Screening(line, self._hub, self._hearing, language=self._persona.language)

    async def answer(
        self,
        line: Line,
        persona: Persona | None = None,
        *,
        only_goodbye: bool = False,
        so_far: CallSoFar | None = None,
    ) -> CallOutcome:
        """Hold the call on `line` until it ends, as `persona`; one that has not been rehearsed keeps its
        caller waiting. `only_goodbye` says the persona's goodbye and hangs up: a message. `so_far`: the
        call goes on from there, after another line or another process lost it.

        Never raises but `CancelledError`: a call's fault ends that call, and the outcome says that the caller
        is owed an apology."""
        self._answering += 1
        try:
            async with AsyncExitStack() as stack:
                call = await self._set_up(line, persona or self._persona, so_far, stack)
                if call is not None:
                    if only_goodbye:
                        call.only_say_goodbye()
                    return await self._hold(call)
            reason = "busy"
        except Exception as error:
            log.exception("call %s failed", line.info.call_id)
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._answering -= 1
        await line.hang_up("apology")
        return CallOutcome(False, reason)

    async def _set_up(
        self, line: Line, persona: Persona, so_far: CallSoFar | None, stack: AsyncExitStack
    ) -> Call | None:
        """Reserve what one call needs; None when the house is full. What fails here is on record."""
        observer = self._observe(line.info)
        try:
            stock = await self._stock_of(persona)
            sampling = persona.words.of(line.info.call_id)
            session = await self._models.chat.open(persona.prefix(), sampling=sampling)
            stack.push_async_callback(session.aclose)
            voice = await self._open_voice(persona)
            stack.push_async_callback(voice.aclose)
            return Call(
                line,
                self._hearing,
                persona,
                session,
                voice,
                stock,
                self._hub,
                observer,
                so_far,
            )
        except ModelBusy as busy:
            log.warning("call %s refused: %s", line.info.call_id, busy)
            _record_failure(observer, line, persona.name, "admission", str(busy), so_far)
            return None
        except BaseException as error:
            detail = f"{type(error).__name__}: {error}"
            _record_failure(observer, line, persona.name, "set-up", detail, so_far)
            raise

    async def _hold(self, call: Call) -> CallOutcome:
        self._calls.add(call)
        if self._ending:
            call.end_politely()
        try:
            return await call.run()
        finally:
            self._calls.discard(call)

    def end_politely(self) -> None:
        """Every live call, and every one that still begins, says goodbye and hangs up."""
        self._ending = True
        for call in self._calls:
            call.end_politely()

    def end_call(self, call_id: str) -> bool:
        """That call says goodbye and hangs up. False where no call of this id is held."""
        found = [call for call in self._calls if call.call_id == call_id]
        for call in found:
            call.end_politely("goodbye")
        return bool(found)

    async def aclose(self) -> None:
        """Stop the voice hub. Live calls must have ended; the models stay the owner's to close."""
        if self._hub_task is not None:
            self._hub_task.cancel()
            await asyncio.gather(self._hub_task, return_exceptions=True)


def _key(persona: Persona) -> str:
    """Personas are equal by what they say, wherever it was read from."""
    return persona.model_dump_json()


def _record_failure(
    observer: CallObserver, line: Line, persona: str, where: str, detail: str, so_far: CallSoFar | None
) -> None:
    """A call that never began, or never went on, still leaves a record."""
    if so_far is not None:
        observer = LaterOn(observer, so_far.at_s)
    observer.observe(CallStarted(0.0, line.info, persona, so_far is not None))
    observer.observe(Fault(0.0, where, detail))
    observer.observe(CallEnded(0.0, "busy" if where == "admission" else "failed", "failed"))


async def _synthesise(voice: Voice, words: str, utterance: str, context: Sequence[Speech]) -> StockSpeech:
    speaking = voice.speak(words, utterance=utterance, context=context)
    chunks = [chunk async for chunk in speaking]
    audio = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    pcm = to_pcm(resample(audio, voice.sample_rate_hz, LINE_RATE_HZ))
    return StockSpeech(pcm, tuple(voice.word_spans(utterance)))
