import numpy as np
import pytest

from bench.corpus.building import PARTS
from bench.corpus.line import band, noise
from bench.corpus.sounds import from_afar, mm_hmm, sound

KINDS = [kind for part in PARTS for kind in part.noises]
SOUNDS = [kind for part in PARTS for kind in (*part.coughs, *part.line_noises)]


def _db(samples: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(10 * np.log10((samples.astype(np.float64) ** 2).mean() + 1e-12))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_level_asked_for_and_comes_from_its_seed(kind: str) -> None:
    made = noise(kind, 40_000, -45.0, seed=3)
    assert _db(made / 32_768) == pytest.approx(-45.0, abs=0.01)
    assert np.array_equal(made, noise(kind, 40_000, -45.0, seed=3))
    assert not np.array_equal(made, noise(kind, 40_000, -45.0, seed=4))
    spectrum = np.abs(np.fft.rfft(made)) ** 2
    hertz = np.fft.rfftfreq(len(made), 1 / 8000)
    assert spectrum[hertz < 150].sum() < 0.05 * spectrum.sum()


@pytest.mark.parametrize(("hertz", "loss_db"), [(100.0, 38.0), (300.0, 3.0), (1000.0, 0.0), (3400.0, 3.0)])
def test_a_telephone_passes_its_band(hertz: float, loss_db: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(16_000) / 8000)
    assert _db(band(tone)[4000:12_000]) - _db(tone) == pytest.approx(-loss_db, abs=0.3)


@pytest.mark.parametrize("kind", SOUNDS)
def test_a_sound_without_words_is_short_and_repeatable(kind: str) -> None:
    made = sound(kind, 7)
    assert np.abs(made).max() == pytest.approx(1.0)
    assert len(made) < 2 * 8000
    assert np.array_equal(made, sound(kind, 7)) and not np.array_equal(made, sound(kind, 8))


def test_a_cough_bursts_and_dies_away() -> None:
    made = sound("cough", 1)
    assert np.abs(made).argmax() < 0.06 * 8000
    assert _db(made[-1200:]) < _db(made[:400]) - 6


def test_side_talk_is_dull_and_rings_on() -> None:
    click = np.zeros(8000)
    click[100] = 1.0
    far = from_afar(click, 1)
    assert (far[400:1600] ** 2).sum() > 0.05 * (far**2).sum()
    spectrum = np.abs(np.fft.rfft(far)) ** 2
    hertz = np.fft.rfftfreq(len(far), 1 / 8000)
    assert spectrum[hertz > 2600].sum() < 0.1 * spectrum.sum()


def test_mm_hmm_is_two_hums() -> None:
    made = mm_hmm(200.0, 1)
    envelope = np.convolve(made**2, np.ones(240) / 240, "same")
    middle = len(made) * 2 // 5
    dip = envelope[middle - 500 : middle + 500].min()
    assert dip < 0.1 * envelope[: middle - 500].max() and dip < 0.1 * envelope[middle + 500 :].max()
