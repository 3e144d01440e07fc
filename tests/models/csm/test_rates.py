import numpy as np
import pytest

from models.csm.rates import codec_samples, to_codec_rate


def tone(rate_hz: int, hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_tone_stays_a_tone_in_time(rate_hz: int) -> None:
    made = to_codec_rate(tone(rate_hz, 1_000), rate_hz)
    assert made.shape == (24_000,) and made.dtype == np.float32
    assert np.abs(made - tone(24_000, 1_000))[600:-600].max() < 1e-3


def test_24_khz_is_copied() -> None:
    audio = tone(24_000, 500)
    made = to_codec_rate(audio, 24_000)
    assert np.array_equal(made, audio) and made is not audio


@pytest.mark.parametrize("rate_hz", [8_000, 8_001, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_in_pieces_it_is_what_it_is_whole(rate_hz: int) -> None:
    audio = np.random.default_rng(0).standard_normal(round(rate_hz * 0.3) + 7).astype(np.float32)
    whole = to_codec_rate(audio, rate_hz)
    assert len(whole) == codec_samples(len(audio), rate_hz)
    pieces = [to_codec_rate(audio, rate_hz, at, at + 1_001) for at in range(0, len(whole), 1_001)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)
    assert to_codec_rate(audio, rate_hz, len(whole)).shape == (0,)


def test_what_24_khz_cannot_hold_is_taken_out() -> None:
    assert np.abs(to_codec_rate(tone(48_000, 15_000), 48_000))[600:-600].max() < 1e-3


def test_speech_of_a_telephone_has_no_images() -> None:
    spectrum = np.abs(np.fft.rfft(to_codec_rate(tone(8_000, 3_000), 8_000)[600:-600] * np.hanning(22_800)))
    hz = np.fft.rfftfreq(22_800, 1 / 24_000)
    assert spectrum[hz > 4_500].max() < spectrum.max() * 1e-3


def test_edges() -> None:
    assert to_codec_rate(np.zeros(0, np.float32), 8_000).shape == (0,)
    assert to_codec_rate(np.ones(1, np.float32), 8_000).shape == (3,)
    with pytest.raises(ValueError, match="sample rate 0 Hz"):
        to_codec_rate(np.zeros(8, np.float32), 0)
