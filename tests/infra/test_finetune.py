"""`maya finetune`, its gate and `maya say` after one another, on a tiny model and a corpus made here."""

import json
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from infra import cli
from models.csm.random_weights import save_random
from models.csm.shapes import CSM_TINY
from models.csm.text import save_byte_tokenizer
from tests.models.csm.finetune.corpus_kit import sentences, write_folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_random(tmp_path / "base", CSM_TINY, 5)
    save_byte_tokenizer(tmp_path / "base" / "tokenizer.json")
    return tmp_path / "base"


def maya(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maya", *arguments])
    try:
        cli.main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_corpus_becomes_a_voice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, base: Path
) -> None:
    corpus = write_folder(tmp_path / "expresso", sentences(6, 0.4))
    common = ["--corpus", str(corpus), "--base", str(base), "--device", "cpu"]
    recipe = [
        "--steps",
        "6",
        "--batch",
        "16",
        "--warm-up",
        "2",
        "--evaluate-every",
        "3",
        "--sample-every",
        "0",
    ]
    assert maya(monkeypatch, "finetune", *common, *recipe, "--out", "voice") == 0
    shown = capsys.readouterr()
    assert f"speak with it: maya say 'Hello there.' --tts voice --mimi {base}" in shown.out
    assert "trained on 4 clips" in shown.out and "codebook 0" in shown.out and "non-commercial" in shown.out
    assert "step 3: training" in shown.err and "step 6: training" in shown.err

    again = maya(monkeypatch, "finetune", *common, *recipe, "--out", "voice", "--json")
    told = json.loads(capsys.readouterr().out)
    assert again == 0 and told["best_step"] in (0, 3, 6)

    files = [
        "--tts",
        "voice",
        "--mimi",
        str(base / "mimi.safetensors"),
        "--tokenizer",
        str(base / "tokenizer.json"),
    ]
    spoken = ["--profile", "scripted", "--devices", "tts=cpu", "--out", "said.wav"]
    assert maya(monkeypatch, "say", "Hello.", *files, *spoken) == 0
    samples, rate_hz = soundfile.read("said.wav")
    assert rate_hz == 24_000 and samples.any()


def test_the_gate_says_by_how_much_each_codebook_is_worse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, base: Path
) -> None:
    corpus = write_folder(tmp_path / "expresso", sentences(6, 0.4))
    options = ["finetune", "gate", "--corpus", str(corpus), "--base", str(base), "--weights", "w8a8"]
    code = maya(monkeypatch, *options, "--json")
    report = json.loads(capsys.readouterr().out)
    assert (report["n_clips"], len(report["whole"]), len(report["worse"])) == (2, 32, 32)
    assert code == (0 if report["passed"] else 1)
    assert maya(monkeypatch, *options) == code
    assert "2 clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--corpus PATH --out FOLDER"),
        (["--corpus", "x", "--out", "y"], "x does not exist: give Expresso's tar"),
        (["--corpus", ".", "--out", "y", "--device", "tpu"], "cpu, cuda, or cuda:1"),
        (["--corpus", ".", "--out", "y", "--device", "cuda:99"], "CUDA devices"),
        (["--corpus", ".", "--out", "y", "--device", "cpu", "--base", "nowhere"], "nowhere"),
        (["gate"], "--corpus PATH"),
    ],
)
def test_what_cannot_begin_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert maya(monkeypatch, "finetune", *arguments) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_corpus_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, base: Path
) -> None:
    options = ["--base", str(base), "--device", "cpu", "--out", "voice"]
    assert maya(monkeypatch, "finetune", "--corpus", str(tmp_path / "none"), *options) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "voice").exists()
