import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra import cli, errors
from infra.errors import EXIT_BUG, EXIT_USER
from tests.infra.call_files import constructed_call

COMMANDS = [
    "serve",
    "simulate",
    "demo",
    "say",
    "doctor",
    "timeline",
    "finetune",
    "finetune gate",
    "models list",
    "models pull",
    "models verify",
    "twilio configure",
    "twilio check",
    "bench turns",
    "bench hearing",
    "bench media",
    "bench llm",
]


@pytest.fixture(autouse=True)
def clean_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MAYA_", "TWILIO_")) or name == "PORT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def maya(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command as its script does; the exit code."""
    monkeypatch.setattr(sys, "argv", ["maya", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"maya {command}" in result.output


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, infra.cli\n"
        "heavy = {'numpy', 'fastapi', 'onnxruntime', 'matplotlib', 'faster_whisper', 'llama_cpp', 'twilio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "auth token"),
        (["serve", "--insecure", "--host", "0.0.0.0"], "this machine only"),
        (["serve", "--insecure", "--public-url", "https://maya.example.com"], "public URL"),
        (["serve", "--profile", "huge"], "--profile"),
        (["serve", "--insecure", "--profile", "scripted", "--persona", "none.toml"], "none.toml"),
        (["serve", "--config", "none.toml"], "none.toml"),
        (["simulate", "none.yaml"], "none.yaml"),
        (["demo", "--scenario", "none.yaml"], "none.yaml"),
        (["timeline", "nowhere"], "nowhere"),
        (["say", "** 🙂 **", "--profile", "scripted"], "nothing to say"),
        (["say", "Hello.", "--profile", "scripted", "--out", "nowhere/x.wav"], "nowhere"),
        (["say", "Hello.", "--profile", "scripted", "--persona", "none.toml"], "none.toml"),
        (["say", "Hello.", "--tts", "nobody"], "nobody"),
        (["models", "pull"], "--profile embedded"),
        (["models", "pull", "gpt"], "whisper-base"),
        (["models", "pull", "--profile", "gpt"], "embedded"),
        (["twilio", "check"], "TWILIO_ACCOUNT_SID"),
        (["twilio", "configure", "+15550100123"], "TWILIO_AUTH_TOKEN"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert maya(monkeypatch, *arguments) == EXIT_USER
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.startswith("maya: ")
    assert "Traceback" not in output.err
    assert output.out == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_text_is_said_into_a_file_and_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    arguments = ["say", "We open at 8.", "--out", "x.wav", "--profile", "scripted"]
    assert maya(monkeypatch, *arguments, *(["--json"] if as_json else [])) == 0
    with wave.open("x.wav") as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(0.06 * len("We open at eight."))
    output = capsys.readouterr().out
    if as_json:
        figures = json.loads(output)
        assert (figures["file"], figures["sample_rate_hz"], figures["clauses"]) == ("x.wav", 24_000, 1)
        assert figures["first_audio_ms"] > 0
        assert figures["rtf"] == pytest.approx(figures["took_s"] / figures["audio_s"], abs=1e-3)
    else:
        assert "first audio after" in output
        assert "RTF" in output


def test_typos_in_a_scenario_are_named_with_their_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "call.yaml").write_text("name: x\nsteps:\n  - listen\n  - sya: hello\n")
    assert maya(monkeypatch, "simulate", "call.yaml") == EXIT_USER
    assert "call.yaml:4" in capsys.readouterr().err


def test_typos_in_the_settings_are_named_with_their_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "maya.toml").write_text('host = "127.0.0.1"\nprot = 8080\n')
    assert maya(monkeypatch, "serve", "--insecure") == EXIT_USER
    said = capsys.readouterr().err
    assert "maya.toml:2" in said
    assert '"port"' in said


def test_a_mistake_of_our_own_goes_to_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*_: object) -> Path:
        raise RuntimeError("the roof fell in")

    monkeypatch.setattr("infra.timeline.render_timeline", broken)
    assert maya(monkeypatch, "timeline", ".") == EXIT_BUG
    said = capsys.readouterr().err
    assert "the roof fell in" in said
    assert "Traceback" not in said
    (kept,) = (tmp_path / "cache" / "maya" / "errors").iterdir()
    assert str(kept) in said
    assert "Traceback" in kept.read_text()


def test_interrupting_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.report(KeyboardInterrupt()) == errors.EXIT_INTERRUPTED
    assert "stopped" in capsys.readouterr().err


def test_an_absent_package_is_named_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert errors.report(ModuleNotFoundError("no", name="matplotlib")) == EXIT_USER
    assert "pip install 'maya-voice[plots]'" in capsys.readouterr().err
    for package, mend in (
        ("torch.cuda", "'maya-voice[csm]'"),
        ("pyarrow", "'maya-voice[finetune]'"),
        ("llama_cpp", "'maya-voice[speech]'"),
        ("numpy", "pip install maya-voice,"),
        ("moshi", "environment of its own"),
    ):
        assert errors.report(ModuleNotFoundError("no", name=package)) == EXIT_USER
        assert mend in capsys.readouterr().err
    assert errors.report(ModuleNotFoundError("no", name="infra.gone")) == EXIT_BUG


def test_timeline_prints_the_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = constructed_call(tmp_path)
    assert maya(monkeypatch, "timeline", str(folder)) == 0
    assert capsys.readouterr().out.strip() == str(folder / "timeline.png")


def test_models_list_is_json_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MAYA_MODELS", str(tmp_path))
    assert maya(monkeypatch, "models", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} >= {"whisper-base", "silero-vad"}
    assert all(row["state"] == "missing" for row in rows)


def test_models_list_fits_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MAYA_MODELS", str(tmp_path))
    assert maya(monkeypatch, "models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["csm-1b", "6.2", "GB", "hub", "missing"] for line in lines)
    assert any(line.startswith("qwen2.5-coder-1.5b-q4_0") and "made here" in line for line in lines)


def test_what_cannot_be_spoken_into_or_measured_on_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert maya(monkeypatch, "say", "Hello.", "--out", str(tmp_path)) == EXIT_USER
    assert "is a folder" in capsys.readouterr().err
    assert maya(monkeypatch, "bench", "csm", "--device", "gpu") == EXIT_USER
    assert "it is cpu or cuda" in capsys.readouterr().err
    assert maya(monkeypatch, "finetune", "gate", "--corpus", str(tmp_path / "no")) == EXIT_USER
    assert "does not exist" in capsys.readouterr().err


def test_doctor_names_what_is_missing_and_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MAYA_MODELS", str(tmp_path))
    assert maya(monkeypatch, "doctor", "--json") == 1
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["model whisper-base"]["verdict"] == "missing"
    assert findings["model whisper-base"]["mend"] == "maya models pull whisper-base"
    assert findings["TWILIO_AUTH_TOKEN"]["verdict"] == "note"
    assert findings["python"]["verdict"] == "ok"


def test_doctor_shows_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "b3a9c1-very-secret")
    maya(monkeypatch, "doctor")
    output = capsys.readouterr()
    assert "TWILIO_AUTH_TOKEN" in output.out
    assert "very-secret" not in output.out + output.err
