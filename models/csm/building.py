"""CSM's parts made out of a checkpoint's tensors, one tensor at a time."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.csm.linear import Linear, Weights, linear
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, TransformerShape
from models.csm.transformer import Layer, Transformer


class TensorSource(Protocol):
    """A checkpoint's tensors under Sesame's names, of any float dtype. Each is read once and let go."""

    def __getitem__(self, name: str) -> Tensor: ...

    def __contains__(self, name: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Builder:
    """How weights are held."""

    kind: Weights
    dtype: torch.dtype
    device: torch.device

    def table(self, tensor: Tensor) -> Tensor:
        """Rows that are looked up, never multiplied. bfloat16 stays so: widening would add no digit."""
        dtype = self.dtype if self.kind == "full" and tensor.dtype != torch.bfloat16 else torch.bfloat16
        # A copy: a mapped file would be held open, and slow at first use.
        return tensor.to(device=self.device, dtype=dtype, copy=True).contiguous()

    def linear(self, weight: Tensor) -> Linear:
        return linear(weight, self.kind, self.dtype, self.device)

    def scale(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype, copy=True)

    def transformer(self, shape: TransformerShape, tensors: TensorSource, prefix: str) -> Transformer:
        layers = [self._layer(tensors, f"{prefix}.layers.{number}", shape) for number in range(shape.layers)]
        return Transformer(shape, layers, self.scale(tensors[f"{prefix}.norm.scale"]))

    def audio_heads(self, audio_head: Tensor) -> list[Linear]:
        """(31, dim, 2051), inputs first -> a product for each of codebooks 1..31."""
        return [self.linear(head.t()) for head in audio_head]

    def input_table(self, audio_embeddings: Tensor, projection: Tensor) -> Tensor:
        """The decoder's inputs, (31 * 2051, decoder dim): every code of codebooks 0..30, projected before.
        `projection` (decoder dim, backbone dim)."""
        held = torch.float32 if self.kind == "full" and self.dtype == torch.float32 else torch.bfloat16
        wide = projection.to(device=self.device, dtype=torch.float32)
        table = torch.empty(
            (CODEBOOKS - 1) * AUDIO_VOCABULARY, len(projection), dtype=held, device=self.device
        )
        for codebook in range(CODEBOOKS - 1):
            part = slice(codebook * AUDIO_VOCABULARY, (codebook + 1) * AUDIO_VOCABULARY)
            table[part] = (audio_embeddings[part].float() @ wide.t()).to(held)
        return table

    def _layer(self, tensors: TensorSource, prefix: str, shape: TransformerShape) -> Layer:
        def fused(*names: str) -> Linear:
            return self.linear(torch.cat([tensors[f"{prefix}.{name}.weight"] for name in names]))

        return Layer(
            attention_norm=self.scale(tensors[f"{prefix}.sa_norm.scale"]),
            qkv=fused("attn.q_proj", "attn.k_proj", "attn.v_proj"),
            output=fused("attn.output_proj"),
            mlp_norm=self.scale(tensors[f"{prefix}.mlp_norm.scale"]),
            gate_up=fused("mlp.w1", "mlp.w3"),
            down=fused("mlp.w2"),
        )
