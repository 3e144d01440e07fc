"""Every metric that is counted while calls go on: names, units, buckets. docs/metrics.md describes them.

Names follow Prometheus' conventions: seconds, totals, no unit in disguise. What must not stand in a label
does not: neither numbers nor call ids, and personas, tools and faults only up to a bounded number of each.
"""

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from infra.observe.tallies import Bounded, Tallies

GAP_S = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0)
"""Between two people 0.2 s are usual, and beyond 2 s a caller asks whether anybody is there."""
STAGE_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
STOP_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0)
CALL_S = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
PACKET_S = (0.005, 0.01, 0.015, 0.018, 0.022, 0.025, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.5, 1.0)
"""20 ms are right, 30 ms are still heard by nobody, beyond 60 ms a telephone's buffer runs dry."""
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
TOOL_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)
REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_MOST_PERSONAS = 30
_MOST_TOOLS = 50
_MOST_FAULTS = 30
_MOST_WAYS = 12


class Metrics:
    """One registry of one application."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        self.persona_label = Bounded(_MOST_PERSONAS)
        self.tool_label = Bounded(_MOST_TOOLS)
        self.fault_label = Bounded(_MOST_FAULTS)
        self.way_label = Bounded(_MOST_WAYS)

        self.calls_live = Gauge(
            "maya_calls_live", "Calls that are on, by the way in.", ["way"], registry=registry
        )
        self.calls_started = Counter(
            "maya_calls_started",
            "Calls that began, by the way in and the persona that answered.",
            ["way", "persona"],
            registry=registry,
        )
        self.calls_resumed = Counter(
            "maya_calls_resumed",
            "Calls that went on here after their process or their line was lost.",
            ["way"],
            registry=registry,
        )
        self.calls_ended = Counter(
            "maya_calls_ended",
            "Calls that are over, by how they ended and why.",
            ["way", "outcome", "reason"],
            registry=registry,
        )
        self.call_duration = Tallies(
            "maya_call_duration_seconds", "How long calls lasted.", CALL_S, ["way"], registry=registry
        )
        self.turns = Counter("maya_turns", "Turns of callers that were answered.", registry=registry)
        self.answer_gap = Tallies(
            "maya_answer_gap_seconds",
            "From the caller's last audible sample to the agent's first.",
            GAP_S,
            ["persona"],
            registry=registry,
        )
        self.stage = Tallies(
            "maya_turn_stage_seconds",
            "What that gap was spent on; the stages of a turn add up to its gap.",
            STAGE_S,
            ["stage"],
            registry=registry,
        )
        self.barge_in_stop = Tallies(
            "maya_barge_in_stop_seconds",
            "From the first sample of an interruption to the moment the agent was stopped.",
            STOP_S,
            registry=registry,
        )
        self.turned_down = Tallies(
            "maya_turn_down_seconds",
            "From the first sample of a voice over the agent's to the agent being turned down.",
            STOP_S,
            registry=registry,
        )
        self.interruptions = Counter(
            "maya_interruptions",
            "Replies that the caller cut short, by voice or keys.",
            ["by"],
            registry=registry,
        )
        self.talked_through = Counter(
            "maya_talked_through",
            "Sounds over the agent's voice that it was turned down for, and talked on through.",
            registry=registry,
        )
        self.speculations = Counter(
            "maya_speculations",
            "Replies that were begun ahead of the turn's end, confirmed or dropped.",
            ["result"],
            registry=registry,
        )
        self.tokens = Counter(
            "maya_llm_tokens",
            "Tokens that the language model evaluated, and those that had to be; counted at a call's end.",
            ["kind"],
            registry=registry,
        )
        self.faults = Counter(
            "maya_faults", "What failed in a call, by the part.", ["part"], registry=registry
        )
        self.tool_runs = Counter(
            "maya_tool_runs", "Uses of tools, by their outcome.", ["tool", "outcome"], registry=registry
        )
        self.tool_seconds = Tallies(
            "maya_tool_seconds", "How long tools took.", TOOL_S, ["tool"], registry=registry
        )
        self.messages = Counter("maya_messages_taken", "Messages that callers left.", registry=registry)
        self.transfers = Counter(
            "maya_transfers", "Callers that were passed on to somebody.", registry=registry
        )
        self.keys = Counter("maya_keys_received", "Keys that callers pressed.", registry=registry)
        self.packet_gap = Tallies(
            "maya_agent_packet_gap_seconds",
            "Between two moments at which the agent's next 20 ms were due and served, within a passage.",
            PACKET_S,
            ["way"],
            registry=registry,
        )
        self.caller_gap = Tallies(
            "maya_caller_packet_gap_seconds",
            "Between two arrivals of the caller's audio, as a call sees them.",
            PACKET_S,
            ["way"],
            registry=registry,
        )
        self.loop_lag = Tallies(
            "maya_event_loop_lag_seconds",
            "How late the event loop was, looked at 50 times a second.",
            LAG_S,
            registry=registry,
        )
        self.requests = Counter(
            "maya_http_requests",
            "Requests by route and status; 401, 403 and 429 are what was refused.",
            ["route", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "maya_http_request_seconds",
            "How long an answer took.",
            ["route"],
            buckets=REQUEST_S,
            registry=registry,
        )
        self.log_records = Counter(
            "maya_log_records", "Lines in the log that warn or worse.", ["level"], registry=registry
        )
        self.spans = Counter(
            "maya_spans", "Spans of traces, by what became of them.", ["result"], registry=registry
        )
        for level in ("warning", "error", "critical"):
            self.log_records.labels(level)
        for result in ("confirmed", "dropped"):
            self.speculations.labels(result)
        for kind in ("evaluated", "needed"):
            self.tokens.labels(kind)
        for by in ("voice", "keys"):
            self.interruptions.labels(by)
