"""The caller's speech on its way into codes, a piece at a time between ticks."""

from collections.abc import Callable

import numpy as np

from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES
from models.csm.stepping import Codes, Encoder, Samples

OnCodes = Callable[[Codes | None], None]
"""(k, 32), or None when there will be none."""


class EncodeJob:
    """(n,) float32 at 24 kHz of one slot; zeros fill the last CodecFrame."""

    def __init__(self, number: int, slot: int, audio: Samples, on_codes: OnCodes, chunk: int) -> None:
        n_codec_frames = -(-len(audio) // CODEC_FRAME_SAMPLES)
        self.number = number
        self.slot = slot
        self.on_codes = on_codes
        self._audio = np.zeros(n_codec_frames * CODEC_FRAME_SAMPLES, np.float32)
        self._audio[: len(audio)] = audio
        self._chunk = chunk * CODEC_FRAME_SAMPLES
        self._at = 0
        self._encoder: Encoder | None = None
        self._codes: list[Codes] = []

    @property
    def complete(self) -> bool:
        return self._at >= len(self._audio)

    def step(self, open_encoder: Callable[[], Encoder]) -> None:
        """One piece. Blocks."""
        if self.complete:
            return
        if self._encoder is None:
            self._encoder = open_encoder()
        piece = self._audio[self._at : self._at + self._chunk]
        self._codes.append(self._encoder.push(piece))
        self._at += len(piece)

    def codes(self) -> Codes:
        """(k, 32) int32 of what was encoded so far."""
        return np.concatenate([np.zeros((0, CODEBOOKS), np.int32), *self._codes]).astype(np.int32, copy=False)
