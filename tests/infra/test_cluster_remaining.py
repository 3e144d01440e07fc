"""What remains to be spoken of a clause whose replica was lost."""

import numpy as np
import pytest

from infra.cluster.remaining import PACE_S, SEAM_S, Said
from models.base import Samples

RATE = 24_000
TEXT = "We are open from nine to five on weekdays"


def noise(samples: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def spoken(said: Said, audio: Samples, upto: int, chunk: int = 1_920) -> Samples:
    """Take the first `upto` samples of what a replica says."""
    taken = [said.take(audio[at : min(at + chunk, upto)]) for at in range(0, upto, chunk)]
    return np.concatenate([np.zeros(0, np.float32), *taken])


@pytest.mark.parametrize("cut", [0, 1, 100, 1_920, 5_000, 47_999, 48_000])
@pytest.mark.parametrize("chunk", [480, 1_920, 4_800, 48_000])
def test_a_voice_that_repeats_itself_is_heard_without_a_seam(cut: int, chunk: int) -> None:
    audio = noise(48_000)
    said = Said(TEXT, RATE, repeats=True)
    first = spoken(said, audio, cut)
    said.lost()
    assert said.to_speak() == TEXT
    rest = spoken(said, audio, len(audio), chunk)
    assert np.array_equal(np.concatenate([first, rest]), audio)
    assert said.seamless
    assert said.delivered == len(audio)


def test_it_may_be_lost_twice_also_before_it_has_caught_up() -> None:
    audio = noise(48_000)
    said = Said(TEXT, RATE, repeats=True)
    heard = [spoken(said, audio, 20_000)]
    said.lost()
    heard.append(spoken(said, audio, 9_600))
    assert len(heard[-1]) == 0
    said.lost()
    heard.append(spoken(said, audio, 30_000))
    said.lost()
    heard.append(spoken(said, audio, len(audio)))
    assert np.array_equal(np.concatenate(heard), audio)


def test_where_it_does_not_repeat_itself_new_sound_fades_in() -> None:
    said = Said(TEXT, RATE, repeats=True)
    spoken(said, np.full(10_000, 0.5, np.float32), 10_000)
    said.lost()
    rest = spoken(said, np.full(20_000, -0.5, np.float32), 20_000)
    assert not said.seamless
    assert len(rest) == 10_000
    assert abs(rest[0]) < 0.01
    assert np.array_equal(rest[round(SEAM_S * RATE) :], np.full(10_000 - 240, -0.5, np.float32))


SPANS = [(0.1 * number, 0.1 * number + 0.09) for number in range(9)]


def test_another_voice_goes_on_with_the_word_that_was_cut() -> None:
    said = Said(TEXT, RATE, repeats=False)
    said.take(noise(round(0.35 * RATE)), SPANS)
    said.lost()
    assert said.to_speak() == "from nine to five on weekdays"
    new = said.take(np.full(4_800, 0.5, np.float32), [(0.05, 0.1), (0.1, 0.2)])
    assert abs(new[0]) < 0.01
    assert said.word_spans()[:3] == SPANS[:3]
    assert said.word_spans()[3] == pytest.approx((0.40, 0.45))
    assert said.delivered == round(0.35 * RATE) + 4_800


def test_where_no_word_is_known_the_pace_of_speech_tells() -> None:
    said = Said(TEXT, RATE, repeats=False)
    said.take(noise(round(PACE_S * len("We are open ") * RATE) + 100))
    said.lost()
    assert said.to_speak() == "from nine to five on weekdays"
    said.take(noise(round(PACE_S * len("from nine ") * RATE) + 100))
    said.lost()
    assert said.to_speak() == "to five on weekdays"


def test_lost_at_the_very_end_nothing_is_said_again() -> None:
    said = Said(TEXT, RATE, repeats=False)
    said.take(noise(RATE), SPANS)
    said.lost()
    assert said.over


def test_lost_before_it_began_all_of_it_is_asked_for() -> None:
    for repeats in (True, False):
        said = Said(TEXT, RATE, repeats=repeats)
        said.lost()
        assert said.to_speak() == TEXT
        assert not said.over


def test_a_voice_that_would_take_too_long_to_say_it_again_goes_on_with_the_word() -> None:
    for speed, text in ((100.0, TEXT), (1.2, "from nine to five on weekdays")):
        said = Said(TEXT, RATE, repeats=True)
        said.take(noise(round(0.35 * RATE)), SPANS)
        said.lost(speed)
        assert said.to_speak() == text
    said.take(noise(round(0.2 * RATE)), [(0.0, 0.1), (0.1, 0.19), (0.3, 0.4)])
    said.lost(1.2)
    assert said.to_speak() == "to five on weekdays"
