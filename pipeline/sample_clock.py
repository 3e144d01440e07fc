"""Which of the caller's samples arrives at a moment of our own clock. No clock of its own, no I/O.

The caller's phone, or the gateway before it, counts samples by its own quartz. One that runs 100 millionths
faster or slower than ours, as a cheap one may, is off by 0.36 s after an hour, so no single moment of our
clock stands for sample 0 throughout a call. Packets come late, never early: the least delayed one of the last
seconds tells where the caller's clock stands.
"""

from collections import deque

from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.playout import Played

WINDOW_SAMPLES = LINE_RATE_HZ * 5
"""Long enough that one packet in it came without delay; at 100 millionths it lags by half a millisecond."""
SETTLING_SAMPLES = LINE_RATE_HZ
"""At first each earlier packet is believed at once: the first one was as late as any."""
SLEW = 0.002
"""Later the clock only runs faster or slower by so much: no moment comes before one that went before."""
STEP_S = 0.25
"""More than a network's jitter: audio was lost or came in advance, and the clock is set anew."""
TOGETHER_S = 0.001
"""Pieces of one passage stand less apart: rounding to whole samples."""


class SampleClock:
    """`arrived` for every packet; `at` turns moments of our clock into places in the caller's audio.

    The agent's audio that leaves when the caller's sample n arrives has its place at n.
    """

    def __init__(self) -> None:
        self._zero_s: float | None = None
        self._set_at_s = 0.0
        self._recent: deque[tuple[int, float]] = deque()
        """(end sample, moment of sample 0 by that packet), of those that a later one has not outdone."""

    @property
    def running(self) -> bool:
        """Something arrived."""
        return self._zero_s is not None

    def arrived(self, end_sample: int, now: float) -> None:
        """A packet whose last sample is `end_sample - 1` arrived at `now` (monotonic seconds)."""
        zero_s = now - end_sample / LINE_RATE_HZ
        while self._recent and self._recent[-1][1] >= zero_s:
            self._recent.pop()
        self._recent.append((end_sample, zero_s))
        while self._recent[0][0] <= end_sample - WINDOW_SAMPLES:
            self._recent.popleft()
        target_s = self._recent[0][1]
        if self._zero_s is None:
            self._zero_s, self._set_at_s = target_s, now
            return
        off_s = target_s - self._zero_s
        settling = end_sample <= SETTLING_SAMPLES and off_s < 0
        if not settling and abs(off_s) < STEP_S:
            room_s = SLEW * max(0.0, now - self._set_at_s)
            off_s = min(max(off_s, -room_s), room_s)
        self._zero_s += off_s
        self._set_at_s = now

    def at(self, moment_s: float) -> float:
        """The caller's sample, fractions included, that arrives at `moment_s`, a moment of about now. Raises
        `ValueError` before anything arrived."""
        if self._zero_s is None:
            raise ValueError("nothing arrived yet")
        return (moment_s - self._zero_s) * LINE_RATE_HZ


class PlacedAudio:
    """Places what the agent played among the caller's samples, each piece behind the one before it.

    Pieces that follow each other without a pause stay together: the caller's end plays them so, by the very
    clock that the places are counted with, whatever ours says meanwhile. A pause sets the place anew.
    """

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None
        """Where the piece before ended: by our clock, and among the caller's samples."""

    def place(self, piece: Played, nominal_start: int) -> tuple[int, Pcm]:
        """The piece's first sample and its samples; `nominal_start` is where the clock has it. What left
        before the caller's first sample has no place in the record and is cut off."""
        start = nominal_start
        if self._before is not None:
            ended_s, end = self._before
            start = end if abs(piece.at_s - ended_s) < TOGETHER_S else max(start, end)
        self._before = piece.at_s + piece.pcm.size / LINE_RATE_HZ, start + piece.pcm.size
        return max(0, start), piece.pcm[max(0, -start) :]
