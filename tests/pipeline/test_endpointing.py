"""Where utterances begin and end, window by window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import VAD_WINDOW_SAMPLES
from pipeline.endpointing import (
    OFFSET_PROBABILITY,
    ONSET_PROBABILITY,
    QUIET_DB,
    SpeechStarted,
    SpeechStopped,
    UtteranceDetector,
)

PAUSE_S = 0.128
PAUSE_WINDOWS = 4
LOUD, BETWEEN, QUIET = 0.95, 0.4, 0.02


class Listener:
    """Feeds windows of 256 samples and keeps what the detector said, with the number of the window."""

    def __init__(self) -> None:
        self.detector = UtteranceDetector(PAUSE_S)
        self.windows = 0
        self.changes: list[tuple[int, SpeechStarted | SpeechStopped]] = []

    def hear(self, *probabilities: float) -> "Listener":
        for probability in probabilities:
            start = self.windows * VAD_WINDOW_SAMPLES
            self.windows += 1
            change = self.detector.push(probability, start, start + VAD_WINDOW_SAMPLES)
            if change is not None:
                self.changes.append((self.windows, change))
        return self


def at(windows: int) -> int:
    return windows * VAD_WINDOW_SAMPLES


def test_an_utterance_is_placed_where_its_voice_was() -> None:
    ears = Listener().hear(QUIET, QUIET, LOUD, LOUD, LOUD, *[QUIET] * 6)
    assert ears.changes == [
        (4, SpeechStarted(at(2))),
        (5 + PAUSE_WINDOWS, SpeechStopped(at(2), at(5), at(3))),
    ]


@pytest.mark.parametrize("loud", [ONSET_PROBABILITY, 1.0])
def test_one_window_alone_is_a_click(loud: float) -> None:
    ears = Listener().hear(*[loud, QUIET] * 5, *[QUIET] * 10)
    assert ears.changes == []
    assert ears.detector.voiced_samples == 0


def test_what_is_not_sure_enough_to_begin_is_sure_enough_to_go_on() -> None:
    assert Listener().hear(*[BETWEEN] * 10).changes == []
    assert Listener().hear(LOUD, BETWEEN).changes == [(2, SpeechStarted(0))]
    ears = Listener().hear(LOUD, LOUD, *[BETWEEN] * 20)
    assert ears.changes == [(2, SpeechStarted(0))]
    assert ears.detector.end_sample == at(22)


@pytest.mark.parametrize(("probability", "ends"), [(OFFSET_PROBABILITY, False), (0.34, True)])
def test_the_voice_has_ended_below_the_lower_threshold(probability: float, ends: bool) -> None:
    ears = Listener().hear(LOUD, LOUD, *[probability] * 10)
    assert any(isinstance(change, SpeechStopped) for _, change in ears.changes) is ends


def test_a_gap_shorter_than_a_pause_is_part_of_the_utterance() -> None:
    ears = Listener().hear(LOUD, LOUD, *[QUIET] * (PAUSE_WINDOWS - 1), LOUD, *[QUIET] * PAUSE_WINDOWS)
    assert ears.changes[-1] == (ears.windows, SpeechStopped(0, at(PAUSE_WINDOWS + 2), at(3)))
    assert len(ears.changes) == 2


def test_only_voiced_windows_count_as_voiced() -> None:
    ears = Listener().hear(LOUD, LOUD, QUIET, QUIET, LOUD)
    assert ears.detector.voiced_samples == at(3)


def test_every_utterance_is_measured_anew() -> None:
    ears = Listener().hear(*[LOUD] * 10, *[QUIET] * 6, LOUD, LOUD)
    assert ears.changes[-1] == (18, SpeechStarted(at(16)))
    assert ears.detector.voiced_samples == at(2)


@given(st.lists(st.floats(0.0, 1.0), max_size=200))
def test_starts_and_stops_alternate_and_never_overlap(probabilities: list[float]) -> None:
    ears = Listener().hear(*probabilities)
    position = 0
    for index, (window, change) in enumerate(ears.changes):
        assert isinstance(change, SpeechStopped if index % 2 else SpeechStarted)
        assert position <= change.start_sample < at(window)
        if isinstance(change, SpeechStopped):
            assert change.start_sample < change.end_sample <= at(window - PAUSE_WINDOWS)
            position = change.end_sample
    assert ears.detector.speaking == (len(ears.changes) % 2 == 1)


def heard(*windows: tuple[float, float]) -> list[SpeechStarted | SpeechStopped]:
    """(probability, dBFS) per window."""
    detector = UtteranceDetector(PAUSE_S)
    pushed = (
        detector.push(probability, at(number), at(number + 1), level)
        for number, (probability, level) in enumerate(windows)
    )
    return [change for change in pushed if change is not None]


SAID, HANGOVER = (LOUD, -20.0), (LOUD, -20.0 - QUIET_DB - 1)


def test_a_voice_ends_where_the_level_falls_though_the_detector_still_believes_in_it() -> None:
    assert heard(*[SAID] * 10, *[HANGOVER] * 4) == [SpeechStarted(0), SpeechStopped(0, at(10), at(10))]


def test_what_the_detector_still_believes_after_the_end_begins_nothing() -> None:
    after = heard(*[SAID] * 10, *[HANGOVER] * 8)
    assert [type(change) for change in after] == [SpeechStarted, SpeechStopped]


def test_a_quiet_voice_long_after_a_loud_one_is_a_voice() -> None:
    quiet = heard(*[SAID] * 10, *[(QUIET, -60.0)] * 20, *[(LOUD, -50.0)] * 10)
    assert [type(change) for change in quiet] == [SpeechStarted, SpeechStopped, SpeechStarted]


def test_in_noise_the_detector_decides_alone() -> None:
    noisy = heard(*[SAID] * 10, *[(BETWEEN, -35.0)] * 8, *[(QUIET, -35.0)] * 4)
    assert noisy == [SpeechStarted(0), SpeechStopped(0, at(18), at(18))]
