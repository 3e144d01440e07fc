"""What training needs of a clip, computed once: Mimi's codes and the frozen backbone's hidden states."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.base import Samples
from models.csm.rows import audio_rows, text_rows
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES, CONTEXT_ROWS
from models.mimi.codec import Codec

_log = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Features:
    """The CodecFrames of one clip, the END CodecFrame of 32 zeros last (absent if the clip was cut)."""

    codes: Tensor
    """(n, 32) int16."""
    hidden: Tensor
    """(n, dim) bfloat16: the backbone's state that each CodecFrame is predicted from."""


class Extractor:
    """Clips to features, one at a time. Blocks; not to be shared between threads."""

    def __init__(self, hidden_states: Callable[[Tensor], Tensor], codec: Codec, device: str = "cpu") -> None:
        """`hidden_states` is that of `CsmModel`: (n, 33) -> (n, dim)."""
        self._hidden_states = hidden_states
        self._codec = codec
        self._device = device

    def __call__(self, tokens: Sequence[int], samples: Samples) -> Features:
        """`tokens` of the words, BOS to EOS; `samples` (n,) float32 at 24 kHz. What does not fit into the
        context's rows is cut off, with the END."""
        room = CONTEXT_ROWS - len(tokens)
        codes = self.codes(samples[: room * CODEC_FRAME_SAMPLES])
        rows = np.concatenate([text_rows(tokens), audio_rows(codes.numpy())])
        with torch.inference_mode():
            hidden = self._hidden_states(torch.from_numpy(rows).to(self._device))
        whole = len(samples) <= room * CODEC_FRAME_SAMPLES
        states = hidden[len(tokens) - 1 :] if whole else hidden[len(tokens) - 1 : -1]
        ended = torch.cat([codes, torch.zeros(1, CODEBOOKS, dtype=codes.dtype)]) if whole else codes
        return Features(ended.to(torch.int16), states.to("cpu", torch.bfloat16))

    def codes(self, samples: Samples) -> Tensor:
        """(n,) float32 at 24 kHz, padded with zeros to full CodecFrames -> (m, 32) int32."""
        with torch.inference_mode():
            encoded = self._codec.encode(torch.from_numpy(samples)[None].to(self._device))
        return encoded[0].to("cpu", torch.int32)


class FeatureCache:
    """One file per clip, named by all that its content depends on; a file is there whole or not at all."""

    def __init__(self, folder: Path, models: Sequence[str]) -> None:
        """`models` names the weights, the kind of numbers and the loudness that the features depend on."""
        self._folder = folder
        self._models = list(models)
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, tokens: Sequence[int], audio: bytes) -> Path:
        inputs = [_VERSION, self._models, list(tokens), sha256(audio).hexdigest()]
        return self._folder / f"{sha256(json.dumps(inputs).encode()).hexdigest()[:32]}.safetensors"

    def load(self, path: Path) -> Features | None:
        """None when the file is absent or damaged: compute it again."""
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            return Features(tensors["codes"], tensors["hidden"])
        except (SafetensorError, KeyError, OSError) as error:
            _log.warning("%s is damaged and is computed again: %s", path, error)
            return None

    def save(self, path: Path, features: Features) -> None:
        part = path.with_suffix(f".{os.getpid()}.part")
        save_file({"codes": features.codes, "hidden": features.hidden.contiguous()}, part)
        part.replace(path)
