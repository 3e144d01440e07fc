"""The server's own account of a call, taken from the events of a call service in this process.

    witness = Witness()
    service = CallService(models, persona, observe=witness.observe, inline=True)
    report = simulate_virtual(scenario, answer_factory, transcripts=witness)

With it, reports hold transcripts and replies, and scenarios may expect words.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.events import AgentTurn, CallerTurn, CallEvent
from pipeline.line import LineInfo
from telephony.simulator.report import ServerTurn


@dataclass
class CallNotes:
    """A `pipeline.events.CallObserver` that keeps what was said."""

    events: list[AgentTurn | CallerTurn] = field(default_factory=list)

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, AgentTurn | CallerTurn):
            self.events.append(event)


class Witness:
    """`observe` is for `CallService`; calling it with a call's id tells the turns of that call, None if there
    was no such call."""

    def __init__(self) -> None:
        self._calls: dict[str, CallNotes] = {}

    def observe(self, info: LineInfo) -> CallNotes:
        return self._calls.setdefault(info.call_id, CallNotes())

    def __call__(self, call_id: str) -> tuple[ServerTurn, ...] | None:
        notes = self._calls.get(call_id)
        return None if notes is None else server_turns(notes.events)


def server_turns(events: Iterable[CallEvent]) -> tuple[ServerTurn, ...]:
    """The turns that a call's events tell of, in order. A turn that was taken up again counts as it ended."""
    callers: dict[int, str] = {}
    agents: dict[int, AgentTurn] = {}
    for event in events:
        if isinstance(event, CallerTurn):
            callers[event.turn] = event.text
        elif isinstance(event, AgentTurn):
            agents[event.turn] = event
    turns = []
    for number in sorted(callers.keys() | agents.keys()):
        agent = agents.get(number)
        turns.append(
            ServerTurn(
                caller=callers.get(number, ""),
                agent=agent.text if agent else "",
                heard=agent.heard if agent else "",
                speech_end_s=agent.times.speech_end_s if agent else None,
                stages_ms=agent.times.stages_ms() if agent else {},
            )
        )
    return tuple(turns)
