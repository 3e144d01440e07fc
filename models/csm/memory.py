"""How much memory the voice takes, reckoned from its shape. Nothing is loaded and torch is not needed.

`tests/models/csm/test_memory.py` holds the reckoning against tensors that were really made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.base import ModelError
from models.csm.scheduler import bucket
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CONTEXT_ROWS, CSM_1B, CsmShape, TransformerShape

WeightsKind = Literal["full", "w8a8", "int8"]

_BF16, _FP32 = 2, 4
_PER_OUTPUT = {"full": 0, "w8a8": 12, "int8": 2}
"""Bytes beside the 8-bit weights: scale, zero point and column sum (FBGEMM), or one scale."""
MIMI_BYTES = {"own": 375 << 20, "moshi": 3 * 385_000_000}
"""Decoder and encoder. moshi keeps a stream's state among its weights, so it loads them three times."""
MIMI_SLOT_BYTES = 9 << 20
"""The decoder's KV ring of 250 steps in 8 layers (8.2 MB), and what its convolutions look back on."""
_TORCH_BYTES = 550 << 20
"""torch, the tokenizer, Python. For CSM-1B in w8a8 with 8 slots the sum is 3.68 GB; 3.66 GB were measured."""
_CUDA_BYTES = 1_000 << 20
"""A CUDA context, the libraries' work space, and one pool for the graphs of all batch sizes."""
_LOADING_BYTES = 600 << 20
"""One tensor at a time, as it is read and as it is kept: the text embeddings are the largest."""


class OutOfMemory(ModelError):
    """The voice does not fit. The message says how much is needed and what to change."""


@dataclass(frozen=True, slots=True)
class MemoryPart:
    what: str
    size_bytes: int


def voice_memory(
    shape: CsmShape = CSM_1B,
    *,
    device: Literal["cpu", "cuda"],
    weights: WeightsKind,
    slots: int,
    rows: int = CONTEXT_ROWS,
    codec: Literal["own", "moshi"] = "own",
) -> tuple[MemoryPart, ...]:
    """The parts of one replica of the voice, once it is loaded."""
    width = _FP32 if device == "cpu" else _BF16
    on_cuda = device == "cuda"
    if on_cuda:
        slots = bucket(slots)  # A captured batch has a place for each of its slots.
    streams = 2 * slots if on_cuda else slots
    return (
        MemoryPart("weights", weight_bytes(shape, weights, width)),
        MemoryPart("embeddings", embedding_bytes(shape, weights, width)),
        MemoryPart(f"KV cache of {slots} slots", slots * slot_bytes(shape, weights, width, rows)),
        MemoryPart("Mimi", MIMI_BYTES[codec] + streams * MIMI_SLOT_BYTES),
        MemoryPart("CUDA and its graphs" if on_cuda else "libraries", _library_bytes(device)),
    )


def total_bytes(parts: Sequence[MemoryPart]) -> int:
    return sum(part.size_bytes for part in parts)


def weight_bytes(shape: CsmShape, weights: WeightsKind, width: int) -> int:
    """Both transformers, the 32 heads and the projection. `width`: bytes of a number not quantised."""
    heads = [(AUDIO_VOCABULARY, shape.backbone.dim)]
    heads += [(AUDIO_VOCABULARY, shape.decoder.dim)] * (CODEBOOKS - 1)
    products = [*_products(shape.backbone), *_products(shape.decoder), *heads]
    held = width if weights == "full" else 1
    norms = sum((2 * part.layers + 1) * part.dim * _FP32 for part in (shape.backbone, shape.decoder))
    projection = shape.decoder.dim * shape.backbone.dim * width
    linear = sum(n_out * n_in * held + n_out * _PER_OUTPUT[weights] for n_out, n_in in products)
    return linear + norms + projection


def embedding_bytes(shape: CsmShape, weights: WeightsKind, width: int) -> int:
    """Text and audio tables in bfloat16, as checkpoints hold them, and the decoder's projected inputs."""
    tables = (shape.text_vocabulary + CODEBOOKS * AUDIO_VOCABULARY) * shape.backbone.dim * _BF16
    inputs = (CODEBOOKS - 1) * AUDIO_VOCABULARY * shape.decoder.dim * (width if weights == "full" else _BF16)
    return tables + inputs


def slot_bytes(shape: CsmShape, weights: WeightsKind, width: int, rows: int = CONTEXT_ROWS) -> int:
    """Keys and values of one call in the backbone; in bfloat16 beside 8-bit weights."""
    backbone = shape.backbone
    width = width if weights == "full" else _BF16
    return 2 * backbone.layers * backbone.kv_heads * backbone.head_dim * rows * width


def check_room(parts: Sequence[MemoryPart], free_bytes: int | None, device: str) -> None:
    """Raise `OutOfMemory` unless the parts, and what loading takes for a while, fit `free_bytes` (None: who
    knows). Call it before anything is loaded."""
    needed = total_bytes(parts) + _LOADING_BYTES
    if free_bytes is not None and free_bytes < needed:
        raise OutOfMemory(out_of_memory(parts, device, free_bytes))


def out_of_memory(parts: Sequence[MemoryPart], device: str, free_bytes: int | None) -> str:
    """The message, before loading or after it failed."""
    free = "" if free_bytes is None else f", and {gigabytes(free_bytes)} are free"
    needed, loading = gigabytes(total_bytes(parts) + _LOADING_BYTES), gigabytes(_LOADING_BYTES)
    on_gpu = device.startswith("cuda")
    smaller = "int8" if on_gpu else "w8a8"
    elsewhere = ", another device (--devices tts=cuda:1)" if on_gpu else ""
    return (
        f"The voice needs {needed} on {device} ({describe(parts)}, {loading} while it loads){free}. Choose "
        f"fewer calls (--tts-slots), smaller weights (--voice-weights {smaller}){elsewhere}, or free some "
        "memory."
    )


def describe(parts: Sequence[MemoryPart]) -> str:
    return ", ".join(f"{part.what} {gigabytes(part.size_bytes)}" for part in parts)


def gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.0f} MB"


def _products(shape: TransformerShape) -> list[tuple[int, int]]:
    """(out, in) of every matrix, fused as the model holds them."""
    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layer = [(qkv, shape.dim), (shape.dim, shape.dim), (2 * shape.ffn, shape.dim), (shape.dim, shape.ffn)]
    return layer * shape.layers


def _library_bytes(device: str) -> int:
    return _CUDA_BYTES if device == "cuda" else _TORCH_BYTES
