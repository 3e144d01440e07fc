from pathlib import Path

import numpy as np
import pytest

from bench import hearing
from bench.noises import noises
from bench.sentences import SENTENCES, normalise, word_errors
from models.base import ModelError


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Can I come in at nine thirty?", "can I come in at 9.30"),
        ("nine thirty a.m.", "9:30 AM"),
        ("the fourteenth of March at half past two", "The 14th of March at half-past 2."),
        ("it costs one hundred and twenty dollars", "It costs $120"),
        ("one thousand two hundred", "1,200"),
        ("five five five, zero one four two", "555-0142"),
        ("seven oh five", "705"),
        ("twenty five dollars twice", "$25 twice"),
        ("after five o'clock", "after 5:00"),
        ("from the third to the twenty first", "from the 3rd to the 21st"),
        ("two thousand and five", "2005"),
        ("four dollars fifty", "$4.50"),
        ("all right, okay, good bye", "Alright, OK. Goodbye!"),
        ("that’s it", "That's it."),
        ("ten percent", "10%"),
    ],
)
def test_what_sounds_the_same_counts_as_equal(said: str, written: str) -> None:
    assert normalise(said) == normalise(written)


@pytest.mark.parametrize(
    ("said", "written"),
    [("fifteen", "fifty"), ("oh yes", "0 yes"), ("cost", "costs"), ("twenty five", "twenty")],
)
def test_what_sounds_different_does_not(said: str, written: str) -> None:
    assert normalise(said) != normalise(written)


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [("a b c", "a b c", 0), ("a b c", "", 3), ("", "a", 1), ("a b c", "a x c d", 2), ("a b c d", "b c d", 1)],
)
def test_word_errors_are_the_cheapest_edits(reference: str, heard: str, errors: int) -> None:
    assert word_errors(reference.split(), heard.split()) == errors


def test_there_are_enough_different_sentences() -> None:
    assert len(set(SENTENCES)) >= 40


def test_noises_are_deterministic_finite_and_at_their_peak() -> None:
    first, again = noises(0.6, 16_000, peak=0.3), noises(0.6, 16_000, peak=0.3)
    assert len(first) >= 10
    for name, sound in first.items():
        np.testing.assert_array_equal(sound, again[name])
        assert len(sound) == 9_600 and np.abs(sound).max() == pytest.approx(0.3)


def test_a_folder_without_transcripts_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"transcripts\.csv"):
        hearing.run(model="whisper-tiny.en", speech_dir=tmp_path, voices=(), latency=False)


@pytest.mark.models
def test_a_short_run_gives_the_agreed_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    from telephony.simulator.voices import speak

    soundfile.write(tmp_path / "one.wav", speak("What time do you close today?", "ruth"), 8_000)
    (tmp_path / "transcripts.csv").write_text("file|text\none.wav|What time do you close today?\n")
    monkeypatch.setattr(hearing, "NOISE_LENGTHS_S", (0.6,))
    report = hearing.run(
        model="whisper-tiny.en", speech_dir=tmp_path, voices=("ruth", "lily"), sentences=4, latency=False
    )
    assert report.figures["wer"] <= 0.2 and report.figures["wer_n"] == 2 * sum(
        len(normalise(text)) for text in SENTENCES[:4]
    )
    assert report.figures["wer_human"] == 0.0
    assert report.figures["noise_with_text"] == 0.0
    assert set(report.details["wer_by_voice"]) == {"ruth", "lily", "human"}
