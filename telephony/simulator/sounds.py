"""Sounds that are not speech, for `sound: {like: cough}`: synthesised, the same samples every time.

- `cough`: two bursts of breath with a glottal pulse at the start of each, 0.5 s.
- `click`: a phone put down, 40 ms.
- `door`: a thump and its rattle, 0.4 s.
- `breath`: breathing out into the microphone, 0.9 s.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.line import LINE_RATE_HZ, Pcm

PEAK = 12_000
"""About as loud as a caller's voice."""

_Sound = NDArray[np.float64]


def make_sound(like: str) -> Pcm:
    """(n,) int16 at 8 kHz of one of `SOUNDS`."""
    made = SOUNDS[like](np.random.default_rng(sum(like.encode())))
    scaled: Pcm = (made * (PEAK / np.abs(made).max())).astype(np.int16)
    return scaled


def _breath(generator: np.random.Generator, seconds: float, low_hz: float, high_hz: float) -> _Sound:
    """Noise between two frequencies."""
    samples = round(seconds * LINE_RATE_HZ)
    spectrum = np.fft.rfft(generator.normal(size=samples))
    hertz = np.fft.rfftfreq(samples, 1 / LINE_RATE_HZ)
    spectrum[(hertz < low_hz) | (hertz > high_hz)] *= 0.05
    noise: _Sound = np.fft.irfft(spectrum, samples)
    return noise / float(np.sqrt(np.mean(noise**2)))


def _decay(samples: int, seconds: float) -> _Sound:
    """A rise of 5 ms, then e-fold every `seconds`."""
    at = np.arange(samples) / LINE_RATE_HZ
    faded: _Sound = np.minimum(1.0, at / 0.005) * np.exp(-at / seconds)
    return faded


def _cough(generator: np.random.Generator) -> _Sound:
    bursts = []
    for seconds, level in ((0.28, 1.0), (0.22, 0.6)):
        breath = _breath(generator, seconds, 300, 2500)
        at = np.arange(len(breath)) / LINE_RATE_HZ
        glottis = 2.0 * np.sign(np.sin(2 * np.pi * 160 * at)) * np.exp(-at / 0.04)
        bursts.append(level * (breath + glottis) * _decay(len(breath), 0.09))
    return np.concatenate(bursts)


def _click(generator: np.random.Generator) -> _Sound:
    breath = _breath(generator, 0.04, 500, 3400)
    return breath * _decay(len(breath), 0.006)


def _door(generator: np.random.Generator) -> _Sound:
    rattle = _breath(generator, 0.4, 80, 900)
    at = np.arange(len(rattle)) / LINE_RATE_HZ
    thump = 4.0 * np.sin(2 * np.pi * 95 * at) * np.exp(-at / 0.05)
    return (rattle + thump) * _decay(len(rattle), 0.08)


def _breathing(generator: np.random.Generator) -> _Sound:
    breath = _breath(generator, 0.9, 200, 3000)
    return breath * np.hanning(len(breath))


SOUNDS: Mapping[str, Callable[[np.random.Generator], _Sound]] = {
    "cough": _cough,
    "click": _click,
    "door": _door,
    "breath": _breathing,
}
