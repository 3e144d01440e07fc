import json
import logging
import wave
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from infra.records.folder import new_call_folder
from infra.records.recorder import CallRecords
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    TurnTimes,
)
from pipeline.line import LineInfo, Pcm

INFO = LineInfo("CA123", "twilio", caller="+491", called="+492")
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def tone(value: int, n_samples: int = 160) -> Pcm:
    return np.full(n_samples, value, dtype=np.int16)


def records(root: Path) -> CallRecords:
    return CallRecords(root, inline=True, clock=lambda: MIDNIGHT)


def read_wav(path: Path) -> tuple[Pcm, Pcm]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        both = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    return both[:, 0], both[:, 1]


CONVERSATION: list[CallEvent] = [
    CallStarted(0.0, INFO, "clinic"),
    AgentClause(0.0, 0, "Hello."),
    AgentTurn(0.9, 0, "Hello.", "Hello.", False, TurnTimes(0)),
    CallerSpoke(1.0, 2.5),
    CallerTurn(3.2, 1, "When are you open?"),
    AgentClause(3.9, 1, "From nine"),
    AgentTurn(5.0, 1, "From nine to five.", "From nine", True, TurnTimes(1, speech_end_s=2.5)),
    KeyReceived(5.1, "5"),
    Fault(5.2, "voice", "it broke"),
    CallEnded(6.0, "caller hung up", "completed", {"unknown events": 2}),
]


def test_both_voices_stand_at_their_place_whatever_the_order(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(CallStarted(0.0, INFO, "clinic"))
    for index in range(100):
        recorder.observe(CallerAudio(index * 160, tone(index + 1)))
    recorder.observe(AgentAudio(8000, tone(-7, 800)))  # a gap before it
    recorder.observe(AgentAudio(4000, tone(-5, 320)))  # late news of earlier audio
    recorder.observe(AgentAudio(20_000, tone(-9, 100)))  # plays on after the caller's last sample
    recorder.observe(CallEnded(2.6, "goodbye", "completed"))
    caller, agent = read_wav(tmp_path / "CA123" / "recording.wav")
    assert len(caller) == 20_100
    expected_caller = np.zeros(20_100, dtype=np.int16)
    expected_caller[:16_000] = np.repeat(np.arange(1, 101, dtype=np.int16), 160)
    expected_agent = np.zeros(20_100, dtype=np.int16)
    expected_agent[8000:8800], expected_agent[4000:4320], expected_agent[20_000:] = -7, -5, -9
    np.testing.assert_array_equal(caller, expected_caller)
    np.testing.assert_array_equal(agent, expected_agent)


def test_an_hour_with_lost_stretches_does_not_drift(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    for second in range(0, 3600, 7):  # one second kept of each seven
        recorder.observe(CallerAudio(second * 8000, tone(second % 30_000 + 1, 8000)))
    recorder.observe(CallEnded(3600.0, "limit", "completed"))
    caller, _ = read_wav(tmp_path / "CA123" / "recording.wav")
    starts = np.flatnonzero(np.diff(np.concatenate(([0], caller != 0)).astype(int)) == 1)
    np.testing.assert_array_equal(starts, np.arange(0, 3600, 7) * 8000)


def test_a_crash_in_the_middle_leaves_what_was_said_and_a_file_that_plays(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    for event in CONVERSATION[:7]:
        recorder.observe(event)
    for index in range(105):
        recorder.observe(CallerAudio(index * 160, tone(100)))
    # Nothing ends the call, nothing closes the file.
    caller, agent = read_wav(tmp_path / "CA123" / "recording.wav")
    assert 105 * 160 - 4000 <= len(caller) == len(agent)
    assert (caller == 100).all()
    transcript = json.loads((tmp_path / "CA123" / "transcript.json").read_text())
    assert transcript["outcome"] is None
    assert [turn["caller"] for turn in transcript["turns"]] == ["", "When are you open?"]


def test_the_transcript_tells_the_call(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    for event in CONVERSATION:
        recorder.observe(event)
    folder = tmp_path / "CA123"
    transcript = json.loads((folder / "transcript.json").read_text())
    assert transcript["call"] == {
        "id": "CA123",
        "line": "twilio",
        "caller": "+491",
        "called": "+492",
        "persona": "clinic",
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_s": 6.0,
    }
    assert transcript["outcome"] == {
        "outcome": "completed",
        "reason": "caller hung up",
        "counters": {"unknown events": 2},
    }
    turn = transcript["turns"][1]
    assert (turn["caller"], turn["agent"], turn["heard"], turn["interrupted"]) == (
        "When are you open?",
        "From nine to five.",
        "From nine",
        True,
    )
    assert turn["times"]["speech_end_s"] == 2.5
    assert transcript["keys"] == [{"at_s": 5.1, "digit": "5"}]
    assert transcript["faults"] == [{"at_s": 5.2, "where": "voice", "detail": "it broke"}]
    assert transcript["utterances"] == [{"start_s": 1.0, "end_s": 2.5}]
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events == [type(event).__name__ for event in CONVERSATION]
    assert not list(folder.glob("*.part"))


def test_a_caller_who_goes_on_before_the_answer_has_one_turn(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(CallerTurn(3.0, 1, "Sorry."))
    recorder.observe(CallerTurn(5.0, 1, "Sorry. Where can I park?"))
    recorder.observe(AgentTurn(7.0, 1, "Behind the house.", "Behind the house.", False, TurnTimes(1)))
    recorder.observe(CallerTurn(9.0, 2, "And by bus?"))
    recorder.observe(CallEnded(10.0, "caller hung up", "completed"))
    transcript = json.loads((tmp_path / "CA123" / "transcript.json").read_text())
    assert [turn["caller"] for turn in transcript["turns"]] == ["Sorry. Where can I park?", "And by bus?"]


def test_the_same_call_is_written_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        recorder = records(tmp_path / name).observer(INFO)
        for event in CONVERSATION:
            recorder.observe(event)
    for file in ("transcript.json", "events.jsonl", "recording.wav"):
        assert (tmp_path / "a" / "CA123" / file).read_bytes() == (
            tmp_path / "b" / "CA123" / file
        ).read_bytes()


@pytest.mark.parametrize(
    "call_id", ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "x" * 5000, "", "CA 1\n"]
)
def test_a_call_id_cannot_leave_the_folder(tmp_path: Path, call_id: str) -> None:
    root = tmp_path / "calls"
    folder = new_call_folder(root, call_id)
    assert folder.resolve().parent == root.resolve()


def test_a_repeated_call_id_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    names = [new_call_folder(tmp_path, "CA1").name for _ in range(3)]
    assert names == ["CA1", "CA1-2", "CA1-3"]


def test_a_disk_that_refuses_everything_is_logged_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "calls").write_text("a file where the folder should be")
    recorder = records(tmp_path / "calls").observer(INFO)
    with caplog.at_level(logging.ERROR):
        for event in CONVERSATION:
            recorder.observe(event)
    assert len(caplog.records) == 1
    assert recorder.folder is None


def test_a_disk_that_fails_for_the_audio_leaves_the_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infra.records.sound.TwoChannelWav.write", full)
    recorder = records(tmp_path).observer(INFO)
    with caplog.at_level(logging.ERROR):
        for event in CONVERSATION[:3]:
            recorder.observe(event)
        for index in range(200):
            recorder.observe(CallerAudio(index * 160, tone(1)))
        for event in CONVERSATION[3:]:
            recorder.observe(event)
    assert [record.getMessage() for record in caplog.records] == [
        "call CA123: its recording.wav cannot be written ([Errno 28] No space left on device); "
        "calls go on, and whatever else fails is told when recordings are written again"
    ]
    assert (
        json.loads((tmp_path / "CA123" / "transcript.json").read_text())["outcome"]["outcome"] == "completed"
    )


def test_the_thread_writes_everything_that_was_handed_over(tmp_path: Path) -> None:
    threaded = CallRecords(tmp_path)
    recorders = [threaded.observer(LineInfo(f"CA{n}", "twilio")) for n in range(5)]
    for index in range(50):
        for recorder in recorders:
            recorder.observe(CallerAudio(index * 160, tone(3)))
    recorders[0].observe(CallEnded(1.0, "goodbye", "completed"))
    threaded.close()
    assert len(list(tmp_path.iterdir())) == 5
    for n in range(5):
        caller, _ = read_wav(tmp_path / f"CA{n}" / "recording.wav")
        assert len(caller) == 8000


def test_a_stalled_disk_costs_audio_but_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    stalled = threading.Event()
    write = CallRecords._write

    def wait_first(self: CallRecords, *item: object) -> None:
        stalled.wait(10)
        write(self, *item)  # type: ignore[arg-type]

    monkeypatch.setattr(CallRecords, "_write", wait_first)
    monkeypatch.setattr("infra.records.recorder._QUEUE_EVENTS", 100)
    threaded = CallRecords(tmp_path)
    recorder = threaded.observer(INFO)
    for index in range(1000):
        recorder.observe(CallerAudio(index * 160, tone(3)))
    for event in CONVERSATION:
        recorder.observe(event)
    assert threaded.dropped >= 890
    stalled.set()
    threaded.close()
    transcript = json.loads((tmp_path / "CA123" / "transcript.json").read_text())
    assert len(transcript["turns"]) == 2
