"""Each call as a trace: the call, its turns, the stages of each turn, its tools, for a collector of
OpenTelemetry's. The package is the extra `traces`.

Spans are made from what the call tells about itself, with the times at which things happened, so that a
trace shows the very gap and stages that `transcript.json` and the metrics do. They leave from a thread of the
exporter's; what a collector that is away does not take is dropped. No words and no numbers are in them.

    call
    +-- turn                    from the caller's last audible sample until the reply was over
    |   +-- endpoint wait, transcription, first token, first clause, first audio, endpoint wait, playout
    |   +-- agent speaks        from its first audible sample on
    |   +-- tool
    +-- caller speaks
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from infra.observe.context import current_call
from infra.observe.errors import ObserveConfigError
from infra.observe.settings import ObserveSettings
from pipeline.events import (
    AgentTurn,
    CallEnded,
    CallerSpoke,
    CallEvent,
    CallStarted,
    Fault,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger(__name__)

EXPORT_TIMEOUT_S: Final = 5.0
_CLOSING_MS: Final = 3_000
_QUEUE_SPANS: Final = 8_192
"""Beyond it spans are dropped: some minutes of a hundred calls'."""
_TURNS_KEPT: Final = 4
"""Tools may outlast their turn."""


class Traces:
    """Made once; `observer` gives each call its own. `count(result, spans)` hears what became of spans:
    "sent" or "failed". Raises `ObserveConfigError` where the package is missing."""

    def __init__(
        self,
        settings: ObserveSettings,
        *,
        version: str = "",
        count: Callable[[str, int], None] = lambda result, spans: None,
        exporter: "SpanExporter | None" = None,
        delay_s: float = 2.0,
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

            from infra.observe.exporting import Counted, over_http
        except ModuleNotFoundError as missing:
            raise ObserveConfigError(
                f"[observe] traces_endpoint needs the package {missing.name}: "
                "pip install 'maya-voice[traces]', or leave traces_endpoint empty"
            ) from None
        out = exporter or over_http(settings.traces_endpoint, EXPORT_TIMEOUT_S)
        self._processor = BatchSpanProcessor(
            Counted(out, count), max_queue_size=_QUEUE_SPANS, schedule_delay_millis=1000 * delay_s
        )
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create({"service.name": "maya", "service.version": version}),
            sampler=TraceIdRatioBased(settings.traces_share),
            shutdown_on_exit=False,  # `close` does it, and waits no longer than it may
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("maya")
        # The SDK says so for every single span that finds the queue full.
        logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)

    def observer(self, info: LineInfo) -> "CallTrace":
        return CallTrace(self._tracer, info)

    def close(self) -> None:
        """Send what is left. Blocks for up to `_CLOSING_MS` and what an export under way takes."""
        self._processor._batch_processor.shutdown(_CLOSING_MS)


class CallTrace:
    """Observes one call. Times on the call's own clock become wall time by the moment at which an event of
    now comes; a wall clock that is set in mid-call bends no span. Never raises."""

    def __init__(
        self,
        tracer: "Tracer",
        info: LineInfo,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tracer = tracer
        self._info = info
        self._monotonic_ns = monotonic_ns
        self._wall_offset_ns = wall_ns() - monotonic_ns()
        self._call: Span | None = None
        self._inside: Context | None = None
        """That of the call's span."""
        self._zero_ns = 0
        """Wall time of the call's 0 s."""
        self._turns: dict[int, Context] = {}
        self._tools: dict[int, list[tuple[ToolRan, int]]] = {}
        """Runs of turns that are still going on, with the zero of their clock."""

    def observe(self, event: CallEvent) -> None:
        try:
            self._note(event)
        except Exception:
            log.exception("a call's trace failed; the call goes on")

    def _note(self, event: CallEvent) -> None:
        match event:
            case CallStarted():
                self._begins(event)
            case AgentTurn():
                self._now_is(event.at_s)
                self._turn(event)
            case CallerSpoke():
                if self._inside is not None:
                    self._span("caller speaks", self._inside, event.start_s, event.end_s)
            case ToolRan():
                self._now_is(event.at_s)
                if event.turn in self._turns:
                    self._tool(event, self._turns[event.turn], self._zero_ns)
                else:
                    self._tools.setdefault(event.turn, []).append((event, self._zero_ns))
            case Fault():
                self._now_is(event.at_s)
                if self._call is not None:
                    self._call.add_event("fault", {"part": event.where}, self._wall_ns(event.at_s))
            case CallEnded():
                self._ends(event)
            case _:
                pass

    def _now_is(self, at_s: float) -> None:
        """`at_s` is this very moment. The call's clock counts samples, and may shift against ours."""
        self._zero_ns = self._monotonic_ns() + self._wall_offset_ns - round(at_s * 1e9)

    def _wall_ns(self, at_s: float) -> int:
        return self._zero_ns + round(at_s * 1e9)

    def _begins(self, event: CallStarted) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._now_is(event.at_s)
        self._call = self._tracer.start_span(
            "call",
            kind=SpanKind.SERVER,
            start_time=self._wall_ns(event.at_s),
            attributes={
                "maya.call_id": self._info.call_id,
                "maya.way": self._info.kind,
                "maya.persona": event.persona,
                "maya.resumed": event.resumed,
            },
        )
        self._inside = set_span_in_context(self._call)
        context, call = self._call.get_span_context(), current_call()
        if call is not None and call.call_id == self._info.call_id and context.trace_flags.sampled:
            call.trace_id = f"{context.trace_id:032x}"

    def _turn(self, event: AgentTurn) -> None:
        from opentelemetry.trace import set_span_in_context

        if self._inside is None:
            return
        times = event.times
        stages = list(stages_of(times))
        known = (times.audible_end_s, times.committed_s, times.first_played_s, event.at_s)
        begun_s = min(stages[0][1] if stages else next(s for s in known if s is not None), event.at_s)
        span = self._tracer.start_span(
            "turn",
            self._inside,
            start_time=self._wall_ns(begun_s),
            attributes={
                "maya.turn": event.turn,
                "maya.interrupted": event.interrupted,
                "maya.said_characters": len(event.text),
                "maya.heard_characters": len(event.heard),
                **({"maya.gap_s": round(stages[-1][2] - begun_s, 4)} if stages else {}),
            },
        )
        inside = set_span_in_context(span)
        for name, start_s, end_s in stages:
            self._span(name, inside, start_s, end_s)
        for tool, zero_ns in self._tools.pop(event.turn, ()):
            self._tool(tool, inside, zero_ns)
        if (audible_s := times.first_audible_s or times.first_played_s) is not None:
            self._span("agent speaks", inside, min(audible_s, event.at_s), event.at_s)
        span.end(self._wall_ns(event.at_s))
        self._turns[event.turn] = inside
        while len(self._turns) > _TURNS_KEPT:
            del self._turns[next(iter(self._turns))]

    def _tool(self, event: ToolRan, inside: "Context", zero_ns: int) -> None:
        from opentelemetry.trace import Status, StatusCode

        end_ns = zero_ns + round(event.at_s * 1e9)
        span = self._tracer.start_span(
            f"tool {event.name}".strip(),
            inside,
            start_time=end_ns - round(event.seconds * 1e9),
            attributes={"maya.tool": event.name, "maya.outcome": event.outcome},
        )
        if event.outcome in ("failed", "timed out"):
            span.set_status(Status(StatusCode.ERROR, event.outcome))
        span.end(end_ns)

    def _ends(self, event: CallEnded) -> None:
        from opentelemetry.trace import Status, StatusCode

        if self._call is None or self._inside is None:
            return
        self._now_is(event.at_s)
        for runs in self._tools.values():
            for tool, zero_ns in runs:
                self._tool(tool, self._inside, zero_ns)
        self._tools.clear()
        self._call.set_attributes({"maya.outcome": event.outcome, "maya.reason": event.reason})
        if event.outcome == "failed":
            self._call.set_status(Status(StatusCode.ERROR, event.reason))
        self._call.end(self._wall_ns(event.at_s))
        self._call = self._inside = None

    def _span(self, name: str, inside: "Context", start_s: float, end_s: float, **attributes: Any) -> None:
        span = self._tracer.start_span(
            name, inside, start_time=self._wall_ns(start_s), attributes=attributes or None
        )
        span.end(self._wall_ns(max(start_s, end_s)))


def stages_of(times: TurnTimes) -> Iterator[tuple[str, float, float]]:
    """What one gap was spent on, in the order in which it was: (stage, from, to), one behind the other
    without a hole from the caller's last audible sample to the agent's first. By name they add up to
    `TurnTimes.stages_ms`, but for work that was begun before that sample. Nothing where there was no gap."""
    if not times.stages_ms():
        return
    end, audible = times.audible_end_s, times.first_audible_s
    begun, heard, token = times.transcribe_started_s, times.transcribed_s, times.first_token_s
    clause, audio, over = times.first_clause_s, times.first_audio_s, times.committed_s
    assert end is not None and audible is not None and audio is not None and over is not None  # noqa: S101
    reached = (
        ("endpoint wait", begun),
        ("transcription", heard),
        ("first token", token),
        ("first clause", clause),
        ("first audio", audio),
        ("endpoint wait", max(audio, over)),
        ("playout", audible),
    )
    at = end
    for name, moment in reached:
        assert moment is not None  # noqa: S101
        until = min(max(at, moment), max(audible, end))
        if until > at:
            yield name, at, until
        at = until
