"""The lines of the log: the call's id where the code works for a call, and nothing secret."""

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable

import pytest

from infra.calls import Calls
from infra.observe.context import carried, current_call, in_call
from infra.observe.log_lines import JsonLines, TextLines
from pipeline.line import Line, LineInfo
from pipeline.service import CallOutcome
from tests.pipeline.hand_line import HandLine

log = logging.getLogger("infra.test")


class Lines(logging.Handler):
    """Formats at once, in the thread that logs, as a stream's handler does."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def logged(formatter: logging.Formatter, work: Callable[[], object]) -> list[str]:
    handler = Lines(formatter)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        work()
    finally:
        log.removeHandler(handler)
    return handler.lines


def test_a_json_line_has_what_a_machine_looks_for() -> None:
    def work() -> None:
        log.info("ready after %.1f s", 2.5)
        with in_call("CA1") as call:
            call.trace_id = "ab" * 16
            log.warning("slow", extra={"data": {"ms": 300, "api_key": "k-12345678"}})

    first, second = map(json.loads, logged(JsonLines(), work))
    assert first["message"] == "ready after 2.5 s"
    assert (first["level"], first["logger"]) == ("info", "infra.test")
    assert first["ts"].endswith("Z")
    assert "call_id" not in first
    assert (second["call_id"], second["trace_id"]) == ("CA1", "ab" * 16)
    assert second["data"]["ms"] == 300
    assert "k-12345678" not in json.dumps(second)


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_numbers_and_secrets_are_taken_out_of_tracebacks_too(formatter: logging.Formatter) -> None:
    def work() -> None:
        try:
            raise ValueError("cannot dial +12025550123 with token=abcdef123456")
        except ValueError:
            log.exception("order for +12025550123 failed")

    (line,) = logged(formatter, work)
    assert "2025550123" not in line
    assert "abcdef123456" not in line
    assert "ValueError" in line


def test_a_record_of_many_lines_is_one_line_of_json() -> None:
    (line,) = logged(JsonLines(), lambda: log.error("first\nsecond \x1b[31m"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line)["message"] == "first\nsecond \x1b[31m"


def test_text_gets_the_id_where_it_is_missing() -> None:
    def work() -> None:
        log.info("no call")
        with in_call("CA1"):
            log.info("the reply failed")
            log.info("call CA1: transcriber failed")
        log.info("told outright", extra={"call_id": "CA2"})

    lines = logged(TextLines(), work)
    assert not lines[0].endswith("]")
    assert lines[1].endswith("the reply failed  [call CA1]")
    assert lines[2].endswith("call CA1: transcriber failed")
    assert lines[3].endswith("[call CA2]")


async def test_tasks_and_threads_of_a_call_know_it() -> None:
    seen: dict[str, str] = {}

    def note(name: str) -> None:
        call = current_call()
        seen[name] = call.call_id if call is not None else ""

    async def talk(call_id: str) -> None:
        with in_call(call_id):
            async with asyncio.TaskGroup() as group:
                group.create_task(later(call_id))
            await asyncio.to_thread(note, f"to_thread {call_id}")
            thread = threading.Thread(target=carried(note), args=(f"carried {call_id}",))
            thread.start()
            await asyncio.to_thread(thread.join)
            await asyncio.get_running_loop().run_in_executor(None, carried(note), f"executor {call_id}")

    async def later(call_id: str) -> None:
        await asyncio.sleep(0)
        note(f"task {call_id}")

    await asyncio.gather(talk("CA1"), talk("CA2"))
    note("outside")
    assert seen.pop("outside") == ""
    assert len(seen) == 8
    assert all(name.endswith(call_id) for name, call_id in seen.items())


async def test_calls_set_it_before_anything_of_the_call_runs() -> None:
    class Service:
        live_calls = 0

        async def answer(self, line: Line, persona: object) -> CallOutcome:
            call = current_call()
            return CallOutcome(True, call.call_id if call is not None else "nobody")

    line = HandLine()
    line.info = LineInfo("CA77", "twilio")
    calls = Calls(Service())  # type: ignore[arg-type]
    assert (await calls.answer(line)).reason == "CA77"
    assert current_call() is None


def test_configuring_chooses_the_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the fixture that keeps commands from taking over the root logger
    from infra.logs import configure_logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("info", "json")
        root.handlers[0].setStream(sys.stderr)  # type: ignore[attr-defined]
        log.info("hello")
        assert json.loads(capsys.readouterr().err)["message"] == "hello"
        configure_logging("info")
        root.handlers[0].setStream(sys.stderr)  # type: ignore[attr-defined]
        log.info("hello")
        assert capsys.readouterr().err.rstrip().endswith("infra.test  hello")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
