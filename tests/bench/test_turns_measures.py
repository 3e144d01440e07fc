import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.corpus import Corpus
from bench.turns_calls import PlannedCall, conversation_calls, overlap_calls
from bench.turns_measures import (
    CallResult,
    OverlapResult,
    TurnResult,
    account_figures,
    overlap_figures,
    ratio,
    result_of,
    turn_figures,
    wait_in_force_ms,
)
from telephony.simulator import Report, Scenario, TurnReport, simulate_virtual
from telephony.simulator.caller import CallerTurn, Hearing
from telephony.simulator.measure import TurnMeasures
from telephony.simulator.report import OverlapReport
from tests.bench.corpora import corpus, overlap, turn
from tests.pipeline.virtual_calls import PERSONA, House

SCENARIO = Scenario(name="call", steps=("listen",))  # type: ignore[arg-type]


def spoken(number: int = 0, pauses: int = 0, **changes: Any) -> TurnResult:
    fields: dict[str, Any] = {
        "turn": turn(number, pauses=pauses),
        "gap_ms": 900.0,
        "ear_gap_ms": 1000.0,
        "cut_off": False,
        "answered_part": False,
        "transcript": "hello",
        "agent": "Hi.",
        "stages": {},
        "wait_ms": None,
    }
    return TurnResult(**fields | changes)


def call(*turns: TurnResult, overlaps: tuple[OverlapResult, ...] = (), **counters: int) -> CallResult:
    return CallResult("call", turns, overlaps, (), counters)


def over(kind: Any, **changes: Any) -> OverlapResult:
    fields: dict[str, Any] = {
        "kind": "interrupt" if kind in ("interruption", "stop_word") else "sound",
        "text": "",
        "at_s": 1.0,
        "placed": True,
        "turn": 0,
        "stopped": False,
        "stop_ms": None,
        "duck_ms": None,
        "restored": None,
    }
    return OverlapResult(overlap(0, kind), OverlapReport(**fields | changes))


def test_a_cut_off_is_counted_and_has_no_gap() -> None:
    results = [
        call(
            spoken(0, pauses=1, gap_ms=None, ear_gap_ms=None, cut_off=True),
            spoken(1, pauses=2, gap_ms=800.0),
            spoken(2, gap_ms=1000.0),
            spoken(3, gap_ms=None),
        )
    ]
    figures = turn_figures(results, "tiny_")
    assert figures["tiny_edge_gap_n"] == 2 and figures["tiny_edge_gap_p50_ms"] == 900
    assert figures["tiny_cutoff_rate"] == 0.5 and figures["tiny_cutoff_rate_n"] == 2
    assert figures["tiny_cutoffs_without_pauses"] == 0
    assert figures["tiny_unanswered"] == 1
    assert figures["tiny_turns_with_pauses"] == 0.5


def test_an_interruption_of_an_agent_that_is_done_shows_nothing() -> None:
    results = [
        call(
            overlaps=(
                over("interruption", stopped=True, stop_ms=300.0, duck_ms=150.0),
                over("stop_word", stopped=True, stop_ms=200.0, duck_ms=100.0),
                over("interruption", stopped=False, stop_ms=2400.0),
                over("interruption", stopped=False, stop_ms=400.0),
                over("interruption", placed=False, stopped=None),
            )
        )
    ]
    figures = overlap_figures(results)
    assert figures["yield_rate"] == pytest.approx(2 / 3, abs=1e-4) and figures["yield_rate_n"] == 3
    assert figures["yield_left_out"] == 2
    assert figures["stop_p50_ms"] == 250 and figures["stop_n"] == 2
    # The one that was never ducked counts with the agent's own end.
    assert figures["duck_n"] == 3 and figures["duck_max_ms"] == 2400


def test_what_the_agent_talks_through_is_told_by_kind() -> None:
    results = [
        call(
            overlaps=(
                over("backchannel", duck_ms=120.0, restored=True),
                over("backchannel", stopped=True, stop_ms=300.0),
                over("cough"),
                over("line_noise", placed=False, stopped=None),
                over("side_talk", duck_ms=120.0, restored=False),
            )
        )
    ]
    figures = overlap_figures(results, "peer_")
    assert (figures["peer_backchannel_kept"], figures["peer_backchannel_kept_n"]) == (0.5, 2)
    assert (figures["peer_noise_kept"], figures["peer_noise_kept_n"]) == (1.0, 1)
    assert figures["peer_sidetalk_kept"] == 1.0
    assert figures["peer_restored"] == 0.5
    assert "peer_yield_rate" not in figures


def test_counters_add_up_over_calls() -> None:
    results = [
        call(turns=4, speculations_confirmed=4, tokens_evaluated=100, tokens_needed=80),
        call(turns=6, speculations_confirmed=3, tokens_evaluated=80, tokens_needed=70),
    ]
    figures = account_figures(results)
    assert figures["speculation_hits"] == 0.7 and figures["speculation_hits_n"] == 10
    assert figures["token_waste"] == 1.2
    assert "token_waste" not in account_figures([call()])


def test_stages_are_held_against_the_measured_gap() -> None:
    stages = {"endpoint_wait_ms": 400.0, "transcription_ms": 300.0, "playout_ms": 190.0}
    results = [call(spoken(stages=stages, gap_ms=900.0), spoken(), spoken(stages=stages, gap_ms=None))]
    figures = account_figures(results)
    assert figures["stage_sum_error_p50_ms"] == 10.0 and figures["stage_sum_error_n"] == 1


def test_a_late_decision_is_no_longer_wait() -> None:
    results = [call(spoken(wait_ms=300.0), spoken(wait_ms=5000.0), spoken(wait_ms=None))]
    assert wait_in_force_ms(results, 700.0) == 500.0
    assert wait_in_force_ms([call()], 700.0) is None


def test_a_ratio_needs_both_figures() -> None:
    assert ratio({"a": 300, "b": 1000}, "a", "b") == 0.3
    assert ratio({"a": 300}, "a", "b") is None
    assert ratio({"a": 300, "b": 0}, "a", "b") is None


def report(*rows: tuple[TurnReport, TurnMeasures]) -> Report:
    nothing = np.zeros(8000, np.int16)
    hearing = Hearing(
        caller=nothing,
        agent=nothing,
        turns=tuple(CallerTurn("words", False, 0, 8000) for _ in rows),
        at_ear=tuple(measures for _, measures in rows),
        at_edge=tuple(measures for _, measures in rows),
    )
    greeting = TurnReport(None, None, "Hello.", "Hel", None, None, True, 200.0)
    return Report(
        turns=(greeting, *(row for row, _ in rows)),
        violations=("at 1.000 s: something",),
        recording=None,
        ending="caller hung up",
        duration_s=1.0,
        call_sid="CA1",
        hearing=hearing,
    )


def test_measured_turns_meet_their_plan_and_the_servers_account(tmp_path: Path) -> None:
    (tmp_path / "CA1").mkdir()
    accounts = [
        {"turn": 0, "times": {}},
        {"turn": 1, "times": {"audible_end_s": 9.9, "committed_s": 10.4, "stages": {"playout_ms": 50.0}}},
        {"turn": 2, "times": {"speech_end_s": 20.1, "committed_s": 20.8}},
    ]
    document = {"outcome": {"counters": {"turns": 2}}, "turns": accounts}
    (tmp_path / "CA1" / "transcript.json").write_text(json.dumps(document))
    planned = PlannedCall(SCENARIO, {}, turns=(turn(1, pauses=1), turn(2)))
    played = report(
        (
            TurnReport("a", "A", "Yes.", "Yes.", 950.0, 850.0, False, None),
            TurnMeasures(8.0, 10.0, 0.85, None),
        ),
        (
            TurnReport("b", "B", "No.", "No.", 5.0, 4.0, False, None, cut_off=True),
            TurnMeasures(18.0, 20.0, 0.004, None),
        ),
    )
    result = result_of(planned, played, tmp_path)
    assert [(each.turn.id, each.transcript, each.gap_ms) for each in result.turns] == [
        ("held_out-001", "A", 850.0),
        ("held_out-002", "B", None),
    ]
    assert result.turns[0].stages == {"playout_ms": 50.0}
    assert result.turns[0].wait_ms == pytest.approx(500.0)
    assert result.turns[1].cut_off and result.turns[1].wait_ms == pytest.approx(700.0)
    assert result.counters == {"turns": 2} and len(result.violations) == 1
    assert json.dumps([each.to_json() for each in result.turns])


@pytest.mark.parametrize(
    ("ended_s", "heard", "part"),
    [
        # Spans of this turn end 0.5, 1.5 and 2.5 s after its beginning at 8 s.
        (9.55, "I am sorry", True),
        (8.45, "Yes.", True),
        (9.55, "", False),
        (10.4, "Yes.", False),
        (7.4, "Good morning.", False),
    ],
)
def test_an_answer_to_a_part_of_a_turn_is_a_cut_off(
    tmp_path: Path, ended_s: float, heard: str, part: bool
) -> None:
    """However late it comes: by luck it began after the last word, and its gap would look wonderful."""
    (tmp_path / "CA1").mkdir()
    accounts = [{"times": {"audible_end_s": ended_s}, "heard": heard}]
    (tmp_path / "CA1" / "transcript.json").write_text(json.dumps({"turns": accounts}))
    planned = PlannedCall(SCENARIO, {}, turns=(turn(1, pauses=2),))
    row = TurnReport("a", "A", "Yes.", "Yes.", 300.0, 180.0, False, None)
    (each,) = result_of(planned, report((row, TurnMeasures(8.0, 10.5, 0.18, None))), tmp_path).turns
    assert each.cut_off == each.answered_part == part
    assert each.gap_ms == (None if part else 180.0)
    assert turn_figures([call(each)])["answers_to_part"] == part


def test_a_server_without_a_transcript_is_measured_all_the_same(tmp_path: Path) -> None:
    planned = PlannedCall(SCENARIO, {}, turns=(turn(1),))
    played = report(
        (TurnReport("a", None, None, None, 950.0, 850.0, False, None), TurnMeasures(8.0, 10.0, 0.85, None))
    )
    (tmp_path / "peer" / "CA1").mkdir(parents=True)
    (tmp_path / "peer" / "CA1" / "transcript.json").write_text('{"outcome": "ended", "turns": [{}]}')
    for folder in (None, tmp_path, tmp_path / "peer"):
        (each,) = result_of(planned, played, folder).turns
        assert (each.gap_ms, each.stages, each.wait_ms, each.transcript) == (850.0, {}, None, "")


def test_a_call_that_ended_early_has_fewer_overlaps() -> None:
    planned = PlannedCall(SCENARIO, {}, (), (overlap(0, "cough"), overlap(1, "backchannel")))
    seen = over("cough").report
    played = Report((), (), None, "agent hung up", 1.0, "CA2", overlaps=(seen,))
    result = result_of(planned, played, None)
    assert [each.overlap.kind for each in result.overlaps] == ["cough"]
    assert json.dumps(result.overlaps[0].to_json())


def test_played_calls_come_out_as_planned() -> None:
    """The plan, the simulator, the server's own stream shell and the measures together, on stand-ins."""
    house = House(persona=PERSONA.model_copy(update={"greeting": "We are open. " * 60}))
    patient, halting = turn(0), turn(1, pauses=1)
    # Half a second is a pause; three seconds are not, whatever the policy.
    (start, stop), (again, end) = halting.spans
    pcm = np.concatenate((halting.pcm[:stop], np.zeros(24_000, np.int16), halting.pcm[again:end]))
    halting = replace(halting, pcm=pcm, spans=((start, stop), (stop + 24_000, len(pcm))))
    material = Corpus((patient, halting), ())
    (talk,) = conversation_calls(material, turns=2)
    spoke = result_of(talk, simulate_virtual(talk.scenario, House().open, speeches=talk.speeches), None)
    assert [each.cut_off for each in spoke.turns] == [False, True]
    assert spoke.turns[0].gap_ms is not None and 200 < spoke.turns[0].gap_ms < 3000
    assert spoke.turns[1].gap_ms is None

    over_it = overlap_calls(corpus(), calls=1)[0]
    seen = result_of(over_it, simulate_virtual(over_it.scenario, house.open, speeches=over_it.speeches), None)
    assert [each.report.text for each in seen.overlaps] == [
        each.text or each.voice for each in over_it.overlaps
    ]
    assert seen.overlaps[0].report.placed
    assert overlap_figures([seen])
