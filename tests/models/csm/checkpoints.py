"""Small CSM state dicts, in the namings that files come in. Values tell names apart."""

import hashlib

import torch
from torch import Tensor

from models.csm.names import tensor_shapes
from models.csm.shapes import CsmShape, TransformerShape

MICRO = CsmShape(
    "csm-micro",
    backbone=TransformerShape(layers=2, dim=16, ffn=24, heads=4, kv_heads=2),
    decoder=TransformerShape(layers=1, dim=8, ffn=12, heads=2, kv_heads=1),
    text_vocabulary=40,
)


def state(shape: CsmShape = MICRO, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Canonical; each tensor drawn from its own name."""
    return {name: _draw(name, size).to(dtype) for name, size in tensor_shapes(shape).items()}


def _draw(name: str, size: tuple[int, ...]) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little")
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def halves_from_pairs(weight: Tensor, heads: int) -> Tensor:
    """What transformers' `convert_csm.py` does to q and k."""
    return (
        weight.view(heads, weight.shape[0] // heads // 2, 2, -1)
        .transpose(1, 2)
        .reshape(weight.shape)
        .contiguous()
    )


_LAYER = (
    ("attn.output_proj", "self_attn.o_proj"),
    ("attn.", "self_attn."),
    ("mlp.w1", "mlp.gate_proj"),
    ("mlp.w2", "mlp.down_proj"),
    ("mlp.w3", "mlp.up_proj"),
    ("sa_norm.scale", "input_layernorm.weight"),
    ("mlp_norm.scale", "post_attention_layernorm.weight"),
    ("norm.scale", "norm.weight"),
)
_TRANSFORMERS = (
    ("backbone.", "backbone_model."),
    ("decoder.", "depth_decoder.model."),
    ("text_embeddings.", "embed_text_tokens."),
    ("audio_embeddings.", "backbone_model.embed_tokens.embed_audio_tokens."),
    ("codebook0_head.", "lm_head."),
    ("audio_head", "depth_decoder.codebooks_head.weight"),
    ("projection.", "depth_decoder.model.inputs_embeds_projector."),
)


def as_csm_hf(tensors: dict[str, Tensor], shape: CsmShape = MICRO) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        stack = shape.backbone if name.startswith("backbone") else shape.decoder
        if "q_proj" in name:
            tensor = halves_from_pairs(tensor, stack.heads)
        elif "k_proj" in name:
            tensor = halves_from_pairs(tensor, stack.kv_heads)
        for ours, theirs in _LAYER:
            if ours in name:
                name = name.replace(ours, theirs)
                break
        renamed[name] = tensor
    return renamed


def as_transformers(tensors: dict[str, Tensor], shape: CsmShape = MICRO) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in as_csm_hf(tensors, shape).items():
        for ours, theirs in _TRANSFORMERS:
            if name.startswith(ours):
                name = theirs + name[len(ours) :]
                break
        renamed[name] = tensor
    return renamed
