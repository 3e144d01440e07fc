import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from infra.timeline import STAGES, Gap, TimelineError, read_drawing, render_timeline
from tests.infra.call_files import ANSWERED, ASKED, GREETING, constructed_call


def test_the_drawing_holds_the_words_the_stages_and_the_interruption(tmp_path: Path) -> None:
    drawing = read_drawing(constructed_call(tmp_path))
    assert [words.text for words in drawing.caller_words] == ASKED
    heard = [words.text for words in drawing.agent_words]
    assert heard[:2] == [GREETING, ANSWERED[0]]
    assert f"{heard[2]} {drawing.agent_words[2].unheard}" == ANSWERED[1]
    assert len(drawing.interruptions_s) == 1
    first = [bar for bar in drawing.bars if bar.start_s >= drawing.gaps[0][0]][: len(STAGES)]
    assert [bar.text for bar in first][:5] == [
        "end-of-turn wait 700 ms",
        "transcription 390 ms",
        "first token 430 ms",
        "first clause 300 ms",
        "first audio 60 ms",
    ]
    assert all(round(gap.end_s - gap.start_s, 2) == 1.34 for gap in drawing.gaps)


def test_gaps_are_what_was_audible_and_ducks_are_short(tmp_path: Path) -> None:
    folder = constructed_call(tmp_path)
    path = folder / "transcript.json"
    document = json.loads(path.read_text())
    times = document["turns"][1]["times"]
    times["stages"] = {"endpoint_wait_ms": 700.0, "transcription_ms": 500.0, "playout_ms": 260.4}
    times.update(audible_end_s=times["speech_end_s"] - 0.1, first_audible_s=times["first_played_s"] + 0.02)
    down = [(3.0, True), (3.4, False), (5.0, True)]
    document["turned_down"] = [{"at_s": at_s, "down": is_down} for at_s, is_down in down]
    path.write_text(json.dumps(document))
    drawing = read_drawing(folder)
    assert drawing.gaps[0].text == "gap 1.46 s = 700 + 500 + 260 ms"
    assert drawing.turned_down == [(3.0, 3.4), (5.0, 6.0)], "the second one ended with an interruption"
    render_timeline(folder)


@pytest.mark.parametrize(("turns", "ended"), [(0, True), (1, False), (4, True), (30, True)])
def test_it_draws_calls_of_any_length(tmp_path: Path, turns: int, ended: bool) -> None:
    picture = image.imread(render_timeline(constructed_call(tmp_path, turns, ended=ended)))
    assert picture.shape[1] == 1900
    assert picture.shape[0] > 400
    assert np.unique(picture.reshape(-1, picture.shape[2]), axis=0).shape[0] > 20


def test_a_picture_shows_the_recorded_voices(tmp_path: Path) -> None:
    folder = constructed_call(tmp_path)
    loud = image.imread(render_timeline(folder)).copy()
    recording = folder / "recording.wav"
    recording.write_bytes(recording.read_bytes()[:44] + bytes(recording.stat().st_size - 44))
    silent = image.imread(render_timeline(folder))
    assert (loud != silent).any(axis=2).mean() > 0.005


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(TimelineError, match="nowhere"):
        render_timeline(tmp_path / "nowhere")
    folder = constructed_call(tmp_path)
    (folder / "recording.wav").write_bytes(b"RIFF")
    with pytest.raises(TimelineError, match="cannot be drawn"):
        render_timeline(folder)
    (folder / "transcript.json").write_text(json.dumps({"turns": []})[:5])
    with pytest.raises(TimelineError, match="cannot be drawn"):
        render_timeline(folder)


@pytest.mark.parametrize(
    ("gap", "first", "second"),
    [
        (Gap(5.0, 6.0), (5.0, "left"), None),
        (Gap(15.0, 16.5), (17.0, "right"), None),
        (Gap(16.9, 18.2), None, (17.0, "left")),
        (Gap(16.0, 17.2), (17.0, "right"), None),
    ],
)
def test_a_gap_is_named_in_the_strip_that_holds_more_of_it(gap: Gap, first: object, second: object) -> None:
    assert (gap.label_at(0.0, 17.0), gap.label_at(17.0, 34.0)) == (first, second)
