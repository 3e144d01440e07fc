import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from infra.commands.voice import app
from infra.errors import CommandError
from models.base import ModelError
from models.csm.prompt import load_prompt, sha256_of
from models.csm.random_weights import save_random
from models.csm.shapes import CSM_TINY

TEXT = "The words of it."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("voice")
    save_random(made, CSM_TINY, seed=3)
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No maya.toml and no models of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAYA_MODELS", str(tmp_path / "models"))


def recording(path: Path) -> Path:
    t = np.arange(2 * 44_100) / 44_100
    soundfile.write(path, np.stack([0.2 * np.sin(1_300 * t), 0.1 * np.sin(900 * t)], axis=1), 44_100)
    return path


def maya_voice_prompt(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["prompt", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_recording_becomes_a_prompt(folder: Path, tmp_path: Path) -> None:
    wav = recording(tmp_path / "reading.wav")
    told = maya_voice_prompt(str(wav), "--text", TEXT, "--tts", str(folder), "--speaker", "2")
    assert "prompt.safetensors: 2.0 s of speaker 2" in told
    mimi = sha256_of(folder)
    prompt = load_prompt(tmp_path / "prompt.safetensors", mimi_sha256=mimi)
    assert (prompt.text, prompt.speaker, prompt.mimi_sha256) == (TEXT, 2, mimi)
    assert prompt.codes.shape == (25, 32) and len(np.unique(prompt.codes)) > 50


def test_json_and_a_named_mimi(folder: Path, tmp_path: Path) -> None:
    wav, out = recording(tmp_path / "reading.wav"), tmp_path / "other.safetensors"
    mimi = next(folder.glob("*.safetensors"))
    told = maya_voice_prompt(str(wav), "--text", TEXT, "--mimi", str(mimi), "--out", str(out), "--json")
    assert json.loads(told) == {
        "out": str(out),
        "duration_s": 2.0,
        "speaker": 0,
        "rows": 26,
        "text": TEXT,
        "mimi_sha256": sha256_of(mimi),
    }


def test_what_is_wrong_is_said(folder: Path, tmp_path: Path) -> None:
    wav = str(recording(tmp_path / "reading.wav"))
    (tmp_path / "words.wav").write_text("words")
    with pytest.raises(ModelError, match="cannot be read as sound"):
        maya_voice_prompt(str(tmp_path / "words.wav"), "--text", TEXT, "--tts", str(folder))
    with pytest.raises(ModelError, match="does not exist"):
        maya_voice_prompt(str(tmp_path / "none.wav"), "--text", TEXT, "--tts", str(folder))
    with pytest.raises(ModelError, match="text is empty"):
        maya_voice_prompt(wav, "--text", "...", "--tts", str(folder))
    with pytest.raises(CommandError, match=r"maya models pull mimi`\. Or name its file with --mimi"):
        maya_voice_prompt(wav, "--text", TEXT)
    out = str(tmp_path / "no" / "p.safetensors")
    with pytest.raises(CommandError, match="is no folder"):
        maya_voice_prompt(wav, "--text", TEXT, "--tts", str(folder), "--out", out)
