"""Sounds without words, to see whether the transcriber finds some."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.base import Samples

Wave = NDArray[np.float64]


def noises(seconds: float, rate_hz: int, *, peak: float, seed: int = 0) -> Mapping[str, Samples]:
    """By name, each (n,) float32 with the given peak; equal arguments give equal samples."""
    generator = np.random.default_rng(seed)
    count = round(seconds * rate_hz)
    time = np.arange(count) / rate_hz
    white = generator.standard_normal(count)
    sounds: dict[str, Wave] = {
        "white": white,
        "pink": _shaped(white, rate_hz, 0.5),
        "brown": _shaped(white, rate_hz, 1.0),
        "hum": _tones(time, *((50.0 * k, 1 / k) for k in (1, 2, 3, 5))),
        "music": _chords(time),
        "clicks": _clicks(generator, count),
        "dtmf": ((time * 4) % 1 < 0.5) * _tones(time, (770.0, 1.0), (1336.0, 1.0)),
        "dial tone": _tones(time, (350.0, 1.0), (440.0, 1.0)),
        "beeps": ((time % 2) < 1) * _tones(time, (440.0, 1.0)),
        "cough": white * np.exp(-time / 0.08),
        "breath": _shaped(white, rate_hz, 0.5) * (0.5 - 0.5 * np.cos(2 * np.pi * time / 1.5)),
    }
    return {name: (peak * sound / np.abs(sound).max()).astype(np.float32) for name, sound in sounds.items()}


def _shaped(white: Wave, rate_hz: int, slope: float) -> Wave:
    """Noise whose amplitude falls with frequency to the power of `slope` above 20 Hz."""
    spectrum = np.fft.rfft(white)
    hertz = np.maximum(np.fft.rfftfreq(len(white), 1 / rate_hz), 20)
    shaped: Wave = np.fft.irfft(spectrum / hertz**slope, len(white))
    return shaped


def _tones(time: Wave, *tones: tuple[float, float]) -> Wave:
    sound = np.zeros_like(time)
    for hertz, amplitude in tones:
        sound += amplitude * np.sin(2 * np.pi * hertz * time)
    return sound


def _chords(time: Wave) -> Wave:
    """Two plucked chords a second, going up in minor thirds."""
    step = 2 ** (np.floor(time * 2) % 4 * 3 / 12)
    sound = np.zeros_like(time)
    for hertz in (220.0, 277.0, 330.0):
        sound += np.sin(2 * np.pi * hertz * step * time)
    chords: Wave = sound * np.exp(-((time * 2) % 1) * 3)
    return chords


def _clicks(generator: np.random.Generator, count: int) -> Wave:
    pulses = np.zeros(count)
    pulses[generator.integers(0, count, max(1, count // 2_500))] = 1.0
    clicks: Wave = np.convolve(pulses, np.exp(-np.arange(80) / 15), "same")
    return clicks
