"""Keys as tones."""

import numpy as np
import pytest

from pipeline.key_tones import PAUSE_S, TONE_S, key_tones
from pipeline.line import LINE_RATE_HZ

FREQUENCIES = {
    "1": (697, 1209), "2": (697, 1336), "3": (697, 1477), "A": (697, 1633),
    "4": (770, 1209), "5": (770, 1336), "6": (770, 1477), "B": (770, 1633),
    "7": (852, 1209), "8": (852, 1336), "9": (852, 1477), "C": (852, 1633),
    "*": (941, 1209), "0": (941, 1336), "#": (941, 1477), "D": (941, 1633),
}  # fmt: skip
"""ITU-T Q.23."""


def level_dbm0(tone: np.ndarray, hz: int) -> float:  # type: ignore[type-arg]
    """Of the sine at `hz` inside `tone`, by correlation; a sine of full scale is +3.17 dBm0."""
    seconds = np.arange(tone.size) / LINE_RATE_HZ
    amplitude = 2 * abs(np.mean(tone / 32767 * np.exp(-2j * np.pi * hz * seconds)))
    return float(20 * np.log10(max(amplitude, 1e-9)) + 3.17)


@pytest.mark.parametrize("digit", FREQUENCIES)
def test_each_key_has_its_two_frequencies_at_the_right_levels(digit: str) -> None:
    pcm = key_tones(digit)
    assert pcm.dtype == np.int16
    assert pcm.size == round((TONE_S + PAUSE_S) * LINE_RATE_HZ)
    middle = pcm[80 : round(TONE_S * LINE_RATE_HZ) - 80].astype(float)
    low, high = FREQUENCIES[digit]
    assert level_dbm0(middle, low) == pytest.approx(-9.0, abs=0.5)
    assert level_dbm0(middle, high) == pytest.approx(-7.0, abs=0.5)
    others = {hz for pair in FREQUENCIES.values() for hz in pair} - {low, high}
    assert all(level_dbm0(middle, hz) < -20 for hz in others)


def test_tones_follow_each_other_with_silence_between() -> None:
    pcm = key_tones("4711#")
    one = round((TONE_S + PAUSE_S) * LINE_RATE_HZ)
    assert pcm.size == 5 * one
    assert np.array_equal(pcm[2 * one : 3 * one], pcm[3 * one : 4 * one])
    assert not pcm[round(TONE_S * LINE_RATE_HZ) : one].any()


def test_tones_do_not_click() -> None:
    """Outside the telephone's two bands of keys there is nothing, not even where a tone begins and ends."""
    pcm = key_tones("5").astype(float)
    steps = np.abs(np.diff(pcm))
    assert steps[:8].max() < 0.1 * steps.max()
    assert abs(pcm[0]) < 100
    power = np.abs(np.fft.rfft(pcm, 8192)) ** 2
    hz = np.fft.rfftfreq(8192, 1 / LINE_RATE_HZ)
    outside = (hz < 400) | (hz > 1900)
    assert power[outside].sum() < 1e-4 * power.sum()


def test_no_keys_are_no_sound() -> None:
    assert key_tones("").size == 0


@pytest.mark.parametrize("wrong", ["x", "1x", " ", "a", "\u00b2"])
def test_what_is_no_key_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        key_tones(wrong)
