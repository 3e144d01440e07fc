"""Where utterances begin and end, from the probabilities of the voice detector. No clock, no I/O.

The detector goes on believing in a voice for about 0.1 s after its end. The level tells earlier: what is
`QUIET_DB` below the loudest of late is silence, whatever the detector believes. Over 170 synthetic
telephone turns that brings the news of a pause 216 -> 114 ms (median) after its beginning, for one more pause
in three utterances that is none. In noise the level never falls so far, and the detector alone decides.
"""

import math
from dataclasses import dataclass

from pipeline.line import LINE_RATE_HZ

ONSET_PROBABILITY = 0.5
OFFSET_PROBABILITY = 0.35
"""Silero's documented hysteresis: speech begins above `threshold` and ends below `threshold - 0.15`."""

ONSET_VOICED_SAMPLES = LINE_RATE_HZ * 64 // 1000
"""Two windows: one alone is often a click."""


QUIET_DB = 25.0
PEAK_FALLS_DB = 0.05
"""Per window: a loud first word does not make the rest of a long utterance silence."""
HANGOVER_SAMPLES = LINE_RATE_HZ * 300 // 1000
"""So long after an utterance the detector's belief alone does not begin another."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """`start_sample` is where the first voiced window began, a few windows before this was known."""

    start_sample: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """`end_sample` is the end of the last voiced window; `pause_s` of silence have passed since."""

    start_sample: int
    end_sample: int
    voiced_samples: int
    """Of the windows between the two that held voice."""


class UtteranceDetector:
    """Feed one window's probability and level, in order; get an event when speech starts or stops.

    Between the two, `voiced_samples` counts the voiced windows of the utterance, and `end_sample` is
    the end of the last of them.
    """

    def __init__(self, pause_s: float) -> None:
        self._pause_samples = round(pause_s * LINE_RATE_HZ)
        self.speaking = False
        self.start_sample = 0
        self.end_sample = 0
        self.voiced_samples = 0
        self._peak_dbfs = -math.inf

    def push(
        self, probability: float, start_sample: int, end_sample: int, level_dbfs: float = 0.0
    ) -> SpeechStarted | SpeechStopped | None:
        """The window [start_sample, end_sample) of the caller's audio holds speech with `probability`. Its
        level (RMS) matters only where the probability is above `OFFSET_PROBABILITY`."""
        if self._voiced(probability, start_sample, level_dbfs):
            if not self.voiced_samples:
                self.start_sample = start_sample
            self.voiced_samples += end_sample - start_sample
            self.end_sample = end_sample
            if not self.speaking and self.voiced_samples >= ONSET_VOICED_SAMPLES:
                self.speaking = True
                return SpeechStarted(self.start_sample)
            return None
        if not self.speaking:
            self.voiced_samples = 0
            return None
        if end_sample - self.end_sample < self._pause_samples:
            return None
        self.speaking = False
        stopped = SpeechStopped(self.start_sample, self.end_sample, self.voiced_samples)
        self.voiced_samples = 0
        return stopped

    def _voiced(self, probability: float, start_sample: int, level_dbfs: float) -> bool:
        if probability < (OFFSET_PROBABILITY if self.voiced_samples else ONSET_PROBABILITY):
            return False
        just_now = self.speaking or start_sample - self.end_sample < HANGOVER_SAMPLES
        if just_now and level_dbfs < self._peak_dbfs - QUIET_DB:
            return False
        falling = self._peak_dbfs - PEAK_FALLS_DB if just_now else -math.inf
        self._peak_dbfs = max(falling, level_dbfs)
        return True
