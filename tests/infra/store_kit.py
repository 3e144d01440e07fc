"""Stores, and calls that they observe, for tests."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerTurn,
    CallEvent,
    CallStarted,
    MessageTaken,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo

CALLER = "+12025550123"
HOUSE = "+12025550100"


def info(call_id: str = "CA1", caller: str = CALLER, called: str = HOUSE) -> LineInfo:
    return LineInfo(call_id, "twilio", caller, called)


def times(turn: int, at_s: float = 10.0) -> TurnTimes:
    """An answer after 1.2 s."""
    return TurnTimes(
        turn,
        speech_end_s=at_s,
        audible_end_s=at_s,
        transcribe_started_s=at_s + 0.2,
        transcribed_s=at_s + 0.4,
        committed_s=at_s + 0.5,
        first_token_s=at_s + 0.6,
        first_clause_s=at_s + 0.8,
        first_audio_s=at_s + 1.0,
        first_played_s=at_s + 1.1,
        first_audible_s=at_s + 1.2,
    )


def began(call: LineInfo, persona: str = "clinic") -> list[CallEvent]:
    hello = "Greenfield Clinic, how can I help?"
    return [
        CallStarted(0.0, call, persona),
        AgentClause(0.2, 0, hello),
        AgentTurn(2.0, 0, hello, hello, False, TurnTimes(0)),
    ]


def turn(number: int, caller: str, agent: str, heard: str | None = None) -> list[CallEvent]:
    """A whole turn; `heard` only that much of the answer."""
    at_s = 10.0 * number
    cut = heard is not None and heard != agent
    return [
        CallerTurn(at_s, number, caller),
        AgentClause(at_s + 1.0, number, agent),
        AgentTurn(
            at_s + 4.0, number, agent, agent if heard is None else heard, cut, times(number, at_s - 0.5)
        ),
    ]


def under_way(number: int, caller: str, agent: Iterable[str], played_s: float) -> list[CallEvent]:
    """A turn whose answer is being said."""
    at_s = 10.0 * number
    clauses = [AgentClause(at_s + 1.0, number, text) for text in agent]
    sound = AgentAudio(round(8000 * (at_s + 1.0)), np.ones(round(8000 * played_s), np.int16))
    return [CallerTurn(at_s, number, caller), *clauses, sound]


def tool(number: int) -> ToolRan:
    at_s = 10.0 * number + 1.0
    return ToolRan(at_s, number, "find_slot", {"day": "Monday"}, "done", 0.5, "10 a.m. is free")


def message(number: int, text: str = "Please call me back.", phone: str = CALLER) -> MessageTaken:
    return MessageTaken(10.0 * number + 2.0, number, "Ann Patel", phone, text)


def ended(at_s: float = 60.0, reason: str = "caller hung up") -> CallEnded:
    return CallEnded(at_s, reason, "completed", {"turns": 2})


def opened(
    folder: Path,
    url: str = "",
    policy: RecordingPolicy | None = None,
    keys: KeyRing | None = None,
    **options: Any,
) -> CallStore:
    ours = [name for name in StoreSettings.model_fields if name in options]
    settings = {name: options.pop(name) for name in ours}
    return CallStore.open(StoreSettings(url=url, **settings), folder, policy, keys, **options)


def hold(store: CallStore, call: LineInfo, *events: Iterable[CallEvent] | CallEvent) -> Any:
    """Observe events of one call; returns the observer."""
    observer = store.observer(call)
    tell(observer, *events)
    return observer


def tell(observer: Any, *events: Iterable[CallEvent] | CallEvent) -> None:
    for some in events:
        for event in some if isinstance(some, list | tuple) else (some,):
            observer.observe(event)
