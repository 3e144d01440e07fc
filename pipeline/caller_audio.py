"""The caller's audio that may still be needed, addressed by its place in the call."""

import numpy as np

from pipeline.line import Pcm


class CallerAudioBuffer:
    """Append what arrives; `slice` what a turn needs; `forget` the rest. Positions are samples at 8 kHz."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._start = 0

    @property
    def end_sample(self) -> int:
        return self._start + len(self._bytes) // 2

    def append(self, pcm: Pcm) -> None:
        self._bytes += pcm.tobytes()

    def slice(self, start_sample: int, end_sample: int) -> Pcm:
        """A copy of [start_sample, end_sample), cut to what is still held."""
        start = max(0, start_sample - self._start) * 2
        end = max(0, end_sample - self._start) * 2
        return np.frombuffer(bytes(self._bytes[start:end]), dtype=np.int16)

    def forget(self, before_sample: int) -> None:
        surplus = min(before_sample, self.end_sample) - self._start
        # Trimming moves the rest; once a second is enough.
        if surplus >= 8_000:
            del self._bytes[: surplus * 2]
            self._start += surplus
