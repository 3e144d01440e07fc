"""A call that goes on after the process that held it was lost, or only its line.

What has been said and heard is known from what the call told of itself (`pipeline.events`): `CallMemory`
folds that into a `CallSoFar`, as a store of calls does in its own way, and `CallService.answer` goes on from
there. No clock, no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from models.base import Message
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentClauseHeard,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallObserver,
    CallStarted,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
    TurnTimes,
)
from pipeline.history import INTERRUPTED
from pipeline.line import LINE_RATE_HZ
from pipeline.tools.toolbox import call_text

LOST_LINES: Final = ("connection lost", "no media for", "server shut down")
"""How reasons begin with which a line closes though nobody has hung up (`pipeline.line.LineClosed`)."""
_AT_ONCE_S = 0.2
GREETING = 0
"""The number of the greeting's turn."""


@dataclass(frozen=True, slots=True)
class PastTurn:
    """One turn as another process left it. `caller` is "" where the agent spoke unasked."""

    number: int
    caller: str = ""
    heard: str = ""
    """Of the agent's words, once the turn is over."""
    interrupted: bool = False
    over: bool = True
    """The agent has said it, or was stopped."""
    tools: tuple[tuple[str, str], ...] = ()
    """Calls and results, as the language model is shown them."""
    clauses: tuple[str, ...] = ()
    """Of a reply that is not over: those that were handed to playout."""
    clauses_heard: int = 0
    """So many of them, from the first, were heard to their end."""

    @property
    def heard_clauses(self) -> str:
        return " ".join(self.clauses[: self.clauses_heard])

    @property
    def unheard(self) -> tuple[str, ...]:
        """The one that was cut in its middle is said again, from its first word."""
        return self.clauses[self.clauses_heard :]


@dataclass(frozen=True, slots=True)
class CallSoFar:
    """`turns` in order; only the last one may not be over. `at_s` is where the call's clock stands as it goes
    on: seconds since it was answered."""

    turns: tuple[PastTurn, ...] = ()
    at_s: float = 0.0
    recording_paused: bool = False
    """What is said is not to be kept, until the call resumes its recording."""

    @property
    def last_turn(self) -> int:
        return self.turns[-1].number if self.turns else GREETING

    @property
    def under_way(self) -> PastTurn | None:
        """The turn in which the call was lost; None where the agent had nothing left to say."""
        if not self.turns:
            return PastTurn(GREETING, over=False)
        return None if self.turns[-1].over else self.turns[-1]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation behind the persona's prefix, without the reply under way."""
        messages: list[Message] = []
        for turn in self.turns:
            if turn.caller:
                messages.append(Message("user", turn.caller))
            for call, result in turn.tools:
                messages += [Message("assistant", call), Message("tool", result)]
            if turn.over and (turn.number != GREETING or turn.interrupted):
                heard = f"{turn.heard} {INTERRUPTED}".strip() if turn.interrupted else turn.heard
                if heard:
                    messages.append(Message("assistant", heard))
        return tuple(messages)


def line_was_lost(reason: str) -> bool:
    """Whether a call that ended for this reason may go on: nobody wanted its end."""
    return reason.startswith(LOST_LINES)


def clauses_within(clauses: Sequence[str], heard: str) -> int:
    """How many of `clauses`, from the first, lie wholly in the words that were `heard`."""
    words = heard.split()
    count = 0
    for clause in clauses:
        own = clause.split()
        if words[: len(own)] != own:
            break
        words, count = words[len(own) :], count + 1
    return count


@dataclass(slots=True)
class _Reply:
    """A reply in the making: its clauses, and whether each is a filler."""

    clauses: list[tuple[str, bool]] = field(default_factory=list)
    heard: int = 0

    def drop_unheard(self) -> None:
        del self.clauses[self.heard :]


class CallMemory:
    """A `CallObserver` that knows at any moment how the call could go on."""

    def __init__(self) -> None:
        self._turns: dict[int, PastTurn] = {}
        self._replies: dict[int, _Reply] = {}
        self._recording_paused = False
        self._cut: tuple[float, PastTurn, _Reply] | None = None
        """The reply that was cut last: when, and how it stood."""
        self.persona = ""
        self.ended: CallEnded | None = None
        self.at_s = 0.0
        """Of the last event."""

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, CallerAudio | AgentAudio):
            self.at_s = max(self.at_s, event.start_sample / LINE_RATE_HZ)
            return
        match event:
            case CallStarted():
                self.persona, self.ended = event.persona, None
                for reply in self._replies.values():
                    reply.drop_unheard()
            case CallerTurn():
                before, begun = self._turns.get(event.turn), self._replies.get(event.turn)
                if before is None or before.over or before.caller != event.text:
                    # Taken up again with more words: nothing of the answer to fewer was heard.
                    self._turns[event.turn] = PastTurn(event.turn, event.text, over=False)
                    self._replies.pop(event.turn, None)
                elif begun is not None:
                    begun.drop_unheard()
            case AgentClause():
                self._turns.setdefault(event.turn, PastTurn(event.turn, over=False))
                reply = self._replies.setdefault(event.turn, _Reply())
                reply.clauses.append((event.text, event.filler))
            case AgentClauseHeard():
                if (known := self._replies.get(event.turn)) is not None:
                    known.heard += 1
            case ToolRan() if event.turn in self._turns and event.outcome != "refused":
                turn = self._turns[event.turn]
                run = (call_text(event.name, event.arguments), event.result)
                self._turns[event.turn] = replace(turn, tools=(*turn.tools, run))
            case AgentTurn():
                turn = self._turns.get(event.turn, PastTurn(event.turn))
                reply = self._replies.pop(event.turn, _Reply())
                self._cut = (event.at_s, turn, reply) if event.interrupted else None
                self._turns[event.turn] = replace(
                    turn, heard=event.heard, interrupted=event.interrupted, over=True
                )
            case RecordingPaused() | RecordingResumed():
                self._recording_paused = isinstance(event, RecordingPaused)
            case CallEnded():
                self.ended = event
                self._undo_cut(event)
        if not isinstance(event, CallerSpoke):
            self.at_s = max(self.at_s, event.at_s)

    def _undo_cut(self, end: CallEnded) -> None:
        """It was the loss of the line that cut the reply, not the caller."""
        if self._cut is None or not line_was_lost(end.reason):
            return
        at_s, turn, reply = self._cut
        if end.at_s - at_s < _AT_ONCE_S:
            self._turns[turn.number] = replace(turn, over=False)
            self._replies[turn.number] = reply

    def so_far(self, at_s: float) -> CallSoFar:
        turns = tuple(self._as_left(self._turns[number]) for number in sorted(self._turns))
        return CallSoFar(turns, at_s, self._recording_paused)

    def _as_left(self, turn: PastTurn) -> PastTurn:
        reply = self._replies.get(turn.number)
        if turn.over or reply is None:
            return turn
        clauses = tuple(text for text, filler in reply.clauses if not filler)
        heard = sum(not filler for _, filler in reply.clauses[: reply.heard])
        return replace(turn, clauses=clauses, clauses_heard=heard)


class LaterOn:
    """Tells `observer` of a call that goes on, on the clock that it had: everything `after_s` later."""

    def __init__(self, observer: CallObserver, after_s: float) -> None:
        self._observer = observer
        self._after_s = after_s
        self._after_samples = round(after_s * LINE_RATE_HZ)

    def observe(self, event: CallEvent) -> None:
        self._observer.observe(self._later(event))

    def _later(self, event: CallEvent) -> CallEvent:
        match event:
            case CallerAudio() | AgentAudio():
                return replace(event, start_sample=event.start_sample + self._after_samples)
            case CallerSpoke():
                return CallerSpoke(event.start_s + self._after_s, event.end_s + self._after_s)
            case AgentTurn():
                times = self._times_later(event.times)
                return replace(event, at_s=event.at_s + self._after_s, times=times)
            case _:
                return replace(event, at_s=event.at_s + self._after_s)

    def _times_later(self, times: TurnTimes) -> TurnTimes:
        moments = {
            name: at_s + self._after_s
            for name in TurnTimes.__slots__
            if name != "turn" and (at_s := getattr(times, name)) is not None
        }
        return replace(times, **moments)
