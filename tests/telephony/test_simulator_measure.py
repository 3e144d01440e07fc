"""The measures, on constructed signals whose answers are known to the sample."""

import numpy as np
import pytest

from pipeline.audible import Run, voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.measure import Summary, measure_turns, response_gap, stop_time, summarise, utterances

RATE = LINE_RATE_HZ


def at(*voiced: tuple[float, float], seconds: float = 10.0, level: float = 6000.0, hertz: float = 200.0):
    """Silence with a cosine in each [start, stop) second."""
    pcm = np.zeros(round(seconds * RATE), np.int16)
    for start, stop in voiced:
        first, last = round(start * RATE), round(stop * RATE)
        pcm[first:last] = level * np.cos(2 * np.pi * hertz * np.arange(last - first) / RATE)
    return pcm


def runs(*spans: tuple[float, float]) -> list[Run]:
    return [Run(round(start * RATE), round(stop * RATE)) for start, stop in spans]


def seconds(found: list[Run]) -> list[tuple[float, float]]:
    return [(run.start / RATE, run.stop / RATE) for run in found]


def test_runs_begin_and_end_at_the_first_and_last_loud_sample():
    pcm = at((1.0, 1.5), (2.003, 2.1037), level=20000)
    ((a, b), (c, d)) = seconds(voiced_runs(pcm))
    assert (a, c) == (1.0, 2.003)
    # The last sample of a cosine may lie near its zero crossing, 1.25 ms from its peak.
    assert b == pytest.approx(1.5, abs=0.0003)
    assert d == pytest.approx(2.1037, abs=0.0003)


@pytest.mark.parametrize(
    ("duration_s", "voiced"), [(0.010, 0), (0.020, 0), (0.028, 0), (0.030, 1), (0.040, 1)]
)
@pytest.mark.parametrize("start_s", [1.0, 1.004, 1.0081])
def test_a_voice_lasts_30_ms(duration_s, voiced, start_s):
    assert len(voiced_runs(at((start_s, start_s + duration_s), level=20000))) == voiced


@pytest.mark.parametrize(("dbfs", "voiced"), [(-39.0, 1), (-41.0, 0)])
def test_a_voice_is_louder_than_minus_40_dbfs_rms(dbfs, voiced):
    amplitude = 32768 * 10 ** (dbfs / 20) * np.sqrt(2)
    assert len(voiced_runs(at((1.0, 2.0), level=amplitude))) == voiced


def test_silence_noise_floor_and_emptiness_hold_no_voice():
    assert voiced_runs(np.zeros(0, np.int16)) == []
    assert voiced_runs(np.zeros(79, np.int16)) == []
    assert voiced_runs(np.zeros(80_000, np.int16)) == []
    quiet = (np.random.default_rng(1).normal(0, 150, 80_000)).astype(np.int16)
    assert voiced_runs(quiet) == []


def test_full_scale_does_not_overflow():
    assert seconds(voiced_runs(np.full(8000, -32768, np.int16))) == [(0.0, 1.0)]


def test_pauses_under_300_ms_join():
    assert utterances(runs((0, 1), (1.29, 2), (2.3, 3))) == runs((0, 2), (2.3, 3))


def test_the_plain_gap():
    (turn,) = measure_turns(at((1.0, 2.0)), at((2.75, 4.0)), runs((0.9, 2.5)))
    assert turn.gap_s == pytest.approx(0.75, abs=0.0003)
    assert turn.barge_in_s is None
    assert turn.first_voiced_s == 1.0


def test_a_pause_inside_the_turn_is_not_its_end():
    """The agent may even blurt something out in the pause: the gap counts from the turn's last sample."""
    caller = at((1.0, 2.0), (3.5, 4.0))
    whole = runs((1.0, 4.1))
    assert measure_turns(caller, at((5.0, 6.0)), whole)[0].gap_s == pytest.approx(1.0, abs=0.0003)
    assert measure_turns(caller, at((2.5, 3.0), (5.0, 6.0)), whole)[0].gap_s == pytest.approx(1.0, abs=0.0003)


def test_agent_still_sounding_when_the_caller_stops_is_not_the_answer():
    caller, turn = at((2.0, 3.0)), runs((2.0, 3.0))
    (measured,) = measure_turns(caller, at((1.0, 3.5), (4.2, 5.0)), turn)
    assert measured.gap_s == pytest.approx(1.2, abs=0.0003)
    assert measured.barge_in_s == pytest.approx(1.5, abs=0.0003)
    # A pause between two clauses of the old speech, across the caller's end, changes nothing.
    (measured,) = measure_turns(caller, at((1.0, 2.9), (3.1, 3.5), (4.2, 5.0)), turn)
    assert measured.gap_s == pytest.approx(1.2, abs=0.0003)
    # It never answers: no gap, rather than one of 0.
    (measured,) = measure_turns(caller, at((1.0, 3.5)), turn)
    assert measured.gap_s is None


def test_an_interruption_and_its_answer():
    caller = at((1.0, 2.0), (4.0, 5.0))
    agent = at((2.6, 4.21), (5.9, 7.0))
    first, second = measure_turns(caller, agent, runs((1.0, 2.0), (4.0, 5.0)))
    assert first.gap_s == pytest.approx(0.6, abs=0.0003)
    assert first.barge_in_s is None
    assert second.barge_in_s == pytest.approx(0.21, abs=0.0003)
    assert second.gap_s == pytest.approx(0.9, abs=0.0003)


def test_an_agent_that_talks_on_over_the_interruption_is_timed_to_its_last_word():
    """Also when it makes pauses between its sentences meanwhile."""
    (measured,) = measure_turns(at((2.0, 4.0)), at((1.0, 2.5), (3.0, 4.4)), runs((2.0, 4.0)))
    assert measured.barge_in_s == pytest.approx(2.4, abs=0.0003)
    assert measured.gap_s is None


def test_an_interruption_in_a_pause_of_the_agent():
    caller, turn = at((2.0, 3.0)), runs((2.0, 3.0))
    stopped, resumed = at((1.0, 1.9), (4.0, 5.0)), at((1.0, 1.9), (2.1, 2.3), (4.0, 5.0))
    assert measure_turns(caller, stopped, turn)[0].barge_in_s == 0.0
    assert measure_turns(caller, resumed, turn)[0].barge_in_s == pytest.approx(0.3, abs=0.0003)
    # Half a second after its last word it was not speaking at all.
    assert measure_turns(caller, at((1.0, 1.5)), turn)[0].barge_in_s is None


def test_an_answer_belongs_to_the_turn_before_it():
    first, second = measure_turns(at((1, 2), (3, 4)), at((5, 6)), runs((1, 2), (3, 4)))
    assert first.gap_s is None
    assert second.gap_s == pytest.approx(1.0, abs=0.0003)


def test_a_silent_turn_measures_nothing():
    (measured,) = measure_turns(at(), at((5, 6)), runs((1, 2)))
    assert (measured.first_voiced_s, measured.gap_s, measured.barge_in_s) == (None, None, None)


def test_channels_recorded_in_different_places():
    """The caller's samples reach the edge 60 ms later: the gap there is shorter, the stop too."""
    caller, agent = at((1.0, 2.0), (4.0, 5.0)), at((2.8, 4.3))
    turns = runs((1.0, 2.0), (4.0, 5.0))
    first, second = measure_turns(caller, agent, turns, lambda sample: sample + 480)
    assert first.gap_s == pytest.approx(0.74, abs=0.0003)
    assert second.barge_in_s == pytest.approx(0.24, abs=0.0003)


def test_gap_and_stop_of_plain_runs():
    agent = runs((1, 2), (3, 4))
    assert response_gap(agent, 2 * RATE) == RATE
    assert response_gap(agent, 2 * RATE, until=3 * RATE) is None
    assert response_gap(agent, 4 * RATE) is None
    assert response_gap([], 0) is None
    assert stop_time(agent, Run(RATE, 2 * RATE)) is None
    assert stop_time(agent, Run(RATE + 8, 2 * RATE)) == RATE - 8


def test_summaries_name_no_95th_percentile_below_60_values():
    assert summarise([]) == Summary(None, None, None, 0)
    assert summarise([3.0, 1.0, 2.04]) == Summary(2.0, None, 3.0, 3)
    assert summarise([float(n) for n in range(1, 60)]).p95 is None
    assert summarise([float(n) for n in range(1, 61)]) == Summary(30.5, 57.0, 60.0, 60)
