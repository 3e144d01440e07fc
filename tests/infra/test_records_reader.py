"""One way to read calls, readable or encrypted, whole or not."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.policy import RecordingPolicy
from infra.records.reader import CallFolder, EventTail, RecordingError, list_calls
from infra.records.recorder import CallRecorder, CallRecords
from pipeline.events import AgentClause, CallEnded, CallerAudio, CallerTurn, CallStarted
from pipeline.line import LineInfo
from tests.infra.records_kit import KEY, OLD_KEY

KEYS = KeyRing([KEY])
BOTH = pytest.mark.parametrize("encrypt", [False, True])


def begin(root: Path, *, encrypt: bool = True, name: str = "CA1") -> CallRecorder:
    info = LineInfo(name, "twilio", "+491")
    recorder = CallRecords(root, RecordingPolicy(encrypt=encrypt), KEYS, inline=True).observer(info)
    recorder.observe(CallStarted(0.0, info, "clinic"))
    for second in range(3):
        recorder.observe(CallerAudio(second * 8000, np.full(8000, second + 1, np.int16)))
        recorder.observe(CallerTurn(second + 1.0, second, f"question {second}"))
    return recorder


def end(recorder: CallRecorder) -> Path:
    recorder.observe(CallEnded(3.0, "goodbye", "completed"))
    assert recorder.folder is not None
    return recorder.folder


@BOTH
def test_events_can_be_followed_while_they_happen(tmp_path: Path, encrypt: bool) -> None:
    tail = EventTail(tmp_path / "CA1", KEYS)
    assert list(tail) == [], "the call has not begun"
    recorder = begin(tmp_path, encrypt=encrypt)
    with tail:
        assert [event["event"] for event in tail] == ["CallStarted", *["CallerTurn"] * 3]
        assert list(tail) == []
        recorder.observe(AgentClause(3.5, 1, "Well,"))
        assert [event["text"] for event in tail] == ["Well,"]
        end(recorder)
        assert [event["event"] for event in tail] == ["CallEnded"]


def test_half_a_line_is_not_read_before_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "CA1"
    folder.mkdir()
    with (folder / "events.jsonl").open("wb", buffering=0) as file, EventTail(folder) as tail:
        file.write(b'{"event": "a"}\n{"eve')
        assert list(tail) == [{"event": "a"}]
        file.write(b'nt": "b"}\n')
        assert list(tail) == [{"event": "b"}]


@BOTH
def test_a_copy_is_readable_and_replaces_nothing(tmp_path: Path, encrypt: bool) -> None:
    folder = CallFolder(end(begin(tmp_path / "calls", encrypt=encrypt)), KEYS)
    assert folder.encrypted == encrypt
    target = tmp_path / "out"
    assert {state.state for state in folder.export(target)} == {"whole"}
    with wave.open(str(target / "recording.wav")) as file:
        assert (file.getnframes(), file.getnchannels()) == (24_000, 2)
    np.testing.assert_array_equal(CallFolder(target).audio(), folder.audio())
    assert CallFolder(target).transcript() == folder.transcript()
    assert json.loads((target / "transcript.json").read_text())["call"]["id"] == "CA1"
    assert CallFolder(target).events() == folder.events()
    with pytest.raises(FileExistsError):
        folder.export(target)


@BOTH
def test_a_call_without_an_end_says_so_and_is_read_as_far_as_it_goes(tmp_path: Path, encrypt: bool) -> None:
    begin(tmp_path, encrypt=encrypt)
    folder = CallFolder(tmp_path / "CA1", KEYS)
    assert len(folder.audio()) == 24_000
    assert len(folder.events()) == 4
    states = {state.name.partition(".")[0]: state.state for state in folder.verify()}
    assert states["events"] == "ended early"
    if encrypt:
        assert states["recording"] == "ended early"


def test_damage_is_told_by_name_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = CallFolder(end(begin(tmp_path)), KEYS)
    path = folder.path / "recording.sealed"
    data = bytearray(path.read_bytes())
    data[-17_000] ^= 4
    path.write_bytes(data)
    by_name = {state.name: state for state in folder.verify()}
    assert by_name["recording.sealed"].state == "damaged"
    assert "altered" in by_name["recording.sealed"].detail
    assert by_name["events.sealed"].state == "whole"
    assert 0 < len(folder.audio()) < 24_000


def test_files_of_two_calls_cannot_be_mixed(tmp_path: Path) -> None:
    one = CallFolder(end(begin(tmp_path, name="CA1")), KEYS)
    other = CallFolder(end(begin(tmp_path, name="CA2")), KEYS)
    (one.path / "recording.sealed").write_bytes((other.path / "recording.sealed").read_bytes())
    damaged = {state.detail for state in one.verify() if state.state == "damaged"}
    assert damaged == {"not of the same call as recording.sealed"}
    assert not [state for state in other.verify() if state.state == "damaged"]


def test_without_the_key_one_is_told_which(tmp_path: Path) -> None:
    path = end(begin(tmp_path))
    for keys in (None, KeyRing([OLD_KEY])):
        folder = CallFolder(path, keys)
        for read in (folder.audio, folder.transcript, folder.events, folder.verify):
            with pytest.raises(RecordingKeyError, match=f"{KEY}.*MAYA_RECORDINGS_KEY"):
                read()


@pytest.mark.parametrize("name", ["recording", "transcript", "events"])
@BOTH
def test_nonsense_in_place_of_a_file_is_an_error_with_its_name(
    tmp_path: Path, name: str, encrypt: bool
) -> None:
    folder = CallFolder(end(begin(tmp_path, encrypt=encrypt)), KEYS)
    (path,) = folder.path.glob(f"{name}.*")
    read = {"recording": folder.audio, "transcript": folder.transcript, "events": folder.events}[name]
    for nonsense in (b"RIFF nonsense\n" * 9, b"\xff\xfe\n", b"[1]\n"):
        path.write_bytes(nonsense)
        with pytest.raises(RecordingError, match=path.name):
            read()
        (state,) = (state for state in folder.verify() if state.name == path.name)
        assert state.state == "damaged"


def test_calls_are_listed_and_nothing_else(tmp_path: Path) -> None:
    end(begin(tmp_path, name="CA2"))
    end(begin(tmp_path, name="CA1", encrypt=False))
    (tmp_path / "notes").mkdir()
    (tmp_path / "demo-server.log").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "CA1")
    assert [folder.path.name for folder in list_calls(tmp_path)] == ["CA1", "CA2"]
    with pytest.raises(RecordingError, match="nowhere"):
        list_calls(tmp_path / "nowhere")
