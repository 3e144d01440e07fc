"""Mimi's encoder: 24 kHz to 25 steps a second by strided convolutions, transformer, half the steps, codes."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.mimi.config import CODEBOOKS, CODEC_FRAME_SAMPLES, MimiConfig
from models.mimi.convolution import Downsampling, Layer, Stack
from models.mimi.decoder import convolution, put, residual, taken
from models.mimi.quantizer import Codebooks, Quantizer
from models.mimi.source import Source
from models.mimi.transformer import Ring, Transformer

_CHUNK_SAMPLES = 125 * CODEC_FRAME_SAMPLES
"""What the convolutions take at once when a whole is encoded: 10 s."""


@dataclass(frozen=True, slots=True)
class EncoderState:
    """Each tensor's slot is its own."""

    convolutions: list[Tensor]
    ring: Ring
    downsampling: list[Tensor]

    def forget(self, slot: int) -> None:
        for tensor in (*self.convolutions, *self.downsampling):
            tensor[slot].zero_()
        self.ring.forget(slot)


class Encoder:
    """Weights and the pass through them. Holds no state."""

    def __init__(self, source: Source, config: MimiConfig, codebooks: Codebooks) -> None:
        self._convolutions = Stack(_layers(source, config))
        self._transformer = Transformer("encoder_transformer", source, config)
        self._downsampling = Downsampling(source["downsample.conv.conv.conv.weight"])
        self._quantizer = Quantizer(source, codebooks)

    def state(self, slots: int) -> EncoderState:
        return EncoderState(
            self._convolutions.fresh(slots), self._transformer.ring(slots), self._downsampling.fresh(slots)
        )

    @torch.no_grad()
    def step(self, audio: Tensor, slots: Tensor, state: EncoderState) -> Tensor:
        """(b, k * 1920) -> (b, k, 32). The codes do not depend on how the stream is cut into steps, up to
        the rounding of products of other sizes."""
        x, past = self._convolutions(audio[:, :, None], taken(state.convolutions, slots))
        put(state.convolutions, slots, past)
        x = self._transformer.stream(x, state.ring, slots)
        x, past = self._downsampling(x, taken(state.downsampling, slots))
        put(state.downsampling, slots, past)
        return self._quantizer(x)

    @torch.no_grad()
    def whole(self, audio: Tensor) -> Tensor:
        """(b, n_samples) -> (b, n, 32), the last CodecFrame filled up with zeros."""
        batch, n = audio.shape
        if n == 0:
            return torch.zeros(batch, 0, CODEBOOKS, dtype=torch.int64, device=audio.device)
        audio = functional.pad(audio, (0, -n % CODEC_FRAME_SAMPLES))
        past = self._convolutions.fresh(batch)
        parts = []
        for chunk in torch.split(audio[:, :, None], _CHUNK_SAMPLES, 1):
            x, past = self._convolutions(chunk, past)
            parts.append(x)
        x = self._transformer.whole(torch.cat(parts, 1))
        x, _ = self._downsampling(x, self._downsampling.fresh(batch))
        return self._quantizer(x)


def _layers(source: Source, config: MimiConfig) -> list[Layer]:
    """moshi's `SEANetEncoder`, whose indices count the activations too."""
    layers: list[Layer] = [convolution("encoder.model.0", source, activated=False)]
    index = 1
    for stride in reversed(config.strides):
        layers += [residual(f"encoder.model.{index}", source)]
        layers += [convolution(f"encoder.model.{index + 2}", source, stride=stride, activated=True)]
        index += 3
    return [*layers, convolution(f"encoder.model.{index + 1}", source, activated=True)]
