import numpy as np
import pytest

from models.base import STT_RATE_HZ, Samples
from models.glimpse import Sound, hummed, judge, sound_of, wordless
from models.scripted import voiced_signal

VOWEL = Sound(flatness=0.05, low=0.7, movement=0.4)


def seen(
    first: dict[str, float],
    second: dict[str, float] | None = None,
    *,
    no_speech: float = 0.3,
    sound: Sound = VOWEL,
) -> tuple[float, float, float]:
    glimpse = judge(first, second or {}, text="", no_speech_probability=no_speech, sound=sound)
    assert glimpse.backchannel + glimpse.noise + glimpse.speech == pytest.approx(1.0)
    return glimpse.backchannel, glimpse.noise, glimpse.speech


def tone(hertz: float, seconds: float = 0.3) -> Samples:
    time = np.arange(round(seconds * STT_RATE_HZ)) / STT_RATE_HZ
    return np.sin(2 * np.pi * hertz * time).astype(np.float32) * 0.2


@pytest.mark.parametrize("word", [" Yeah", " yeah", " Okay", " OK", " Right", " M", " mm", " Sure", " Uh"])
def test_a_listeners_first_token_is_a_backchannel_in_any_case(word: str) -> None:
    assert seen({word: 0.5, " You": 0.1})[0] > 0.9


@pytest.mark.parametrize("word", [" So", " to", " It", " That", " the", " Your"])
def test_what_is_written_for_sure_and_uh_huh_as_well_as_for_itself_decides_nothing(word: str) -> None:
    assert 0.2 < seen({word: 0.6, " Y": 0.01})[2] < 0.6
    assert seen({word: 0.3, " Sure": 0.2})[0] > 0.9
    assert seen({word: 0.3, " What": 0.3})[2] > 0.6


def test_spellings_of_one_word_count_together() -> None:
    apart = seen({" Yeah": 0.15, " yeah": 0.15, " yeah.": 0.1, " But": 0.15})
    assert apart == pytest.approx(seen({" yeah": 0.4, " But": 0.15}))


@pytest.mark.parametrize("word", [" What", " Sorry", " Can", " Wait", " Stop", " No", " Nine"])
def test_other_words_are_speech(word: str) -> None:
    assert seen({word: 0.5, " Yeah": 0.01})[2] > 0.9


def test_stop_words_are_surer_than_others() -> None:
    assert seen({" Stop": 0.3, " Yeah": 0.05})[2] > seen({" Table": 0.3, " Yeah": 0.05})[2]


def test_i_is_a_listeners_as_far_as_see_follows() -> None:
    see = seen({" I": 0.8}, {" see": 0.9, " have": 0.05})
    have = seen({" I": 0.8}, {" see": 0.02, " have": 0.9})
    assert see[0] > 0.9 and have[2] > 0.6
    assert seen({" I": 0.8}) == pytest.approx(seen({" I": 0.8}, {" have": 0.9}))
    # What follows belongs to the likeliest first token only.
    assert seen({" But": 0.6, " I": 0.3}, {" see": 0.9})[2] > 0.9


def test_thanks_invented_over_nothing_are_no_evidence_for_words() -> None:
    assert seen({" Thank": 0.5, " Yeah": 0.05})[2] < seen({" Shall": 0.5, " Yeah": 0.05})[2]


def test_without_tokens_it_is_undecided_rather_than_broken() -> None:
    assert all(0 <= share <= 1 for share in seen({}))


def test_a_hum_is_a_backchannel_whatever_is_written() -> None:
    hum = Sound(flatness=0.005, low=0.985, movement=0.1)
    assert seen({" Thank": 0.2, " Do": 0.1}, no_speech=0.8, sound=hum)[0] > 0.9
    assert hummed(hum, 0.8) == 1.0
    assert hummed(hum, 0.3) == 0.0, "words that Whisper is sure of are no hum"
    assert hummed(VOWEL, 0.8) == 0.0


def test_breath_and_machines_are_noise_and_hoarse_speech_is_not() -> None:
    cough = Sound(flatness=0.5, low=0.15, movement=0.5)
    buzz = Sound(flatness=0.14, low=0.4, movement=0.004)
    assert seen({" I": 0.1}, no_speech=0.9, sound=cough)[1] > 0.9
    assert seen({" A": 0.1}, no_speech=0.8, sound=buzz)[1] > 0.9
    assert wordless(VOWEL, 0.95) == 0.0
    assert wordless(cough, 0.3) == 0.0, "a word that begins with a hiss"


def test_sounds_are_told_apart_by_their_spectrum() -> None:
    white = np.random.default_rng(1).standard_normal(4_800).astype(np.float32) * 0.1
    voice = voiced_signal("what about it", 0.3, STT_RATE_HZ)
    assert sound_of(white).flatness > 0.4 > 0.2 > sound_of(voice).flatness
    assert sound_of(tone(300.0)).low > 0.95 > sound_of(tone(1_200.0)).low
    assert sound_of(tone(320.0)).movement < 0.01 < sound_of(white).movement


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(511), np.zeros(600), np.zeros(4_800)])
def test_too_little_sound_decides_nothing(audio: Samples) -> None:
    sound = sound_of(audio.astype(np.float32))
    assert wordless(sound, 0.99) in (0.0, 1.0) and 0 <= hummed(sound, 0.99) <= 1
    assert not np.isnan(sound.flatness)


def test_what_is_quiet_beside_the_voice_is_not_looked_at() -> None:
    hiss = np.random.default_rng(2).standard_normal(4_800).astype(np.float32) * 0.002
    voice = voiced_signal("yes", 0.2, STT_RATE_HZ)
    both = sound_of(np.concatenate((hiss, voice)))
    assert both.flatness == pytest.approx(sound_of(voice).flatness, abs=0.05)
