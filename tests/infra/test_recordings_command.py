"""`maya recordings` on calls that were kept readable and encrypted."""

import json
import os
import sys
import time
import wave
from pathlib import Path

import pytest

from infra import cli
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.records.recorder import CallRecords
from pipeline.events import CallEnded, CallerAudio, CallerTurn, CallStarted
from pipeline.line import LineInfo
from tests.infra.records_kit import KEY, OLD_KEY, as_text
from tests.infra.test_records_recorder import tone


@pytest.fixture(autouse=True)
def clean_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MAYA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MAYA_RECORDINGS_KEY", as_text(KEY))
    monkeypatch.chdir(tmp_path)


def call(name: str, *, encrypt: bool, ended: bool = True) -> Path:
    info = LineInfo(name, "twilio", "+4930111")
    policy, keys = RecordingPolicy(encrypt=encrypt), KeyRing([KEY])
    recorder = CallRecords(Path("calls"), policy, keys, inline=True).observer(info)
    recorder.observe(CallStarted(0.0, info, "clinic"))
    recorder.observe(CallerAudio(0, tone(5, 8000)))
    recorder.observe(CallerTurn(1.0, 1, "When are you open?"))
    if ended:
        recorder.observe(CallEnded(2.0, "caller hung up", "completed"))
    else:
        recorder.finish()
    return Path("calls") / name


def maya(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maya", "recordings", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_list_shows_every_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call("CA1", encrypt=True)
    call("CA2", encrypt=False)
    assert maya(monkeypatch, "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["files"], row["turns"], row["outcome"]) for row in rows] == [
        ("CA1", "encrypted", 1, "completed: caller hung up"),
        ("CA2", "readable", 1, "completed: caller hung up"),
    ]
    monkeypatch.setenv("MAYA_RECORDINGS_KEY", as_text(OLD_KEY))
    assert maya(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    assert "key not at hand" in out
    assert "+4930111" in out


def test_export_makes_readable_copies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = call("CA1", encrypt=True)
    assert maya(monkeypatch, "export", str(folder), "--to", "out") == 0
    with wave.open("out/CA1/recording.wav") as file:
        assert file.getnframes() == 8000
    assert "When are you open?" in Path("out/CA1/transcript.json").read_text()
    assert maya(monkeypatch, "export", str(folder), "--to", "out") == 2
    assert "exists already" in capsys.readouterr().err


def test_verify_tells_damage_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call("CA1", encrypt=False)
    folder = call("CA2", encrypt=True)
    assert maya(monkeypatch, "verify") == 0
    assert capsys.readouterr().out == "2 of 2 calls are whole\n"
    events = folder / "events.sealed"
    events.write_bytes(events.read_bytes()[:-1])
    assert maya(monkeypatch, "verify") == 0
    assert "events.sealed: ended early" in capsys.readouterr().out
    events.write_bytes(events.read_bytes()[:80] + b"\0" + events.read_bytes()[81:])
    assert maya(monkeypatch, "verify", str(folder), "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)
    states = {file["name"]: file["state"] for file in found["files"]}
    assert states == {"recording.sealed": "whole", "transcript.sealed": "whole", "events.sealed": "damaged"}


def test_the_wrong_key_is_a_sentence_and_not_damage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = call("CA1", encrypt=True)
    monkeypatch.setenv("MAYA_RECORDINGS_KEY", as_text(OLD_KEY))
    for arguments in (("verify",), ("export", str(folder), "--to", "out")):
        assert maya(monkeypatch, *arguments) == 2
        assert f"encrypted with key {KEY}, which is not at hand" in capsys.readouterr().err
    Path("keys").write_text(as_text(KEY))
    assert maya(monkeypatch, "verify", "--key-file", "keys") == 0
    monkeypatch.setenv("MAYA_RECORDINGS_KEY", "hunter2")
    assert maya(monkeypatch, "list") == 2
    assert "maya recordings key" in capsys.readouterr().err


def test_prune_deletes_what_is_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = call("CA1", encrypt=True), call("CA2", encrypt=False)
    month_ago = time.time() - 31 * 86_400
    for path in old.iterdir():
        os.utime(path, (month_ago, month_ago))
    assert maya(monkeypatch, "prune") == 2
    assert "--older-than 30" in capsys.readouterr().err
    assert maya(monkeypatch, "prune", "--older-than", "30", "--dry-run") == 0
    assert old.exists()
    assert maya(monkeypatch, "prune", "--older-than", "30") == 0
    assert "calls/CA1" in capsys.readouterr().out
    assert (old.exists(), new.exists()) == (False, True)


def test_key_makes_one_that_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maya(monkeypatch, "key") == 0
    key = capsys.readouterr().out.strip()
    assert len(KeyRing.load({"MAYA_RECORDINGS_KEY": key})) == 1


def test_the_timeline_of_an_encrypted_call_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = call("CA1", encrypt=True)
    monkeypatch.setattr(sys, "argv", ["maya", "timeline", str(folder)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    assert (folder / "timeline.png").stat().st_size > 1000


def test_an_empty_place_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert maya(monkeypatch, "list") == 2
    assert "calls: No such file" in capsys.readouterr().err
    Path("empty").mkdir()
    assert maya(monkeypatch, "verify", "empty") == 2
    assert "empty holds no call" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "export", "verify", "prune", "key"])
def test_every_help_shows_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert maya(monkeypatch, command, "--help") == 0
    assert f"maya recordings {command}" in capsys.readouterr().out
