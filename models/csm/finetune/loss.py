"""The decoder's loss on CodecFrames whose codes are known, differentiable in its 39 tensors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.csm.layers import attend_causal, rms_norm, rotate, swiglu
from models.csm.names import PARTS, part_shapes
from models.csm.rope import rope_table
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CsmShape, TransformerShape
from models.csm.transformer import complex_turns

Parameters = Mapping[str, Tensor]
"""Canonical name -> tensor: all of `trained_names`."""


def trained_names(shape: CsmShape) -> list[str]:
    """What the fine-tune trains: the decoder, the heads of codebooks 1..31 and the projection."""
    return [name for part in PARTS for name in part_shapes(shape, part)]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What the loss reads and nothing changes."""

    shape: CsmShape
    embeddings: Tensor
    """`audio_embeddings.weight`, (32 * 2051, backbone dim)."""
    codebook0_head: Tensor
    """(2051, backbone dim)."""
    turns: Tensor
    """RoPE of the decoder's 32 positions, (32, head_dim // 2) complex64."""

    @classmethod
    def of(cls, shape: CsmShape, embeddings: Tensor, codebook0_head: Tensor) -> "Frozen":
        table = rope_table(shape.decoder.head_dim, CODEBOOKS, shape.rope).to(embeddings.device)
        return cls(shape, embeddings, codebook0_head, complex_turns(table))


def codebook_losses(frozen: Frozen, parameters: Parameters, hidden: Tensor, codes: Tensor) -> Tensor:
    """Cross-entropy of codebooks 1..31, each the mean over the CodecFrames, (31,) float32. `hidden` (b, dim),
    `codes` (b, 32) int64. Position 0 reads the hidden state, position k the true code of codebook k - 1, and
    codebook k is predicted at position k (Sesame's `generate_frame`, teacher-forced)."""
    offsets = torch.arange(CODEBOOKS - 1, device=codes.device) * AUDIO_VOCABULARY
    known = F.embedding(codes[:, :-1] + offsets, frozen.embeddings)
    inputs = torch.cat([hidden[:, None].float(), known.float()], dim=1)
    x = F.linear(inputs, parameters["projection.weight"])
    x = _decoder(frozen.shape.decoder, parameters, x, frozen.turns)
    logits = torch.matmul(x[:, 1:].transpose(0, 1), parameters["audio_head"])
    losses = F.cross_entropy(logits.flatten(0, 1).float(), codes[:, 1:].T.flatten(), reduction="none")
    return losses.view(CODEBOOKS - 1, -1).mean(dim=1)


def codebook0_loss(frozen: Frozen, hidden: Tensor, codes: Tensor) -> Tensor:
    """Cross-entropy of codebook 0, which nothing that is trained leads to. Scalar."""
    logits = F.linear(hidden.float(), frozen.codebook0_head.float())
    return F.cross_entropy(logits, codes[:, 0])


def _decoder(shape: TransformerShape, parameters: Parameters, x: Tensor, turns: Tensor) -> Tensor:
    """(b, 32, dim) -> (b, 32, dim) after the final norm."""
    for layer in range(shape.layers):
        prefix = f"decoder.layers.{layer}"
        x = x + _attention(
            shape, parameters, f"{prefix}.attn", _normed(shape, parameters, f"{prefix}.sa_norm", x), turns
        )
        x = x + _mlp(parameters, f"{prefix}.mlp", _normed(shape, parameters, f"{prefix}.mlp_norm", x))
    return _normed(shape, parameters, "decoder.norm", x)


def _normed(shape: TransformerShape, parameters: Parameters, name: str, x: Tensor) -> Tensor:
    return rms_norm(x, parameters[f"{name}.scale"], shape.norm_eps)


def _attention(
    shape: TransformerShape, parameters: Parameters, name: str, x: Tensor, turns: Tensor
) -> Tensor:
    heads = (*x.shape[:2], -1, shape.head_dim)
    q, k, v = (F.linear(x, parameters[f"{name}.{part}_proj.weight"]).view(heads) for part in "qkv")
    mixed = attend_causal(rotate(q, turns), rotate(k, turns).transpose(1, 2), v.transpose(1, 2))
    return F.linear(mixed, parameters[f"{name}.output_proj.weight"])


def _mlp(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    gate_up = torch.cat([F.linear(x, parameters[f"{name}.{part}.weight"]) for part in ("w1", "w3")], dim=-1)
    return F.linear(swiglu(gate_up), parameters[f"{name}.w2.weight"])
