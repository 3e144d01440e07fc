"""What calls leave in the metrics."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from prometheus_client import Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from infra.observe.call_metrics import REASONS, CallMetrics, reason_of
from infra.observe.metrics import GAP_S, PACKET_S, Metrics
from infra.observe.tallies import OTHER, Bounded, Tallies
from pipeline.events import (
    AgentAudio,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo
from tests.infra.observe_kit import INFO, a_conversation

TIMES = TurnTimes(0)
ANSWERED = TurnTimes(1, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8)
SOUND = np.zeros(160, np.int16)


def observed(events: Iterable[CallEvent], metrics: Metrics | None = None, info: LineInfo = INFO) -> Metrics:
    metrics = metrics or Metrics()
    observer = CallMetrics(metrics, info)
    for event in events:
        observer.observe(event)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def cut(at_s: float) -> AgentTurn:
    return AgentTurn(at_s, 1, "I will tell you", "I will", True, TIMES)


def test_a_call_is_counted_as_it_told() -> None:
    events = a_conversation()
    metrics = observed(events)
    turns = [event for event in events if isinstance(event, AgentTurn) and event.times.stages_ms()]
    (ended,) = [event for event in events if isinstance(event, CallEnded)]
    assert value(metrics, "maya_calls_started_total", way="twilio", persona="Test Desk") == 1
    assert value(metrics, "maya_calls_live", way="twilio") == 0
    assert (
        value(metrics, "maya_calls_ended_total", way="twilio", outcome="completed", reason="caller hung up")
        == 1
    )
    assert value(metrics, "maya_call_duration_seconds_sum", way="twilio") == pytest.approx(ended.at_s)
    assert value(metrics, "maya_turns_total") == len(turns)
    gaps = [sum(turn.times.stages_ms().values()) / 1000 for turn in turns]
    assert value(metrics, "maya_answer_gap_seconds_count", persona="Test Desk") == len(turns)
    assert value(metrics, "maya_answer_gap_seconds_sum", persona="Test Desk") == pytest.approx(sum(gaps))
    stages = sum(
        value(metrics, "maya_turn_stage_seconds_sum", stage=stage)
        for stage in (
            *("endpoint_wait", "transcription", "first_token"),
            *("first_clause", "first_audio", "playout"),
        )
    )
    assert stages == pytest.approx(sum(gaps), abs=0.01)
    assert value(metrics, "maya_interruptions_total", by="voice") == 1
    assert value(metrics, "maya_barge_in_stop_seconds_count") == 1
    assert 0.05 < value(metrics, "maya_barge_in_stop_seconds_sum") < 2
    assert value(metrics, "maya_speculations_total", result="confirmed") == ended.counters.get(
        "speculations_confirmed", 0
    )
    assert value(metrics, "maya_llm_tokens_total", kind="evaluated") == ended.counters["tokens_evaluated"]


def test_every_gap_between_packets_is_counted() -> None:
    metrics = Metrics()
    observer = CallMetrics(metrics, INFO)
    observer.observe(AgentAudio(800, SOUND, (0.02, 0.05)))
    observer.observe(AgentAudio(960, SOUND))
    observer.observe(AgentAudio(1120, SOUND, (0.02,)))
    assert value(metrics, "maya_agent_packet_gap_seconds_count", way="twilio") == 3
    assert value(metrics, "maya_agent_packet_gap_seconds_sum", way="twilio") == pytest.approx(0.09)
    assert value(metrics, "maya_agent_packet_gap_seconds_bucket", way="twilio", le="0.022") == 2
    assert value(metrics, "maya_agent_packet_gap_seconds_bucket", way="twilio", le="0.06") == 3


def test_the_callers_packets_too() -> None:
    metrics = Metrics()
    CallMetrics(metrics, INFO).observe(CallerAudio(0, SOUND, (0.02, 0.48)))
    assert value(metrics, "maya_caller_packet_gap_seconds_count", way="twilio") == 2
    assert value(metrics, "maya_caller_packet_gap_seconds_sum", way="twilio") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("events", "by_voice", "by_keys", "stop_s"),
    [
        ([cut(5.0), CallerSpoke(4.7, 6.0)], 1, 0, 0.3),
        # The caller hung up: nobody interrupted.
        ([cut(5.0), CallEnded(5.0, "caller hung up", "completed")], 0, 0, 0),
        # What is said afterwards interrupted nothing.
        ([cut(5.0), CallerSpoke(5.4, 6.0)], 0, 0, 0),
        ([KeyReceived(4.99, "1"), cut(5.0), CallerSpoke(4.8, 6.0)], 0, 1, 0),
        # A voice that was let pass for long, before it took the floor, says nothing of how fast we stop.
        ([cut(15.0), CallerSpoke(4.0, 16.0)], 0, 0, 0),
    ],
)
def test_what_cut_the_agent_short(
    events: list[CallEvent], by_voice: int, by_keys: int, stop_s: float
) -> None:
    metrics = observed(events)
    assert value(metrics, "maya_interruptions_total", by="voice") == by_voice
    assert value(metrics, "maya_interruptions_total", by="keys") == by_keys
    assert value(metrics, "maya_barge_in_stop_seconds_sum") == pytest.approx(stop_s)


def test_a_mm_hmm_turns_down_and_is_talked_through() -> None:
    events = [AgentTurnedDown(3.1, True), AgentTurnedDown(3.6, False), CallerSpoke(3.0, 3.4)]
    metrics = observed(events)
    assert value(metrics, "maya_talked_through_total") == 1
    assert value(metrics, "maya_turn_down_seconds_sum") == pytest.approx(0.1)
    assert value(metrics, "maya_interruptions_total", by="voice") == 0


def test_a_call_that_goes_on_here_did_not_begin_here() -> None:
    metrics = observed([CallStarted(40.0, INFO, "clinic", resumed=True)])
    assert value(metrics, "maya_calls_resumed_total", way="twilio") == 1
    assert value(metrics, "maya_calls_started_total", way="twilio", persona="clinic") == 0
    assert value(metrics, "maya_calls_live", way="twilio") == 1


def test_tools_by_outcome_and_what_the_model_made_up_by_no_name() -> None:
    metrics = observed(
        [
            ToolRan(1.0, 1, "book", {}, "done", 0.4, "ok"),
            ToolRan(2.0, 1, "book", {}, "refused", 0.0, ""),
            ToolRan(2.0, 1, "launch_rockets", {}, "refused", 0.0, ""),
            ToolRan(3.0, 1, "book", {}, "timed out", 8.0, ""),
        ]
    )
    assert value(metrics, "maya_tool_runs_total", tool="book", outcome="done") == 1
    assert value(metrics, "maya_tool_runs_total", tool="book", outcome="refused") == 1
    assert value(metrics, "maya_tool_runs_total", tool=OTHER, outcome="refused") == 1
    assert value(metrics, "maya_tool_seconds_count", tool="book") == 2


def test_the_number_of_series_is_bounded_whatever_callers_do() -> None:
    metrics = Metrics()
    for number in range(300):
        info = LineInfo(f"CA{number}", f"way{number}", f"+1202555{number:04}", "+12025550199")
        observed(
            [
                CallStarted(0.0, info, f"persona {number}"),
                ToolRan(1.0, 1, f"tool {number}", {}, "done", 0.1, ""),
                Fault(1.0, f"part {number}", "secret detail"),
                AgentTurn(
                    2.0, 1, "a", "a", False, TurnTimes(1, 1, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8)
                ),
                CallEnded(3.0, f"odd reason {number}", "completed"),
            ],
            metrics,
            info,
        )
    text = generate_latest(metrics.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, label, most in (
        ("maya_calls_started", "persona", 31),
        ("maya_answer_gap_seconds", "persona", 31),
        ("maya_tool_runs", "tool", 51),
        ("maya_faults", "part", 31),
        ("maya_calls_live", "way", 13),
        ("maya_calls_ended", "reason", len(REASONS) + 1),
    ):
        assert 1 <= len({sample.labels[label] for sample in families[name].samples}) <= most, name
    assert "+1202" not in text
    assert "2025550" not in text
    assert "CA12" not in text
    assert "secret" not in text


def test_an_observer_never_raises() -> None:
    metrics = Metrics()
    metrics.turns = None  # type: ignore[assignment]
    observed([AgentTurn(2.0, 1, "a", "a", False, ANSWERED)], metrics)


@pytest.mark.parametrize(
    ("reason", "known"),
    [
        ("caller hung up", "caller hung up"),
        ("connection lost (code 1011)", "connection lost"),
        ("no media for 10 s", "no media"),
        ("protocol error: media before start", "protocol error"),
        ("ValueError: +12025550123", OTHER),
        ("", OTHER),
    ],
)
def test_reasons_are_known_ones(reason: str, known: str) -> None:
    assert reason_of(reason) == known


def test_a_tally_is_prometheus_own_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallies = Tallies("gap_seconds", "A gap.", GAP_S, ["way"], registry=ours)
    histogram = Histogram("gap_seconds", "A gap.", ["way"], buckets=GAP_S, registry=theirs)
    random = np.random.default_rng(6)
    values = [*random.lognormal(0, 1, 500).tolist(), *GAP_S, 0.0, 11.0, math.nextafter(0.1, 1)]
    for number, seconds in enumerate(values):
        tallies.labelled(f"way{number % 3}").observe(seconds)
        histogram.labels(f"way{number % 3}").observe(seconds)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    mine, other = samples(ours), samples(theirs)
    assert mine.keys() == other.keys()
    assert mine == {key: pytest.approx(number) for key, number in other.items()}


def test_buckets_rise_and_hold_what_matters() -> None:
    assert list(PACKET_S) == sorted(PACKET_S)
    assert {0.03, 0.06} <= set(PACKET_S)
    assert GAP_S[0] == 0.1
    assert GAP_S[-1] == 10.0


def test_bounded_gives_back_what_it_knows() -> None:
    label = Bounded(2)
    assert [label("a"), label("b"), label("c"), label("a"), label("")] == ["a", "b", OTHER, "a", OTHER]
    assert (label.known("b"), label.known("z")) == ("b", OTHER)
