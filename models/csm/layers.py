"""What a Llama layer is made of, as differentiable functions of tensors: for speaking and for training."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """(..., dim) of any float dtype -> the same; float32 inside."""
    return F.rms_norm(x, scale.shape, scale.to(x.dtype), eps)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate pairs (2i, 2i + 1) of (n, heads, head_dim) by `turns` (n, head_dim // 2) complex64: a row of
    `rope_table` for each of the n positions."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns.unsqueeze(1)).flatten(-2).to(x.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """(..., 2 * ffn), the gate's half first -> (..., ffn)."""
    ffn = gate_up.shape[-1] // 2
    return F.silu(gate_up[..., :ffn]) * gate_up[..., ffn:]


def attend_last(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Attention of one position per row: q (b, heads, head_dim) over k, v (b, kv_heads, n, head_dim), all n
    keys or those where `seen` (b, n) is true. Returns (b, heads * head_dim)."""
    grouped = q.reshape(len(q), k.shape[1], -1, q.shape[2])  # a group's heads are the queries of its key head
    mask = None if seen is None else seen[:, None, None, :]
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).flatten(1)


def attend_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of the last n positions: q (b, n, heads, head_dim) over k, v (b, kv_heads, m,
    head_dim), m >= n. Returns (b, n, heads * head_dim)."""
    n, m = q.shape[1], k.shape[2]
    mask = None if n == m else torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)
    if mask is not None and q.is_cuda:
        return attend_masked(q, k, v, mask)
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2), k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )
    return mixed.transpose(1, 2).flatten(2)


def attend_masked(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """As `attend_causal`, over the keys where `seen` (n, m) is true. On CUDA the one fused kernel that takes
    a mask wants as many key heads as query heads: a group's heads become more queries of its key head."""
    n, groups = q.shape[1], q.shape[2] // k.shape[1]
    grouped = torch.unflatten(q, 2, (-1, groups)).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mixed = F.scaled_dot_product_attention(grouped, k, v, attn_mask=seen.repeat(groups, 1))
    return torch.unflatten(mixed, 2, (groups, n)).permute(0, 3, 1, 2, 4).flatten(2)
