"""The transcript: one call's events as turns."""

from dataclasses import asdict
from typing import Any

from infra.records.pauses import NOT_RECORDED
from pipeline.events import (
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
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
from pipeline.line import LineInfo


class Notes:
    """Builds the transcript from the events of one call, of which nothing is left in that must not be kept
    (`infra.records.pauses`)."""

    def __init__(self, info: LineInfo, started_at: str) -> None:
        self._call: dict[str, Any] = {
            "id": info.call_id,
            "line": info.kind,
            "caller": info.caller,
            "called": info.called,
            "persona": "",
            "started_at": started_at,
            "duration_s": None,
        }
        self._outcome: dict[str, Any] | None = None
        self._turns: dict[int, dict[str, Any]] = {}
        self._utterances: list[dict[str, float]] = []
        self._levels: list[dict[str, Any]] = []
        self._keys: list[dict[str, Any]] = []
        self._faults: list[dict[str, Any]] = []
        self._pauses: list[dict[str, Any]] = []
        self._entered: list[dict[str, Any]] = []
        self._tools: list[dict[str, Any]] = []
        self._messages: list[dict[str, Any]] = []
        self._transferred: dict[str, Any] | None = None

    def _turn(self, turn: int) -> dict[str, Any]:
        blank: dict[str, Any] = {
            "turn": turn,
            "caller": "",
            "agent": "",
            "heard": "",
            "interrupted": False,
            "caller_at_s": None,
            "agent_done_s": None,
            "clauses": [],
            "times": {},
        }
        return self._turns.setdefault(turn, blank)

    def add(self, event: CallEvent) -> bool:
        """Take one event in; True when the transcript on disk should be renewed."""
        match event:
            case CallStarted():
                self._call["persona"] = event.persona
            case CallerSpoke():
                self._utterances.append({"start_s": event.start_s, "end_s": event.end_s})
                return False
            case CallerTurn():
                # A turn that the caller takes up again comes once more under its number.
                self._turn(event.turn).update(caller=event.text, caller_at_s=event.at_s)
            case AgentClause():
                self._turn(event.turn)["clauses"].append({"at_s": event.at_s, "text": event.text})
                return False
            case AgentTurn():
                times = asdict(event.times)
                times.pop("turn")
                times["stages"] = event.times.stages_ms()
                turn = self._turn(event.turn)
                if event.text == NOT_RECORDED:
                    for clause in turn["clauses"]:
                        clause["text"] = NOT_RECORDED
                turn.update(
                    agent=event.text,
                    heard=event.heard,
                    interrupted=event.interrupted,
                    agent_done_s=event.at_s,
                    times=times,
                )
            case AgentTurnedDown():
                self._levels.append({"at_s": event.at_s, "down": event.down})
                return False
            case KeyReceived():
                self._keys.append({"at_s": event.at_s, "digit": event.digit})
            case KeysEntered():
                self._entered.append(asdict(event))
            case ToolRan():
                self._tools.append(asdict(event))
            case MessageTaken():
                self._messages.append(asdict(event))
            case CallTransferred():
                self._transferred = asdict(event)
            case RecordingPaused():
                self._pauses.append({"from_s": event.at_s, "to_s": None, "why": event.why})
            case RecordingResumed():
                if self._pauses and self._pauses[-1]["to_s"] is None:
                    self._pauses[-1]["to_s"] = event.at_s
            case Fault():
                self._faults.append(asdict(event))
            case CallEnded():
                self._call["duration_s"] = event.at_s
                self._outcome = {
                    "outcome": event.outcome,
                    "reason": event.reason,
                    "counters": dict(event.counters),
                }
            case _:
                return False
        return True

    def document(self) -> dict[str, Any]:
        return {
            "call": self._call,
            "outcome": self._outcome,
            "turns": [self._turns[turn] for turn in sorted(self._turns)],
            "utterances": self._utterances,
            "turned_down": self._levels,
            "keys": self._keys,
            "entered": self._entered,
            "tools": self._tools,
            "messages": self._messages,
            "transferred": self._transferred,
            "pauses": self._pauses,
            "faults": self._faults,
        }
