"""What a call knows of its caller's sound."""

import numpy as np
import pytest

from models.scripted import voiced_signal
from pipeline.caller_sound import CallerSound
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm


def voiced(seconds: float, level: float = 1.0) -> Pcm:
    return (voiced_signal("a line of the caller's", seconds, LINE_RATE_HZ) * 32767 * level).astype(np.int16)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * LINE_RATE_HZ), np.int16)


def arrived(pcm: Pcm, *, late_s: float = 0.0) -> CallerSound:
    """AudioFrames, each when its last sample was spoken; `late_s` for every tenth of them."""
    sound = CallerSound()
    for number, start in enumerate(range(0, pcm.size, AUDIO_FRAME_SAMPLES)):
        packet = pcm[start : start + AUDIO_FRAME_SAMPLES]
        at = 100.0 + (start + packet.size) / LINE_RATE_HZ + (late_s if number % 10 == 0 else 0.0)
        sound.append(packet, at)
    return sound


def test_a_window_is_as_loud_as_it_is() -> None:
    sound = arrived(np.concatenate([voiced(0.5), voiced(0.5, 0.1)]))
    loud, soft = sound.voice(0.9, 1600, 3200), sound.voice(0.9, 5600, 7200)
    assert loud.level_dbfs == pytest.approx(-20.0, abs=2)
    assert soft.level_dbfs == pytest.approx(-40.0, abs=2)
    assert (loud.echo, loud.own_voice_near) == (0.0, False)


def test_where_the_detector_finds_nobody_the_level_is_known_all_the_same() -> None:
    event = arrived(voiced(0.5)).voice(0.1, 1600, 1856)
    assert (event.probability, event.echo, event.own_voice_near) == (0.1, 0.0, False)
    assert event.level_dbfs == pytest.approx(-20.0, abs=6)


def test_what_comes_while_the_agent_sounds_may_be_its_echo() -> None:
    rng = np.random.default_rng(1)
    agent = (rng.standard_normal(3 * LINE_RATE_HZ) * 3000).astype(np.int16)
    sound = CallerSound()
    delay = LINE_RATE_HZ // 4
    back = np.concatenate([silence(0.25), (agent * 0.05).astype(np.int16)])
    shares = []
    for start in range(0, len(agent), AUDIO_FRAME_SAMPLES):
        sound.played(agent[start : start + AUDIO_FRAME_SAMPLES], start)
        sound.append(back[start : start + AUDIO_FRAME_SAMPLES], 0.0)
        if start > delay:
            event = sound.voice(0.9, start, start + AUDIO_FRAME_SAMPLES)
            assert event.own_voice_near
            shares.append(event.echo)
    assert np.median(shares[len(shares) // 2 :]) > 0.8
    later = len(agent) + 2 * LINE_RATE_HZ
    assert not sound.voice(0.9, later, later + 256).own_voice_near


@pytest.mark.parametrize("late_s", [0.0, 0.03])
def test_the_end_of_the_voice_is_when_its_last_sample_arrived(late_s: float) -> None:
    speech = voiced(0.995)
    sound = arrived(np.concatenate([speech, silence(0.5)]), late_s=late_s)
    detected = len(speech) + 256
    at = sound.audible_end_at(detected)
    # The last sample lies in the 50th AudioFrame, which is not one of the late ones.
    assert at == pytest.approx(100.995, abs=0.006)


def test_in_noise_the_detector_has_the_word() -> None:
    rng = np.random.default_rng(2)
    noise = (rng.standard_normal(2 * LINE_RATE_HZ) * 1000).astype(np.int16)
    assert arrived(noise).audible_end_at(8_000) == pytest.approx(101.0, abs=0.001)


def test_what_arrived_long_ago_is_reckoned_from_what_came_since() -> None:
    assert arrived(silence(40.0)).audible_end_at(8_000) == pytest.approx(101.0, abs=0.001)
    assert CallerSound().audible_end_at(8_000) is None
