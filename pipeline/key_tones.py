"""Keys as tones in the audio, for lines that have no better way (ITU-T Q.23, Q.24). Pure."""

import numpy as np
from numpy.typing import NDArray

from pipeline.line import LINE_RATE_HZ, Pcm

_ROWS_HZ = (697, 770, 852, 941)
_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_PAD = ("123A", "456B", "789C", "*0#D")

TONE_S = 0.100
PAUSE_S = 0.080
"""Twice what Q.24 wants of either at least (40 ms): networks with loss and concealment lie between."""
LOW_DBM0 = -9.0
HIGH_DBM0 = -7.0
"""The upper tone is stronger: lines lose more of it."""
_FULL_SCALE_DBM0 = 3.17
"""A sine of full scale in mu-law (ITU-T G.711)."""
_RAMP_S = 0.005
"""Tones rise and fall so slowly that nothing clicks."""


def key_tones(digits: str) -> Pcm:
    """`digits` (0-9, *, #, A-D) as (n,) int16 at 8 kHz, each followed by a pause. Raises `ValueError` for any
    other character."""
    return np.concatenate([np.zeros(0, np.int16), *map(_key, digits)])


def _key(digit: str) -> Pcm:
    found = [(row, keys.index(digit)) for row, keys in enumerate(_PAD) if digit in keys]
    if not found:
        raise ValueError(f"{digit!r} is no key of a telephone")
    row, column = found[0]
    seconds = np.arange(round(TONE_S * LINE_RATE_HZ)) / LINE_RATE_HZ
    tone = _sine(_ROWS_HZ[row], LOW_DBM0, seconds) + _sine(_COLUMNS_HZ[column], HIGH_DBM0, seconds)
    ramp = round(_RAMP_S * LINE_RATE_HZ)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    tone[:ramp] *= rise
    tone[-ramp:] *= rise[::-1]
    silence = np.zeros(round(PAUSE_S * LINE_RATE_HZ))
    pcm: Pcm = np.round(np.concatenate([tone, silence]) * 32767).astype(np.int16)
    return pcm


def _sine(hz: int, dbm0: float, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    amplitude = 10 ** ((dbm0 - _FULL_SCALE_DBM0) / 20)
    sine: NDArray[np.float64] = amplitude * np.sin(2 * np.pi * hz * seconds)
    return sine
