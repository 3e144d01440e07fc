"""What must not be kept: everything while a recording pauses, and words where only sound is wanted. No I/O.

Nothing changes its place: a pause is silence in the sound, and `[not recorded]` in the words of every turn
that reaches into it, of both sides, for they may have been said within. What was written before a pause began
stays.
"""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np

from infra.records.policy import RecordingPolicy
from pipeline.events import (
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    CallTransferred,
    Fault,
    KeyReceived,
    KeysEntered,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
)
from pipeline.line import LINE_RATE_HZ, Pcm

NOT_RECORDED = "[not recorded]"
_WORDS: dict[type, tuple[str, ...]] = {
    CallStarted: (),
    CallerSpeaks: ("words",),
    CallerSpoke: (),
    CallerTurn: ("text",),
    AgentClause: ("text",),
    AgentTurn: ("text", "heard"),
    AgentTurnedDown: (),
    KeyReceived: ("digit",),
    KeysEntered: ("digits",),
    ToolRan: ("arguments", "result", "detail"),
    MessageTaken: ("name", "number", "text"),
    CallTransferred: (),
    RecordingPaused: (),
    RecordingResumed: (),
    Fault: ("detail",),
    CallEnded: (),
}
"""What somebody said or pressed, or may have. Of other events everything that could be."""


class Pauses:
    """One call's. Pass every event but sound through `kept`, in order, and sound through `silenced`."""

    def __init__(self, policy: RecordingPolicy) -> None:
        self._policy = policy
        self._spans: list[tuple[float, float]] = []
        """From, to; the last one may be open."""
        if policy.consent_required:
            self._spans.append((-math.inf, math.inf))
        self._voiced_since: float | None = None
        """Where the first utterance begins that no turn of the caller's holds yet."""
        self._asked_s = 0.0
        self._pressed_since: float | None = None
        self._begins: dict[tuple[type, int], float] = {}
        self._secret_turns: set[int] = set()

    def kept(self, event: CallEvent) -> CallEvent:
        """The event as it may be written."""
        match event:
            case RecordingPaused() if self._policy.pause_allowed and not self._open:
                self._spans.append((event.at_s, math.inf))
            case RecordingResumed() if self._open:
                self._spans[-1] = (self._spans[-1][0], event.at_s)
            case CallerSpoke():
                if self._voiced_since is None or event.start_s < self._voiced_since:
                    self._voiced_since = event.start_s
            case KeyReceived() if self._pressed_since is None:
                self._pressed_since = event.at_s
        secret = self._touch(*self._reach(event))
        turn = getattr(event, "turn", None)
        if turn is not None:
            if secret:
                self._secret_turns.add(turn)
            secret = turn in self._secret_turns
        return _wordless(event) if secret or not self._policy.keeps_words else event

    def silenced(self, start_sample: int, pcm: Pcm) -> Pcm:
        """(n,) int16 at its place on the call's clock, with zeros where nothing may be kept."""
        for from_s, to_s in self._spans:
            first = 0 if from_s == -math.inf else math.floor(from_s * LINE_RATE_HZ) - start_sample
            last = len(pcm) if to_s == math.inf else math.ceil(to_s * LINE_RATE_HZ) - start_sample
            if first < len(pcm) and last > max(0, first):
                pcm = pcm.copy()
                pcm[max(0, first) : last] = np.int16(0)
        return pcm

    @property
    def _open(self) -> bool:
        return bool(self._spans) and self._spans[-1][1] == math.inf

    def _touch(self, begin_s: float, end_s: float) -> bool:
        return any(from_s <= end_s and begin_s < to_s for from_s, to_s in self._spans)

    def _reach(self, event: Any) -> tuple[float, float]:
        """When the words of `event` may have been said. Without a time of its own that is now."""
        at_s: float = getattr(event, "at_s", math.inf)
        begin_s = at_s
        match event:
            case CallerTurn():
                # A turn that is taken up again keeps its beginning. Without a word from the voice detector
                # all since the turn before may belong to it.
                since_s = self._asked_s if self._voiced_since is None else self._voiced_since
                begin_s = self._begin(event, min(since_s, at_s))
                self._voiced_since, self._asked_s = None, at_s
            case CallerSpeaks():
                # The turn before may be the one that goes on, and its words be among these.
                asked = [begun_s for (kind, _), begun_s in self._begins.items() if kind is CallerTurn]
                begin_s = min([at_s, *asked[-1:], *([] if (s := self._voiced_since) is None else [s])])
            case AgentClause():
                self._begin(event, at_s)
            case AgentTurn():
                played_s = event.times.first_played_s
                first_s = self._begins.get((AgentClause, event.turn), at_s)
                begin_s = first_s if played_s is None else min(first_s, played_s)
            case KeysEntered():
                begin_s, self._pressed_since = (at_s if (s := self._pressed_since) is None else s), None
            case ToolRan():
                begin_s = at_s - event.seconds
        return begin_s, at_s

    def _begin(self, event: CallerTurn | AgentClause, at_s: float) -> float:
        key = (type(event), event.turn)
        self._begins[key] = min(at_s, self._begins.get(key, at_s))
        return self._begins[key]


def _wordless(event: Any) -> CallEvent:
    """The same event without anything that somebody said or pressed."""
    blank: dict[str, Any] = {}
    for name in _WORDS.get(type(event), tuple(field.name for field in fields(event))):
        value = getattr(event, name)
        if isinstance(value, str) and value:
            blank[name] = NOT_RECORDED
        elif isinstance(value, dict | list | tuple | set | frozenset):
            blank[name] = type(value)()
    without: CallEvent = replace(event, **blank) if blank else event
    return without
