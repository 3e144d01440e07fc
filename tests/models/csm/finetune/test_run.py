import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from models.base import ModelFailed, Samples
from models.csm.checkpoint import Parts, find_csm_files, open_checkpoint
from models.csm.files import CsmFiles
from models.csm.finetune.audio import resampled
from models.csm.finetune.corpus import CorpusError
from models.csm.finetune.job import Job, Telling
from models.csm.finetune.recipe import Recipe
from models.csm.finetune.record import CURVES, METRICS, read_metrics
from models.csm.finetune.run import REPORT, finetune
from models.csm.model import CsmModel
from models.csm.prompt import load_prompt
from models.csm.text import TextTokenizer
from models.hibari import HibariSynthesizer
from models.store import Store
from tests.models.csm.finetune.corpus_kit import (
    Sentence,
    sentences,
    write_folder,
    write_parquet,
    write_tar,
)

RECIPE = Recipe(
    steps=40, batch=32, rate=2e-3, projection_rate=1e-3, warm_up=5, evaluate_every=10, validation=64
)

SHORT = replace(RECIPE, steps=24, evaluate_every=8)


def job(tmp_path: Path, base: CsmFiles, corpus: Path, **changes: object) -> Job:
    plain = Job(corpus, base, tmp_path / "out", recipe=RECIPE, sample_every=0, cache=tmp_path / "features")
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_the_loss_falls_and_the_files_load_back(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    folder = write_folder(tmp_path / "expresso", sentences())
    lines: list[str] = []
    outcome = finetune(
        job(tmp_path, base, write_tar(tmp_path / "expresso.tar", folder)),
        tokenizer,
        Telling(say=lines.append),
    )
    out = tmp_path / "out"
    metrics = read_metrics(out)
    measured = [loss for loss in metrics["val_loss"] if loss == loss]
    assert outcome.base_loss == measured[0] and outcome.best_loss < 0.9 * outcome.base_loss
    assert metrics["val_codebook_0"][0] == metrics["val_codebook_0"][-1] == outcome.codebook0_loss
    assert outcome.clips == {"train": 8, "dev": 1} and outcome.skipped == {"held out as test": 1}
    assert len(lines) == 4 and lines[-1].startswith("step 40: training ")
    assert (out / CURVES).stat().st_size > 10_000
    told = json.loads((out / REPORT).read_text())
    assert told["best_step"] == outcome.best_step and "non-commercial" in told["notice"]

    files = find_csm_files(out)
    parts = Parts(out / "decoder.pt", out / "audio_head.pt", out / "projection.pt")
    with open_checkpoint(files.base) as merged, open_checkpoint(base.base, parts=parts) as laid_over:
        assert len(merged) == len(laid_over)
        assert all(torch.equal(merged[name], laid_over[name]) for name in merged)
        with open_checkpoint(base.base) as before:
            changed = {name for name in merged if not torch.equal(merged[name], before[name])}
        assert {name.split(".")[0] for name in changed} == {"decoder", "audio_head", "projection"}
        trained = CsmModel(merged.shape, merged)
    hidden = torch.randn(2, trained.shape.backbone.dim, generator=torch.Generator().manual_seed(0))
    assert trained.forced_logits(hidden, torch.zeros(2, 32, dtype=torch.int64)).isfinite().all()
    assert [file.path.name for file in outcome.files] == [
        "decoder.pt",
        "audio_head.pt",
        "projection.pt",
        "model_merged.pt",
    ]
    for file in outcome.files:
        assert 0 < file.file_bytes - file.tensor_bytes < 60_000  # the container, not another's storage
    assert files.prompt is not None
    assert load_prompt(files.prompt).text == "This is sentence number 1."


def test_both_layouts_train_alike(tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer) -> None:
    made = sentences()
    folder = write_folder(tmp_path / "expresso", made)
    parquet = write_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet", made)
    recipe = replace(RECIPE, steps=5)
    for name, corpus in (("a", folder), ("b", parquet)):
        cache = tmp_path / name / "features"
        finetune(
            job(tmp_path / name, base, corpus, recipe=recipe, splits=folder / "splits", cache=cache),
            tokenizer,
        )
    files = [tmp_path / name / "out" / METRICS for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


_RUN = """
import sys
from pathlib import Path
import torch
from models.csm.text import TextTokenizer
from tests.models.csm.finetune.test_run import SHORT, find_csm_files, finetune, job
torch.set_num_threads(1)
tmp, base, corpus = (Path(argument) for argument in sys.argv[1:])
finetune(job(tmp, find_csm_files(base), corpus, recipe=SHORT), TextTokenizer.open(base))
"""


def test_a_process_that_is_killed_goes_on_with_the_same_curve(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    folder = write_folder(tmp_path / "expresso", sentences())
    arguments = [str(tmp_path / "killed"), str(base.base.parent), str(folder)]
    with subprocess.Popen([sys.executable, "-c", _RUN, *arguments]) as killed:
        metrics = tmp_path / "killed" / "out" / METRICS
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.read_text().count("\n") > 10):
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
    assert not (tmp_path / "killed" / "out" / REPORT).exists()
    for name in ("whole", "killed"):
        finetune(job(tmp_path / name, base, folder, recipe=SHORT), tokenizer)
    for name in (METRICS, "decoder.pt", "model_merged.pt"):
        written = [(tmp_path / run / "out" / name).read_bytes() for run in ("whole", "killed")]
        assert written[0] == written[1], name


def test_samples_are_spoken_as_training_goes_on(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    folder = write_folder(tmp_path / "expresso", sentences(5, 0.3))
    recipe = replace(RECIPE, steps=4, evaluate_every=4)
    finetune(job(tmp_path, base, folder, recipe=recipe, sample_every=2, n_samples=1), tokenizer)
    samples = tmp_path / "out" / "samples"
    assert sorted(path.name for path in samples.iterdir()) == [
        "recorded-0.wav",
        "step-000002-0.wav",
        "step-000004-0.wav",
    ]
    spoken = [soundfile.read(samples / f"step-00000{step}-0.wav") for step in (2, 4)]
    assert spoken[0][1] == 24_000 and len(spoken[0][0]) % 1920 == 0 and len(spoken[0][0]) >= 2 * 1920
    assert not np.array_equal(spoken[0][0], spoken[1][0])


def test_unusable_clips_are_left_out_and_counted(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    made = sentences(5, 0.2)
    folder = write_folder(
        tmp_path / "expresso", [*made, replace(made[0], key="ex04_sad_00001", text="x" * 2100)]
    )
    (folder / "splits" / "train.txt").open("a").write("ex04_sad_00001\n")
    (folder / made[0].place).write_bytes(b"RIFF")
    outcome = finetune(job(tmp_path, base, folder, recipe=replace(RECIPE, steps=1)), tokenizer)
    assert outcome.skipped == {"audio unusable": 1, "too many words": 1, "held out as test": 1}
    assert outcome.clips == {"train": 2, "dev": 1}


def test_a_corpus_without_validation_is_refused(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    folder = write_folder(tmp_path / "expresso", sentences(2, 0.2))
    (folder / "splits" / "dev.txt").unlink()
    with pytest.raises(CorpusError, match="0 to validate on"):
        finetune(job(tmp_path, base, folder), tokenizer)


def test_too_little_memory_says_what_to_change(
    tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer
) -> None:
    def advance(note: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    folder = write_folder(tmp_path / "expresso", sentences(4, 0.2))
    with pytest.raises(ModelFailed, match="lower --at-once"):
        finetune(job(tmp_path, base, folder), tokenizer, Telling(advance=advance))


@pytest.mark.models
def test_speech_of_the_bundled_voice_and_llamas_tokenizer(tmp_path: Path, base: CsmFiles) -> None:
    spoken = asyncio.run(
        bundled(["I *never* said that.", "Where are you?", "It opens at nine.", "Thank you."])
    )
    made = [
        Sentence(f"ex04_default_{number:05d}", text, "dev" if number == 4 else "train", samples)
        for number, (text, samples) in enumerate(spoken.items(), 1)
    ]
    corpus = write_folder(tmp_path / "expresso", made)
    words = TextTokenizer.open(Store().path("llama-3-tokenizer"))
    outcome = finetune(job(tmp_path, base, corpus, recipe=replace(RECIPE, steps=20)), words)
    assert outcome.clips == {"train": 3, "dev": 1} and outcome.best_loss < 0.97 * outcome.base_loss


async def bundled(texts: list[str]) -> dict[str, Samples]:
    """Each text as it is spoken, 48 kHz."""
    synthesizer = HibariSynthesizer()
    voice = await synthesizer.open()
    said = {}
    for text in texts:
        chunks = [chunk async for chunk in voice.speak(text.replace("*", ""))]
        said[text] = resampled(np.concatenate(chunks), voice.sample_rate_hz, 48_000)
    await voice.aclose()
    await synthesizer.aclose()
    return said
