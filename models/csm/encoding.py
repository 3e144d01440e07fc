"""The caller's speech on its way into codes, a piece at a time between ticks."""

from collections.abc import Callable

import numpy as np

from models.csm.rates import codec_samples, to_codec_rate
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES
from models.csm.stepping import Codes, Encoder, Samples

OnCodes = Callable[[Codes | None], None]
"""(k, 32), or None when there will be none."""


class EncodeJob:
    """(n,) float32 at `rate_hz` of one slot; zeros fill the last CodecFrame. Each piece is brought to 24 kHz
    when it is its turn: half a minute at once would take longer than a tick."""

    def __init__(
        self, number: int, slot: int, audio: Samples, rate_hz: int, on_codes: OnCodes, chunk: int
    ) -> None:
        self.number = number
        self.slot = slot
        self.on_codes = on_codes
        self._audio = audio
        self._rate_hz = rate_hz
        self._n = codec_samples(len(audio), rate_hz)
        self._chunk = chunk * CODEC_FRAME_SAMPLES
        self._at = 0
        self._encoder: Encoder | None = None
        self._codes: list[Codes] = []

    @property
    def complete(self) -> bool:
        return self._at >= self._n

    def step(self, open_encoder: Callable[[], Encoder]) -> None:
        """One piece. Blocks."""
        if self.complete:
            return
        if self._encoder is None:
            self._encoder = open_encoder()
        sound = to_codec_rate(self._audio, self._rate_hz, self._at, self._at + self._chunk)
        piece = np.pad(sound, (0, -len(sound) % CODEC_FRAME_SAMPLES))
        self._codes.append(self._encoder.push(piece))
        self._at += self._chunk

    def codes(self) -> Codes:
        """(k, 32) int32 of what was encoded so far."""
        return np.concatenate([np.zeros((0, CODEBOOKS), np.int32), *self._codes]).astype(np.int32, copy=False)
