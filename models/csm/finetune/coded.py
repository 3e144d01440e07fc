"""Held-out clips as codes, for the gate of quantised weights."""

import numpy as np
import torch

from models.csm.evaluate import CodedClip
from models.csm.finetune.audio import LOUDNESS_LUFS, AudioError, clip_samples
from models.csm.finetune.corpus import Clip, Corpus
from models.csm.finetune.job import Telling
from models.csm.finetune.prepare import Tokenizer
from models.csm.shapes import CODEC_FRAME_S, CONTEXT_ROWS
from models.csm.stepping import Codes
from models.mimi.codec import Codec


def coded_clips(
    corpus: Corpus,
    tokenizer: Tokenizer,
    codec: Codec,
    *,
    most: int,
    speaker: int = 0,
    device: str = "cpu",
    telling: Telling = Telling(),  # noqa: B008
) -> list[CodedClip]:
    """At most `most` clips of dev and test, evenly spread over the corpus. Clips that do not fit the context
    or cannot be read are left out."""
    held_out = [clip for clip in corpus.clips() if clip.split != "train"]
    n = min(most, len(held_out))
    chosen = [held_out[place * len(held_out) // n] for place in range(n)]
    telling.stage("codes", 0, len(chosen))
    coded = []
    for clip in chosen:
        tokens = tokenizer.encode(speaker, clip.text)
        room = CONTEXT_ROWS - len(tokens)
        codes = _codes(clip, codec, device)
        telling.advance(clip.key)
        if codes is not None and 0 < len(codes) <= room:
            coded.append(CodedClip(tokens, codes))
    return coded


def _codes(clip: Clip, codec: Codec, device: str) -> Codes | None:
    try:
        samples = clip_samples(clip.audio, loudness_lufs=LOUDNESS_LUFS, most_s=CONTEXT_ROWS * CODEC_FRAME_S)
    except AudioError:
        return None
    with torch.inference_mode():
        encoded = codec.encode(torch.from_numpy(samples)[None].to(device))[0]
    codes: Codes = encoded.cpu().numpy().astype(np.int32)
    return codes
