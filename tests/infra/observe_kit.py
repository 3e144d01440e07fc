"""A collector of traces on this machine, and calls to observe."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.scripted import ScriptedChat
from pipeline.events import CallEvent
from pipeline.line import LineInfo
from tests.pipeline.virtual_calls import LONG, House, hears

INFO = LineInfo("CA0123", "twilio", "+12025550123", "+12025550199")


class Collector:
    """Speaks OTLP over HTTP. `spans` are those that came, as protobuf messages; `answer` is the status."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.answer = 200
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        if path != "/v1/traces" or headers.get("content-type") != "application/x-protobuf":
            return 400
        self.headers.append(headers)
        if self.answer == 200:
            request = ExportTraceServiceRequest.FromString(
                gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            )
            for group in request.resource_spans:
                self.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                for scope in group.scope_spans:
                    self.spans += scope.spans
        return self.answer

    def attributes(self, span: Any) -> dict[str, Any]:
        return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}

    def named(self, name: str) -> list[Any]:
        return sorted((s for s in self.spans if s.name == name), key=lambda s: s.start_time_unix_nano)

    def children(self, parent: Any) -> list[Any]:
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


@contextmanager
def collector() -> Iterator[Collector]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = kept.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def a_conversation() -> list[CallEvent]:
    """Two questions answered, the second answer interrupted; the caller hangs up."""
    house = House(
        transcriber=hears("what time do you open", "tell me more", "stop it"),
        chat=ScriptedChat(
            ["At nine in the morning.", LONG, "All right."],
            prefill_s=0.05,
            first_token_s=0.1,
            tokens_per_s=20,
        ),
    )
    house.play(
        [
            "listen",
            {"say": "what time do you open"},
            "listen",
            {"say": "tell me more please"},
            {"interrupt": {"after_s": 1.5, "say": "stop it now please"}},
            "listen",
            "hang_up",
        ]
    )
    return house.observed.events
