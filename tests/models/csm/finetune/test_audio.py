import io

import numpy as np
import pytest
import soundfile

from models.csm.finetune.audio import AudioError, clip_samples, levelled, loudness_lufs, resampled
from models.scripted import voiced_signal


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz).astype(np.float32)


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 16_000, 8_000])
def test_resampling_keeps_length_time_and_level(rate_hz: int) -> None:
    new = resampled(tone(1000, rate_hz), rate_hz, 24_000)
    middle = slice(2400, -2400)
    assert len(new) == 24_000
    assert np.abs(new - tone(1000, 24_000))[middle].max() < 2e-3


def test_what_24_khz_cannot_hold_is_gone() -> None:
    assert np.abs(resampled(tone(15_000, 48_000), 48_000, 24_000)[2400:-2400]).max() < 1e-3


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
def test_loudness_of_the_standards_tone(rate_hz: int) -> None:
    """BS.1770: a full-scale sine of 997 Hz on one channel is -3.01 LKFS."""
    assert loudness_lufs(tone(997, rate_hz, 2.0), rate_hz) == pytest.approx(-3.01, abs=0.03)


def test_silence_does_not_count_for_loudness() -> None:
    speech = voiced_signal("loud", 2.0, 24_000)
    padded = np.pad(speech, 48_000)
    assert loudness_lufs(padded) == pytest.approx(loudness_lufs(speech), abs=0.7)


def test_levelling_reaches_the_target_below_the_peak() -> None:
    speech = voiced_signal("x", 1.0, 24_000)
    assert loudness_lufs(levelled(speech, -23.0)) == pytest.approx(-23.0, abs=0.01)
    assert np.abs(levelled(speech, 0.0)).max() == pytest.approx(0.98)
    assert not levelled(np.zeros(2400, np.float32), -23.0).any()


def test_channels_are_averaged_and_the_end_left_undecoded() -> None:
    left = voiced_signal("x", 1.0, 48_000)
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    samples = clip_samples(wav(stereo, 48_000), loudness_lufs=None, most_s=0.5)
    assert len(samples) == 12_000
    assert np.abs(samples - 0.5 * resampled(left[:24_000], 48_000, 24_000)).max() < 1e-6


@pytest.mark.parametrize(
    "audio", [b"", b"RIFF", wav(np.zeros(0, np.float32), 24_000), wav(np.full(9, np.nan), 24_000)]
)
def test_unusable_audio_is_refused(audio: bytes) -> None:
    with pytest.raises(AudioError):
        clip_samples(audio)
