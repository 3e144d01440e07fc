"""Llama layers over rows of whatever batch; how keys and values are kept is the caller's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.csm.layers import rms_norm, rotate, swiglu
from models.csm.linear import Linear
from models.csm.shapes import TransformerShape

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (n, heads, head_dim), k and v (n, kv_heads, head_dim)) -> (n, heads * head_dim). It writes k
and v wherever they belong, and attends."""


@dataclass(slots=True)
class Layer:
    attention_norm: Tensor
    qkv: Linear
    """Queries, keys and values in one product: (heads + 2 * kv_heads) * head_dim outputs."""
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    """Gate and up in one product: 2 * ffn outputs."""
    down: Linear


class Transformer:
    def __init__(self, shape: TransformerShape, layers: list[Layer], norm: Tensor) -> None:
        self.shape = shape
        self.layers = layers
        self.norm = norm

    def __call__(self, x: Tensor, turns: Tensor, attend: Attend) -> Tensor:
        """(n, dim) -> (n, dim) after the final norm. `turns` (n, head_dim // 2) complex64: rows of the RoPE
        table for each row's position."""
        shape = self.shape
        turning = shape.heads + shape.kv_heads
        for number, layer in enumerate(self.layers):
            heads = layer.qkv(rms_norm(x, layer.attention_norm, shape.norm_eps))
            heads = heads.view(len(x), -1, shape.head_dim)
            turned = rotate(heads[:, :turning], turns)
            q, k, v = turned[:, : shape.heads], turned[:, shape.heads :], heads[:, turning:]
            x = x + layer.output(attend(number, q, k, v))
            x = x + layer.down(swiglu(layer.gate_up(rms_norm(x, layer.mlp_norm, shape.norm_eps))))
        return rms_norm(x, self.norm, shape.norm_eps)


def complex_turns(table: Tensor) -> Tensor:
    """A RoPE table (rows, head_dim // 2, 2) as (rows, head_dim // 2) complex64."""
    return torch.view_as_complex(table.contiguous())
