import json
import logging
import subprocess
import sys
import threading
import wave
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from infra.records.folder import new_call_folder
from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.pauses import NOT_RECORDED
from infra.records.policy import RecordingPolicy
from infra.records.reader import CallFolder
from infra.records.recorder import CallRecorder, CallRecords
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
    CallTransferred,
    Fault,
    KeyReceived,
    KeysEntered,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo, Pcm
from tests.infra.records_kit import KEY, as_text

INFO = LineInfo("CA123", "twilio", caller="+491", called="+492")
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def tone(value: int, n_samples: int = 160) -> Pcm:
    return np.full(n_samples, value, dtype=np.int16)


def records(root: Path, **rules: object) -> CallRecords:
    policy = RecordingPolicy.model_validate(rules)
    return CallRecords(root, policy, KeyRing([KEY]), inline=True, clock=lambda: MIDNIGHT)


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


def test_the_transcript_tells_what_the_agent_did(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(CallStarted(0.0, INFO, "clinic"))
    recorder.observe(KeysEntered(1.0, "4711", "terminator"))
    recorder.observe(ToolRan(2.0, 1, "beds", {"ward": "two"}, "ok", 0.2, "three"))
    recorder.observe(MessageTaken(3.0, 2, "Ann", "+491", "Call me back."))
    recorder.observe(CallTransferred(4.0, 3, "desk", "+492"))
    transcript = json.loads((tmp_path / "CA123" / "transcript.json").read_text())
    assert [each["digits"] for each in transcript["entered"]] == ["4711"]
    assert [(each["name"], each["arguments"]) for each in transcript["tools"]] == [("beds", {"ward": "two"})]
    assert [each["text"] for each in transcript["messages"]] == ["Call me back."]
    assert transcript["transferred"]["target"] == "+492"


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


@pytest.mark.parametrize("encrypt", [False, True])
def test_encrypted_or_not_the_same_call_is_read(tmp_path: Path, encrypt: bool) -> None:
    recorder = records(tmp_path, encrypt=encrypt).observer(INFO)
    for event in CONVERSATION[:-1]:
        recorder.observe(event)
    recorder.observe(CallerAudio(0, tone(5, 9000)))
    recorder.observe(AgentAudio(4000, tone(-5, 320)))
    recorder.observe(CallerAudio(9000, tone(6, 100)))
    recorder.observe(AgentAudio(2000, tone(-6, 100)))  # late news of earlier audio
    recorder.observe(CONVERSATION[-1])
    folder = CallFolder(tmp_path / "CA123", KeyRing([KEY]))
    names = {path.name for path in folder.path.iterdir()}
    assert names == (
        {"recording.sealed", "transcript.sealed", "events.sealed"}
        if encrypt
        else {"recording.wav", "transcript.json", "events.jsonl"}
    )
    expected = np.zeros((9100, 2), np.int16)
    expected[:9000, 0], expected[9000:, 0], expected[4000:4320, 1], expected[2000:2100, 1] = 5, 6, -5, -6
    np.testing.assert_array_equal(folder.audio(), expected)
    assert [turn["caller"] for turn in folder.transcript()["turns"]] == ["", "When are you open?"]
    assert [event["event"] for event in folder.events()] == [type(event).__name__ for event in CONVERSATION]
    assert {state.state for state in folder.verify()} == {"whole"}
    if encrypt:
        data = b"".join(path.read_bytes() for path in folder.path.iterdir())
        assert not any(secret in data for secret in (b"open", b"+491", b"clinic", tone(5, 8).tobytes()))


def test_whoever_encrypts_needs_a_key_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(RecordingKeyError, match="maya recordings key"):
        CallRecords(tmp_path, RecordingPolicy(encrypt=True))


def test_a_folder_is_its_owners_alone(tmp_path: Path) -> None:
    assert new_call_folder(tmp_path, "CA1").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_pause_is_silence_and_no_words(tmp_path: Path, encrypt: bool) -> None:
    recorder = records(tmp_path, encrypt=encrypt).observer(INFO)
    recorder.observe(CallStarted(0.0, INFO, "clinic"))
    for second in range(6):
        if second == 2:
            recorder.observe(RecordingPaused(2.0, "card number"))
        if second == 4:
            recorder.observe(CallerSpoke(2.2, 3.1))
            recorder.observe(CallerTurn(3.6, 1, "4111 1111"))
            recorder.observe(KeyReceived(3.8, "7"))
            recorder.observe(RecordingResumed(4.0))
        for packet in range(50):
            recorder.observe(CallerAudio(second * 8000 + packet * 160, tone(9)))
        recorder.observe(AgentAudio(second * 8000, tone(-9, 8000)))
    recorder.observe(CallEnded(6.0, "goodbye", "completed"))
    folder = CallFolder(tmp_path / "CA123", KeyRing([KEY]))
    audio = folder.audio()
    assert len(audio) == 48_000
    assert (audio[:16_000] == (9, -9)).all()
    assert not audio[16_000:32_000].any()
    assert (audio[32_000:] == (9, -9)).all()
    document = folder.transcript()
    assert document["turns"][0]["caller"] == NOT_RECORDED
    assert document["keys"] == [{"at_s": 3.8, "digit": NOT_RECORDED}]
    assert document["pauses"] == [{"from_s": 2.0, "to_s": 4.0, "why": "card number"}]
    assert "4111" not in json.dumps(folder.events())


def test_a_pause_at_the_very_end_leaves_the_length(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(CallerAudio(0, tone(9, 8000)))
    recorder.observe(RecordingPaused(1.0, "card number"))
    recorder.observe(CallerAudio(8000, tone(9, 8000)))
    recorder.observe(CallEnded(2.0, "goodbye", "completed"))
    caller, _ = read_wav(tmp_path / "CA123" / "recording.wav")
    np.testing.assert_array_equal(np.flatnonzero(caller), np.arange(8000))
    assert len(caller) == 16_000


@pytest.mark.parametrize("keep", ["words", "audio"])
def test_only_what_is_wanted_is_kept(tmp_path: Path, keep: str) -> None:
    recorder = records(tmp_path, keep=keep).observer(INFO)
    for event in (CallerAudio(0, tone(9, 8000)), *CONVERSATION):
        recorder.observe(event)
    folder = tmp_path / "CA123"
    names = {path.name for path in folder.iterdir()}
    assert names - {"transcript.json", "events.jsonl"} == ({"recording.wav"} if keep == "audio" else set())
    kept = "When are you open?" in (folder / "events.jsonl").read_text()
    assert kept == (keep == "words")
    assert json.loads((folder / "transcript.json").read_text())["outcome"]["outcome"] == "completed"


def test_where_nothing_is_recorded_nothing_is_written(tmp_path: Path) -> None:
    recorder = records(tmp_path / "calls", enabled=False).observer(INFO)
    for event in CONVERSATION:
        recorder.observe(event)
    assert not (tmp_path / "calls").exists()


def test_a_voice_that_fell_silent_is_written_while_the_other_goes_on(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(AgentAudio(0, tone(-9, 1600)))
    for index in range(60):
        recorder.observe(CallerAudio(index * 160, tone(9)))
    _, agent = read_wav(tmp_path / "CA123" / "recording.wav")
    assert (agent[:1600] == -9).all()


def test_the_operator_hears_of_a_full_disk_once_and_of_its_end_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = records(tmp_path)

    def call(number: int) -> None:
        info = LineInfo(f"CA{number}", "twilio")
        recorder = kept.observer(info)
        for event in (CallStarted(0.0, info, "clinic"), CallerAudio(0, tone(1, 8000)), *CONVERSATION[1:]):
            recorder.observe(event)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING), monkeypatch.context() as disk:
        disk.setattr("infra.records.sound.write_all", full)
        disk.setattr("infra.records.storage.write_all", full)
        for number in range(5):
            call(number)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    with caplog.at_level(logging.WARNING):
        for number in range(5, 8):
            call(number)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.records[1].getMessage().startswith("recordings are written again; 15 file(s)")


def test_a_disk_that_becomes_full_within_a_chunk_leaves_a_readable_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = records(tmp_path, encrypt=True).observer(INFO)
    recorder.observe(CallerAudio(0, tone(1, 8000)))

    def half(file: BinaryIO, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("infra.records.sealed.write_all", half)
        recorder.observe(CallerAudio(8000, tone(1, 8000)))
    recorder.observe(CallerAudio(16_000, tone(1, 8000)))
    for event in CONVERSATION:
        recorder.observe(event)
    folder = CallFolder(tmp_path / "CA123", KeyRing([KEY]))
    assert len(folder.audio()) == 8000
    states = {state.name: state.state for state in folder.verify()}
    assert states["events.sealed"] == states["transcript.sealed"] == "whole"
    assert states["recording.sealed"] != "whole"


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
import infra.records.recorder
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.records.recorder import CallRecords
from pipeline.events import AgentAudio, CallStarted, CallerAudio, CallerTurn
from pipeline.line import LineInfo

infra.records.recorder._GATHER_S = 0.001
root, encrypt = Path(sys.argv[1]), sys.argv[2] == "True"
keys = KeyRing.load({"MAYA_RECORDINGS_KEY": sys.argv[3]})
records = CallRecords(root, RecordingPolicy(encrypt=encrypt), keys)
info = LineInfo("CA1", "twilio")
recorder = records.observer(info)
recorder.observe(CallStarted(0.0, info, "clinic"))
for packet in range(10**6):
    recorder.observe(CallerAudio(packet * 160, np.full(160, 1 + packet % 30_000, np.int16)))
    recorder.observe(AgentAudio(packet * 160, np.full(160, -1 - packet % 30_000, np.int16)))
    if packet % 50 == 49:
        recorder.observe(CallerTurn((packet + 1) / 50, (packet + 1) // 50, "a turn"))
    while records.backlog:
        time.sleep(0)
    print(packet + 1, flush=True)
"""
"""A call that tells of every 20 ms once they are out of its hands."""


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_killed_process_loses_at_most_a_second(tmp_path: Path, encrypt: bool) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(encrypt), as_text(KEY)]
    told = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(line)
            if len(told) == 333:
                process.kill()
    packets = sum(line.endswith("\n") for line in told)
    folder = CallFolder(tmp_path / "CA1", KeyRing([KEY]))
    audio = folder.audio()
    certain = packets * 160 - 8000
    assert certain > 30_000
    assert len(audio) >= certain
    expected = np.repeat(1 + np.arange(packets) % 30_000, 160)[:certain]
    np.testing.assert_array_equal(audio[:certain], np.stack([expected, -expected], axis=1))
    assert len(folder.transcript()["turns"]) >= packets // 50
    assert [event["event"] for event in folder.events()].count("CallerTurn") >= packets // 50
    assert not folder.live
    states = {state.name.partition(".")[0]: state.state for state in folder.verify()}
    assert "damaged" not in states.values()
    assert states["events"] == "ended early"


def test_what_a_stalled_line_left_is_written_without_more_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.records.recorder._IDLE_S", 0.01)
    flushed = threading.Event()
    flush = CallRecorder.flush

    def flush_and_tell(self: CallRecorder) -> None:
        flush(self)
        flushed.set()

    monkeypatch.setattr(CallRecorder, "flush", flush_and_tell)
    threaded = CallRecords(tmp_path)
    threaded.observer(INFO).observe(CallerAudio(0, tone(3, 1000)))
    assert flushed.wait(20)
    caller, _ = read_wav(tmp_path / "CA123" / "recording.wav")
    assert len(caller) == 1000
    threaded.close()


def test_a_call_is_live_until_it_ends(tmp_path: Path) -> None:
    recorder = records(tmp_path).observer(INFO)
    recorder.observe(CONVERSATION[0])
    folder = CallFolder(tmp_path / "CA123")
    assert folder.live
    recorder.observe(CONVERSATION[-1])
    assert not folder.live
