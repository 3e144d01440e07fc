"""Observes one call for the metrics. Costs about a microsecond for each packet, and never raises."""

import logging
from typing import Final

from infra.observe.metrics import Metrics
from infra.observe.tallies import OTHER
from pipeline.events import (
    AgentAudio,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallEvent,
    CallStarted,
    CallTransferred,
    Fault,
    KeyReceived,
    MessageTaken,
    ToolRan,
)
from pipeline.line import LineInfo

log = logging.getLogger(__name__)

REASONS: Final = (
    *("caller hung up", "connection lost", "server shut down", "no media", "protocol error"),
    *("goodbye", "apologised", "limit", "shutdown", "silence", "transferred", "busy", "failed"),
)
"""What ends calls: reasons by their first words, for lines add to them what they know."""
_SLACK_S: Final = 0.1
"""Keys and the turn that they cut short are told of within this time."""
_LONGEST_STOP_S: Final = 5.0
"""A voice that lasts for longer before it stops the agent was let pass at first."""


class CallMetrics:
    """One call's."""

    def __init__(self, metrics: Metrics, info: LineInfo) -> None:
        way = metrics.way_label(info.kind)
        self._metrics = metrics
        self._way = way
        self._packet_gap = metrics.packet_gap.labelled(way)
        self._caller_gap = metrics.caller_gap.labelled(way)
        self._persona = OTHER
        self._cut_s: float | None = None
        """When the agent was cut short, until it is known by what."""
        self._down_s: float | None = None
        self._key_s: float | None = None
        self._on = False

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, CallerAudio):
            for gap_s in event.gaps_s:
                self._caller_gap.observe(gap_s)
        elif isinstance(event, AgentAudio):
            for gap_s in event.gaps_s:
                self._packet_gap.observe(gap_s)
        else:
            try:
                self._note(event)
            except Exception:
                log.exception("a call's metrics failed; the call goes on")

    def _note(self, event: CallEvent) -> None:
        metrics = self._metrics
        match event:
            case CallStarted():
                self._begins(event)
            case AgentTurn():
                self._agent_turn(event)
            case CallerSpoke():
                self._caller_spoke(event)
            case AgentTurnedDown():
                if event.down:
                    self._down_s = event.at_s
                elif self._down_s is not None:
                    metrics.talked_through.inc()
            case KeyReceived():
                metrics.keys.inc()
                self._key_s = event.at_s
            case ToolRan():
                # A name that was refused may be anything that the model made up.
                refused = event.outcome == "refused"
                tool = metrics.tool_label.known(event.name) if refused else metrics.tool_label(event.name)
                metrics.tool_runs.labels(tool, event.outcome).inc()
                if not refused:
                    metrics.tool_seconds.labelled(tool).observe(event.seconds)
            case MessageTaken():
                metrics.messages.inc()
            case CallTransferred():
                metrics.transfers.inc()
            case Fault():
                metrics.faults.labels(metrics.fault_label(event.where)).inc()
            case CallEnded():
                self._ends(event)
            case _:
                pass

    def _begins(self, event: CallStarted) -> None:
        metrics = self._metrics
        self._on = True
        self._persona = metrics.persona_label(event.persona)
        metrics.calls_live.labels(self._way).inc()
        if event.resumed:
            metrics.calls_resumed.labels(self._way).inc()
        else:
            metrics.calls_started.labels(self._way, self._persona).inc()

    def _agent_turn(self, event: AgentTurn) -> None:
        stages = event.times.stages_ms()
        if stages:
            metrics = self._metrics
            metrics.turns.inc()
            metrics.answer_gap.labelled(self._persona).observe(sum(stages.values()) / 1000)
            for name, spent_ms in stages.items():
                metrics.stage.labelled(name.removesuffix("_ms")).observe(max(0.0, spent_ms / 1000))
        if event.interrupted:
            if self._key_s is not None and event.at_s - self._key_s <= _SLACK_S:
                self._metrics.interruptions.labels("keys").inc()
            else:
                # The line's end cuts a reply as well: what the caller said comes after, or nothing.
                self._cut_s = event.at_s

    def _caller_spoke(self, event: CallerSpoke) -> None:
        down_s, self._down_s = self._down_s, None
        if down_s is not None and 0 <= down_s - event.start_s <= _LONGEST_STOP_S:
            self._metrics.turned_down.observe(down_s - event.start_s)
        cut_s, self._cut_s = self._cut_s, None
        if cut_s is not None and 0 <= cut_s - event.start_s <= _LONGEST_STOP_S:
            self._metrics.interruptions.labels("voice").inc()
            self._metrics.barge_in_stop.observe(cut_s - event.start_s)

    def _ends(self, event: CallEnded) -> None:
        metrics = self._metrics
        if self._on:
            self._on = False
            metrics.calls_live.labels(self._way).dec()
        metrics.calls_ended.labels(self._way, event.outcome, reason_of(event.reason)).inc()
        metrics.call_duration.labelled(self._way).observe(event.at_s)
        counted = event.counters
        confirmed = max(0, counted.get("speculations_confirmed", 0))
        metrics.speculations.labels("confirmed").inc(confirmed)
        metrics.speculations.labels("dropped").inc(max(0, counted.get("speculations", 0) - confirmed))
        metrics.tokens.labels("evaluated").inc(max(0, counted.get("tokens_evaluated", 0)))
        metrics.tokens.labels("needed").inc(max(0, counted.get("tokens_needed", 0)))


def reason_of(reason: str) -> str:
    """One of `REASONS`, or `other`."""
    return next((known for known in REASONS if reason.startswith(known)), OTHER)
