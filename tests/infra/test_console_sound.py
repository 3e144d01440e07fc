"""A recording's outline and parts, readable and encrypted."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from infra.console.ranges import UnsatisfiableRange, range_of
from infra.console.sound import SoundShelf
from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.policy import RecordingPolicy
from infra.records.reader import CallFolder, RecordingError
from infra.records.recorder import CallRecords
from pipeline.events import AgentAudio, CallEnded, CallerAudio
from pipeline.line import LineInfo
from tests.infra.records_kit import KEY

INFO = LineInfo("CA123", "twilio", "+4930111", "+4930222")


def recorded(root: Path, *, encrypt: bool = False, seconds: int = 3) -> Path:
    """The caller is loud in the first second, the agent in the second one."""
    recorder = CallRecords(root, RecordingPolicy(encrypt=encrypt), KeyRing([KEY]), inline=True).observer(INFO)
    ramp = np.linspace(-32768, 32767, 8000).astype(np.int16)
    recorder.observe(CallerAudio(0, ramp))
    recorder.observe(AgentAudio(8000, (ramp // 2).astype(np.int16)))
    recorder.observe(CallerAudio(8000, np.full(8000 * (seconds - 1), 100, np.int16)))
    recorder.observe(CallEnded(float(seconds), "caller hung up", "completed"))
    assert recorder.folder is not None
    return recorder.folder


@pytest.mark.parametrize("encrypt", [False, True])
def test_the_outline_shows_who_is_loud_when(tmp_path: Path, encrypt: bool) -> None:
    folder = recorded(tmp_path, encrypt=encrypt)
    shelf = SoundShelf(KeyRing([KEY]))
    whole, length_s = shelf.outline(folder, 0.0, 1e9, 4000)
    assert (whole.shape, length_s) == ((300, 2), 3.0)
    assert whole[0, 0] == 255, "-32768 is full scale and has no positive counterpart"
    assert whole[:100, 1].max() == 0
    assert 120 <= whole[100:200, 1].max() <= 129
    assert set(whole[200:, 0]) == {1}
    three, _ = shelf.outline(folder, 0.0, 3.0, 3)
    np.testing.assert_array_equal(three, [whole[n : n + 100].max(axis=0) for n in (0, 100, 200)])
    part, _ = shelf.outline(folder, 1.0, 1.5, 1000)
    np.testing.assert_array_equal(part, whole[100:150])
    assert shelf.outline(folder, 9.0, 9.5, 10)[0].shape == (0, 2)
    assert shelf.outline(folder, -5.0, -4.0, 10)[0].shape == (0, 2)


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize(("voice", "channels"), [("both", [0, 1]), ("caller", [0]), ("agent", [1])])
def test_any_part_of_the_file_is_what_the_whole_file_has_there(
    tmp_path: Path, encrypt: bool, voice: str, channels: list[int]
) -> None:
    folder = recorded(tmp_path, encrypt=encrypt)
    wav = SoundShelf(KeyRing([KEY])).wav(folder, voice)  # type: ignore[arg-type]
    data = wav.read(0, wav.size)
    assert len(data) == wav.size
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (len(channels), 8000, 24000)
        samples = np.frombuffer(file.readframes(24000), "<i2").reshape(-1, len(channels))
    np.testing.assert_array_equal(samples, CallFolder(folder, KeyRing([KEY])).audio()[:, channels])
    for first, stop in (
        (0, 1),
        (10, 50),
        (43, 45),
        (44, 47),
        (45, 46),
        (101, 103),
        (wav.size - 3, wav.size + 9),
    ):
        assert wav.read(first, stop) == data[first:stop], (first, stop)


def test_what_is_kept_is_bounded_and_made_anew_when_the_file_changes(tmp_path: Path) -> None:
    folders = [recorded(tmp_path, encrypt=True, seconds=seconds) for seconds in (2, 3, 4)]
    shelf = SoundShelf(KeyRing([KEY]), most_bytes=200_000)
    for folder in folders:
        shelf.outline(folder, 0.0, 9.0, 10)
        assert shelf.bytes_kept <= 200_000
    plain = recorded(tmp_path, seconds=2)
    before = shelf.wav(plain, "both")
    with (plain / "recording.wav").open("ab") as file:
        file.write(bytes(32_000))
    assert shelf.wav(plain, "both").etag != before.etag


def test_a_missing_key_and_a_missing_recording_are_told_apart(tmp_path: Path) -> None:
    folder = recorded(tmp_path, encrypt=True)
    with pytest.raises(RecordingKeyError, match="not at hand"):
        SoundShelf(KeyRing()).outline(folder, 0.0, 1.0, 10)
    with pytest.raises(RecordingError, match="no recording"):
        SoundShelf(KeyRing()).wav(tmp_path / "nowhere", "both")
    (folder / "recording.sealed").unlink()
    (folder / "recording.wav").write_bytes(b"RIFF")
    with pytest.raises(RecordingError):
        SoundShelf(KeyRing()).wav(folder, "both")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-", (0, 100)),
        ("bytes=0-9", (0, 10)),
        ("Bytes= 5 - 9 ", (5, 10)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 40 + "-", None),
        ("bytes=٣-٤", None),
    ],
)
def test_ranges(header: str, expected: tuple[int, int] | None) -> None:
    assert range_of(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=999-1000", "bytes=-0"])
def test_ranges_behind_the_end(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        range_of(header, 100)
