"""Where the words of the bundled voice lie, from what its network tells."""

from pathlib import Path

import numpy as np
import pytest

from models.hibari_words import (
    STEP_COUNTS,
    Phoneme,
    Reader,
    Reading,
    SpokenWord,
    network_outputs,
    phonemes_of,
    spans_of,
    spoken_words,
    with_step_counts,
)

RATE_HZ = 24_000
TEXTS = (
    "We are open from nine A.M. to noon on Saturday, closed in the afternoon.",
    "Doctor Nakamura's twenty-two patients (all of them) said: no, thank you!",
    "Zzyzx isn't well-known.",
)


def said(*words: tuple[str, float, float]) -> list[SpokenWord]:
    return [SpokenWord(*word) for word in words]


def noise(*parts: tuple[float, float]) -> np.ndarray:
    """Noise of so many seconds at such an amplitude, one part after the other."""
    random = np.random.default_rng(1)
    pieces = [level * random.standard_normal(round(seconds * RATE_HZ)) for seconds, level in parts]
    return np.concatenate(pieces).astype(np.float32)


@pytest.mark.models
def test_the_network_tells_its_steps_and_sounds_as_before() -> None:
    import hibari
    from hibari import dsp

    plain = hibari.Hibari(threads=1)
    telling = hibari.Hibari(model=with_step_counts(Path(plain.model_path).read_bytes()), threads=1)
    for text in TEXTS:
        for phonemes in plain.phonemize(text):
            ids = plain.ids(phonemes)
            spectra, counts = network_outputs(telling.sess, ids, 1.1)
            audio = dsp.synth(*spectra, np.random.default_rng(0))
            np.testing.assert_array_equal(audio, plain.from_ids(ids, 1.1, np.random.default_rng(0)))
            assert counts is not None and counts.shape == (len(ids),)
            assert (np.diff(counts) > 0).all(), "every phoneme takes a step at least"
            assert len(audio) == int(counts[-1]) * RATE_HZ // 40
            assert network_outputs(plain.sess, ids, 1.1)[1] is None


def test_a_network_without_step_counts_stays_as_it_is() -> None:
    assert with_step_counts(b"another voice") == b"another voice"
    assert with_step_counts(STEP_COUNTS.encode()).count(STEP_COUNTS.encode()) == 2


@pytest.mark.models
def test_the_reader_reads_as_the_package_does_and_remembers_words() -> None:
    from hibari.g2p import G2P

    reader, package = Reader(british=False), G2P()
    for text in TEXTS:
        reader.readings.clear()
        phonemes = package(text)
        assert reader(text) == phonemes
        assert [reading.word for reading in reader.readings] == text.split()
        together = "".join(reading.phonemes for reading in reader.readings)
        assert together.replace(" ", "") == phonemes.replace(" ", "")


def test_steps_become_seconds_of_the_part() -> None:
    found = phonemes_of("ab", np.asarray([2, 3, 7, 10]), 5.0, 1.0)
    assert [(p.symbol, round(p.start_s, 6), round(p.end_s, 6)) for p in found] == [
        ("a", 5.2, 5.3),
        ("b", 5.3, 5.7),
    ]


def test_words_meet_where_no_pause_is_and_part_where_the_sound_pauses() -> None:
    readings = [Reading("One", "ab"), Reading("two,", "cd,"), Reading("—", ""), Reading("three.", "ef.")]
    symbols = "ab cd, ef."
    starts = [0.2, 0.3, 0.4, 0.44, 0.6, 0.8, 1.1, 1.14, 1.3, 1.5]
    phonemes = [
        Phoneme(symbol, start, end)
        for symbol, start, end in zip(symbols, starts, [*starts[1:], 1.9], strict=True)
    ]
    audio = noise((0.17, 0.0), (0.53, 0.1), (0.41, 0.0), (0.4, 0.1), (0.5, 0.0))
    words = spoken_words(readings, phonemes, set(symbols), audio, RATE_HZ)
    assert [word.word for word in words] == ["One", "two,", "—", "three."]
    spans = [(round(word.start_s, 3), round(word.end_s, 3)) for word in words]
    assert spans == [(0.17, 0.39), (0.39, 0.7), (1.11, 1.11), (1.11, 1.51)]


def test_symbols_that_the_network_does_not_know_are_passed_over() -> None:
    phonemes = [Phoneme("a", 0.1, 0.2), Phoneme(" ", 0.2, 0.22), Phoneme("b", 0.22, 0.4)]
    readings = [Reading("a", "a¤"), Reading("b", "b")]
    assert len(spoken_words(readings, phonemes, {"a", "b", " "}, noise((0.5, 0.1)), RATE_HZ)) == 2
    assert spoken_words(readings, phonemes, {"a", "b", " ", "¤"}, noise((0.5, 0.1)), RATE_HZ) == []


def test_the_same_words_have_the_same_spans() -> None:
    spoken = said(("one", 0.0, 0.4), ("two.", 0.5, 0.9))
    assert spans_of(["one", "two."], spoken) == ((0.0, 0.4), (0.5, 0.9))


@pytest.mark.parametrize(
    ("words", "spans"),
    [
        (["Part", ".", "two"], ((0.0, 0.4), (0.4, 0.4), (0.5, 0.9))),
        (["part.", "—", "“Two”"], ((0.0, 0.4), (0.4, 0.4), (0.5, 0.9))),
        (["part.two"], ((0.0, 0.9),)),
        (["pa", "rt.", "two"], ((0.0, 0.2), (0.2, 0.4), (0.5, 0.9))),
    ],
)
def test_words_that_were_joined_or_parted_are_matched_by_letters(
    words: list[str], spans: tuple[tuple[float, float], ...]
) -> None:
    found = spans_of(words, said(("part.", 0.0, 0.4), ("two", 0.5, 0.9)))
    np.testing.assert_allclose(found, spans, atol=1e-9)


def test_a_number_read_in_words_lies_between_its_neighbours() -> None:
    spoken = said(("at", 0.0, 0.2), ("twenty", 0.2, 0.6), ("five", 0.6, 0.9), ("today", 1.0, 1.4))
    spans = spans_of(["at", "25", "today"], spoken)
    assert spans[0] == (0.0, 0.2) and spans[2] == (1.0, 1.4)
    assert spans[1] == pytest.approx((0.2, 0.9))


def test_nothing_is_told_of_texts_without_letters_or_far_too_long() -> None:
    assert spans_of(["—"], said(("dash", 0.0, 0.4))) == ()
    assert spans_of(["one"], []) == ()
    assert spans_of(["x" * 5_000, "y"], said(("x" * 5_000, 0.0, 9.0))) == ()
