"""What is stored of one call: events go in, rows of `infra.store.tables` come out. No I/O.

Nothing that must not be kept comes in (`infra.records.pauses`), and words leave sealed where recordings are
encrypted. Rows are whole: the latest of each is all there is to know.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from infra.records.folder import SEALED_FILES
from infra.records.pauses import NOT_RECORDED, Pauses
from infra.records.policy import RecordingPolicy
from infra.store.tables import KEYS, LEG_BITS
from infra.store.words import Words, plain
from pipeline.events import (
    AgentClause,
    AgentClauseHeard,
    AgentTurn,
    CallEnded,
    CallerTurn,
    CallEvent,
    CallStarted,
    CallTransferred,
    Fault,
    KeysEntered,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
    TurnTimes,
)
from pipeline.heard import heard_words
from pipeline.line import LineInfo

Row = dict[str, Any]
"""One row, by its columns."""
Key = tuple[str, tuple[Any, ...]]
"""The table, and the columns of its key."""
Rows = dict[Key, Row]

_TURNS_OPEN: Final = 4
"""Turns that may still change; earlier ones are over."""


@dataclass(frozen=True, slots=True)
class Leg:
    """The part of a call that one front-end holds, and what the parts before it came to."""

    number: int = 0
    started_ms: int | None = None
    """When the whole call began; None: now."""
    before_s: float = 0.0
    turns: int = 0
    faults: int = 0


@dataclass(slots=True)
class _Turn:
    state: str = "asked"
    caller: str = ""
    text: str = ""
    heard: str = ""
    clauses: list[str] = field(default_factory=list)
    fillers: list[bool] = field(default_factory=list)
    """Of all that was handed to playout: what is no clause of the answer."""
    wholly_heard: int = 0
    """So many of that."""
    interrupted: bool = False
    caller_at_s: float | None = None
    began_at_s: float | None = None
    done_at_s: float | None = None
    times: TurnTimes | None = None


class CallAccount:
    """One call's, on one front-end. Pass every event but sound through `take`, in order."""

    def __init__(
        self,
        info: LineInfo,
        words: Words,
        policy: RecordingPolicy,
        *,
        front_end: str,
        host: str,
        started_ms: int,
        leg: Leg | None = None,
    ) -> None:
        self._info = info
        self._words = words
        self._leg = leg or Leg()
        self._host = host
        self._front_end = front_end
        self._pauses = Pauses(policy)
        self._changes = self._leg.number << LEG_BITS
        self._persona = ""
        self._started_ms = started_ms if self._leg.started_ms is None else self._leg.started_ms
        self._now_ms = started_ms
        self._ended_ms: int | None = None
        self._duration_s = self._leg.before_s
        self._outcome = self._reason = ""
        self._counters: dict[str, int] = {}
        self._said = 0
        self._faults = self._leg.faults
        self._turns: dict[int, _Turn] = {}
        self._dirty_turns: set[int] = set()
        self._dirty = False
        self._rows: Rows = {}
        self._folder: Path | None = None

    @property
    def ended(self) -> bool:
        return self._ended_ms is not None

    def take(self, event: CallEvent, now_ms: int) -> bool:
        """True: the turn, or something else that counts, is over and is to be committed now. `now_ms` is the
        time of day in milliseconds since 1970."""
        event = self._pauses.kept(event)
        self._now_ms = now_ms
        if isinstance(event, CallStarted) and event.resumed:
            # Turns and clock are counted on.
            self._said = max(self._said, self._leg.turns)
            self._leg = replace(self._leg, before_s=0.0, turns=0)
        at_s: float | None = getattr(event, "at_s", None)
        if at_s is not None:
            self._duration_s = max(self._duration_s, self._leg.before_s + at_s)
        counts = self._understand(event)
        self._dirty = self._dirty or counts
        return counts

    def _understand(self, event: CallEvent) -> bool:
        match event:
            case CallStarted():
                self._persona = event.persona
            case CallerTurn():
                self._caller_turn(event)
            case AgentClause():
                self._clause(event)
                return False
            case AgentClauseHeard():
                self._clause_heard(event.turn)
            case AgentTurn():
                self._agent_turn(event)
            case ToolRan():
                self._tool(event)
            case MessageTaken():
                self._message(event)
            case KeysEntered():
                self._note("keys", event.at_s, event.digits)
            case CallTransferred():
                self._note("transferred", event.at_s, event.name)
            case RecordingPaused():
                self._note("paused", event.at_s, event.why)
            case RecordingResumed():
                self._note("resumed", event.at_s, "")
            case Fault():
                self._faults += 1
                self._note("fault", event.at_s, f"{event.where}: {event.detail}")
            case CallEnded():
                self._ended_ms = self._now_ms
                self._outcome, self._reason = event.outcome, event.reason
                self._counters = dict(event.counters)
            case _:
                return False
        return True

    # Turns

    def _turn(self, number: int) -> _Turn:
        self._dirty_turns.add(number)
        return self._turns.setdefault(number, _Turn())

    def _caller_turn(self, event: CallerTurn) -> None:
        before = self._turns.get(event.turn)
        # Taken up again under its number: nothing of an answer to its first words was heard.
        since_s = event.at_s if before is None else before.caller_at_s
        self._turns[event.turn] = _Turn(caller=event.text, caller_at_s=since_s)
        self._dirty_turns.add(event.turn)
        self._said = max(self._said, event.turn)

    def _clause(self, event: AgentClause) -> None:
        turn = self._turn(event.turn)
        turn.fillers.append(event.filler)
        if event.filler:
            return
        turn.state = "replying"
        turn.began_at_s = event.at_s if turn.began_at_s is None else turn.began_at_s
        turn.clauses.append(event.text)
        turn.text = " ".join(filter(None, turn.clauses))

    def _clause_heard(self, number: int) -> None:
        """Where another front-end would go on."""
        turn = self._turn(number)
        turn.wholly_heard += 1
        whole = turn.clauses[: turn.fillers[: turn.wholly_heard].count(False)]
        turn.heard = max(turn.heard, " ".join(filter(None, whole)), key=len)

    def _agent_turn(self, event: AgentTurn) -> None:
        turn = self._turn(event.turn)
        if event.text == NOT_RECORDED:
            turn.clauses = [NOT_RECORDED for _ in turn.clauses]
        turn.state, turn.text, turn.heard = "done", event.text, event.heard
        turn.interrupted, turn.done_at_s, turn.times = event.interrupted, event.at_s, event.times
        self._said = max(self._said, event.turn)
        stages = event.times.stages_ms()
        if stages:
            row = {"turn": event.turn, "at_ms": self._now_ms, "gap_ms": round(sum(stages.values()), 1)}
            self._add("latencies", row | dict(stages))

    def played(self, turn: int, samples: int) -> None:
        """So many samples of the reply under way have left for the caller's ear (8 kHz)."""
        under_way = self._turns.get(turn)
        if under_way is None or under_way.state != "replying" or True in under_way.fillers:
            return
        if NOT_RECORDED in under_way.clauses:
            heard = NOT_RECORDED if samples else ""
        else:
            # How long each clause lasts is known when the reply is over: until then as long as such words do.
            heard = heard_words(under_way.text, samples, samples, complete=False)
        if len(heard) > len(under_way.heard):
            under_way.heard = heard
            self._dirty_turns.add(turn)

    def placed(self, folder: Path | None) -> None:
        """The call's recording lies in `folder`."""
        if folder is not None and folder != self._folder:
            self._folder = folder
            encrypted = any((folder / name).exists() for name in SEALED_FILES)
            self._add(
                "recordings",
                {"host": self._host, "folder": str(folder.absolute()), "encrypted": encrypted},
            )

    # What happens besides

    def _tool(self, event: ToolRan) -> None:
        told = {"arguments": json.dumps(event.arguments, ensure_ascii=False, default=str)}
        told |= {"result": event.result, "detail": event.detail}
        row: Row = {"turn": event.turn, "at_s": event.at_s, "name": plain(event.name)}
        self._add("tool_runs", row | {"outcome": event.outcome, "seconds": event.seconds}, told)

    def _message(self, event: MessageTaken) -> None:
        told = {"name": event.name, "number": event.number, "text": event.text}
        secret = NOT_RECORDED in told.values()
        row: Row = {"turn": event.turn, "at_s": event.at_s}
        row["number_tag"] = "" if secret else self._words.tag(event.number)
        row["folded"] = self._words.folded(event.name, event.text)
        self._add("messages", row, told)

    def _note(self, kind: str, at_s: float, text: str) -> None:
        self._add("notes", {"at_s": at_s, "kind": kind}, {"text": text})

    # Rows

    @property
    def dirty(self) -> bool:
        """There is something that `rows` has not told."""
        return self._dirty or bool(self._dirty_turns or self._rows)

    def rows(self, *, with_call: bool = False) -> Rows:
        """What has changed since they were asked for. The call's own row is among them where it has, or
        `with_call`: without it the others mean nothing."""
        found: Rows = {}
        if self._dirty or with_call:
            found["calls", (self._info.call_id,)] = self._call_row()
        for number in sorted(self._dirty_turns):
            row = self._turn_row(number, self._turns[number])
            found[_key("turns", row)] = row
        found |= self._rows
        self._dirty, self._rows = False, {}
        self._dirty_turns.clear()
        for number in sorted(self._turns)[:-_TURNS_OPEN]:
            del self._turns[number]
        return found

    def _call_row(self) -> Row:
        info = self._info
        place = "calls/" + info.call_id
        return {
            "call_id": info.call_id,
            "seq": self._next(),
            "leg": self._leg.number,
            "way": plain(info.kind),
            "caller": self._words.stored(info.caller, f"{place}/caller", info.call_id),
            "caller_tag": self._words.tag(info.caller),
            "called": self._words.stored(info.called, f"{place}/called", info.call_id),
            "called_tag": self._words.tag(info.called),
            "persona": plain(self._persona),
            "front_end": self._front_end,
            "started_ms": self._started_ms,
            "updated_ms": self._now_ms,
            "ended_ms": self._ended_ms,
            "duration_s": round(self._duration_s, 3),
            "outcome": self._outcome,
            "reason": plain(self._reason),
            "turns": self._leg.turns + self._said,
            "faults": self._faults,
            "counters": json.dumps(self._counters),
        }

    def _turn_row(self, number: int, turn: _Turn) -> Row:
        times = {} if turn.times is None else asdict(turn.times)
        times.pop("turn", None)
        row = self._own("turns", {"turn": number}, {
            "caller": turn.caller,
            "text": turn.text,
            "heard": turn.heard,
            "clauses": json.dumps(turn.clauses, ensure_ascii=False),
        })  # fmt: skip
        return row | {
            "state": turn.state,
            "interrupted": turn.interrupted,
            "caller_at_s": turn.caller_at_s,
            "began_at_s": turn.began_at_s,
            "done_at_s": turn.done_at_s,
            "times": json.dumps(times),
            "folded": self._words.folded(turn.caller, turn.text),
        }

    def _add(self, table: str, row: Row, told: dict[str, str] | None = None) -> None:
        row = self._own(table, row, told or {})
        self._rows[_key(table, row)] = row

    def _own(self, table: str, row: Row, told: dict[str, str]) -> Row:
        """A row of this call. `told` are the columns that hold words."""
        whole = {"call_id": self._info.call_id, "leg": self._leg.number, "seq": self._next(), **row}
        place = place_of(table, whole)
        call_id = self._info.call_id
        return whole | {
            name: self._words.stored(text, f"{place}/{name}", call_id) for name, text in told.items()
        }

    def _next(self) -> int:
        self._changes += 1
        return self._changes


def place_of(table: str, row: Any) -> str:
    """Where a sealed value stands, but for its column."""
    return "/".join([table, *(str(row[name]) for name in KEYS[table])])


def _key(table: str, row: Row) -> Key:
    return table, tuple(row[name] for name in KEYS[table])
