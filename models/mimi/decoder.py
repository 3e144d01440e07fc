"""Mimi's decoder: codes to latents, twice as many steps, transformer, transposed convolutions to 24 kHz."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.mimi.config import CODEC_FRAME_SAMPLES, MimiConfig
from models.mimi.convolution import (
    ChannelwiseUpsampling,
    Convolution,
    Layer,
    Residual,
    Stack,
    Transposed,
)
from models.mimi.quantizer import Codebooks, Dequantizer
from models.mimi.source import Source
from models.mimi.transformer import Ring, Transformer

_CHUNK_STEPS = 32
"""Steps of 40 ms that the convolutions take at once when a whole is decoded."""
_BATCHED_STRIDES = 2
"""Up to here weights outweigh activations: 57 MB against 0.3 MB a slot; after it 1.7 MB against 1.5."""


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Each tensor's slot is its own."""

    upsampling: list[Tensor]
    ring: Ring
    coarse: list[Tensor]
    fine: list[Tensor]

    def forget(self, slot: int) -> None:
        for tensor in (*self.upsampling, *self.coarse, *self.fine):
            tensor[slot].zero_()
        self.ring.forget(slot)


class Decoder:
    """Weights and the pass through them. Holds no state."""

    def __init__(self, source: Source, config: MimiConfig, codebooks: Codebooks) -> None:
        self._dequantizer = Dequantizer(source, codebooks)
        self._upsampling = ChannelwiseUpsampling(source["upsample.convtr.convtr.convtr.weight"])
        self._transformer = Transformer("decoder_transformer", source, config)
        coarse, fine = _layers(source, config)
        self._coarse, self._fine = Stack(coarse), Stack(fine)

    def state(self, slots: int) -> DecoderState:
        return DecoderState(
            self._upsampling.fresh(slots),
            self._transformer.ring(slots),
            self._coarse.fresh(slots),
            self._fine.fresh(slots),
        )

    @torch.no_grad()
    def step(self, codes: Tensor, slots: Tensor, state: DecoderState) -> Tensor:
        """(b, 32) -> (b, 1920)."""
        x = self._dequantizer(codes[:, None])
        x, past = self._upsampling(x, taken(state.upsampling, slots))
        put(state.upsampling, slots, past)
        x = self._transformer.stream(x, state.ring, slots)
        x, past = self._coarse(x, taken(state.coarse, slots))
        put(state.coarse, slots, past)
        x, past = self._run_fine(x, taken(state.fine, slots))
        put(state.fine, slots, past)
        return x[:, :, 0]

    @torch.no_grad()
    def whole(self, codes: Tensor) -> Tensor:
        """(b, n, 32) -> (b, n * 1920)."""
        batch, n = codes.shape[:2]
        if n == 0:
            return torch.zeros(batch, 0, device=codes.device)
        x, _ = self._upsampling(self._dequantizer(codes), self._upsampling.fresh(batch))
        x = self._transformer.whole(x)
        coarse, fine = self._coarse.fresh(batch), self._fine.fresh(batch)
        parts = []
        for chunk in torch.split(x, _CHUNK_STEPS, 1):
            y, coarse = self._coarse(chunk, coarse)
            y, fine = self._run_fine(y, fine)
            parts.append(y[:, :, 0])
        return torch.cat(parts, 1).reshape(batch, n * CODEC_FRAME_SAMPLES)

    def _run_fine(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._fine.alone(x, past) if x.device.type == "cpu" else self._fine(x, past)


def taken(tensors: list[Tensor], slots: Tensor) -> list[Tensor]:
    return [tensor.index_select(0, slots) for tensor in tensors]


def put(tensors: list[Tensor], slots: Tensor, new: list[Tensor]) -> None:
    for tensor, value in zip(tensors, new, strict=True):
        tensor.index_copy_(0, slots, value)


def _layers(source: Source, config: MimiConfig) -> tuple[list[Layer], list[Layer]]:
    """moshi's `SEANetDecoder`, whose indices count the activations too: its coarse part and its fine."""
    layers: list[Layer] = [convolution("decoder.model.0", source, activated=False)]
    split = 1 + 2 * _BATCHED_STRIDES
    index = 2
    for _ in config.strides:
        at = f"decoder.model.{index}.convtr.convtr"
        layers += [Transposed(source[f"{at}.weight"], source[f"{at}.bias"])]
        layers += [residual(f"decoder.model.{index + 1}", source)]
        index += 3
    layers += [convolution(f"decoder.model.{index}", source, activated=True)]
    return layers[:split], layers[split:]


def convolution(prefix: str, source: Source, *, stride: int = 1, activated: bool) -> Convolution:
    at = f"{prefix}.conv.conv"
    return Convolution(source[f"{at}.weight"], source[f"{at}.bias"], stride=stride, activated=activated)


def residual(prefix: str, source: Source) -> Residual:
    narrow, wide = (convolution(f"{prefix}.block.{i}", source, activated=True) for i in (1, 3))
    return Residual(narrow, wide)
