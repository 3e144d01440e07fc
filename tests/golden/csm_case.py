"""The case that CSM is compared on: tiny random weights, a conversation of 550 rows, and what is kept of the
answers. Numbers come from Philox's plain bits, so that every environment draws the same."""

import numpy as np
from numpy.typing import NDArray

from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, MIMI_BINS, ROW_COLUMNS

SEED = 3
BEGIN, END = 128_000, 128_001
"""Of a text, in Llama 3.2's vocabulary."""
SEGMENTS = ((14, 230), (9, 160), (21, 90))
"""(text tokens, CodecFrames) of what was said before; an all-zero row ends each one's sound."""
LAST_TEXT = 22
GREEDY_CODEC_FRAMES = 12

ROPE_POSITIONS = (0, 1, 2, 3, 5, 8, 16, 31, 32, 63, 200, 511, 1024, 1500, 2000, 2047)
HEAD_DIMS = (16, 64, 128)
"""Tiny, CSM-1B's backbone, its decoder."""
HIDDEN_ROWS = (0, 1, 2, 13, 14, 15, 16, 100, 244, 245, 246, 300, 414, 415, 416, 500, 547, 548)
"""First rows, the seams of the segments, and the last."""
FORCED_ROWS = (0, 14, 246, 548)
"""Whose hidden states go into the decoder with codes that are given."""
ENTRIES = 40
"""Logits kept of each head's 2051."""


def _uniform(n: int, stream: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.Philox(key=1000 * SEED + stream)).random(n)


def codes(n: int, stream: int) -> NDArray[np.int64]:
    """(n, 32) in [0, 2048)."""
    return (_uniform(n * CODEBOOKS, stream) * MIMI_BINS).astype(np.int64).reshape(n, CODEBOOKS)


def text(n: int, stream: int) -> list[int]:
    """n tokens, between exactly one begin and one end."""
    return [BEGIN, *(_uniform(n - 2, stream) * BEGIN).astype(int).tolist(), END]


def segments() -> list[tuple[list[int], NDArray[np.int64]]]:
    """What was said before: tokens, and codes (n, 32)."""
    return [
        (text(n_tokens, 2 * i), codes(n_codec_frames, 2 * i + 1))
        for i, (n_tokens, n_codec_frames) in enumerate(SEGMENTS)
    ]


def last_text() -> list[int]:
    return text(LAST_TEXT, 100)


def rows() -> NDArray[np.int32]:
    """(n, 33): the whole, -1 where a column is not valid."""
    parts = []
    for tokens, spoken in segments():
        parts += [_text_rows(tokens), _audio_rows(spoken), _audio_rows(np.zeros((1, CODEBOOKS), np.int64))]
    return np.concatenate([*parts, _text_rows(last_text())]).astype(np.int32)


def _text_rows(tokens: list[int]) -> NDArray[np.int64]:
    part = np.full((len(tokens), ROW_COLUMNS), -1)
    part[:, CODEBOOKS] = tokens
    return part


def _audio_rows(spoken: NDArray[np.int64]) -> NDArray[np.int64]:
    part = np.full((len(spoken), ROW_COLUMNS), -1)
    part[:, :CODEBOOKS] = spoken
    return part


def forced_codes() -> NDArray[np.int64]:
    return codes(len(FORCED_ROWS), 200)


def kept_entries() -> NDArray[np.int64]:
    """(32, ENTRIES): which logits of each head are kept; the first and the last are among them."""
    drawn = (_uniform(CODEBOOKS * ENTRIES, 300) * AUDIO_VOCABULARY).astype(np.int64).reshape(CODEBOOKS, -1)
    drawn[:, 0], drawn[:, 1] = 0, AUDIO_VOCABULARY - 1
    return drawn
