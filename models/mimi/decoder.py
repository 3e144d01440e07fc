"""Mimi's decoder: codes to latents, twice as many steps, transformer, transposed convolutions to 24 kHz."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.mimi.config import CODEC_FRAME_SAMPLES, MimiConfig
from models.mimi.convolution import (
    ChannelwiseUpsampling,
    Convolution,
    Elu,
    Layer,
    Residual,
    Stack,
    Transposed,
)
from models.mimi.quantizer import Codebooks, Dequantizer
from models.mimi.source import Source
from models.mimi.transformer import Ring, Transformer

_CHUNK_STEPS = 250
"""Steps of 40 ms that the convolutions take at once when a whole is decoded: 10 s, about 100 MB."""


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Each tensor's slot is its own."""

    upsampling: list[Tensor]
    ring: Ring
    convolutions: list[Tensor]


class Decoder:
    """Weights and the pass through them. Holds no state."""

    def __init__(self, source: Source, config: MimiConfig, codebooks: Codebooks) -> None:
        self._dequantizer = Dequantizer(source, codebooks)
        self._upsampling = ChannelwiseUpsampling(source["upsample.convtr.convtr.convtr.weight"])
        self._transformer = Transformer("decoder_transformer", source, config)
        self._convolutions = Stack(_layers(source, config))

    def state(self, slots: int) -> DecoderState:
        return DecoderState(
            self._upsampling.fresh(slots), self._transformer.ring(slots), self._convolutions.fresh(slots)
        )

    @torch.no_grad()
    def step(self, codes: Tensor, slots: Tensor, state: DecoderState) -> Tensor:
        """(b, 32) -> (b, 1920)."""
        x = self._dequantizer(codes[:, None])
        x, past = self._upsampling(x, taken(state.upsampling, slots))
        put(state.upsampling, slots, past)
        x = self._transformer.stream(x, state.ring, slots)
        x, past = self._convolutions(x, taken(state.convolutions, slots))
        put(state.convolutions, slots, past)
        return x[:, :, 0]

    @torch.no_grad()
    def whole(self, codes: Tensor) -> Tensor:
        """(b, n, 32) -> (b, n * 1920)."""
        batch, n = codes.shape[:2]
        if n == 0:
            return torch.zeros(batch, 0, device=codes.device)
        x, _ = self._upsampling(self._dequantizer(codes), self._upsampling.fresh(batch))
        x = self._transformer.whole(x)
        past = self._convolutions.fresh(batch)
        parts = []
        for chunk in torch.split(x, _CHUNK_STEPS, 1):
            y, past = self._convolutions(chunk, past)
            parts.append(y[:, :, 0])
        return torch.cat(parts, 1).reshape(batch, n * CODEC_FRAME_SAMPLES)


def taken(tensors: list[Tensor], slots: Tensor) -> list[Tensor]:
    return [tensor.index_select(0, slots) for tensor in tensors]


def put(tensors: list[Tensor], slots: Tensor, new: list[Tensor]) -> None:
    for tensor, value in zip(tensors, new, strict=True):
        tensor.index_copy_(0, slots, value)


def forget(tensors: list[Tensor], slot: int) -> None:
    for tensor in tensors:
        tensor[slot].zero_()


def _layers(source: Source, config: MimiConfig) -> list[Layer]:
    """moshi's `SEANetDecoder`, whose indices count the activations too."""
    layers: list[Layer] = [convolution("decoder.model.0", source)]
    index = 2
    for _ in config.strides:
        at = f"decoder.model.{index}.convtr.convtr"
        layers += [Elu(), Transposed(source[f"{at}.weight"], source[f"{at}.bias"])]
        layers += [residual(f"decoder.model.{index + 1}", source)]
        index += 3
    return [*layers, Elu(), convolution(f"decoder.model.{index}", source)]


def convolution(prefix: str, source: Source, stride: int = 1) -> Convolution:
    at = f"{prefix}.conv.conv"
    return Convolution(source[f"{at}.weight"], source[f"{at}.bias"], stride)


def residual(prefix: str, source: Source) -> Residual:
    return Residual(convolution(f"{prefix}.block.1", source), convolution(f"{prefix}.block.3", source))
