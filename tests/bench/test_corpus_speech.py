"""Cutting speech where people pause, on the real voices."""

import shutil

import numpy as np
import pytest

from bench.corpus.speech import joined, levelled, speak
from bench.corpus.templates import Voice

RUTH = Voice("ruth", "hibari", pitch=0.85, pace=0.95)
NED = Voice("ned", "flite:rms", pitch=1.0, pace=1.0)


def test_pieces_are_joined_by_exactly_the_silence_asked_for() -> None:
    pcm, spans = joined([np.ones(100, np.int16), np.ones(50, np.int16)], [0.5])
    assert spans == ((0, 100), (4100, 4150)) and len(pcm) == 4150
    assert not pcm[100:4100].any() and pcm[4100:].all()


def test_long_silence_inside_is_shortened_unless_told_otherwise() -> None:
    tone = np.sin(np.arange(4000) * 0.5)
    sound = np.concatenate((tone, np.zeros(8000), tone))
    assert len(levelled(sound)) == pytest.approx(8000 + 0.18 * 8000, abs=80)
    assert len(levelled(sound, longest_silence_s=None)) == pytest.approx(16_000, abs=80)


@pytest.mark.models
@pytest.mark.parametrize(
    "voice",
    [
        RUTH,
        pytest.param(
            NED, marks=pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")
        ),
    ],
    ids=lambda voice: voice.name,
)
def test_a_sentence_in_pieces_is_the_sentence(voice: Voice) -> None:
    """Cut at word borders, nothing is lost but silence, and each piece has its words' share of time."""
    pieces = speak(["My number is", "four seven, two nine,", "and that is all."], voice)
    (whole,) = speak(["My number is, four seven, two nine, and that is all."], voice)
    lengths = [len(piece) / 8000 for piece in pieces]
    assert sum(lengths) == pytest.approx(len(whole) / 8000, rel=0.2)
    assert lengths[1] == max(lengths) and min(lengths) > 0.35


@pytest.mark.models
def test_a_piece_ends_as_unfinished_as_it_is() -> None:
    """The cut lies inside one utterance: the words before it sound as they do when nobody pauses."""
    before, _ = speak(["Could you tell me where", "you are?"], RUTH)
    (whole,) = speak(["Could you tell me where you are?"], RUTH)
    size = min(len(before), len(whole)) - 400
    alike = np.corrcoef(before[100:size], whole[100:size])[0, 1]
    assert alike > 0.99
