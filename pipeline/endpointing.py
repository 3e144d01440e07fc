"""Where utterances begin and end, from the probabilities of the voice detector. No clock, no I/O."""

from dataclasses import dataclass

from pipeline.line import LINE_RATE_HZ

ONSET_PROBABILITY = 0.5
OFFSET_PROBABILITY = 0.35
"""Silero's documented hysteresis: speech begins above `threshold` and ends below `threshold - 0.15`."""

ONSET_VOICED_SAMPLES = LINE_RATE_HZ * 64 // 1000
"""Two windows: one alone is often a click."""


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
    """Feed one probability per window, in order; get an event when speech starts or stops.

    Between the two, `voiced_samples` counts the voiced windows of the utterance, and `end_sample` is
    the end of the last of them.
    """

    def __init__(self, pause_s: float) -> None:
        self._pause_samples = round(pause_s * LINE_RATE_HZ)
        self.speaking = False
        self.start_sample = 0
        self.end_sample = 0
        self.voiced_samples = 0

    def push(
        self, probability: float, start_sample: int, end_sample: int
    ) -> SpeechStarted | SpeechStopped | None:
        """The window [start_sample, end_sample) of the caller's audio holds speech with `probability`."""
        if probability >= (OFFSET_PROBABILITY if self.voiced_samples else ONSET_PROBABILITY):
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
