"""Sizes of Mimi (Kyutai, arXiv 2410.00037; `moshi/models/loaders.py` 0.2.13) and a tiny one for tests."""

from dataclasses import dataclass

CODEBOOKS = 32
BINS = 2048
CODEC_FRAME_SAMPLES = 1920
RATE_HZ = 24_000
STEPS_PER_CODEC_FRAME = 2
"""The transformers work at 25 Hz, the quantizer at 12.5 Hz."""


@dataclass(frozen=True, slots=True)
class MimiConfig:
    name: str
    dim: int
    """Width of the transformers and of the ends of the convolution stacks."""
    filters: int
    """Channels at 24 kHz; doubled at every stride."""
    layers: int
    heads: int
    ffn: int
    codebook_dim: int
    strides: tuple[int, ...] = (8, 6, 5, 4)
    """Of the decoder's transposed convolutions, in order; the encoder's are the reverse."""
    window: int = 250
    """Steps that a transformer step sees, itself included: 10 s."""
    rope_base: float = 10_000.0

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def widest(self) -> int:
        """Channels at 25 Hz."""
        return self.filters << len(self.strides)


MIMI = MimiConfig("mimi", dim=512, filters=64, layers=8, heads=8, ffn=2048, codebook_dim=256)
MIMI_TINY = MimiConfig("mimi-tiny", dim=32, filters=4, layers=2, heads=2, ffn=64, codebook_dim=16)
"""All that Mimi has, small enough for a test: 32 codebooks of 2048, 1920 samples to a CodecFrame."""

KNOWN_CONFIGS = (MIMI, MIMI_TINY)
