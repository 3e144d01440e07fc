"""What the page is told of a call while it happens: the call's events as JSON messages, and a mailbox in
front of the socket, so that whoever tells never waits.

    ready {persona}                  the agent has taken the call
    caller_spoke {end_s}             one utterance ended; the turn may go on
    caller_turn {turn, text}         again under the same number when the caller goes on
    agent_clause {turn, text}        begins to be played
    agent_turn {turn, text, heard, interrupted, stages}
    turned_down {down}               the agent's voice, while somebody speaks over it
    key {digit}; recording {paused}; fault {where}
    ended {reason}                   always the last; `reason` is a word of `pipeline.line` or of the desk
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pipeline.events import (
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    RecordingPaused,
    RecordingResumed,
)

_MOST_WAITING: Final = 500
"""Messages that a stalled page has not taken; older ones are dropped. A call makes about two a second."""


def message_of(event: CallEvent) -> dict[str, Any] | None:
    """What the page is told of `event`, without operators' details; None where it is told nothing. The call's
    end is told by the desk, which alone knows of every one."""
    match event:
        case CallStarted():
            return {"event": "ready", "persona": event.persona}
        case CallerSpoke():
            return {"event": "caller_spoke", "end_s": round(event.end_s, 3)}
        case CallerTurn():
            return {"event": "caller_turn", "turn": event.turn, "text": event.text}
        case AgentClause():
            return {"event": "agent_clause", "turn": event.turn, "text": event.text}
        case AgentTurn():
            return {
                "event": "agent_turn",
                "turn": event.turn,
                "text": event.text,
                "heard": event.heard,
                "interrupted": event.interrupted,
                "stages": event.times.stages_ms(),
            }
        case AgentTurnedDown():
            return {"event": "turned_down", "down": event.down}
        case KeyReceived():
            return {"event": "key", "digit": event.digit}
        case RecordingPaused() | RecordingResumed():
            return {"event": "recording", "paused": isinstance(event, RecordingPaused)}
        case Fault():
            return {"event": "fault", "where": event.where}
        case _:
            return None


class Screen:
    """One call's page as a `pipeline.events.CallObserver`. `deliver()` runs beside the call and sends what
    was told; on the call's own loop, like everything here."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._filled = asyncio.Event()

    def observe(self, event: CallEvent) -> None:
        message = message_of(event)
        if message is not None:
            self.tell(message)

    def tell(self, message: dict[str, Any]) -> None:
        self._waiting.append(json.dumps(message, ensure_ascii=False))
        self._filled.set()

    async def deliver(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send for ever; raises what `send` raises."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self.flush(send)

    async def flush(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what waits."""
        while self._waiting:
            await send(self._waiting.popleft())
