"""Noises under a caller's voice, synthesised from a seed: nothing recorded, nothing to license.

- `white`: hiss of all frequencies alike.
- `room`: air conditioning and walls, falling by 6 dB an octave above 150 Hz, steady.
- `street`: traffic, mostly below 500 Hz; a car every few seconds swells by up to 15 dB and passes.
- `babble`: eight people talking at once elsewhere in the room: voiced syllables at their own pitch and pace.
- `hum`: mains (50 Hz and its harmonics, as a bad power supply has them) over a soft hiss.
- `crackle`: a bad line: short bursts at random times over a soft hiss.
- `music`: four chords, played again and again, as while on hold.

All but `white` are a loop of 16 s without a seam, brought to the wanted level as a whole: they swell and
fade around it. The same kind, level and seed give the same samples.
"""

import random
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ
from telephony.simulator.scenario import Noise

Sound = NDArray[np.float64]

_LOOP_SAMPLES = LINE_RATE_HZ * 16
_TALKERS = 8
_FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410), (300, 870, 2240))
"""Peterson and Barney (1952), men's averages for the vowels of hod, heed, head, hawed, who'd."""
_FORMANT_WIDTH_HZ = 120.0
_CHORDS_HZ = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))


class NoiseSource:
    """`next()` gives the noise of one AudioFrame after the other, (160,) float64 in units of int16."""

    def __init__(self, noise: Noise) -> None:
        self._rms = 32_768 * 10 ** (noise.level_dbfs / 20)
        self._random = np.random.default_rng(random.Random(f"noise {noise.seed}").getrandbits(64))
        self._loop = None if noise.kind == "white" else _loop(noise.kind, noise.seed)
        self._at = 0

    def next(self) -> Sound:
        if self._loop is None:
            return self._random.normal(0.0, self._rms, AUDIO_FRAME_SAMPLES)
        piece = self._loop[self._at : self._at + AUDIO_FRAME_SAMPLES] * self._rms
        self._at = (self._at + AUDIO_FRAME_SAMPLES) % len(self._loop)
        return piece


@lru_cache(maxsize=16)
def _loop(kind: str, seed: int) -> Sound:
    """(128000,) at an RMS of 1. Blocks for up to 0.3 s (`babble`)."""
    made = _KINDS[kind](np.random.default_rng(random.Random(f"{kind} {seed}").getrandbits(64)))
    made = made - made.mean()
    level: Sound = made / np.sqrt(np.mean(made**2))
    return level


def _coloured(generator: np.random.Generator, gain: Callable[[Sound], Sound]) -> Sound:
    """Seamless noise whose spectrum is `gain(hertz)`: made of a whole number of waves a loop."""
    spectrum = np.fft.rfft(generator.normal(size=_LOOP_SAMPLES))
    hertz: Sound = np.fft.rfftfreq(_LOOP_SAMPLES, 1 / LINE_RATE_HZ).astype(np.float64)
    coloured: Sound = np.fft.irfft(spectrum * gain(hertz), _LOOP_SAMPLES)
    return coloured / float(np.sqrt(np.mean(coloured**2)))


def _falling(corner_hz: float) -> Callable[[Sound], Sound]:
    """6 dB less an octave above `corner_hz`; a telephone carries little below 200 Hz."""
    return lambda hertz: (hertz > 100) / np.hypot(1.0, hertz / corner_hz)


def _swells(generator: np.random.Generator, number: int, least_s: float, most_s: float) -> Sound:
    """0 to 1: `number` bells at random places around the loop."""
    at = np.arange(_LOOP_SAMPLES) / LINE_RATE_HZ
    length_s = _LOOP_SAMPLES / LINE_RATE_HZ
    swell = np.zeros(_LOOP_SAMPLES)
    for _ in range(number):
        centre, width = generator.uniform(0, length_s), generator.uniform(least_s, most_s)
        away = (at - centre + length_s / 2) % length_s - length_s / 2
        swell = np.maximum(swell, np.exp(-((away / width) ** 2)))
    return swell


def _room(generator: np.random.Generator) -> Sound:
    return _coloured(generator, _falling(150.0))


def _street(generator: np.random.Generator) -> Sound:
    cars = _swells(generator, 5, 0.5, 1.5)
    return _coloured(generator, _falling(300.0)) + 4.5 * cars * _coloured(generator, _falling(700.0))


def _hum(generator: np.random.Generator) -> Sound:
    at = np.arange(_LOOP_SAMPLES) / LINE_RATE_HZ
    waves = [
        np.sin(2 * np.pi * 50 * n * at + generator.uniform(0, 2 * np.pi)) / n for n in (1, 2, 3, 5, 6, 9, 12)
    ]
    hummed: Sound = np.sum(waves, axis=0)
    return hummed + 0.05 * generator.normal(size=_LOOP_SAMPLES)


def _crackle(generator: np.random.Generator) -> Sound:
    crackled = 0.02 * generator.normal(size=_LOOP_SAMPLES)
    for _ in range(40):
        length = int(generator.integers(8, 240))
        start = int(generator.integers(0, _LOOP_SAMPLES - length))
        burst = generator.normal(size=length) * np.exp(-4 * np.arange(length) / length)
        crackled[start : start + length] += generator.uniform(0.3, 1.0) * burst
    return crackled


def _babble(generator: np.random.Generator) -> Sound:
    together = 0.03 * generator.normal(size=_LOOP_SAMPLES)
    for _ in range(_TALKERS):
        together = together + generator.uniform(0.5, 1.0) * _talker(generator)
    return together


def _talker(generator: np.random.Generator) -> Sound:
    """Vowels of 120 to 300 ms at a wandering pitch, with pauses between some: no words, but a voice."""
    spoken = np.zeros(_LOOP_SAMPLES)
    pitch_hz = generator.uniform(95, 230)
    position = int(generator.integers(0, LINE_RATE_HZ // 2))
    while True:
        length = int(generator.uniform(0.12, 0.30) * LINE_RATE_HZ)
        if position + length > _LOOP_SAMPLES:
            return spoken
        at = np.arange(length) / LINE_RATE_HZ
        first_hz, last_hz = pitch_hz * generator.uniform(0.85, 1.2, 2)
        phase = 2 * np.pi * (first_hz * at + (last_hz - first_hz) * at**2 / (2 * at[-1]))
        formants = np.array(_FORMANTS_HZ[int(generator.integers(len(_FORMANTS_HZ)))])
        vowel = np.zeros(length)
        for harmonic in range(1, int(3400 / max(first_hz, last_hz)) + 1):
            away = (harmonic * first_hz - formants) / _FORMANT_WIDTH_HZ
            vowel += float(np.sum(1 / (1 + away**2) / np.arange(1, 4))) * np.sin(harmonic * phase)
        spoken[position : position + length] = vowel * np.hanning(length)
        pause_s = generator.uniform(0.2, 1.0) if generator.random() < 0.2 else generator.uniform(0.0, 0.08)
        position += length + int(pause_s * LINE_RATE_HZ)


def _music(generator: np.random.Generator) -> Sound:
    length = _LOOP_SAMPLES // 16
    at = np.arange(length) / LINE_RATE_HZ
    faded = np.exp(-1.5 * at) * np.minimum(1.0, np.minimum(at, at[-1] - at) / 0.01)
    played = []
    for number in range(16):
        notes = _CHORDS_HZ[number // 4 % len(_CHORDS_HZ)]
        melody = notes[int(generator.integers(len(notes)))] * 2
        chord = sum(
            np.sin(2 * np.pi * hertz * harmonic * at) / harmonic**1.5
            for hertz in (*notes, melody)
            for harmonic in (1, 2, 3, 4)
        )
        played.append(chord * faded)
    music: Sound = np.concatenate(played)
    return music


_KINDS: Mapping[str, Callable[[np.random.Generator], Sound]] = {
    "room": _room,
    "street": _street,
    "babble": _babble,
    "hum": _hum,
    "crackle": _crackle,
    "music": _music,
}
