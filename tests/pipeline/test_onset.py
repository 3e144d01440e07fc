"""Windows of 32 ms on a line whose caller is silent, or begins to speak."""

import pytest

from pipeline.line import LINE_RATE_HZ
from pipeline.onset import LONGEST_SAMPLES, OnsetWatch

WINDOW = 256
LINE_DBFS = -55.0


class Line:
    def __init__(self, *, warm: bool = True) -> None:
        self.watch = OnsetWatch()
        self.at = 0
        self.noticed: list[int | None] = []
        if warm:
            self.brings(2_000)

    def brings(self, ms: int, level_dbfs: float = LINE_DBFS, probability: float = 0.1) -> "Line":
        for _ in range(round(ms * LINE_RATE_HZ / 1000 / WINDOW)):
            start, self.at = self.at, self.at + WINDOW
            self.watch.hear(probability, level_dbfs, start, self.at)
            self.noticed.append(self.watch.start_sample)
        return self


def test_two_windows_over_the_line_are_noticed_where_they_began() -> None:
    line = Line()
    began = line.at
    line.brings(32, -35.0)
    assert line.watch.start_sample is None
    line.brings(32, -30.0)
    assert line.watch.start_sample == began


def test_a_sound_that_the_detector_rules_out_is_none() -> None:
    line = Line().brings(320, -25.0, probability=0.01)
    assert set(line.noticed) == {None}
    assert line.brings(1_800).brings(64, -25.0, probability=0.06).watch.start_sample is not None


def test_one_window_is_a_click() -> None:
    line = Line()
    for _ in range(10):
        line.brings(32, -20.0, probability=0.4).brings(96)
    assert set(line.noticed) == {None}


def test_a_breath_inside_a_beginning_does_not_end_it_and_a_silence_does() -> None:
    line = Line().brings(64, -30.0).brings(64)
    assert line.watch.start_sample is not None
    assert line.brings(32).watch.start_sample is None


def test_what_goes_on_without_a_voice_is_the_lines_own_and_is_not_noticed_again() -> None:
    line = Line().brings(3_000, -35.0)
    windows = sum(start is not None for start in line.noticed)
    assert 0 < windows <= LONGEST_SAMPLES // WINDOW
    assert set(line.noticed[-60:]) == {None}
    # A caller must be louder than it from now on.
    again = len(line.noticed)
    line.brings(320, -33.0)
    assert set(line.noticed[again:]) == {None}
    assert line.brings(64, -24.0).watch.start_sample is not None


def test_an_echo_must_be_known_before_a_soft_sound_is_noticed() -> None:
    early = Line(warm=False).brings(96).brings(320, -36.0)
    assert set(early.noticed) == {None}
    assert early.brings(64, -20.0).watch.start_sample is not None


def test_an_echo_that_swells_with_the_agents_syllables_is_not_noticed() -> None:
    line = Line(warm=False)
    for _ in range(30):
        line.brings(64, -60.0).brings(96, -42.0, probability=0.3).brings(96, -46.0, probability=0.3)
    assert set(line.noticed) == {None}


@pytest.mark.parametrize("end", ["found", "reset"])
def test_a_voice_is_no_part_of_the_line_and_the_line_stays_known(end: str) -> None:
    line = Line().brings(128, -20.0)
    getattr(line.watch, end)()
    assert line.watch.start_sample is None
    line.brings(32)
    began = line.at
    assert line.brings(64, -40.0).watch.start_sample == began
