"""Words that are told apart in the sound, through the codec and the resampler of a call."""

import numpy as np
import pytest

from bench.word_tones import WordBook, WordTones, heard_words, times_heard
from models.scripted import VOICE_RATE_HZ, voiced_signal
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import resample, to_pcm
from telephony import g711

TEXT = (
    "We open at nine in the morning. At noon there is a break, which lasts for one hour. "
    "On Sundays and on holidays there is nobody here. Yes, I remember all of that. "
    "a b c d e f g h i j k l m n o p q r s t u v w x"
)
BOOK = WordBook(TEXT)
VOICE = WordTones(BOOK)


def on_the_line(text: str) -> Pcm:
    audio, _ = VOICE.speech(text)
    pcm = to_pcm(resample(audio, VOICE_RATE_HZ, LINE_RATE_HZ))
    return g711.decode(g711.encode(pcm))


def numbers(pcm: Pcm) -> list[int]:
    return [word.number for word in heard_words(pcm)]


def test_every_word_is_heard_once_and_in_order() -> None:
    pcm = on_the_line(TEXT)
    assert numbers(pcm) == list(range(len(BOOK.words)))
    assert times_heard(BOOK, heard_words(pcm)) == pytest.approx([1.0] * len(BOOK.words), abs=0.25)


def test_a_stretch_is_heard_as_the_words_of_its_place() -> None:
    first = BOOK.find("on holidays there is")
    assert first is not None
    assert numbers(on_the_line("on holidays there is nobody here.")) == list(range(first, first + 6))
    assert BOOK.find("there is a horse") is None
    assert BOOK.find("") is None


def test_what_is_cut_or_comes_again_shows() -> None:
    pcm = on_the_line("At noon there is a break,")
    cut = pcm[: round(0.55 * len(pcm))]
    counts = times_heard(BOOK, heard_words(np.concatenate([cut, pcm])))
    first = BOOK.find("At noon there is a break,")
    assert first is not None
    assert counts[first] == pytest.approx(2.0, abs=0.4)
    assert counts[first + 5] == pytest.approx(1.0, abs=0.2)
    assert max(counts[:first]) == 0


def test_other_voices_and_noise_are_no_words() -> None:
    speech = to_pcm(resample(voiced_signal("Sorry, the line dropped.", 3.0), VOICE_RATE_HZ, LINE_RATE_HZ))
    noise = np.random.default_rng(1).normal(0, 3_000, 16_000).astype(np.int16)
    assert numbers(speech) == numbers(noise) == numbers(np.zeros(8_000, np.int16)) == []
    assert heard_words(np.zeros(10, np.int16)) == []


def test_a_book_has_no_more_words_than_there_are_tones() -> None:
    with pytest.raises(ValueError, match="pairs"):
        WordBook("word " * 65)
