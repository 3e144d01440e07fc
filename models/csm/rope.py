"""Rotary positions with Llama 3's frequency scaling, over interleaved pairs (2i, 2i + 1) as torchtune has
them (`torchtune/models/llama3_1/_position_embeddings.py`, 0.4.0). Checkpoints in the half-split layout of
transformers are permuted when they are loaded."""

import math

import torch
from torch import Tensor

from models.csm.shapes import RopeScaling


def rope_table(head_dim: int, rows: int, scaling: RopeScaling) -> Tensor:
    """(rows, head_dim // 2, 2) float32: cosine and sine of each position and pair."""
    # All in float32, like the tables the model was trained with: at row 2000 an angle that is exact differs
    # from them by 1e-4.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    frequencies = _scaled(1.0 / scaling.base**exponents, scaling)
    angles = torch.outer(torch.arange(rows, dtype=torch.float32, device="cpu"), frequencies)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def _scaled(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Wavelengths the original context held often stay; those it never held are stretched by `factor`;
    between the two, a linear blend."""
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((scaling.original_rows / wavelengths - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies
