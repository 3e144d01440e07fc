"""Whole calls in virtual time: real stream shell, core and codecs; scripted models; a tone for a caller."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from models.base import Models
from models.scripted import (
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    voiced_signal,
)
from pipeline.events import AgentTurn, CallEnded, CallerTurn, CallEvent, Fault
from pipeline.line import LINE_RATE_HZ, Line, LineInfo, Pcm
from pipeline.persona import Limits, Persona
from pipeline.service import CallOutcome, CallService
from telephony.simulator import Report, Scenario, simulate_virtual
from telephony.simulator.caller import Speech
from telephony.twilio.desk import Answer

PERSONA = Persona(
    name="Test Desk",
    greeting="Hello, how can I help?",
    system="You help.",
    apology="Sorry, please call again.",
    goodbye="Goodbye.",
    fallback="Could you say that again?",
)


def tone(text: str, seconds: float | None = None) -> Pcm:
    """A line of the caller: voiced for 80 ms a character unless told."""
    audio = voiced_signal(text, seconds or 0.08 * len(text), LINE_RATE_HZ)
    return (audio * 32767).astype(np.int16)


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
    """One service with its stand-ins; `play` calls it once and tells what came of it."""

    transcriber: ScriptedTranscriber = field(default_factory=lambda: ScriptedTranscriber(latency_s=0.2))
    chat: ScriptedChat = field(
        default_factory=lambda: ScriptedChat(prefill_s=0.05, first_token_s=0.1, tokens_per_s=20)
    )
    synthesizer: ScriptedSynthesizer = field(default_factory=lambda: ScriptedSynthesizer(latency_s=0.05))
    persona: Persona = PERSONA
    others: int = 0
    """Sequences of the language model that other calls hold."""
    observed: Observed = field(default_factory=Observed)
    outcomes: list[CallOutcome] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Answer]:
        models = Models(self.transcriber, self.chat, self.synthesizer, EnergyVoiceActivity())
        service = CallService(models, self.persona, observe=self._observer, inline=True)
        await service.start()
        for _ in range(self.others):
            await self.chat.open(())

        async def answer(line: Line) -> CallOutcome:
            outcome = await service.answer(line)
            self.outcomes.append(outcome)
            return outcome

        try:
            yield answer
        finally:
            await service.aclose()

    def _observer(self, info: LineInfo) -> Observed:
        return self.observed

    def play(self, steps: Sequence[object], lines: Mapping[int, Pcm] | None = None) -> Report:
        scenario = Scenario.model_validate({"name": "test", "steps": list(steps)})
        speeches = {}
        for number, step in enumerate(scenario.steps):
            text = getattr(step, "text", None) or getattr(step, "say", None)
            if text is not None:
                speeches[number] = Speech.of(text, (lines or {}).get(number, tone(text)))
        return simulate_virtual(scenario, self.open, speeches=speeches)


def with_limits(**limits: float) -> Persona:
    return PERSONA.model_copy(update={"limits": Limits.model_validate(limits)})
