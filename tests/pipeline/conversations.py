"""Conversations with the turn-taking core: probabilities in, actions out, time as an argument."""

from collections.abc import Iterable
from typing import TypeVar

from models.base import VAD_WINDOW_SAMPLES
from pipeline.line import LINE_RATE_HZ
from pipeline.persona import Limits
from pipeline.persona import TurnTaking as TurnPolicy
from pipeline.playout import Playout
from pipeline.turn_events import PlayedOut, ReplyAudible, Transcribed, TurnAction, TurnEvent, Voice
from pipeline.turns import State, TurnTaking

Action = TypeVar("Action")

PLAIN = TurnPolicy(end_of_turn="silence", endpoint_silence_s=0.7, barge_in="eager")
"""Nothing but silence and voice decides: for conversations about the rest."""
WINDOW_S = VAD_WINDOW_SAMPLES / LINE_RATE_HZ


class Conversation:
    """Drives the core as the shell would: windows of 32 ms, timers at their deadlines."""

    def __init__(
        self, policy: TurnPolicy | None = None, *, call_limit_s: float = 1800.0, warning_s: float = 0.0
    ) -> None:
        self.playout = Playout()
        limits = Limits(call_s=call_limit_s, warning_s=warning_s)
        self.core = TurnTaking(policy or PLAIN, self.playout, limits)
        self.now = 100.0
        self.sample = 0
        self.actions: list[TurnAction] = list(self.core.begin(self.now))

    def hear(self, seconds: float, probability: float) -> list[TurnAction]:
        new: list[TurnAction] = []
        for _ in range(round(seconds / WINDOW_S)):
            self.now += WINDOW_S
            new += self._timers()
            start, self.sample = self.sample, self.sample + VAD_WINDOW_SAMPLES
            new += self.core.receive(Voice(probability, start, self.sample), self.now)
        self.actions += new
        return new

    def _timers(self) -> list[TurnAction]:
        new: list[TurnAction] = []
        while (deadline := self.core.next_deadline()) is not None and deadline <= self.now:
            new += self.core.handle_timer(self.now)
        return new

    def speech(self, seconds: float) -> list[TurnAction]:
        return self.hear(seconds, 0.95)

    def silence(self, seconds: float) -> list[TurnAction]:
        return self.hear(seconds, 0.02)

    def stall(self, seconds: float) -> list[TurnAction]:
        """Time passes and the line brings nothing, not even silence."""
        end = self.now + seconds
        new: list[TurnAction] = []
        while (deadline := self.core.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            new += self.core.handle_timer(self.now)
        self.now = end
        self.actions += new
        return new

    def tell(self, event: TurnEvent) -> list[TurnAction]:
        new = self.core.receive(event, self.now)
        self.actions += new
        return new

    def greeted(self) -> "Conversation":
        self.tell(PlayedOut())
        return self


def of(actions: Iterable[TurnAction], kind: type[Action]) -> list[Action]:
    return [a for a in actions if isinstance(a, kind)]


def speaking(policy: TurnPolicy | None = None) -> Conversation:
    """A conversation in which the agent's reply is audible."""
    talk = Conversation(policy).greeted()
    talk.speech(1.0)
    talk.silence(0.2)
    talk.tell(Transcribed(1, "tell me everything"))
    talk.silence(0.8)
    talk.tell(ReplyAudible())
    assert talk.core.state is State.SPEAKING
    return talk
