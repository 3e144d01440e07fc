"""The way of spans to a collector: OTLP over HTTP, counted. Needs the extra `traces`."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_TOLD_EVERY_S: Final = 60.0


class _Seldom(logging.Filter):
    """A collector that is away is told of once a minute, not with every try."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -_TOLD_EVERY_S

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last < _TOLD_EVERY_S:
            return False
        self._last = now
        return True


_SELDOM: Final = _Seldom()


def over_http(endpoint: str, timeout_s: float) -> SpanExporter:
    """`timeout_s` is for one batch, tries included."""
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_SELDOM)
    return OTLPSpanExporter(endpoint, timeout=timeout_s)


class Counted(SpanExporter):
    """Another exporter, and what became of its spans."""

    def __init__(self, exporter: SpanExporter, count: Callable[[str, int], None]) -> None:
        self._exporter = exporter
        self._count = count

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        sent = SpanExportResult.FAILURE
        try:
            sent = self._exporter.export(spans)
        finally:
            self._count("sent" if sent is SpanExportResult.SUCCESS else "failed", len(spans))
        return sent

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
