"""The figures promised in `pipeline/resample.py`, measured from tones and impulses at every pair of rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.resample import PASS_BAND, STOP_BAND, Resampler, from_pcm, resample, to_pcm

PAIRS = [
    (8_000, 16_000),
    (16_000, 8_000),
    (24_000, 8_000),
    (8_000, 24_000),
    (24_000, 16_000),
    (16_000, 24_000),
    (22_050, 8_000),
    (22_050, 16_000),
    (48_000, 8_000),
    (44_100, 8_000),
    (11_025, 8_000),
]
every_pair = pytest.mark.parametrize(("source", "target"), PAIRS)


def tone(rate_hz: int, frequency_hz: float, duration_s: float = 0.5) -> NDArray[np.float32]:
    times = np.arange(round(rate_hz * duration_s)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * times).astype(np.float32)


def steady(output: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Without the first and last 20 ms."""
    edge = rate_hz // 50
    return output[edge:-edge].astype(np.float64)


def amplitude_db(output: NDArray[np.float32], rate_hz: int, frequency_hz: float) -> float:
    """Level of one sinusoid, by least squares."""
    signal = steady(output, rate_hz)
    times = np.arange(len(signal)) / rate_hz
    basis = np.stack([np.cos(2 * np.pi * frequency_hz * times), np.sin(2 * np.pi * frequency_hz * times)], 1)
    weights, *_ = np.linalg.lstsq(basis, signal, rcond=None)
    return 20 * math.log10(float(np.hypot(*weights)))


def residue_db(output: NDArray[np.float32], rate_hz: int, frequency_hz: float) -> float:
    """Peak of everything but one sinusoid: images, aliases and rounding together."""
    signal = steady(output, rate_hz)
    times = np.arange(len(signal)) / rate_hz
    basis = np.stack([np.cos(2 * np.pi * frequency_hz * times), np.sin(2 * np.pi * frequency_hz * times)], 1)
    weights, *_ = np.linalg.lstsq(basis, signal, rcond=None)
    return 20 * math.log10(float(np.max(np.abs(signal - basis @ weights))) + 1e-12)


@every_pair
def test_pass_band_is_flat_and_free_of_images(source: int, target: int) -> None:
    low = min(source, target)
    for frequency in (50.0, 300.0, 1_000.0, 2_500.0, 3_400.0, PASS_BAND * low):
        output = Resampler(source, target).push(tone(source, frequency))
        assert abs(amplitude_db(output, target, frequency)) < 0.5
        assert residue_db(output, target, frequency) < -60


@every_pair
def test_stop_band_does_not_alias(source: int, target: int) -> None:
    low = min(source, target)
    for frequency in np.linspace(STOP_BAND * low, source / 2, 12, endpoint=False)[
        : 12 if source > target else 0
    ]:
        output = Resampler(source, target).push(tone(source, float(frequency)))
        assert 20 * math.log10(np.max(np.abs(steady(output, target))) + 1e-12) < -60


@every_pair
def test_whatever_falls_into_the_pass_band_was_in_the_pass_band(source: int, target: int) -> None:
    """Sweep every frequency the source can hold: energy of the output below the pass band's edge."""
    low = min(source, target)
    edge = PASS_BAND * low
    for frequency in np.arange(edge + 150, source / 2, 173.0):
        signal = steady(Resampler(source, target).push(tone(source, float(frequency))), target)
        spectrum = np.abs(np.fft.rfft(signal * np.kaiser(len(signal), 12))) / np.sum(
            np.kaiser(len(signal), 12)
        )
        frequencies = np.fft.rfftfreq(len(signal), 1 / target)
        assert 20 * math.log10(2 * np.max(spectrum[frequencies < edge]) + 1e-12) < -60


@every_pair
def test_delay_is_what_it_says_and_at_most_3_ms(source: int, target: int) -> None:
    resampler = Resampler(source, target)
    assert 0 < resampler.delay_s <= 0.003
    frequency = 110.0
    output = resampler.push(tone(source, frequency)).astype(np.float64)
    times = np.arange(len(output)) / target
    kept = slice(target // 20, -target // 20)
    phase = np.angle(np.sum(output[kept] * np.exp(-2j * np.pi * frequency * times[kept])) * 1j)
    assert -phase / (2 * np.pi * frequency) == pytest.approx(resampler.delay_s, abs=2e-6)


@every_pair
def test_impulse_is_symmetric_and_over_within_twice_the_delay(source: int, target: int) -> None:
    impulse = np.zeros(source // 10, np.float32)
    impulse[0] = 1.0
    resampler = Resampler(source, target)
    output = resampler.push(impulse)
    centre = resampler.delay_s * target
    times = np.arange(len(output)) / target
    assert np.all(output[times > 2 * resampler.delay_s + 1 / min(source, target)] == 0)
    assert int(np.argmax(np.abs(output))) == pytest.approx(centre, abs=0.51)
    energy = output.astype(np.float64) ** 2
    assert np.sum(energy * np.arange(len(output))) / np.sum(energy) == pytest.approx(centre, abs=0.3)


@every_pair
def test_every_chunk_gives_its_share_at_once(source: int, target: int) -> None:
    """Delay in the sense that matters on a call: samples in, samples out, never a chunk in silence."""
    resampler = Resampler(source, target)
    received = sent = 0
    for _ in range(100):
        received += source // 50
        sent += len(resampler.push(np.ones(source // 50, np.float32)))
        assert sent == -(-received * target // source)
    one_by_one = Resampler(source, target)
    step = max(1, -(-source // target))
    assert all(len(one_by_one.push(np.ones(step, np.float32))) >= 1 for _ in range(200))


@given(
    pair=st.sampled_from(PAIRS),
    cuts=st.lists(st.integers(0, 700), max_size=12),
    seed=st.integers(0, 2**16),
)
def test_chunks_never_change_the_samples(pair: tuple[int, int], cuts: list[int], seed: int) -> None:
    signal = np.random.default_rng(seed).uniform(-1, 1, 700).astype(np.float32)
    whole = Resampler(*pair)
    expected = np.concatenate((whole.push(signal), whole.flush()))
    resampler = Resampler(*pair)
    pieces = [resampler.push(piece) for piece in np.split(signal, sorted(cuts))]
    assert sum(map(len, pieces)) == -(-len(signal) * pair[1] // pair[0])
    np.testing.assert_array_equal(np.concatenate([*pieces, resampler.flush()]), expected)


def test_no_drift_in_an_hour() -> None:
    resampler = Resampler(22_050, 8_000)
    chunk = np.zeros(22_050 * 10 + 7, np.float32)
    received = sent = 0
    for _ in range(360):
        received += len(chunk)
        sent += len(resampler.push(chunk))
    assert sent == -(-received * 160 // 441)


@every_pair
def test_flush_gives_the_tail_and_a_fresh_start(source: int, target: int) -> None:
    signal = np.random.default_rng(1).uniform(-1, 1, 1_234).astype(np.float32)
    resampler = Resampler(source, target)
    first = np.concatenate((resampler.push(signal), resampler.flush()))
    assert len(first) == pytest.approx(len(signal) * target / source + resampler.delay_s * target, abs=1)
    assert len(resampler.flush()) == 0
    again = np.concatenate((resampler.push(signal), resampler.flush()))
    np.testing.assert_array_equal(first, again)


@every_pair
def test_whole_clips_keep_their_place_and_length(source: int, target: int) -> None:
    for frequency in (200.0, 1_000.0, 3_400.0):
        clip = resample(tone(source, frequency), source, target)
        expected = tone(target, frequency)
        assert len(clip) == len(expected)
        edge = target // 50
        assert np.max(np.abs(clip - expected)[edge:-edge]) < 0.06 * 0.5


@given(pair=st.sampled_from(PAIRS), length=st.integers(0, 9_000))
def test_whole_clips_of_any_length(pair: tuple[int, int], length: int) -> None:
    source, target = pair
    clip = resample(np.ones(length, np.float32), source, target)
    assert clip.dtype == np.float32
    assert len(clip) == round(length * target / source)
    inner = clip[target // 100 : -target // 100]
    assert np.all(np.abs(inner - 1) < 1e-3)


def test_equal_rates_pass_through() -> None:
    signal = tone(8_000, 440)
    resampler = Resampler(8_000, 8_000)
    np.testing.assert_array_equal(resampler.push(signal), signal)
    assert resampler.delay_s == 0
    assert len(resampler.flush()) == 0
    np.testing.assert_array_equal(resample(signal, 8_000, 8_000), signal)


def test_output_does_not_share_memory_with_input() -> None:
    signal = tone(8_000, 440)
    for target in (8_000, 16_000):
        output = Resampler(8_000, target).push(signal)
        assert not np.shares_memory(output, signal)


@pytest.mark.parametrize("rate", [0, -8_000, 10**9])
def test_impossible_rates_are_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="sample rate"):
        Resampler(rate, 8_000)
    with pytest.raises(ValueError, match="sample rate"):
        resample(np.zeros(3, np.float32), 8_000, rate)


def test_integers_and_stereo_are_refused() -> None:
    with pytest.raises(TypeError, match="from_pcm"):
        Resampler(8_000, 16_000).push(np.zeros(160, np.int16))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float32"):
        resample(np.zeros((160, 2), np.float32), 8_000, 16_000)


def test_nan_is_forgotten() -> None:
    resampler = Resampler(24_000, 8_000)
    resampler.push(np.full(480, np.nan, np.float32))
    resampler.push(np.zeros(480, np.float32))
    assert np.all(resampler.push(np.zeros(480, np.float32)) == 0)


def test_pcm_round_trip_is_exact() -> None:
    every = np.arange(-32_768, 32_768).astype(np.int16)
    np.testing.assert_array_equal(to_pcm(from_pcm(every)), every)
    assert from_pcm(every).dtype == np.float32


def test_to_pcm_saturates() -> None:
    samples = np.array([1.0, -1.0, 7.5, -7.5, np.inf, -np.inf, np.nan, 0.6 / 32_768], np.float32)
    assert to_pcm(samples).tolist() == [32_767, -32_768, 32_767, -32_768, 32_767, -32_768, 0, 1]
