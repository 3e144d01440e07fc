"""Where a level meter sees sound begin and end."""

import numpy as np
import pytest

from pipeline.audible import audible_end, first_audible, level_dbfs, voiced_runs
from pipeline.line import LINE_RATE_HZ, Pcm


def burst(before: int, sounding: int, behind: int, amplitude: float = 5000.0) -> Pcm:
    tone = amplitude * np.sin(2 * np.pi * 500 * np.arange(sounding) / LINE_RATE_HZ + 0.5)
    return np.concatenate([np.zeros(before), tone, np.zeros(behind)]).astype(np.int16)


@pytest.mark.parametrize("before", [0, 1, 79, 80, 400, 1003])
@pytest.mark.parametrize("sounding", [400, 801, 2403])
def test_begin_and_end_are_those_of_the_voiced_run(before: int, sounding: int) -> None:
    pcm = burst(before, sounding, 500)
    (run,) = voiced_runs(pcm)
    assert first_audible(pcm) == run.start
    assert audible_end(pcm) == run.stop


def test_the_last_of_several_sounds_ends_it() -> None:
    pcm = np.concatenate([burst(100, 400, 800), burst(0, 400, 300)])
    assert first_audible(pcm) == pytest.approx(100, abs=2)
    assert audible_end(pcm) == pytest.approx(1700, abs=2)


def test_a_click_and_a_whisper_are_no_sound() -> None:
    assert first_audible(burst(200, 60, 200)) is None
    assert first_audible(burst(200, 800, 200, amplitude=100.0)) is None
    assert audible_end(np.zeros(800, np.int16)) is None
    assert first_audible(np.zeros(0, np.int16)) is None


def test_what_sounds_to_the_very_end_has_no_end() -> None:
    assert audible_end(burst(100, 800, 0)) is None


def test_levels() -> None:
    assert level_dbfs(burst(0, 8000, 0, amplitude=32767 / 10)) == pytest.approx(-23.0, abs=0.1)
    assert level_dbfs(np.zeros(160, np.int16)) == -96.0
    assert level_dbfs(np.zeros(0, np.int16)) == -96.0
