"""Calls without sound or models, that only report what calls report: for a page that must keep up."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallObserver,
    CallStarted,
    TurnTimes,
)
from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES, LineInfo

Watch = Callable[[LineInfo], CallObserver]

QUESTIONS: Final = (
    "What time do you open on Saturdays?",
    "And do I need an appointment for a flu shot, or can I just walk in?",
    "My number is four four one, seven seven two, and I would like to move my appointment to Thursday.",
    "Thanks, that is all.",
)
ANSWERS: Final = (
    ("We open at nine on Saturdays,", "and close at noon."),
    ("Please book a flu shot ahead;", "you can do that online, by phone,", "or at the desk on any weekday."),
    ("Of course.", "Thursday at ten is free.", "Shall I put you down for it?"),
    ("You are welcome.", "Goodbye."),
)
_PERSONAS: Final = ("Greenfield Clinic", "Riverside Hotel", "City Library")
_WAYS: Final = ("twilio", "sip", "browser")
_SILENCE: Final = np.zeros(AUDIO_FRAME_SAMPLES, np.int16)


class ScriptedCall:
    """One call. `step()` reports what happens in the next 20 ms of it: the caller's sound, the agent's, words
    as they come, and a turn about every ten seconds."""

    def __init__(self, number: int, watch: Watch) -> None:
        self._random = random.Random(number)
        self.info = LineInfo(
            f"call{number:05d}",
            _WAYS[number % len(_WAYS)],
            f"+49301{number:06d}",
            f"+4930200{number % 7}",
        )
        self._persona = _PERSONAS[number % len(_PERSONAS)]
        self._observer = watch(self.info)
        self._tick = 0
        self._turn = 0
        self._due: list[tuple[int, Callable[[], None]]] = []
        self._agent_until = 0
        self._observer.observe(CallStarted(0.0, self.info, self._persona))
        self._plan_turn(first=True)

    @property
    def now_s(self) -> float:
        return self._tick * AUDIO_FRAME_S

    def step(self) -> None:
        start = self._tick * AUDIO_FRAME_SAMPLES
        self._observer.observe(CallerAudio(start, _SILENCE))
        if self._tick < self._agent_until:
            self._observer.observe(AgentAudio(start, _SILENCE))
        self._tick += 1
        while self._due and self._due[0][0] <= self._tick:
            self._due.pop(0)[1]()

    def end(self) -> None:
        self._observer.observe(CallEnded(self.now_s, "caller hung up", "completed"))

    def _plan_turn(self, *, first: bool = False) -> None:
        turn, observe, rand = self._turn, self._observer.observe, self._random
        if first:
            greeting = f"{self._persona}, this is Maya. How can I help you?"
            self._at(0.1, lambda: observe(AgentClause(self.now_s, 0, greeting)))
            self._speak_until(3.0)
            times = TurnTimes(0, first_played_s=0.1)
            self._at(3.0, lambda: observe(AgentTurn(self.now_s, 0, greeting, greeting, False, times)))
            self._turn = 1
            self._at(3.2 + 6 * rand.random(), self._plan_turn)
            return
        asked, said = QUESTIONS[turn % 4], ANSWERS[turn % 4]
        words = asked.split()
        began = self.now_s
        observe(CallerSpeaks(began))
        for count in range(3, len(words), 3):
            part = " ".join(words[:count])
            self._at(0.3 * count, lambda part=part: observe(CallerSpeaks(self.now_s, part)))  # type: ignore[misc]
        spoken_s = 0.3 * len(words)
        end_s = began + spoken_s
        self._at(spoken_s + 0.2, lambda: observe(CallerSpoke(began, end_s)))
        self._at(spoken_s + 0.6, lambda: observe(CallerTurn(self.now_s, turn, asked)))
        wait_s = 0.7 + 0.6 * rand.random()
        at_s = spoken_s + wait_s
        for clause in said:
            self._at(at_s, lambda clause=clause: observe(AgentClause(self.now_s, turn, clause)))  # type: ignore[misc]
            at_s += 0.05 * len(clause)
        self._agent_until = self._tick + round(at_s / AUDIO_FRAME_S)
        interrupted = turn % 4 == 2
        text = " ".join(said)
        heard = " ".join(said[:-1]) if interrupted else text
        times = TurnTimes(
            turn,
            speech_end_s=end_s,
            audible_end_s=end_s,
            transcribe_started_s=end_s + 0.12,
            transcribed_s=end_s + 0.3,
            committed_s=end_s + 0.5,
            first_token_s=end_s + 0.4,
            first_clause_s=end_s + 0.5,
            first_audio_s=end_s + wait_s - 0.1,
            first_played_s=end_s + wait_s,
            first_audible_s=end_s + wait_s + 0.02,
        )
        self._at(at_s, lambda: observe(AgentTurn(self.now_s, turn, text, heard, interrupted, times)))
        self._turn += 1
        self._at(at_s + 0.5 + 2 * rand.random(), self._plan_turn)

    def _at(self, in_s: float, action: Callable[[], None]) -> None:
        self._due.append((self._tick + max(1, round(in_s / AUDIO_FRAME_S)), action))
        self._due.sort(key=lambda due: due[0])

    def _speak_until(self, in_s: float) -> None:
        self._agent_until = self._tick + round(in_s / AUDIO_FRAME_S)


async def keep_talking(calls: Sequence[ScriptedCall], seconds: float) -> None:
    """Let all calls go on in real time. What the machine was late with is made up for."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for tick in range(round(seconds / AUDIO_FRAME_S)):
        # Calls' packets do not all arrive at once.
        for call in calls:
            call.step()
        await asyncio.sleep(max(0.0, began + (tick + 1) * AUDIO_FRAME_S - loop.time()))
