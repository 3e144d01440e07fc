"""Where sound begins and ends, by level alone: what a meter on the line would say. No voice detection.

The definition is that of telephone test equipment in its simplest form, and the one by which simulated calls
are measured: 10 ms windows above -40 dBFS, three in a row, and within them the first and last sample that
reaches that amplitude.
"""

import numpy as np

from pipeline.line import LINE_RATE_HZ, Pcm

AUDIBLE_DBFS = -40.0
_AMPLITUDE = 32_768 * 10 ** (AUDIBLE_DBFS / 20)
_WINDOW = LINE_RATE_HZ // 100
_IN_A_ROW = 3


def first_audible(pcm: Pcm) -> int | None:
    """The first audible sample of (n,) int16 at 8 kHz; None where there is none."""
    loud = _loud_runs(pcm)
    if not loud:
        return None
    begin = loud[0][0] * _WINDOW
    return begin + int(np.flatnonzero(_loud_samples(pcm[begin : loud[0][1] * _WINDOW]))[0])


def audible_end(pcm: Pcm) -> int | None:
    """The sample behind the last audible one; None where there is none, and where the sound goes on to the
    very end of `pcm`: noise, most likely."""
    loud = _loud_runs(pcm)
    if not loud or loud[-1][1] >= len(pcm) // _WINDOW:
        return None
    begin = loud[-1][0] * _WINDOW
    return begin + int(np.flatnonzero(_loud_samples(pcm[begin : loud[-1][1] * _WINDOW]))[-1]) + 1


def _loud_samples(pcm: Pcm) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.abs(pcm.astype(np.int32)) >= _AMPLITUDE


def _loud_runs(pcm: Pcm) -> list[tuple[int, int]]:
    """(first, stop) of the runs of windows that are loud for long enough."""
    windows = len(pcm) // _WINDOW
    shaped = pcm[: windows * _WINDOW].astype(np.float64).reshape(windows, _WINDOW)
    loud = (shaped * shaped).mean(axis=1) > _AMPLITUDE**2
    edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= _IN_A_ROW]


def level_dbfs(pcm: Pcm) -> float:
    """RMS of (n,) int16 in dB of full scale, at least -96."""
    if not pcm.size:
        return -96.0
    power = float(np.mean(np.square(pcm.astype(np.float64)))) / 32_768**2
    return max(-96.0, 10 * float(np.log10(max(power, 1e-12))))
