"""Whether a line has become louder than it is by itself while the agent speaks: a first, weak sign of a
voice. No clock, no I/O.

The voice detector is sure of a soft beginning only after 0.1-0.3 s ("stop" begins with a hiss, "excuse" with
breath). Turning a voice down costs little and is taken back without a trace, so it need not wait for that:
two windows over everything that the line's own noise and the echo have brought lately are enough, if the
detector does not rule a voice out. In 640 s of the agent's voice with echoes of -25 to -40 dB and the tuning
part's noises that happened once for nothing.
"""

from collections import deque

from pipeline.line import LINE_RATE_HZ

RULED_OUT_PROBABILITY = 0.05
"""Coughs and clicks stay under it in most of their windows, beginnings of words in few."""
OVER_DB = 6.0
SOFTEST_DBFS = -42.0
ECHO_UNKNOWN_DBFS = -38.0
"""Until `MEMORY_WINDOWS` were heard: `OVER_DB` above it lies an echo of -20 dB of the loudest vowels."""
MEMORY_WINDOWS = 45
"""1.4 s of the line under the agent's voice, so that it holds loud syllables."""
LAG_WINDOWS = 4
"""What was heard last may be the beginning of a voice, and raises nothing yet."""
NEEDED_WINDOWS = 2
SUBSIDES_WINDOWS = 3
LONGEST_SAMPLES = LINE_RATE_HZ * 320 // 1000
"""A detector that has found no voice by then will not: the line has become louder by itself."""


class OnsetWatch:
    """`hear` every window while the agent speaks and no voice is found yet, `found` when it is."""

    def __init__(self) -> None:
        self._lately: deque[float] = deque(maxlen=MEMORY_WINDOWS)
        self._new: list[float] = []
        """The last windows, not yet among those that a voice must exceed."""
        self._over = 0
        self._under = 0
        self._since: int | None = None
        self._noticed = False

    @property
    def start_sample(self) -> int | None:
        """Where what stands out began; None while nothing does."""
        return self._since if self._noticed else None

    def hear(self, probability: float, level_dbfs: float, start_sample: int, end_sample: int) -> None:
        """The window [start_sample, end_sample), in which the detector finds a voice with `probability`."""
        self._new.append(level_dbfs)
        if level_dbfs >= self._ceiling_dbfs():
            self._since = start_sample if self._since is None else self._since
            self._over, self._under = self._over + 1, 0
        elif self._since is not None:
            self._under += 1
            if not self._noticed or self._under >= SUBSIDES_WINDOWS:
                self._forget()
        if self._since is not None:
            fresh = end_sample - self._since <= LONGEST_SAMPLES
            may_be_voice = self._over >= NEEDED_WINDOWS and probability >= RULED_OUT_PROBABILITY
            self._noticed = fresh and (self._noticed or may_be_voice)
        if not self._noticed:
            self._settle()

    def found(self) -> None:
        """A voice: its windows are not the line's own."""
        self._new.clear()
        self._forget()

    def reset(self) -> None:
        """The agent fell silent, or begins to speak; what the line brings under its voice stays known."""
        self.found()

    def _forget(self) -> None:
        self._over = self._under = 0
        self._since, self._noticed = None, False

    def _settle(self) -> None:
        while len(self._new) > LAG_WINDOWS:
            self._lately.append(self._new.pop(0))

    def _ceiling_dbfs(self) -> float:
        """What a window must reach. One loud window of a click is not the line's level."""
        if len(self._lately) < MEMORY_WINDOWS:
            known = max([ECHO_UNKNOWN_DBFS, *self._lately])
        else:
            known = sorted(self._lately)[-2]
        return max(known + OVER_DB, SOFTEST_DBFS)
