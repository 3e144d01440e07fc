"""That the bench finds out by itself what was heard, and would notice an agent that does not know."""

import numpy as np
import pytest

from bench import heard
from bench.heard import Outcome, Token, played_part, sentences
from bench.heard_alignment import Aligner
from models.scripted import voiced_signal
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.playout import Playout
from pipeline.resample import to_pcm
from pipeline.speakable import speakable
from telephony import g711


def letters(words: list[str]) -> str:
    return "".join(character for word in words for character in word.casefold() if character.isalnum())


def test_forty_sentences_and_more_are_spoken_as_the_file_says() -> None:
    found = sentences()
    assert len({tuple(sentence) for sentence in found}) >= 40
    assert sum(len(token.spoken) > 1 for sentence in found for token in sentence) >= 15
    for sentence in found:
        text = " ".join(token.written for token in sentence)
        spoken = [word for token in sentence for word in token.spoken]
        assert letters(spoken) == letters(speakable(text).split())


def test_a_token_names_what_it_is_spoken_as() -> None:
    assert heard._token("$80|eighty_dollars") == Token("$80", ("eighty", "dollars"))
    assert heard._token("Mill") == Token("Mill", ("Mill",))


# What was played


def clean() -> Pcm:
    """Two seconds with a silence from 1.0 to 1.3 s."""
    pcm = to_pcm(np.concatenate([voiced_signal("a", 1.0, 8_000), voiced_signal("b", 1.0, 8_000)]))
    return np.concatenate([pcm[:8_000], np.zeros(2_400, np.int16), pcm[8_000:]])


def recorded(*parts: Pcm) -> Pcm:
    return g711.decode(g711.encode(np.concatenate(parts)))


def silence(samples: int) -> Pcm:
    return np.zeros(samples, np.int16)


@pytest.mark.parametrize("stop", [801, 4_000, 7_777, 12_345])
@pytest.mark.parametrize("quieter_from", [None, 640, 655, 600])
def test_the_place_where_an_answer_stops_is_found_to_the_sample(stop: int, quieter_from: int | None) -> None:
    played = clean()[:stop].astype(np.float64)
    if quieter_from is not None:
        played[quieter_from:] *= 10 ** (-15 / 20)
        played[quieter_from : quieter_from + 40] *= np.linspace(10 ** (15 / 20), 1.0, 40)
    other = to_pcm(voiced_signal("something else", 0.7, 8_000))
    recording = recorded(other, silence(3_000), played.astype(np.int16), silence(16_000))
    start, end = played_part(recording, clean(), 0)
    assert start == other.size + 3_000
    assert stop - 4 <= end - start <= stop, "the last samples may round to zero"


def test_an_answer_that_stops_in_its_own_silence_was_played_up_to_it() -> None:
    recording = recorded(silence(100), clean()[:9_000], silence(16_000))
    start, end = played_part(recording, clean(), 0)
    assert start == 100
    assert 7_990 <= end - start <= 8_000


def test_an_answer_heard_to_its_end_and_one_that_was_not_played() -> None:
    start, end = played_part(recorded(clean(), silence(800)), clean(), 0)
    assert (start, end) == (0, clean().size)
    assert played_part(recorded(silence(40_000)), clean(), 0) == (-1, -1)
    assert played_part(recorded(clean(), silence(800)), clean(), 5_000) == (-1, -1)


def test_samples_that_are_repeated_end_what_is_taken_as_played() -> None:
    played = clean()
    recording = recorded(played[:4_000], played[3_700:6_000], silence(16_000))
    start, end = played_part(recording, played, 0)
    assert 3_900 <= end - start <= 4_200


def test_outcomes_count_words_and_unreadable_recordings_as_misses() -> None:
    assert Outcome("a b c", 2, 2, 2, 100, network=False).exact
    near = Outcome("a b c", 2, 1, 2, 100, network=False)
    assert not near.exact and near.within_one
    lost = Outcome("a b c", 0, 0, 0, -1, network=False)
    assert not lost.exact and not lost.within_one


# Where words lie


@pytest.mark.models
def test_the_alignment_finds_words_where_they_were_put() -> None:
    aligner = Aligner()
    words = ["Tuesday", "morning", "seven", "patients"]
    sounds = [aligner._word(phonemes) for phonemes in aligner._phonemes(words)]
    gaps = [0, 0, 9_600, 0]
    audio = np.concatenate(
        [np.concatenate([np.zeros(gap, np.float32), sound]) for gap, sound in zip(gaps, sounds, strict=True)]
    )
    at = 0
    for (start, end), gap, sound in zip(aligner.spans(words, audio), gaps, sounds, strict=True):
        at += gap
        assert start == pytest.approx(at / 24_000, abs=0.02)
        at += sound.size
        assert end == pytest.approx(at / 24_000, abs=0.02)


@pytest.mark.models
def test_the_alignment_of_silence_and_of_no_words() -> None:
    aligner = Aligner()
    assert aligner.spans([], np.zeros(24_000, np.float32)) == []
    assert aligner.spans(["one"], np.zeros(24_000, np.float32)) == [(0.0, 0.0)]


# The whole bench


@pytest.mark.models
def test_what_was_heard_is_known_to_the_word() -> None:
    report = heard.run(interruptions=11, seed=1)
    figures = report.figures
    assert figures["heard_exact_n"] >= 11  # type: ignore[operator]
    assert figures["heard_exact"] >= 0.8  # type: ignore[operator]
    assert figures["heard_within_one"] == 1.0
    assert figures["heard_unreadable"] == 0 and figures["violations"] == 0
    assert figures["middle_deviation_mean_ms"] < 25  # type: ignore[operator]


@pytest.mark.models
def test_a_ledger_that_runs_half_a_second_ahead_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Playout.heard_samples

    def ahead(self: Playout, now: float) -> int:
        samples = honest(self, now)
        return samples + LINE_RATE_HZ // 2 if samples else 0

    monkeypatch.setattr(Playout, "heard_samples", ahead)
    report = heard.run(interruptions=8, seed=1)
    assert report.figures["heard_exact"] <= 0.3  # type: ignore[operator]
    assert report.figures["heard_more_than_heard"] >= 5  # type: ignore[operator]
