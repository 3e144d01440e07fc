"""Answers calls: one set of models, one persona, any number of lines."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from models.base import ModelBusy, Models, Voice
from pipeline.call import Call, CallOutcome, StockPhrase
from pipeline.events import CallEnded, CallObserver, Fault
from pipeline.line import LINE_RATE_HZ, Line, LineInfo, Pcm
from pipeline.persona import Persona
from pipeline.resample import resample, to_pcm
from pipeline.speakable import speakable
from pipeline.voice_hub import VoiceHub

__all__ = ["CallOutcome", "CallService"]

log = logging.getLogger(__name__)

STOCK_PHRASES: tuple[StockPhrase, ...] = ("greeting", "apology", "goodbye")


class CallService:
    """`start()`, then `answer(line)` for every call, then `aclose()`. All on one event loop.

    `observe` gives each call its observer. `inline` keeps every thread out: for virtual time.
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
        self._inline = inline
        self._hub = VoiceHub(models.voice_activity, inline=inline)
        self._hub_task: asyncio.Task[None] | None = None
        self._stock: dict[StockPhrase, Pcm] = {}
        self._calls: set[Call] = set()

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    async def start(self) -> None:
        """Voice the stock phrases and evaluate the persona's prompt, so that the first caller waits for
        neither. Raises `ModelError`."""
        voice = await self._open_voice()
        try:
            for phrase in STOCK_PHRASES:
                self._stock[phrase] = await _synthesise(voice, getattr(self._persona, phrase))
        finally:
            await voice.aclose()
        session = await self._models.chat.open(self._persona.prefix())
        await session.aclose()
        self._hub_task = asyncio.create_task(self._hub.run(), name="voice-hub")

    async def _open_voice(self) -> Voice:
        choice = self._persona.voice
        return await self._models.synthesizer.open(choice.name, speed=choice.speed)

    async def answer(self, line: Line) -> CallOutcome:
        """Hold the call on `line` until it ends. Never raises but `CancelledError`: a call's fault ends
        that call, and the outcome says that the caller is owed an apology."""
        observer = self._observe(line.info)
        try:
            return await self._hold(line, observer)
        except ModelBusy as busy:
            log.warning("call %s refused: %s", line.info.call_id, busy)
            observer.observe(Fault(0.0, "admission", str(busy)))
            observer.observe(CallEnded(0.0, "busy", "failed"))
            outcome = CallOutcome(False, "busy")
        except Exception as error:
            log.exception("call %s failed", line.info.call_id)
            outcome = CallOutcome(False, f"{type(error).__name__}: {error}")
        await line.hang_up("apology")
        return outcome

    async def _hold(self, line: Line, observer: CallObserver) -> CallOutcome:
        session = await self._models.chat.open(self._persona.prefix())
        try:
            voice = await self._open_voice()
            try:
                call = Call(
                    line,
                    self._models,
                    self._persona,
                    session,
                    voice,
                    self._stock,
                    self._hub,
                    observer,
                    inline=self._inline,
                )
                self._calls.add(call)
                try:
                    return await call.run()
                finally:
                    self._calls.discard(call)
            finally:
                await voice.aclose()
        finally:
            await session.aclose()

    def end_politely(self) -> None:
        """Every live call says goodbye and hangs up."""
        for call in self._calls:
            call.end_politely()

    async def aclose(self) -> None:
        """Stop the voice hub. Live calls must have ended; the models stay the owner's to close."""
        if self._hub_task is not None:
            self._hub_task.cancel()
            await asyncio.gather(self._hub_task, return_exceptions=True)


async def _synthesise(voice: Voice, text: str) -> Pcm:
    chunks = [chunk async for chunk in voice.speak(speakable(text))]
    audio = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    return to_pcm(resample(audio, voice.sample_rate_hz, LINE_RATE_HZ))
