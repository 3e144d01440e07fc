"""Where sound begins and ends, by level alone: what a meter on the line would say. No voice detection.

Voiced, here, means: an RMS over 10 ms above -40 dBFS (0 dBFS: RMS 32,768) for at least 30 ms; the first and
last voiced sample are the first and last of those whose magnitude reaches that level.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.line import LINE_RATE_HZ, Pcm

VOICED_DBFS = -40.0
VOICED_AMPLITUDE = 32_768 * 10 ** (VOICED_DBFS / 20)
WINDOW_SAMPLES = LINE_RATE_HZ // 100
VOICED_WINDOWS = 3

_EDGE_TOLERANCE = WINDOW_SAMPLES // 10


@dataclass(frozen=True, slots=True)
class Run:
    """Samples [start, stop), voiced at both ends."""

    start: int
    stop: int


def voiced_runs(pcm: Pcm) -> list[Run]:
    """The voiced runs of (n,) int16 at 8 kHz, in order. Blocks for about 1 ms per minute of audio."""
    windows = len(pcm) // WINDOW_SAMPLES
    shaped = pcm[: windows * WINDOW_SAMPLES].astype(np.float64).reshape(windows, WINDOW_SAMPLES)
    loud = (shaped * shaped).mean(axis=1) > VOICED_AMPLITUDE**2
    edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(np.int8)))
    runs = []
    for first, stop in edges.reshape(-1, 2):
        if stop - first < VOICED_WINDOWS:
            continue
        begin = int(first) * WINDOW_SAMPLES
        heard = np.flatnonzero(
            np.abs(pcm[begin : int(stop) * WINDOW_SAMPLES].astype(np.int32)) >= VOICED_AMPLITUDE
        )
        run = Run(begin + int(heard[0]), begin + int(heard[-1]) + 1)
        # A click of 12 ms can touch three windows; a tone of 30 ms may start and end at a zero crossing.
        if run.stop - run.start >= VOICED_WINDOWS * WINDOW_SAMPLES - _EDGE_TOLERANCE:
            runs.append(run)
    return runs


def first_audible(pcm: Pcm) -> int | None:
    """The first voiced sample of (n,) int16 at 8 kHz; None where there is none."""
    runs = voiced_runs(pcm)
    return runs[0].start if runs else None


def audible_end(pcm: Pcm) -> int | None:
    """The sample behind the last voiced one; None where there is none, and where the sound goes on to the
    very end of `pcm`: noise, most likely."""
    runs = voiced_runs(pcm)
    if not runs or runs[-1].stop > len(pcm) // WINDOW_SAMPLES * WINDOW_SAMPLES - WINDOW_SAMPLES:
        return None
    return runs[-1].stop


def level_dbfs(pcm: Pcm) -> float:
    """RMS of (n,) int16 in dB of full scale, at least -96."""
    if not pcm.size:
        return -96.0
    samples = pcm.astype(np.float64)
    power = float(np.dot(samples, samples)) / (pcm.size * 32_768**2)
    return max(-96.0, 10 * math.log10(max(power, 1e-12)))
