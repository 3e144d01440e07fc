import numpy as np
import pytest

from pipeline.line import Pcm
from telephony.rtp.concealment import FADE_SAMPLES, Concealer


def voiced(hz: float, n_samples: int = 4000) -> Pcm:
    """A buzz with a pitch, like a vowel."""
    at = np.arange(n_samples) / 8000
    wave = sum(np.sin(2 * np.pi * hz * k * at + k) / k for k in range(1, 8))
    return np.round(4000 * wave).astype(np.int16)


def level(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(float) ** 2)))


def through(pcm: Pcm, lost: set[int]) -> Pcm:
    concealer = Concealer()
    pieces = [
        concealer.lost(160) if n in lost else concealer.heard(pcm[160 * n : 160 * (n + 1)])
        for n in range(pcm.size // 160)
    ]
    return np.concatenate(pieces)


def test_what_arrives_is_not_touched() -> None:
    pcm = voiced(120)
    assert np.array_equal(through(pcm, set()), pcm[:4000])


@pytest.mark.parametrize("hz", [80, 120, 190, 260])
def test_one_lost_packet_of_a_vowel_goes_on_in_its_pitch(hz: float) -> None:
    pcm = voiced(hz)
    out = through(pcm, {10})
    gap, truth = out[1600:1680].astype(float), pcm[1600:1680].astype(float)
    likeness = float(gap @ truth) / np.sqrt(float(gap @ gap) * float(truth @ truth))
    assert likeness > 0.9
    # No click where it begins or ends: no step that the vowel itself does not have.
    steps = np.abs(np.diff(out.astype(int)))
    assert steps[1590:1800].max() < 1.6 * np.abs(np.diff(pcm.astype(int))).max()


def test_it_fades_to_silence_within_60_ms() -> None:
    out = through(voiced(120), set(range(10, 25)))
    lost = out[1600:]
    levels = [level(lost[start : start + 80]) for start in range(0, FADE_SAMPLES, 80)]
    assert levels[0] > 0.75 * level(out[:1600])
    assert levels == sorted(levels, reverse=True)
    assert not lost[FADE_SAMPLES:].any()


def test_the_stream_that_comes_back_is_faded_in_and_then_exact() -> None:
    pcm = voiced(120)
    out = through(pcm, {10, 11})
    assert np.array_equal(out[12 * 160 + 32 :], pcm[12 * 160 + 32 :])


def test_nothing_heard_yet_or_only_silence_is_made_up_as_silence() -> None:
    assert not Concealer().lost(160).any()
    concealer = Concealer()
    concealer.heard(np.zeros(800, np.int16))
    assert not concealer.lost(160).any()


def test_a_short_past_and_odd_lengths_are_enough() -> None:
    concealer = Concealer()
    concealer.heard(voiced(120)[:50])
    assert concealer.lost(30).size == 30
    concealer.heard(voiced(120)[:130])
    made = np.concatenate([concealer.lost(7), concealer.lost(153)])
    assert made.size == 160 and made.any()
    assert concealer.heard(voiced(120)[:3]).size == 3


def test_two_losses_with_little_between_them() -> None:
    pcm = voiced(120)
    out = through(pcm, {10, 12, 14, 16})
    assert out.size == pcm.size
    assert np.abs(out.astype(int)).max() <= 1.05 * np.abs(pcm.astype(int)).max()
