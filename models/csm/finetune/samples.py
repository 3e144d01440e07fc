"""What the voice sounds like during training: a few sentences, spoken with the tensors as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from models.base import Samples
from models.csm.ending import EndLimits, EndRules
from models.csm.model import CsmModel
from models.csm.sampling import Draw
from models.csm.shapes import CONTEXT_ROWS, RATE_HZ
from models.csm.stepping import Rows
from models.mimi.codec import Codec

TEMPERATURE = 0.9
"""Sesame's default."""


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    rows: Rows
    """What the utterance follows from: context, then the sentence's text rows."""


@torch.inference_mode()
def speak(model: CsmModel, codec: Codec, sentence: Sentence, seed: int) -> Samples:
    """One utterance by the end rules of calls, (n,) float32 at 24 kHz. Not for calls: one slot, no stream."""
    rows, limits, device = sentence.rows, EndLimits(), model.device
    rules, decoder = EndRules(sentence.text, limits), codec.decoder(1)
    most = min(limits.most_codec_frames(sentence.text), CONTEXT_ROWS - len(rows))
    cache = model.cache(1, len(rows) + most)
    hidden = model.prefill(cache, 0, torch.from_numpy(rows).to(device), 0)[None]
    one, slot = (torch.full((1,), value, device=device) for value in (1, 0))
    said = [np.zeros(0, np.float32)]
    for index in range(most):
        draw = Draw(one * seed, one * index, one * TEMPERATURE, one * index >= limits.earliest)
        codes, finite = model.codec_frame(hidden, draw)
        pcm: Samples = decoder.step(codes, slot)[0].cpu().numpy()
        verdict = rules.judge(index, codes[0].cpu().numpy().astype(np.int32), pcm)
        if not finite.item() or (verdict and not verdict.spoken):
            break
        said.append(pcm)
        if verdict:
            break
        hidden = model.step(cache, codes, one * (len(rows) + index), slot, one > 0)
    return np.concatenate(said)


class Sampler:
    """Writes step-NNNNNN-K.wav, 24 kHz, for each sentence, with the same seeds at every step."""

    def __init__(self, model: CsmModel, codec: Codec, sentences: Sequence[Sentence], folder: Path) -> None:
        self._model = model
        self._codec = codec
        self._sentences = sentences
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: int, parameters: Mapping[str, Tensor]) -> None:
        self._model.replace_parts(
            decoder=dict(parameters),
            audio_head=parameters["audio_head"],
            projection=parameters["projection.weight"],
        )
        for number, sentence in enumerate(self._sentences):
            samples = speak(self._model, self._codec, sentence, number)
            self._write(f"step-{step:06d}-{number}.wav", samples)

    def write_recorded(self, number: int, codes: Tensor) -> None:
        """recorded-K.wav: what Mimi leaves of a recording, codes (n, 32)."""
        with torch.inference_mode():
            decoded = self._codec.decode(codes[None].to(self._model.device, torch.int64))
        self._write(f"recorded-{number}.wav", decoded[0].cpu().numpy())

    def _write(self, name: str, samples: Samples) -> None:
        soundfile.write(self._folder / name, samples, RATE_HZ, subtype="PCM_16")
