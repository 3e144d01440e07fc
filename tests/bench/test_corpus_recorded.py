import wave
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import recorded


def _write(path: Path, *bursts: tuple[float, float], seconds: float) -> None:
    pcm = np.zeros(round(seconds * 16_000))
    for start_s, stop_s in bursts:
        samples = round((stop_s - start_s) * 16_000)
        time = np.arange(samples) / 16_000
        pcm[round(start_s * 16_000) :][:samples] = 6000 * np.sin(2 * np.pi * 500 * time)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(pcm.astype("<i2").tobytes())


def test_a_recording_becomes_a_turn_with_its_speakers_own_pauses(tmp_path: Path) -> None:
    _write(tmp_path / "AB12-1.wav", (0.5, 1.5), (2.1, 2.6), (2.7, 3.0), seconds=4.0)
    (tmp_path / "transcripts.csv").write_text("file|text\nAB12-1.wav|One and two, three\n")
    (turn,) = recorded(tmp_path)
    assert (turn.id, turn.voice, turn.part, turn.kind) == ("AB12-1", "ab12", "tuning", "recorded")
    assert turn.text == "One and two, three" and turn.texts == (turn.text, "")
    # The break of 0.1 s is none of its pauses; margins of up to 20 ms belong to the spans.
    (pause,) = turn.pauses_s
    assert pause == pytest.approx(0.56, abs=0.01)
    assert len(turn.pcm) / 8000 == pytest.approx(2.52, abs=0.03)
    (_, stop), (start, _) = turn.spans
    assert not turn.pcm[stop:start].any()


def test_a_table_that_names_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transcripts.csv").write_text("file|text\nmissing.wav|Words\n")
    with pytest.raises(Exception, match="missing"):
        recorded(tmp_path)
