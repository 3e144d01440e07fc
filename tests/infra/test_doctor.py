from pathlib import Path

import pytest

from infra.doctor import Finding, examine
from infra.settings import Settings
from models import checks, load


def found(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(settings, {})}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path / "models", calls_dir=tmp_path / "calls", port=0)


def test_stand_ins_need_no_models(settings: Settings) -> None:
    findings = found(settings.model_copy(update={"profile": "scripted"}))
    assert findings["models"].verdict == "note"
    assert not [finding for finding in findings.values() if finding.verdict == "missing"]


def test_missing_models_have_a_mending_command(settings: Settings) -> None:
    finding = found(settings)["model whisper-base"]
    assert (finding.verdict, finding.mend) == ("missing", "maya models pull whisper-base")


def test_a_profile_for_gpus_without_one_says_what_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "cuda_devices", lambda: 0)
    monkeypatch.setattr(load, "torch_cuda_devices", lambda: 0)
    findings = found(settings.model_copy(update={"profile": "maya"}))
    assert findings["devices"].verdict == "missing"
    assert "--profile embedded" in findings["devices"].detail
    assert findings["model csm-1b-expresso"].mend == "maya models pull csm-1b-expresso"


def test_the_plan_shows_each_device_with_what_it_will_hold(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "cuda_devices", lambda: 3)
    monkeypatch.setattr(load, "torch_cuda_devices", lambda: 3)
    free = {"cpu": 8_000_000_000, "cuda:0": 24_000_000_000, "cuda:1": 24_000_000_000, "cuda:2": 3_000_000_000}
    monkeypatch.setattr(checks, "free_bytes", lambda device: free[str(device)])
    devices = "stt=cuda:0,llm=cuda:0,tts=cuda:1,tts=cuda:2"
    findings = found(settings.model_copy(update={"profile": "maya", "devices": devices}))
    assert findings["devices"].detail == devices
    assert "stt whisper-large-v3-turbo 2.4 GB" in findings["memory of cuda:0"].detail
    voice = findings["memory of cuda:1"]
    assert voice.verdict == "ok"
    assert "weights 2.3 GB" in voice.detail
    # The profile's 12 calls are shared by two devices; a captured batch of 6 has places for 8.
    assert "KV cache of 8 slots" in voice.detail
    assert findings["memory of cuda:2"].verdict == "note"
    assert "--tts-slots" in findings["memory of cuda:2"].mend


def test_licences_are_told_and_the_non_commercial_one_stands_out(settings: Settings) -> None:
    findings = found(settings.model_copy(update={"profile": "maya"}))
    expresso = findings["licence of csm-1b-expresso"]
    assert expresso.verdict == "note"
    assert "non-commercial" in expresso.detail
    assert "--tts csm-1b" in expresso.mend
    base = found(settings.model_copy(update={"profile": "maya", "tts": "csm-1b"}))
    assert base["licence of csm-1b"].verdict == "ok"
    assert "CC-BY 4.0" in base["licence of mimi"].detail


def test_a_voice_that_nobody_knows(settings: Settings) -> None:
    finding = found(settings.model_copy(update={"tts": "csm-7b"}))["voice"]
    assert finding.verdict == "missing"
    assert "csm-7b" in finding.detail


def test_a_folder_of_ones_own_is_shown_and_a_missing_prompt_pointed_out(
    settings: Settings, tmp_path: Path
) -> None:
    for name in ("model_merged.pt", "mimi.safetensors", "tokenizer.model"):
        (tmp_path / name).write_bytes(b"")
    voice = {"profile": "scripted", "tts": str(tmp_path), "devices": "tts=cpu"}
    findings = found(settings.model_copy(update=voice))
    assert str(tmp_path / "model_merged.pt") in findings["voice"].detail
    assert findings["voice prompt"].verdict == "note"
    assert "maya voice prompt" in findings["voice prompt"].mend
    assert findings["devices"].detail == "stt=cpu,llm=cpu,tts=cpu"
    (tmp_path / "prompt.safetensors").write_bytes(b"")
    assert found(settings.model_copy(update=voice))["voice prompt"].verdict == "ok"
