"""The calls that are on, as the page shows them: events go in, rows and transcripts come out. No I/O.

Everything that changes gets the board's next revision, so a viewer is told what is newer than what it has
seen, and a viewer that was slow is told the same things at once that others were told one by one.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from infra.records.pauses import Pauses
from infra.records.policy import RecordingPolicy
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    CallTransferred,
    Fault,
    KeyReceived,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
)
from pipeline.line import LineInfo

ENDED_KEPT_S: Final = 15.0
"""How long a call that is over stays, so that viewers hear of it."""
_MOST_ENTRIES: Final = 400
"""Of one transcript; older ones are let go."""
_LONGEST_TEXT: Final = 4_000
"""Characters of one entry."""
_LONGEST_NAME: Final = 200
_AUDIO: Final = (CallerAudio, AgentAudio)

State = Literal["listening", "caller", "thinking", "agent", "both", "ended"]
Who = Literal["caller", "agent", "keys", "tool", "note"]


@dataclass(slots=True)
class Entry:
    """One thing in a transcript. `number` counts from the call's beginning; an entry that was taken back is
    `dropped`: a turn that the caller goes on with, before its answer was heard."""

    number: int
    who: Who
    at_s: float
    turn: int = -1
    text: str = ""
    partial: bool = False
    """The words may still change."""
    lost: str = ""
    """What was said, or was to be said, and not heard."""
    interrupted: bool = False
    latency_ms: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    dropped: bool = False
    revision: int = 0

    def shown(self) -> dict[str, Any]:
        if self.dropped:
            return {"number": self.number, "dropped": True}
        kept: dict[str, Any] = {
            "number": self.number,
            "who": self.who,
            "at_s": round(self.at_s, 2),
            "text": self.text,
        }
        for name in ("partial", "lost", "interrupted", "latency_ms", "stages"):
            if value := getattr(self, name):
                kept[name] = value
        return kept


class LiveCall:
    """One call. `take` its events in their order, with the time of day in milliseconds since the epoch."""

    def __init__(
        self, info: LineInfo, policy: RecordingPolicy, now_ms: float, next_revision: Callable[[], int]
    ) -> None:
        self.info = info
        self.began_ms = now_ms
        self.ended_ms: float | None = None
        self.persona = ""
        self.reason = ""
        self.latency_ms: float | None = None
        self.turns = 0
        self.faults = 0
        self.paused = False
        self.revision = next_revision()
        """Of the row; entries have their own."""
        self.entries: deque[Entry] = deque(maxlen=_MOST_ENTRIES)
        self._next_revision = next_revision
        self._pauses = Pauses(policy)
        self._numbers = 0
        self._caller_speaks = False
        self._agent_speaks = False
        self._thinking = False
        self._state: State = "listening"
        self._since_ms = now_ms
        self._partial: Entry | None = None
        self._clauses: Entry | None = None
        self._row: tuple[int, str] = (-1, "")

    @property
    def state(self) -> State:
        if self.ended_ms is not None:
            return "ended"
        if self._agent_speaks:
            return "both" if self._caller_speaks else "agent"
        if self._caller_speaks:
            return "caller"
        return "thinking" if self._thinking else "listening"

    def row(self) -> str:
        """The call's line of the table, as JSON."""
        if self._row[0] != self.revision:
            shown = {
                "id": self.info.call_id,
                "caller": self.info.caller[:_LONGEST_NAME],
                "called": self.info.called[:_LONGEST_NAME],
                "way": self.info.kind,
                "persona": self.persona[:_LONGEST_NAME],
                "began_ms": round(self.began_ms),
                "ended_ms": None if self.ended_ms is None else round(self.ended_ms),
                "state": self._state,
                "since_ms": round(self._since_ms),
                "latency_ms": self.latency_ms,
                "turns": self.turns,
                "faults": self.faults,
                "paused": self.paused,
                "reason": self.reason[:_LONGEST_NAME],
            }
            self._row = (self.revision, json.dumps(shown, ensure_ascii=False))
        return self._row[1]

    def entries_since(self, revision: int) -> str:
        """What changed in the transcript, as a JSON list."""
        changed = [entry.shown() for entry in self.entries if entry.revision > revision]
        return json.dumps(changed, ensure_ascii=False)

    def take(self, event: CallEvent, now_ms: float) -> bool:
        """Whether anything that is shown has changed."""
        event = self._pauses.kept(event)
        before = self.revision
        changed = self._understand(event, now_ms)
        state = self.state
        if state != self._state:
            self._state, self._since_ms = state, now_ms
            self.revision = self._next_revision()
        return changed or self.revision != before

    def _understand(self, event: CallEvent, now_ms: float) -> bool:
        """Whether the transcript has changed."""
        match event:
            case CallStarted():
                self.persona = event.persona
                self._touch()
            case CallerSpeaks():
                self._caller_speaks, self._thinking = True, False
                return self._said_so_far(event)
            case CallerSpoke():
                self._caller_speaks, self._thinking = False, True
            case CallerTurn():
                self._thinking = True
                return self._caller_turn(event)
            case AgentClause():
                self._agent_speaks, self._thinking = True, False
                return self._clause(event)
            case AgentTurn():
                self._agent_speaks = self._thinking = False
                return self._agent_turn(event)
            case CallEnded():
                self._caller_speaks = self._agent_speaks = self._thinking = False
                self.ended_ms, self.reason = now_ms, event.reason
                self._touch()
                self._drop(self._partial)
                return True
            case RecordingPaused() | RecordingResumed():
                self.paused = isinstance(event, RecordingPaused)
                self._touch()
                self._add("note", event.at_s, "Recording paused" if self.paused else "Recording goes on")
                return True
            case AgentTurnedDown():
                return False
            case _:
                return self._beside(event)
        return False

    def _beside(self, event: CallEvent) -> bool:
        """What happens besides speech."""
        match event:
            case KeyReceived():
                last = self.entries[-1] if self.entries else None
                if last is not None and last.who == "keys":
                    self._change(last, text=last.text + event.digit)
                else:
                    self._add("keys", event.at_s, event.digit)
            case ToolRan():
                told = ", ".join(f"{name} = {value}" for name, value in event.arguments.items())
                outcome = f"{event.outcome} after {event.seconds:.1f} s"
                self._add("tool", event.at_s, f"{event.name or 'no tool'}({told}): {outcome}")
            case MessageTaken():
                self._add("note", event.at_s, f"Message from {event.name} ({event.number}): {event.text}")
            case CallTransferred():
                self._add("note", event.at_s, f"Passed on to {event.name}")
            case Fault():
                self.faults += 1
                self._touch()
                self._add("note", event.at_s, f"Fault: {event.where}")
            case _:
                return False
        return True

    # Words

    def _said_so_far(self, event: CallerSpeaks) -> bool:
        if not event.words:
            return False
        if self._partial is None:
            self._partial = self._add("caller", event.at_s, event.words, partial=True)
        else:
            self._change(self._partial, text=event.words)
        return True

    def _caller_turn(self, event: CallerTurn) -> bool:
        self.turns = max(self.turns, event.turn)
        self._touch()
        partial, self._partial = self._partial, None
        before = self._last("caller", event.turn)
        if before is None:
            entry = partial if partial is not None else self._add("caller", event.at_s, "")
            self._change(entry, text=event.text, turn=event.turn, partial=False)
            return True
        # The caller goes on: whatever was to be said to the first part was not heard.
        self._drop(partial)
        if self._clauses is not None and self._clauses.turn == event.turn:
            self._drop(self._clauses)
            self._clauses = None
        self._change(before, text=event.text)
        return True

    def _clause(self, event: AgentClause) -> bool:
        open_ = self._clauses
        if open_ is None or open_.turn != event.turn:
            self._clauses = self._add("agent", event.at_s, event.text, turn=event.turn, partial=True)
        else:
            self._change(open_, text=f"{open_.text} {event.text}")
        return True

    def _agent_turn(self, event: AgentTurn) -> bool:
        entry, self._clauses = self._clauses, None
        stages = event.times.stages_ms()
        latency_ms = latency_of(stages, event.times.speech_end_s, event.times.first_played_s)
        if latency_ms is not None:
            self.latency_ms = latency_ms
            self._touch()
        if not event.text and not event.heard:
            self._drop(entry)  # cut off before its first clause
            return entry is not None
        if entry is None or entry.turn != event.turn:
            entry = self._add("agent", event.at_s, "", turn=event.turn)
        heard, lost = heard_and_lost(event.text, event.heard, interrupted=event.interrupted)
        self._change(
            entry,
            text=heard,
            lost=lost,
            interrupted=event.interrupted,
            partial=False,
            stages=stages,
            latency_ms=latency_ms,
        )
        return True

    def _last(self, who: Who, turn: int) -> Entry | None:
        found = (e for e in reversed(self.entries) if e.who == who and e.turn == turn and not e.dropped)
        return next(found, None)

    def _add(self, who: Who, at_s: float, text: str, *, turn: int = -1, partial: bool = False) -> Entry:
        entry = Entry(self._numbers, who, at_s, turn, text[:_LONGEST_TEXT], partial)
        entry.revision = self._next_revision()
        self._numbers += 1
        self.entries.append(entry)
        return entry

    def _change(self, entry: Entry, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(entry, name, value[:_LONGEST_TEXT] if isinstance(value, str) else value)
        entry.revision = self._next_revision()

    def _drop(self, entry: Entry | None) -> None:
        if entry is not None:
            entry.dropped = True
            entry.revision = self._next_revision()

    def _touch(self) -> None:
        self.revision = self._next_revision()


def latency_of(
    stages: dict[str, float], speech_end_s: float | None, first_played_s: float | None
) -> float | None:
    """What the caller waited for, in milliseconds: by level where that is known, else as detected."""
    if stages:
        return round(sum(stages.values()), 1)
    if speech_end_s is None or first_played_s is None:
        return None
    return round(1000 * (first_played_s - speech_end_s), 1)


def heard_and_lost(text: str, heard: str, *, interrupted: bool) -> tuple[str, str]:
    """A reply as it was heard, and the rest of it."""
    if not interrupted:
        return text, ""
    return heard, text[len(heard) :].strip() if text.startswith(heard) else ""


class LiveBoard:
    """Every call that is on, and those that ended just now. `wall()` is the time of day in seconds since the
    epoch. `watch` belongs into `Calls.watchers`; `on_change` is called whenever something changed.

    What must not be kept is not shown either: `policy` is that of the recordings.
    """

    def __init__(
        self,
        policy: RecordingPolicy,
        *,
        wall: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.calls: dict[str, LiveCall] = {}
        self.revision = 0
        self.on_change = on_change
        self._policy = policy
        self._wall = wall

    def watch(self, info: LineInfo) -> "LiveObserver":
        call = LiveCall(info, self._policy, self.now_ms(), self.next_revision)
        self.calls[info.call_id] = call
        self.forget_ended()
        return LiveObserver(self, call)

    def now_ms(self) -> float:
        return 1000 * self._wall()

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    @property
    def live(self) -> int:
        return sum(call.ended_ms is None for call in self.calls.values())

    def forget_ended(self) -> None:
        """Let go of calls that ended `ENDED_KEPT_S` ago, or will have: then the clock was set back."""
        now_ms, kept_ms = self.now_ms(), 1000 * ENDED_KEPT_S
        over = [key for key, call in self.calls.items() if abs(now_ms - (call.ended_ms or now_ms)) > kept_ms]
        for key in over:
            del self.calls[key]

    def message(self, seen: int, call_id: str, house: dict[str, Any]) -> str:
        """All that is newer than revision `seen` (-1: everything, and forget what you had), as JSON: rows of
        calls, and the transcript of `call_id` where that is not ""."""
        rows = ",".join([call.row() for call in self.calls.values() if call.revision > seen])
        head = json.dumps({"now_ms": round(self.now_ms()), "reset": seen < 0, "house": house})
        opened = ""
        if call_id:
            call = self.calls.get(call_id)
            entries = "[]" if call is None else call.entries_since(seen)
            known = json.dumps({"id": call_id, "known": call is not None}, ensure_ascii=False)
            opened = f',"call":{known[:-1]},"entries":{entries}}}'
        return f'{head[:-1]},"calls":[{rows}]{opened}}}'


class LiveObserver:
    """Keeps one call of a board up to date. Sound is what comes most, and is none of its business."""

    def __init__(self, board: LiveBoard, call: LiveCall) -> None:
        self._board = board
        self._call = call

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, _AUDIO):
            return
        if self._call.take(event, self._board.now_ms()):
            self._board.on_change()
