"""Mimi by Kyutai's `moshi` package (0.2.13), behind the same protocol."""

from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.mimi.checkpoint import CheckpointSource, MimiError, mimi_file
from models.mimi.config import BINS, CODEBOOKS, CODEC_FRAME_SAMPLES, MIMI


def open_moshi(path: Path, device: str | torch.device = "cpu") -> "MoshiCodec":
    """Load the weights with moshi. Raises `MimiError` when the package or the file is not right."""
    file = mimi_file(path)
    if CheckpointSource(file).config is not MIMI:
        raise MimiError(f"{file}: moshi reads Mimi at its published size only; use `codec = own`")
    return MoshiCodec(file, device)


class MoshiCodec:
    """Implements `codec.Codec`. moshi keeps the state of a stream inside its modules, so each streaming
    decoder or encoder is a copy of the modules over the same weights."""

    def __init__(self, file: Path, device: str | torch.device = "cpu") -> None:
        self._file = file
        self._device = torch.device(device)
        self._whole = self._load()

    def decoder(self, slots: int) -> "MoshiStreamingDecoder":
        return MoshiStreamingDecoder(self._copy(), slots, self._device)

    def encoder(self, slots: int) -> "MoshiStreamingEncoder":
        return MoshiStreamingEncoder(self._copy(), slots, self._device)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        if codes.shape[1] == 0:
            return torch.zeros(codes.shape[0], 0, device=codes.device)
        return self._whole.decode(clamped(codes).transpose(1, 2))[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        if audio.shape[1] == 0:
            return torch.zeros(audio.shape[0], 0, CODEBOOKS, dtype=torch.int64, device=audio.device)
        audio = functional.pad(audio, (0, -audio.shape[1] % CODEC_FRAME_SAMPLES))
        return self._whole.encode(audio[:, None]).transpose(1, 2)  # type: ignore[no-any-return]

    def _copy(self) -> Any:
        shared = {id(tensor): tensor for tensor in (*self._whole.parameters(), *self._whole.buffers())}
        return deepcopy(self._whole, shared)

    def _load(self) -> Any:
        try:
            loaders = import_module("moshi.models.loaders")
        except (ImportError, OSError) as error:
            # OSError: moshi imports sounddevice, which looks for PortAudio.
            raise MimiError(
                f"the moshi package cannot be imported ({error}): `pip install --no-deps moshi==0.2.13 "
                "einops sentencepiece sphn`, or `pip install 'maya-voice[moshi]'` in an environment of its "
                "own (it wants torch < 2.10), or use `codec = own`"
            ) from error
        return loaders.get_mimi(self._file, device=self._device, num_codebooks=CODEBOOKS)


def clamped(codes: Tensor) -> Tensor:
    """A slot that failed may hold any number, and moshi looks it up unseen."""
    return codes.clamp(0, BINS - 1)


class _Streaming:
    """A model whose batch is the slots; those that a step does not name are paused by moshi's mask."""

    def __init__(self, mimi: Any, slots: int, device: torch.device) -> None:
        self.slots = slots
        self._mimi = mimi
        self._device = device
        self._idle = torch.zeros(slots, dtype=torch.bool, device=device)
        with torch.no_grad():
            mimi.streaming_forever(slots)

    def _only(self, slots: Tensor) -> None:
        self._mimi.set_exec_mask(self._idle.index_fill(0, slots, True))

    @torch.no_grad()
    def reset(self, slot: int) -> None:
        chosen = torch.zeros(self.slots, dtype=torch.bool)
        chosen[slot] = True
        self._mimi.reset_streaming(chosen)


class MoshiStreamingDecoder(_Streaming):
    """Implements `codec.StreamingDecoder`; every slot is computed, whether it is named or not."""

    @torch.no_grad()
    def step(self, codes: Tensor, slots: Tensor) -> Tensor:
        self._only(slots)
        batch = torch.zeros(self.slots, CODEBOOKS, dtype=torch.int64, device=self._device)
        batch.index_copy_(0, slots, clamped(codes))
        return self._mimi.decode(batch[:, :, None])[:, 0].index_select(0, slots)  # type: ignore[no-any-return]


class MoshiStreamingEncoder(_Streaming):
    """Implements `codec.StreamingEncoder`, one CodecFrame at a time: moshi's ring would forget more of the
    past in a longer step."""

    @torch.no_grad()
    def step(self, audio: Tensor, slots: Tensor) -> Tensor:
        self._only(slots)
        batch = torch.zeros(self.slots, audio.shape[1], device=self._device)
        batch.index_copy_(0, slots, audio)
        chunks = torch.split(batch[:, None], CODEC_FRAME_SAMPLES, 2)
        codes = torch.cat([self._mimi.encode(chunk) for chunk in chunks], 2)
        return codes.transpose(1, 2).index_select(0, slots)
