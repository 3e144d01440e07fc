import asyncio
import os
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.base import ModelBusy, ModelError
from models.csm import assembly
from models.csm.assembly import default_threads, load_csm, read_words
from models.csm.checkpoint import CheckpointError
from models.csm.files import find_csm_files
from models.csm.memory import OutOfMemory
from models.csm.prompt import VoicePrompt, save_prompt, sha256_of
from models.csm.random_weights import save_random
from models.csm.shapes import CODEC_FRAME_SAMPLES, CSM_1B, CSM_TINY
from models.csm.voice import ask
from models.placement import CPU, Device
from models.store import Store
from models.voices import CsmVoicePlan, VoiceChoice

pytestmark = pytest.mark.models  # the tokenizer is the real one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_random(folder, CSM_TINY)
    tokenizer = Store().path("llama-3-tokenizer")
    (folder / "tokenizer.model").symlink_to(tokenizer)
    return folder


@pytest.fixture(autouse=True)
def tokenizer_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly.TextTokenizer, "open", _OPEN)


_OPEN = cache(assembly.TextTokenizer.open)
"""It takes seconds, each time."""


def plan(folder: Path) -> CsmVoicePlan:
    return CsmVoicePlan("tiny", find_csm_files(folder))


def threads_of_voices() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("maya-csm")]


async def say(text: str, folder: Path, choice: VoiceChoice) -> int:
    """Samples of the first three chunks."""
    synthesizer = await asyncio.to_thread(load_csm, plan(folder), choice, [CPU], slots=2, threads=1)
    try:
        voice = await synthesizer.open()
        n_samples = chunks = 0
        async for chunk in voice.speak(text):
            n_samples += len(chunk)
            chunks += 1
            if chunks == 3:
                break
        await voice.aclose()
        return n_samples
    finally:
        await synthesizer.aclose()


@pytest.mark.parametrize("weights", ["full", "w8a8"])
async def test_a_voice_is_loaded_from_its_files_and_speaks(folder: Path, weights: str) -> None:
    choice = VoiceChoice(weights=weights)  # type: ignore[arg-type]
    assert await say("Good morning.", folder, choice) >= 3 * CODEC_FRAME_SAMPLES
    assert not threads_of_voices()


@pytest.mark.parametrize(("made_with", "accepted"), [("this", True), ("another", False)])
def test_a_voice_prompt_is_checked_against_the_codec(
    folder: Path, tmp_path: Path, made_with: str, accepted: bool
) -> None:
    files = replace(find_csm_files(folder), prompt=tmp_path / "prompt.safetensors")
    assert files.mimi is not None
    digest = sha256_of(files.mimi) if made_with == "this" else "0" * 64
    codes = np.arange(20 * 32, dtype=np.int32).reshape(20, 32)
    save_prompt(VoicePrompt("So it goes.", codes, 0, digest), tmp_path / "prompt.safetensors")
    with_prompt = CsmVoicePlan("tiny", files)
    if accepted:
        _, prompt = read_words(with_prompt)
        assert prompt is not None
        assert prompt.text == "So it goes."
    else:
        with pytest.raises(ModelError, match="made with another Mimi"):
            read_words(with_prompt)


def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "free_bytes", lambda device: 50_000_000)
    monkeypatch.setattr(assembly, "make_engine", lambda *args, **kinds: pytest.fail("loaded all the same"))
    with pytest.raises(OutOfMemory, match=r"needs 1\.\d GB on cpu.*50 MB are free.*--tts-slots"):
        load_csm(plan(folder), VoiceChoice(), [CPU], slots=2, threads=1)
    assert not threads_of_voices()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_while_loading_says_how_much_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run_out(*_args: object, **_kinds: object) -> None:
        raise error

    monkeypatch.setattr(assembly, "CsmModel", run_out)
    with pytest.raises(OutOfMemory, match=r"needs 1\.\d GB on cpu.*KV cache of 2 slots") as caught:
        load_csm(plan(folder), VoiceChoice(), [CPU], slots=2, threads=1)
    assert caught.value.__cause__ is error
    assert not threads_of_voices()


def test_one_replica_that_fails_ends_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = assembly.make_engine

    def fail_on_the_second(*args: Any, **kinds: Any) -> Any:
        if args[3].index == 1:
            raise ModelError("this one fails")
        return make(*args, **kinds)

    monkeypatch.setattr(assembly, "make_engine", fail_on_the_second)
    with pytest.raises(ModelError, match="this one fails"):
        load_csm(plan(folder), VoiceChoice(), [CPU, Device("cpu", 1)], slots=1, threads=1)
    assert not threads_of_voices()


async def test_calls_are_spread_over_replicas(folder: Path) -> None:
    devices = [CPU, Device("cpu", 1)]
    synthesizer = await asyncio.to_thread(
        load_csm, plan(folder), VoiceChoice(context="text"), devices, slots=1, threads=1
    )
    try:
        voices = [await synthesizer.open() for _ in devices]
        with pytest.raises(ModelBusy):
            await synthesizer.open()
        for voice in voices:
            await voice.aclose()
    finally:
        await synthesizer.aclose()


def test_replicas_of_moshi_capture_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """moshi's graphs know one device and one thread."""

    def fail(*args: Any, **kinds: Any) -> Any:
        raise ModelError(os.environ["NO_CUDA_GRAPH"])

    monkeypatch.setattr(assembly, "make_engine", fail)
    monkeypatch.setenv("NO_CUDA_GRAPH", "as it was")
    choice = VoiceChoice(codec="moshi")
    with pytest.raises(ModelError, match="as it was"):
        load_csm(plan(folder), choice, [CPU], slots=1, threads=1)
    with pytest.raises(ModelError, match="1"):
        load_csm(plan(folder), choice, [CPU, Device("cpu", 1)], slots=1, threads=1)


def test_a_damaged_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model_merged.pt").read_bytes()
    (tmp_path / "model_merged.pt").write_bytes(whole[: len(whole) // 2])
    files = replace(find_csm_files(folder), base=tmp_path / "model_merged.pt")
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_csm(CsmVoicePlan("tiny", files), VoiceChoice(), [CPU], slots=1, threads=1)


@pytest.mark.gpu
async def test_a_voice_speaks_on_a_gpu(folder: Path) -> None:
    synthesizer = await asyncio.to_thread(
        load_csm, plan(folder), VoiceChoice(), [Device("cuda", 0)], slots=2, threads=1
    )
    voice = await synthesizer.open()
    async for chunk in voice.speak("Good morning."):
        assert np.isfinite(chunk).all()
    await voice.aclose()
    await synthesizer.aclose()


def test_the_voice_leaves_cores_to_the_others() -> None:
    assert [default_threads(CSM_1B, cores) for cores in (1, 2, 8, 64)] == [1, 1, 4, 8]
    assert default_threads(CSM_TINY, 64) == 1


async def test_without_a_number_of_threads_it_chooses(folder: Path) -> None:
    async def threads_of(threads: int | None) -> int:
        synthesizer = await asyncio.to_thread(
            load_csm, plan(folder), VoiceChoice(), [CPU], slots=1, threads=threads
        )
        try:
            (host,) = synthesizer._calls
            return await ask(host, lambda engine: torch.get_num_threads())
        finally:
            await synthesizer.aclose()

    assert await threads_of(2) == 2
    assert await threads_of(None) == 1
