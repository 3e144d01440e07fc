"""When an utterance is over. CSM often misses its own end: it runs on in silence (huggingface/transformers
issue 39787), repeats one CodecFrame (SesameAILabs/csm issue 122), or never stops. Pure.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.csm.shapes import CODEC_FRAME_S
from models.csm.stepping import Samples
from models.csm.utterance import EndReason, Verdict


@dataclass(frozen=True, slots=True)
class EndLimits:
    """The tuned numbers. Speech has about 15 characters and 12.5 CodecFrames a second, so 0.83 CodecFrames a
    character."""

    earliest: int = 2
    """CodecFrames that every utterance has."""
    end_zeros: int = 8
    """An END has code 0 in codebook 0 and in at least this many of the other 31; Sesame asks for all 31 and
    misses some."""
    most_per_character: float = 1.4
    most_extra: int = 30
    least_per_character: float = 0.5
    """Nobody speaks faster: before, silence is a pause."""
    silence_dbfs: float = -60.0
    silence_s: float = 0.8
    repeats: int = 6
    """The same CodecFrame this many times is a model that is stuck."""

    def most_codec_frames(self, text: str) -> int:
        return math.ceil(self.most_per_character * len(text)) + self.most_extra

    def least_codec_frames(self, text: str) -> int:
        return max(self.earliest, math.floor(self.least_per_character * len(text)))


class EndRules:
    """Of one utterance; `judge` sees its CodecFrames in order."""

    def __init__(self, text: str, limits: EndLimits) -> None:
        self._limits = limits
        self._least = limits.least_codec_frames(text)
        self._quiet = 10 ** (limits.silence_dbfs / 20)
        self._most_silent = math.ceil(limits.silence_s / CODEC_FRAME_S - 1e-9)
        self._silent = 0
        self._same = 1
        self._previous: NDArray[np.int32] | None = None

    def judge(self, index: int, codes: NDArray[np.int32], pcm: Samples) -> Verdict | None:
        """(32,) codes and their (1920,) float32 samples: what ends the utterance here, or None."""
        self._count(codes, pcm)
        if index < self._limits.earliest:
            return None
        if self._is_end(codes):
            return Verdict("end")
        if self._same >= self._limits.repeats:
            return Verdict("repeat", spoken=True)
        if self._silent >= self._most_silent and index >= self._least:
            return Verdict("silence")
        return None

    def _count(self, codes: NDArray[np.int32], pcm: Samples) -> None:
        same = self._previous is not None and np.array_equal(codes, self._previous)
        self._same = self._same + 1 if same else 1
        self._previous = np.array(codes)
        level = math.sqrt(float(np.mean(np.square(pcm, dtype=np.float64))))
        self._silent = self._silent + 1 if level < self._quiet else 0

    def _is_end(self, codes: NDArray[np.int32]) -> bool:
        return bool(codes[0] == 0) and int(np.count_nonzero(codes[1:] == 0)) >= self._limits.end_zeros

    def surplus(self, reason: EndReason) -> int:
        """CodecFrames at the end, of those that were spoken, that later utterances should not take for an
        example: all but the first of the repeated ones, all but 160 ms of the silence."""
        if reason == "repeat":
            return self._same - 1
        if reason == "silence":
            return max(0, self._silent - 1 - 2)
        return 0
