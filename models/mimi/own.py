"""`OwnMimi`: Mimi in torch, without moshi. Faster on a CPU, and bound to no version of torch."""

import torch
from torch import Tensor

from models.mimi.config import MimiConfig
from models.mimi.decoder import Decoder, DecoderState
from models.mimi.encoder import Encoder, EncoderState
from models.mimi.quantizer import Codebooks
from models.mimi.source import Source


class OwnMimi:
    """Implements `codec.Codec`. Raises `MimiError` while it loads if the source does.

    The encoder (about 160 MB) is loaded when it is first asked for: a voice that is given no audio as context
    never needs it. `source` must stay readable until then.
    """

    def __init__(self, source: Source, config: MimiConfig, device: str | torch.device = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        self._source = source
        self._codebooks = Codebooks(source)
        self._decoder = Decoder(source, config, self._codebooks)
        self._encoder: Encoder | None = None

    def decoder(self, slots: int) -> "OwnStreamingDecoder":
        return OwnStreamingDecoder(self._decoder, slots)

    def encoder(self, slots: int) -> "OwnStreamingEncoder":
        return OwnStreamingEncoder(self._loaded_encoder(), slots)

    def decode(self, codes: Tensor) -> Tensor:
        return self._decoder.whole(codes)

    def encode(self, audio: Tensor) -> Tensor:
        return self._loaded_encoder().whole(audio)

    def _loaded_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(self._source, self.config, self._codebooks)
        return self._encoder


class OwnStreamingDecoder:
    """Implements `codec.StreamingDecoder`."""

    def __init__(self, decoder: Decoder, slots: int) -> None:
        self.slots = slots
        self._decoder = decoder
        self._state: DecoderState = decoder.state(slots)

    def step(self, codes: Tensor, slots: Tensor) -> Tensor:
        return self._decoder.step(codes, slots, self._state)

    @torch.inference_mode()
    def reset(self, slot: int) -> None:
        self._state.forget(slot)


class OwnStreamingEncoder:
    """Implements `codec.StreamingEncoder`."""

    def __init__(self, encoder: Encoder, slots: int) -> None:
        self.slots = slots
        self._encoder = encoder
        self._state: EncoderState = encoder.state(slots)

    def step(self, audio: Tensor, slots: Tensor) -> Tensor:
        return self._encoder.step(audio, slots, self._state)

    @torch.inference_mode()
    def reset(self, slot: int) -> None:
        self._state.forget(slot)
