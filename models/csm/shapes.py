"""Sizes of CSM: Sesame's 1B (SesameAILabs/csm, `models.py`, 2025-03-27) and a tiny one for tests."""

from dataclasses import dataclass

CODEBOOKS = 32
AUDIO_VOCABULARY = 2051
"""Entries of each codebook's embedding and head. Only the first `MIMI_BINS` are codes."""
MIMI_BINS = 2048
"""Codes 2048..2050 are legal outputs of the heads and nothing to Mimi: they are never sampled."""
ROW_COLUMNS = CODEBOOKS + 1
"""A row of the backbone: 32 codes, then the text token. A column that is not valid holds -1."""
CONTEXT_ROWS = 2048
"""Rows the backbone was trained on; its RoPE table and a slot's KV cache end there."""

RATE_HZ = 24_000
CODEC_FRAME_SAMPLES = 1920
CODEC_FRAME_S = CODEC_FRAME_SAMPLES / RATE_HZ


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's frequency scaling; the values are those of Llama 3.2."""

    base: float = 500_000.0
    factor: float = 32.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_rows: int = 8192


@dataclass(frozen=True, slots=True)
class TransformerShape:
    layers: int
    dim: int
    ffn: int
    heads: int
    kv_heads: int
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


@dataclass(frozen=True, slots=True)
class CsmShape:
    name: str
    backbone: TransformerShape
    decoder: TransformerShape
    text_vocabulary: int
    rope: RopeScaling = RopeScaling()


CSM_1B = CsmShape(
    "csm-1b",
    backbone=TransformerShape(layers=16, dim=2048, ffn=8192, heads=32, kv_heads=8),
    decoder=TransformerShape(layers=4, dim=1024, ffn=8192, heads=8, kv_heads=2),
    text_vocabulary=128_256,
)
CSM_TINY = CsmShape(
    "csm-tiny",
    backbone=TransformerShape(layers=2, dim=64, ffn=128, heads=4, kv_heads=2),
    decoder=TransformerShape(layers=2, dim=32, ffn=64, heads=2, kv_heads=1),
    text_vocabulary=128_256,
)
"""Everything that CSM-1B has, small enough for a test: grouped heads, two layers each, 32 codebooks, the
whole text vocabulary (so the real tokenizer fits)."""

KNOWN_SHAPES = (CSM_1B, CSM_TINY)
