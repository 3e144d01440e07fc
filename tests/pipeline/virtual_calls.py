"""Whole calls in virtual time: real stream shell, core and codecs; scripted models; a tone for a caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from models.base import Models, VoiceActivity
from models.scripted import (
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    voiced_signal,
)
from pipeline.events import AgentTurn, CallEnded, CallerTurn, CallEvent, Fault
from pipeline.line import LINE_RATE_HZ, Line, LineInfo, Pcm
from pipeline.persona import Limits, Persona, TurnTaking
from pipeline.service import CallOutcome, CallService
from telephony.answer import Answer
from telephony.simulator import Report, Scenario, simulate_virtual
from telephony.simulator.caller import Speech
from telephony.simulator.virtual_loop import run_virtual
from tests.pipeline.hand_line import HandLine

PERSONA = Persona(
    name="Test Desk",
    greeting="Hello, how can I help?",
    system="You help.",
    apology="Sorry, please call again.",
    goodbye="Goodbye.",
    fallback="Could you say that again?",
    turns=TurnTaking(end_of_turn="silence", endpoint_silence_s=0.7),
)


def tone(text: str, seconds: float | None = None) -> Pcm:
    """A line of the caller: voiced for 80 ms a character unless told."""
    audio = voiced_signal(text, seconds or 0.08 * len(text), LINE_RATE_HZ)
    return (audio * 32767).astype(np.int16)


def hears(*texts: str | Exception) -> ScriptedTranscriber:
    """One text a turn, however often the turn is transcribed as it grows."""
    return ScriptedTranscriber(texts, latency_s=0.2, once_per_turn=True)


@dataclass
class Observed:
    """Everything one call reported."""

    events: list[CallEvent] = field(default_factory=list)

    def observe(self, event: CallEvent) -> None:
        self.events.append(event)

    @property
    def agent(self) -> list[AgentTurn]:
        return [e for e in self.events if isinstance(e, AgentTurn)]

    @property
    def caller(self) -> list[str]:
        return [e.text for e in self.events if isinstance(e, CallerTurn)]

    @property
    def faults(self) -> list[Fault]:
        return [e for e in self.events if isinstance(e, Fault)]

    @property
    def ended(self) -> list[CallEnded]:
        return [e for e in self.events if isinstance(e, CallEnded)]


@dataclass
class House:
    """One service with its stand-ins; `play` and `by_hand` call it once and keep what came of it."""

    transcriber: ScriptedTranscriber = field(default_factory=lambda: ScriptedTranscriber(latency_s=0.2))
    chat: ScriptedChat = field(
        default_factory=lambda: ScriptedChat(prefill_s=0.05, first_token_s=0.1, tokens_per_s=20)
    )
    synthesizer: ScriptedSynthesizer = field(default_factory=lambda: ScriptedSynthesizer(latency_s=0.05))
    voice_activity: VoiceActivity = field(default_factory=EnergyVoiceActivity)
    persona: Persona = PERSONA
    others: int = 0
    """Sequences of the language model that other calls hold."""
    observed: Observed = field(default_factory=Observed)
    """What the first call reported."""
    calls: dict[str, Observed] = field(default_factory=dict)
    """What each call reported, by its id."""
    outcomes: list[CallOutcome] = field(default_factory=list)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[CallService]:
        models = Models(self.transcriber, self.chat, self.synthesizer, self.voice_activity)
        service = CallService(models, self.persona, observe=self._observer, inline=True)
        await service.start()
        for _ in range(self.others):
            await self.chat.open(())
        try:
            yield service
        finally:
            await service.aclose()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Answer]:
        async with self.service() as service:

            async def answer(line: Line) -> CallOutcome:
                outcome = await service.answer(line)
                self.outcomes.append(outcome)
                return outcome

            yield answer

    def _observer(self, info: LineInfo) -> Observed:
        return self.calls.setdefault(info.call_id, Observed() if self.calls else self.observed)

    def play(
        self, steps: Sequence[object], lines: Mapping[int, Pcm] | None = None, **settings: object
    ) -> Report:
        """A simulated caller on a Twilio stream; `settings` are the scenario's other fields."""
        scenario = Scenario.model_validate({"name": "test", "steps": list(steps), **settings})
        speeches = {}
        for number, step in enumerate(scenario.steps):
            text = getattr(step, "text", None) or getattr(step, "say", None)
            if text is not None:
                speeches[number] = Speech.of(text, (lines or {}).get(number, tone(text)))
        return simulate_virtual(scenario, self.open, speeches=speeches)

    def by_hand(
        self,
        caller: Callable[[HandLine, CallService], Awaitable[None]],
        make_line: Callable[[], HandLine] = HandLine,
    ) -> HandLine:
        """A caller on a line whose every event `caller` decides; the line closes when it returns."""

        async def call() -> HandLine:
            async with self.service() as service:
                line = make_line()
                answering = asyncio.create_task(service.answer(line), name="answer")
                await caller(line, service)
                line.close()
                async with asyncio.timeout(60):
                    self.outcomes.append(await answering)
                return line

        return run_virtual(call())


def with_limits(**limits: float) -> Persona:
    return PERSONA.model_copy(update={"limits": Limits.model_validate(limits)})


LONG = "I will tell you everything, one thing after another, for a very long time. And then even more of it."


def interrupted(after_s: float = 1.5) -> tuple[House, Report]:
    house = House(transcriber=hears("tell me", "stop it"), chat=ScriptedChat([LONG, "All right."]))
    report = house.play(
        [
            "listen",
            {"say": "tell me please"},
            {"interrupt": {"after_s": after_s, "say": "stop it now please"}},
            "listen",
        ]
    )
    return house, report
