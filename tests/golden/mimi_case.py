"""The case that Mimi is compared on: random weights, 140 CodecFrames (the transformers' window is 125 of
them long), and what is kept of the answers. Numbers come from Philox's plain bits, so that every environment
draws the same."""

import numpy as np
from numpy.typing import NDArray

from models.mimi.config import BINS, CODEBOOKS, CODEC_FRAME_SAMPLES

SEED = 7
CODEC_FRAMES = 140
FULL_CODEC_FRAMES = 4
"""Of Mimi at its own size."""
ENTIRE = (0, 139)
"""CodecFrames kept sample by sample; of the others `SAMPLES` each."""
SAMPLES = 12


def _uniform(n: int, stream: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.Philox(key=1000 * SEED + stream)).random(n)


def codes() -> NDArray[np.int64]:
    """(140, 32) in [0, 2048)."""
    n = CODEC_FRAMES * CODEBOOKS
    return (_uniform(n, 1) * BINS).astype(np.int64).reshape(CODEC_FRAMES, CODEBOOKS)


def audio() -> NDArray[np.float32]:
    """(140 * 1920,): a gliding tone that comes and goes, under noise."""
    n = CODEC_FRAMES * CODEC_FRAME_SAMPLES
    time = np.arange(n) / 24_000
    tone = np.sin(2 * np.pi * (180 * time + 40 * np.sin(3 * time))) * (1 + np.sin(17 * time)) / 4
    return (tone + 0.2 * (_uniform(n, 2) - 0.5)).astype(np.float32)


def kept() -> NDArray[np.int64]:
    """(140, 12) positions within each CodecFrame."""
    n = CODEC_FRAMES * SAMPLES
    return (_uniform(n, 3) * CODEC_FRAME_SAMPLES).astype(np.int64).reshape(CODEC_FRAMES, SAMPLES)
