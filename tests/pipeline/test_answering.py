"""Where a machine's greeting ends."""

import numpy as np
import pytest

from pipeline.answering import BeepMeter, GreetingEnd
from pipeline.line import LINE_RATE_HZ, Pcm


def beep(hertz: float, seconds: float, dbfs: float = -20.0) -> Pcm:
    samples = np.arange(round(seconds * LINE_RATE_HZ))
    wave = 10 ** (dbfs / 20) * np.sqrt(2) * np.sin(2 * np.pi * hertz * samples / LINE_RATE_HZ)
    return (wave * 32767).astype(np.int16)


def quiet(seconds: float) -> Pcm:
    noise = np.random.default_rng(3).normal(0, 20, round(seconds * LINE_RATE_HZ))
    return noise.astype(np.int16)


def voice_like(seconds: float) -> Pcm:
    """A pitch that glides, with overtones."""
    samples = np.arange(round(seconds * LINE_RATE_HZ)) / LINE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(140 + 25 * np.sin(2 * np.pi * 1.5 * samples)) / LINE_RATE_HZ
    wave = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 12))
    return np.asarray(wave * 3000).astype(np.int16)


def beeps(pcm: Pcm, chunk: int = 160) -> list[float]:
    meter = BeepMeter()
    return [
        (start + chunk) / LINE_RATE_HZ
        for start in range(0, len(pcm), chunk)
        if meter.push(pcm[start : start + chunk])
    ]


@pytest.mark.parametrize("hertz", [420, 1000, 1400, 2000])
@pytest.mark.parametrize("dbfs", [-10.0, -30.0])
@pytest.mark.parametrize("chunk", [160, 80, 1000])
def test_a_beep_is_heard_when_it_ends(hertz: float, dbfs: float, chunk: int) -> None:
    found = beeps(np.concatenate([quiet(1.0), beep(hertz, 0.4, dbfs), quiet(1.0)]), chunk)
    assert len(found) == 1
    assert 1.4 <= found[0] < 1.4 + 0.06 + chunk / LINE_RATE_HZ


@pytest.mark.parametrize(
    "sound",
    [voice_like(2.0), quiet(2.0), beep(1000, 0.08), beep(250, 1.0), beep(697, 0.4) + beep(1209, 0.4)],
    ids=["voice", "noise", "click", "hum", "key"],
)
def test_other_sounds_are_no_beep(sound: Pcm) -> None:
    assert beeps(np.concatenate([quiet(0.5), sound, quiet(0.5)])) == []


def ends_at(*parts: tuple[Pcm, bool]) -> float:
    end = GreetingEnd()
    at = 0
    for pcm, voiced in parts:
        for start in range(0, len(pcm), 160):
            piece = pcm[start : start + 160]
            at += len(piece)
            if end.push(piece, voiced=voiced):
                return at / LINE_RATE_HZ
    raise AssertionError("never")


def test_the_message_begins_behind_the_beep() -> None:
    heard = ends_at((voice_like(5.0), True), (quiet(1.5), False), (beep(1000, 0.5), False), (quiet(9), False))
    assert heard == pytest.approx(7.0 + GreetingEnd.AFTER_BEEP_S, abs=0.08)


def test_a_vowel_as_pure_as_a_beep_does_not_start_the_message() -> None:
    heard = ends_at(
        (voice_like(2.0), True),
        (beep(1000, 0.3), True),
        (voice_like(3.0), True),
        (beep(1000, 0.5), True),
        (quiet(0.1), True),
        (quiet(9), False),
    )
    assert heard == pytest.approx(5.8 + GreetingEnd.AFTER_BEEP_S, abs=0.08)


def test_without_a_beep_a_long_silence_has_to_do() -> None:
    heard = ends_at((voice_like(5.0), True), (quiet(1.5), False), (voice_like(2.0), True), (quiet(9), False))
    assert heard == pytest.approx(8.5 + GreetingEnd.SILENCE_S, abs=0.05)


def test_a_greeting_without_an_end_is_not_waited_for_for_ever() -> None:
    heard = ends_at((np.tile(voice_like(2.0), 40), True))
    assert heard == pytest.approx(GreetingEnd.LONGEST_S, abs=0.05)
