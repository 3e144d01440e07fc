"""What one call knows of its caller's sound: the samples, when they came, how loud they are, and whether they
are our own voice come back. No I/O; time is an argument.

Positions are samples of the caller's audio (8 kHz).
"""

from collections import deque

from pipeline.audible import audible_end, level_dbfs
from pipeline.caller_audio import CallerAudioBuffer
from pipeline.echo import LONGEST_DELAY_SAMPLES, EchoMeter
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.sample_clock import SampleClock
from pipeline.turn_events import Voice

ECHO_MATTERS_PROBABILITY = 0.35
"""Below it nobody speaks, and no echo need be told from a voice."""
ECHO_SEGMENT_SAMPLES = LINE_RATE_HZ * 250 // 1000
ARRIVALS_KEPT = 1_500
"""30 s of AudioFrames: what a meter is asked about lies at most a turn's last pause back."""
METER_BEFORE, METER_BEHIND = LINE_RATE_HZ * 400 // 1000, LINE_RATE_HZ * 300 // 1000
"""Where a meter looks for the end of the caller's voice, around the place that the detector names."""


class CallerSound:
    """`append` what arrives and `played` what leaves; `voice` makes the detector's word an event."""

    def __init__(self) -> None:
        self._audio = CallerAudioBuffer()
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=ARRIVALS_KEPT)
        self._echo = EchoMeter()
        self._sounded_to = -LONGEST_DELAY_SAMPLES
        self.clock = SampleClock()

    @property
    def end_sample(self) -> int:
        return self._audio.end_sample

    def append(self, pcm: Pcm, now: float) -> None:
        """(n,) int16 arrived at `now`."""
        self._audio.append(pcm)
        self._arrivals.append((self._audio.end_sample, now))
        self.clock.arrived(self._audio.end_sample, now)

    def forget(self, before_sample: int) -> None:
        self._audio.forget(before_sample)

    def slice(self, start_sample: int, end_sample: int) -> Pcm:
        return self._audio.slice(start_sample, end_sample)

    def played(self, pcm: Pcm, start_sample: int) -> None:
        """(n,) int16 of the agent's left for the caller while `start_sample` arrived."""
        self._echo.played(pcm, start_sample)
        self._sounded_to = start_sample + pcm.size

    def voice(self, probability: float, start_sample: int, end_sample: int) -> Voice:
        """The detector's word on a window, with its level, and how much of it is our own voice."""
        level = level_dbfs(self._audio.slice(start_sample, end_sample))
        near = start_sample <= self._sounded_to + LONGEST_DELAY_SAMPLES
        share = 0.0
        if near and probability >= ECHO_MATTERS_PROBABILITY:
            segment = max(0, end_sample - ECHO_SEGMENT_SAMPLES)
            share = self._echo.share(self._audio.slice(segment, end_sample), segment)
        return Voice(probability, start_sample, end_sample, level, share, near)

    def audible_end_at(self, speech_end_sample: int) -> float | None:
        """When the caller's last sound arrived, as a level meter has it; the detector says that the voice
        ended at `speech_end_sample`. None before anything arrived."""
        start = max(0, speech_end_sample - METER_BEFORE)
        end = audible_end(self._audio.slice(start, speech_end_sample + METER_BEHIND))
        return self._arrived_at(speech_end_sample if end is None else start + end)

    def _arrived_at(self, sample: int) -> float | None:
        """A packet's samples arrive one after the other, the last one with it."""
        for end, at in self._arrivals:
            if end >= sample:
                return at - (end - sample) / LINE_RATE_HZ
        return None
