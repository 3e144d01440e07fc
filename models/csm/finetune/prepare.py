"""From a corpus to features, clip by clip, through the cache."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from models.csm.finetune.audio import AudioError, clip_samples
from models.csm.finetune.corpus import Clip, Corpus, Split
from models.csm.finetune.features import Extractor, FeatureCache, Features
from models.csm.finetune.job import Job, Telling
from models.csm.shapes import CODEC_FRAME_S, CONTEXT_ROWS

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    def encode(self, speaker: int, text: str) -> list[int]:
        """Exactly one BOS, `[speaker]text`, exactly one EOS."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    key: str
    split: Split
    style: str
    text: str
    tokens: list[int]
    features: Features
    name: str
    """Of its file in the cache: names all that the features depend on."""


def prepare(
    job: Job,
    corpus: Corpus,
    tokenizer: Tokenizer,
    cache: FeatureCache,
    make_extractor: Callable[[], Extractor],
    telling: Telling,
) -> list[Prepared]:
    """Features of all clips but the test split's, ordered by key. The extractor is made when the first clip
    is not in the cache. Clips that cannot be used are counted in `corpus.skipped` and logged."""
    extractor: Extractor | None = None
    prepared: list[Prepared] = []
    telling.stage("codes and hidden states", 0, corpus.n_clips)
    for clip in corpus.clips():
        telling.advance(clip.key)
        if clip.split == "test":
            corpus.skipped["held out as test"] += 1
            continue
        tokens = tokenizer.encode(job.speaker, clip.text)
        if len(tokens) >= CONTEXT_ROWS:
            corpus.skipped["too many words"] += 1
            continue
        path = cache.path(tokens, clip.audio)
        features = cache.load(path)
        if features is None:
            extractor = extractor or make_extractor()
            features = _extracted(job, clip, tokens, extractor, corpus)
            if features is None:
                continue
            cache.save(path, features)
        prepared.append(Prepared(clip.key, clip.split, clip.style, clip.text, tokens, features, path.stem))
    return sorted(prepared, key=lambda clip: clip.key)


def _extracted(
    job: Job, clip: Clip, tokens: list[int], extractor: Extractor, corpus: Corpus
) -> Features | None:
    # A little more than fits, so that the extractor sees that the clip goes on.
    most_s = (CONTEXT_ROWS - len(tokens) + 1) * CODEC_FRAME_S
    try:
        samples = clip_samples(clip.audio, loudness_lufs=job.loudness_lufs, most_s=most_s)
    except AudioError as error:
        _log.warning("%s is left out: %s", clip.key, error)
        corpus.skipped["audio unusable"] += 1
        return None
    return extractor(tokens, samples)
