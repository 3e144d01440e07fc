"""The bench's order of events, with servers that only note who called."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.turns import _Bench, _Server
from bench.turns_calls import PlannedCall, conversation_calls
from infra.cli import app
from telephony.simulator import CannotCall, Report
from tests.bench.corpora import corpus


def _server(name: str, log: list[str], fails: tuple[str, ...] = ()) -> _Server:
    async def call(planned: PlannedCall) -> Report:
        log.append(f"{name}:{planned.scenario.name[:8]}")
        if planned.scenario.name in fails:
            raise CannotCall("nobody there")
        return Report((), (), None, "caller hung up", 1.0, "CA1")

    return _Server(name, call, None)


async def test_servers_are_called_in_turns_and_take_turns_in_being_first() -> None:
    log: list[str] = []
    calls = conversation_calls(corpus(), turns=18)[:3]
    bench = _Bench("ours", "held_out", lambda line: None, deadline=float("inf"))
    results = await bench._play(calls, [_server("ours", log), _server("peer", log)])
    assert [entry.partition(":")[0] for entry in log] == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert len({entry.partition(":")[2] for entry in log}) == 3
    assert {name: len(played) for name, played in results.items()} == {"ours": 3, "peer": 3}


async def test_a_call_that_does_not_come_about_is_told_and_the_rest_goes_on() -> None:
    calls = conversation_calls(corpus(), turns=12)
    bench = _Bench("ours", "tuning", lambda line: None, deadline=float("inf"))
    results = await bench._play(calls, [_server("ours", [], (calls[0].scenario.name,))])
    assert len(results["ours"]) == len(calls) - 1
    notes = bench.report().notes
    assert any("nobody there" in note for note in notes)
    assert any("not to be quoted" in note for note in notes)


async def test_no_call_begins_when_time_is_up() -> None:
    log: list[str] = []
    bench = _Bench("ours", "held_out", lambda line: None, deadline=0.0)
    calls = conversation_calls(corpus(), turns=12)
    assert await bench._play(calls, [_server("ours", log)]) == {"ours": []}
    assert not log and any("left out" in note for note in bench.report().notes)


def test_gaps_are_held_against_the_stages_alone() -> None:
    bench = _Bench("ours", "held_out", lambda line: None, deadline=0.0)
    bench._figures["edge_gap_p50_ms"] = 900
    bench._against_alone({"transcription": 300.0, "first_token": 400.0, "sum": 800.0}, [])
    figures = bench.report().figures
    # Nobody measured the wait, so it is the policy's longest.
    wait = figures["alone_endpoint_wait_ms"]
    assert isinstance(wait, int) and figures["stages_alone_ms"] == 800 + wait
    assert figures["gap_over_stages"] == pytest.approx(900 / (800 + wait), abs=1e-3)
    assert figures["alone_transcription_ms"] == 300.0


@pytest.mark.parametrize(
    "options", [["--only", "gaps"], ["--peer", "livekit"], ["--part", "all"], ["--calls", "0"]]
)
def test_options_that_mean_nothing_are_refused(options: list[str]) -> None:
    outcome = CliRunner().invoke(app, ["bench", "turns", *options])
    assert outcome.exit_code != 0


@pytest.mark.models
@pytest.mark.timeout(400)
def test_the_corpus_can_be_made_and_counted(tmp_path: Path) -> None:
    from bench.corpus import corpus as whole
    from bench.turns import make_corpus

    report = make_corpus(tmp_path)
    assert report.figures["tuning_turns_with_pauses"] >= 0.4  # type: ignore[operator]
    files = {path.name for path in tmp_path.iterdir()}
    turns = whole("held_out").turns
    assert "corpus.json" in files and f"{turns[0].id}.heard.wav" in files
    import soundfile

    samples, rate = soundfile.read(str(tmp_path / f"{turns[0].id}.wav"), dtype="int16")
    assert rate == 8000 and np.array_equal(samples, turns[0].pcm)
