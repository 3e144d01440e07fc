"""One fine-tune from a corpus to files: features, training, export. Every stage goes on where a killed run
stopped."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.base import ModelFailed, ModelMissing
from models.csm.checkpoint import Checkpoint, open_checkpoint
from models.csm.files import PROMPT, CsmFiles
from models.csm.finetune.corpus import CorpusError, open_corpus
from models.csm.finetune.dataset import Dataset
from models.csm.finetune.export import Exported, export
from models.csm.finetune.features import Extractor, FeatureCache
from models.csm.finetune.job import Job, Telling
from models.csm.finetune.loss import Frozen, trained_names
from models.csm.finetune.prepare import Prepared, Tokenizer, prepare
from models.csm.finetune.record import draw_curves, read_metrics
from models.csm.finetune.samples import Sampler, Sentence
from models.csm.finetune.training import Step, Trainer, Watch
from models.csm.model import CsmModel
from models.csm.prompt import VoicePrompt, save_prompt
from models.csm.rows import segment_rows, text_rows
from models.csm.shapes import CODEC_FRAME_S
from models.csm.stepping import Codes
from models.fetching import sha256_of
from models.mimi.codec import Codec
from models.mimi.opening import open_codec

FEATURES, SAMPLES, REPORT = "features", "samples", "report.json"
NOTICE = (
    "Weights trained on Expresso derive from recordings under CC BY-NC 4.0: treat them as non-commercial "
    "until that is cleared."
)
_PROMPT_S = 10.0
_PROMPT_STYLES = ("default", "narration", "enunciated")
"""The voice prompt is a clip of one of these styles, if there is one, of about this length."""


@dataclass(frozen=True, slots=True)
class Outcome:
    base_loss: float
    """Of the base on the validation's CodecFrames: mean over codebooks 1..31, nats."""
    best_loss: float
    best_step: int
    codebook0_loss: float
    """Before and after: nothing that is trained leads to codebook 0."""
    clips: dict[str, int]
    hours: dict[str, float]
    skipped: dict[str, int]
    files: list[Exported]


class _Voice:
    """The base model and its codec, loaded when they are first needed: with all features cached and no
    samples asked for, never."""

    def __init__(self, job: Job, base: Checkpoint, mimi: Path) -> None:
        self._job = job
        self._base = base
        self._mimi = mimi
        self._loaded: tuple[CsmModel, Codec] | None = None
        self.dtype = torch.bfloat16 if job.device.startswith("cuda") else torch.float32

    def load(self) -> tuple[CsmModel, Codec]:
        if self._loaded is None:
            model = CsmModel(self._base.shape, self._base, device=self._job.device, dtype=self.dtype)
            self._loaded = model, open_codec("own", self._mimi, self._job.device)
        return self._loaded

    def extractor(self) -> Extractor:
        model, codec = self.load()
        return Extractor(model.hidden_states, codec, self._job.device)

    def unload(self) -> None:
        self._loaded = None


def finetune(job: Job, tokenizer: Tokenizer, telling: Telling = Telling()) -> Outcome:  # noqa: B008
    """Blocks for as long as it takes. Raises `ModelError`: for a corpus or weights that cannot be read, for a
    folder that holds another run, for a loss that is no longer finite, for too little memory."""
    try:
        return _finetune(job, tokenizer, telling)
    except torch.OutOfMemoryError as error:
        raise ModelFailed(
            f"{job.device} has too little memory for {job.at_once} CodecFrames at once: lower --at-once, or"
            f" leave out the samples with --sample-every 0 ({error})."
        ) from error


def _finetune(job: Job, tokenizer: Tokenizer, telling: Telling) -> Outcome:
    corpus = open_corpus(job.corpus, job.wanted, splits=job.splits)
    mimi = _mimi(job.files)
    job.out.mkdir(parents=True, exist_ok=True)
    with open_checkpoint(job.files.base, parts=job.files.parts) as base:
        voice = _Voice(job, base, mimi)
        digests = [*base.sha256.values(), sha256_of(mimi)]
        cache = FeatureCache(
            job.cache or job.out / FEATURES, [*digests, str(voice.dtype), f"{job.loudness_lufs} LUFS"]
        )
        clips = prepare(job, corpus, tokenizer, cache, voice.extractor, telling)
        train, dev = (_of(clips, "train"), _of(clips, "dev"))
        if not train or not dev:
            reasons = ", ".join(f"{n} {reason}" for reason, n in corpus.skipped.items()) or "none skipped"
            raise CorpusError(f"{len(train)} clips to train on and {len(dev)} to validate on ({reasons}).")
        prompt = _prompt(clips)
        save_prompt(VoicePrompt(prompt.text, _codes(prompt), job.speaker, digests[-1]), job.out / PROMPT)
        sampler = _sampler(job, voice, prompt, dev) if job.sample_every else None
        if sampler is None:
            voice.unload()
        trainer = Trainer(
            _frozen(job, base),
            {name: base[name] for name in trained_names(base.shape)},
            job.recipe,
            job.out,
            identity={"data": _digest(clip.name for clip in clips)},
            device=job.device,
            at_once=job.at_once,
        )
        _train(job, trainer, train, dev, sampler, telling)
        telling.stage("writing the files", 0, 1)
        exported = export(job.out, base, trainer.best_parameters())
        telling.advance("")
    return _outcome(job, trainer, {"train": train, "dev": dev}, corpus.skipped, exported)


def _mimi(files: CsmFiles) -> Path:
    if files.mimi is None or not files.mimi.is_file():
        raise ModelMissing(f"Mimi's file is missing ({files.mimi}): see maya models list.")
    return files.mimi


def _of(clips: Sequence[Prepared], split: str) -> list[Prepared]:
    return [clip for clip in clips if clip.split == split]


def _digest(texts: Iterable[str]) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()[:16]


def _frozen(job: Job, base: Checkpoint) -> Frozen:
    embeddings, head = (base[name] for name in ("audio_embeddings.weight", "codebook0_head.weight"))
    return Frozen.of(base.shape, embeddings.to(job.device, copy=True), head.to(job.device, copy=True))


def _prompt(clips: Sequence[Prepared]) -> Prepared:
    """A calm clip, as the example of the voice that every call begins with."""
    calm = [clip for clip in clips if clip.style in _PROMPT_STYLES] or clips
    return min(calm, key=lambda clip: abs(len(clip.features.codes) * CODEC_FRAME_S - _PROMPT_S))


def _sampler(job: Job, voice: _Voice, prompt: Prepared, dev: Sequence[Prepared]) -> Sampler:
    """Sentences of the validation, after the prompt; what Mimi leaves of their recordings is written beside
    them."""
    told = [clip for clip in dev if clip is not prompt][: job.n_samples] or [prompt]
    context = segment_rows(prompt.tokens, _codes(prompt))
    sentences = [Sentence(clip.text, np.concatenate([context, text_rows(clip.tokens)])) for clip in told]
    sampler = Sampler(*voice.load(), sentences, job.out / SAMPLES)
    for number, clip in enumerate(told):
        sampler.write_recorded(number, torch.from_numpy(_codes(clip)))
    return sampler


def _codes(clip: Prepared) -> Codes:
    """Without the END."""
    codes = clip.features.codes
    spoken: Codes = (codes if codes[-1].any() else codes[:-1]).to(torch.int32).numpy()
    return spoken


def _train(
    job: Job,
    trainer: Trainer,
    train: Sequence[Prepared],
    dev: Sequence[Prepared],
    sampler: Sampler | None,
    telling: Telling,
) -> None:
    def step(told: Step) -> None:
        telling.advance(f"loss {told.train_loss:.3f}, best {told.best.loss:.4f} at {told.best.step}")
        if told.val_loss is not None:
            draw_curves(job.out)
            telling.say(f"step {told.step}: training {told.train_loss:.4f}, validation {told.val_loss:.4f}")

    telling.stage("training", trainer.done, job.recipe.steps)

    def sample(done: int, tensors: Mapping[str, Tensor]) -> None:
        if sampler is not None:
            sampler(done, tensors)

    watch = Watch(step, sample, job.sample_every)
    trainer.run(
        Dataset.of([clip.features for clip in train]), Dataset.of([clip.features for clip in dev]), watch
    )


def _outcome(
    job: Job,
    trainer: Trainer,
    clips: dict[str, list[Prepared]],
    skipped: Counter[str],
    exported: list[Exported],
) -> Outcome:
    metrics = read_metrics(job.out)
    hours = {
        split: round(sum(len(clip.features.codes) for clip in some) * CODEC_FRAME_S / 3600, 4)
        for split, some in clips.items()
    }
    outcome = Outcome(
        base_loss=metrics["val_loss"][0],
        best_loss=trainer.best.loss,
        best_step=trainer.best.step,
        codebook0_loss=metrics["val_codebook_0"][0],
        clips={split: len(some) for split, some in clips.items()},
        hours=hours,
        skipped=dict(skipped),
        files=exported,
    )
    content = {**asdict(outcome), "recipe": asdict(job.recipe), "notice": NOTICE}
    (job.out / REPORT).write_text(json.dumps(content, indent=1, default=str) + "\n", "utf-8")
    return outcome
