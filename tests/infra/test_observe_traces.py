"""Calls as traces, at a collector that speaks the real protocol."""

import builtins
import itertools
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.observe.context import in_call
from infra.observe.errors import ObserveConfigError
from infra.observe.settings import ObserveSettings
from infra.observe.tracing import CallTrace, Traces, stages_of
from pipeline.events import AgentTurn, CallEnded, CallEvent, CallStarted, ToolRan, TurnTimes
from tests.infra.observe_kit import INFO, Collector, a_conversation, collector

SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def events() -> list[CallEvent]:
    return a_conversation()


@pytest.fixture
def sink() -> Iterator[Collector]:
    with collector() as kept:
        yield kept


def traced(sink: Collector, events: list[CallEvent], **settings: Any) -> dict[str, int]:
    """What became of the spans of one call."""
    counted: dict[str, int] = {}

    def count(result: str, spans: int) -> None:
        counted[result] = counted.get(result, 0) + spans

    observe = ObserveSettings(traces_endpoint=sink.endpoint, **settings)
    traces = Traces(observe, version="1.2.3", count=count, delay_s=0.05)
    now = [0]
    trace = CallTrace(traces._tracer, INFO, monotonic_ns=lambda: now[0])
    for event in events:
        now[0] = round(getattr(event, "at_s", now[0] / SECOND_NS) * SECOND_NS)
        trace.observe(event)
    traces.close()
    return counted


def seconds(span: Any) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / SECOND_NS


def test_a_call_is_a_tree(sink: Collector, events: list[CallEvent]) -> None:
    counted = traced(sink, events)
    assert counted == {"sent": len(sink.spans)}
    (call,) = sink.named("call")
    assert call.parent_span_id == b""
    assert {span.trace_id for span in sink.spans} == {call.trace_id}
    told = sink.attributes(call)
    assert (told["maya.call_id"], told["maya.way"], told["maya.outcome"]) == (
        "CA0123",
        "twilio",
        "completed",
    )
    turns = sink.named("turn")
    said = [event for event in events if isinstance(event, AgentTurn)]
    assert [sink.attributes(turn)["maya.turn"] for turn in turns] == [turn.turn for turn in said]
    assert [sink.attributes(turn)["maya.interrupted"] for turn in turns] == [t.interrupted for t in said]
    assert all(turn.parent_span_id == call.span_id for turn in turns + sink.named("caller speaks"))
    assert sink.resources[0]["service.name"] == "maya"
    assert sink.resources[0]["service.version"] == "1.2.3"
    for span in sink.spans:
        if span.span_id != call.span_id:
            assert call.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= call.end_time_unix_nano + SECOND_NS // 1000


def test_the_stages_of_a_turn_add_up_to_its_gap(sink: Collector, events: list[CallEvent]) -> None:
    traced(sink, events)
    answered = {e.turn: e for e in events if isinstance(e, AgentTurn) and e.times.stages_ms()}
    assert len(answered) >= 3
    seen = 0
    for turn in sink.named("turn"):
        answer = answered.get(sink.attributes(turn)["maya.turn"])
        if answer is None:
            continue
        seen += 1
        told_ms = answer.times.stages_ms()
        spent: dict[str, float] = {}
        at = turn.start_time_unix_nano
        for span in sink.children(turn):
            if span.name in ("agent speaks",) or span.name.startswith("tool"):
                continue
            assert span.start_time_unix_nano == pytest.approx(at, abs=2), "no hole between stages"
            at = span.end_time_unix_nano
            spent[span.name] = spent.get(span.name, 0.0) + 1000 * seconds(span)
        assert sum(spent.values()) == pytest.approx(sum(told_ms.values()), abs=0.5)
        for name, stage_ms in told_ms.items():
            name = name.removesuffix("_ms").replace("_", " ")
            assert spent.get(name, 0.0) == pytest.approx(stage_ms, abs=0.2), name
        (speaks,) = [span for span in sink.children(turn) if span.name == "agent speaks"]
        assert speaks.start_time_unix_nano == pytest.approx(at, abs=2)
        assert speaks.end_time_unix_nano == turn.end_time_unix_nano
    assert seen == len(answered)


def test_no_words_and_no_numbers_leave(sink: Collector, events: list[CallEvent]) -> None:
    traced(sink, events)
    everything = b"".join(span.SerializeToString() for span in sink.spans)
    for secret in (b"2025550123", b"2025550199", b"nine in the morning", b"tell me more", b"what time"):
        assert secret not in everything


def test_tools_stand_in_their_turn_even_when_they_outlast_it(sink: Collector) -> None:
    times = TurnTimes(1, None, 1.0, 1.1, 1.3, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
    events: list[CallEvent] = [
        CallStarted(0.0, INFO, "desk"),
        ToolRan(1.75, 1, "find_slot", {"day": "Monday"}, "done", 0.1, "10:00"),
        AgentTurn(4.0, 1, "Ten.", "Ten.", False, times),
        ToolRan(6.0, 1, "send_text", {}, "timed out", 4.2, ""),
        ToolRan(7.0, 9, "lost", {}, "cancelled", 0.5, ""),
        CallEnded(8.0, "caller hung up", "completed"),
    ]
    traced(sink, events)
    (turn,), (call,) = sink.named("turn"), sink.named("call")
    tools = {span.name: span for span in sink.spans if span.name.startswith("tool ")}
    assert {name: span.parent_span_id for name, span in tools.items()} == {
        "tool find_slot": turn.span_id,
        "tool send_text": turn.span_id,
        "tool lost": call.span_id,
    }
    assert seconds(tools["tool send_text"]) == pytest.approx(4.2, abs=1e-6)
    assert tools["tool send_text"].status.code == 2
    assert tools["tool find_slot"].status.code == 0
    assert b"Monday" not in tools["tool find_slot"].SerializeToString()


def test_a_wall_clock_that_jumps_bends_no_span(sink: Collector, events: list[CallEvent]) -> None:
    wall = [1_800_000_000 * SECOND_NS]
    traces = Traces(ObserveSettings(traces_endpoint=sink.endpoint), delay_s=0.05)
    now = [0]
    trace = CallTrace(traces._tracer, INFO, wall_ns=lambda: wall[0], monotonic_ns=lambda: now[0])
    for number, event in enumerate(events):
        now[0] = round(getattr(event, "at_s", now[0] / SECOND_NS) * SECOND_NS)
        wall[0] = (1_800_000_000 + 3600 * (number % 3)) * SECOND_NS + now[0]
        trace.observe(event)
    traces.close()
    (ended,) = [event for event in events if isinstance(event, CallEnded)]
    (call,) = sink.named("call")
    assert seconds(call) == pytest.approx(ended.at_s, abs=0.01)
    assert call.start_time_unix_nano == pytest.approx(1_800_000_000 * SECOND_NS, abs=SECOND_NS)


def test_what_is_left_out_by_the_share_is_not_sent(sink: Collector, events: list[CallEvent]) -> None:
    assert traced(sink, events, traces_share=0.0) == {}
    assert not sink.spans


def test_the_log_gets_the_trace(sink: Collector) -> None:
    traces = Traces(ObserveSettings(traces_endpoint=sink.endpoint), delay_s=0.05)
    with in_call(INFO.call_id) as here:
        trace = traces.observer(INFO)
        trace.observe(CallStarted(0.0, INFO, "desk"))
        trace.observe(CallEnded(1.0, "caller hung up", "completed"))
    traces.close()
    assert sink.spans[0].trace_id.hex() == here.trace_id


def test_a_collector_that_is_away_costs_the_call_nothing(
    events: list[CallEvent], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
        counted: dict[str, int] = {}
        traces = Traces(
            ObserveSettings(traces_endpoint=away),
            count=lambda result, spans: counted.update({result: counted.get(result, 0) + spans}),
            delay_s=0.01,
        )
        began = time.thread_time()
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                trace = traces.observer(INFO)
                for event in events:
                    trace.observe(event)
            assert time.thread_time() - began < 2.0, "processor time of the loop's own thread"
            began = time.monotonic()
            traces.close()
            assert time.monotonic() - began < 12
        assert "sent" not in counted
        assert len([r for r in caplog.records if r.name.startswith("opentelemetry.exporter")]) <= 1


def test_a_collector_that_refuses_is_counted(sink: Collector, events: list[CallEvent]) -> None:
    sink.answer = 400
    counted = traced(sink, events)
    assert set(counted) == {"failed"}


def test_without_the_package_the_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ObserveConfigError, match=r"maya-voice\[traces\]"):
        Traces(ObserveSettings(traces_endpoint="http://127.0.0.1:4318"))


def test_a_stage_that_was_begun_before_the_silence_takes_no_time_twice() -> None:
    # Transcribed before the caller's last audible sample, and the reply ready long before the turn was over.
    times = TurnTimes(1, 1.0, 2.0, 1.9, 1.95, 2.6, 2.1, 2.2, 2.3, 2.6, 2.7)
    stages = list(stages_of(times))
    assert stages[0][1] == 2.0
    assert stages[-1][2] == 2.7
    assert all(end == begun for (_, _, end), (_, begun, _) in itertools.pairwise(stages))
    assert sum(end - begun for _, begun, end in stages) == pytest.approx(
        sum(times.stages_ms().values()) / 1000
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://tempo:4318", "http://tempo:4318/v1/traces"),
        ("https://otlp.example/custom/v1/traces", "https://otlp.example/custom/v1/traces"),
        ("", ""),
    ],
)
def test_the_endpoint_may_leave_the_path_out(given: str, kept: str) -> None:
    assert ObserveSettings(traces_endpoint=given).traces_endpoint == kept


@pytest.mark.parametrize("wrong", ["tempo:4318", "ftp://x", "http://user:secret@host:4318"])
def test_what_is_no_endpoint_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"write http://host:4318|OTEL_EXPORTER_OTLP_HEADERS"):
        ObserveSettings(traces_endpoint=wrong)
