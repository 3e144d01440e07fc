import asyncio

import numpy as np
import pytest

from models.hibari import HibariSynthesizer
from models.scripted import voiced_signal
from pipeline.echo import LONGEST_SAMPLES, EchoMeter
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import resample, to_pcm
from telephony import g711

STEP = 256
SEGMENT = LINE_RATE_HZ * 3 // 10


def syllables(seed: int, seconds: float = 6.0) -> Pcm:
    """Voiced syllables of changing pitch with gaps: its spectrum and its level change as speech does."""
    chance = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * LINE_RATE_HZ:
        parts.append(voiced_signal(str(chance.integers(1_000)), chance.uniform(0.08, 0.25), LINE_RATE_HZ))
        parts.append(np.zeros(round(chance.uniform(0.02, 0.12) * LINE_RATE_HZ)))
    return to_pcm(np.concatenate(parts).astype(np.float32))[: round(seconds * LINE_RATE_HZ)]


def echoed(
    agent: Pcm, *, delay_ms: int, level_db: float, noise_dbfs: float = -62.0, seed: int = 1
) -> np.ndarray:
    """As a speaker-phone in a room sends it back, before mu-law."""
    chance = np.random.default_rng(seed)
    room = chance.standard_normal(800) * np.exp(-np.arange(800) / 160) * 0.2
    room[0] = 1.0
    size = len(agent) + len(room)
    back = np.fft.irfft(np.fft.rfft(agent.astype(float), size) * np.fft.rfft(room, size), size)[: len(agent)]
    back *= 10 ** (level_db / 20) / np.sqrt((room**2).sum())
    delayed = np.concatenate((np.zeros(delay_ms * LINE_RATE_HZ // 1000), back))[: len(agent)]
    return delayed + chance.standard_normal(len(agent)) * 32_768 * 10 ** (noise_dbfs / 20)


def shares(agent: Pcm, caller: np.ndarray, *, meter: EchoMeter | None = None) -> list[float]:
    """One a window of the detector, as a call asks; the caller's sound through mu-law."""
    meter = meter or EchoMeter()
    heard = g711.decode(g711.encode(np.clip(caller, -32_768, 32_767).astype(np.int16)))
    found = []
    for end in range(STEP, len(heard), STEP):
        meter.played(agent[end - STEP : end], end - STEP)
        start = max(0, end - SEGMENT)
        found.append(meter.share(heard[start:end], start))
    return found


def seconds(found: list[float], start_s: float, end_s: float) -> list[float]:
    return found[round(start_s * LINE_RATE_HZ / STEP) : round(end_s * LINE_RATE_HZ / STEP)]


@pytest.mark.parametrize(("delay_ms", "level_db"), [(20, -20), (60, -25), (300, -25), (620, -30), (890, -20)])
def test_an_echo_is_found_and_its_delay_known(delay_ms: int, level_db: float) -> None:
    agent, meter = syllables(1), EchoMeter()
    found = shares(agent, echoed(agent, delay_ms=delay_ms, level_db=level_db), meter=meter)
    assert np.median(seconds(found, 3, 6)) > 0.6
    assert meter.delay_samples is not None
    assert abs(meter.delay_samples - delay_ms * LINE_RATE_HZ // 1000) <= LINE_RATE_HZ // 100


@pytest.mark.parametrize("level_db", [0, -8])
def test_somebody_who_speaks_over_the_echo_is_not_taken_for_it(level_db: float) -> None:
    agent = syllables(1)
    caller = echoed(agent, delay_ms=240, level_db=-25)
    caller[24_000:] += syllables(2)[24_000:] * 10 ** (level_db / 20)
    found = shares(agent, caller)
    assert np.median(seconds(found, 2, 3)) > 0.6
    assert np.median(seconds(found, 3.4, 6)) < 0.25
    assert np.mean(np.array(seconds(found, 3.4, 6)) >= 0.5) < 0.05


def test_a_caller_over_an_agent_without_echo_has_no_share() -> None:
    agent = syllables(1)
    assert max(shares(agent, syllables(2).astype(float))) < 0.5
    assert max(shares(agent, np.random.default_rng(3).standard_normal(len(agent)) * 300)) < 0.5


def test_without_the_agents_sound_or_the_callers_there_is_no_echo() -> None:
    agent, silence = syllables(1, 2.0), np.zeros(16_000, np.int16)
    assert set(shares(silence, agent.astype(float))) == {0.0}
    assert set(shares(agent, silence.astype(float))) == {0.0}
    assert EchoMeter().share(agent[:2_400], 0) == 0.0


def test_the_echo_that_moved_is_found_again() -> None:
    agent, meter = syllables(1, 8.0), EchoMeter()
    before = echoed(agent, delay_ms=120, level_db=-22)
    after = echoed(agent, delay_ms=480, level_db=-22, seed=2)
    caller = np.concatenate((before[:32_000], after[32_000:]))
    found = shares(agent, caller, meter=meter)
    assert np.median(seconds(found, 2, 3.8)) > 0.6 and np.median(seconds(found, 6, 8)) > 0.6
    assert meter.delay_samples is not None and abs(meter.delay_samples - 3_840) <= 80


def test_what_is_played_after_a_gap_stands_in_its_place() -> None:
    agent, meter = syllables(1), EchoMeter()
    caller = echoed(agent, delay_ms=100, level_db=-20)
    found = shares(agent, caller, meter=meter)
    assert np.median(seconds(found, 3, 6)) > 0.6
    later = 5 * len(agent)
    meter.played(agent[:8_000], later)
    heard = g711.decode(g711.encode(np.clip(caller, -32_768, 32_767).astype(np.int16)))
    assert meter.share(heard[4_000 : 4_000 + SEGMENT], later + 4_000) > 0.4
    assert meter.share(heard[4_000 : 4_000 + SEGMENT], later - 20_000) == 0.0


def test_what_was_cleared_and_sent_again_replaces_what_stood_there() -> None:
    meter = EchoMeter()
    meter.played(syllables(1)[:8_000], 0)
    meter.played(syllables(2)[:4_000], 4_000)
    meter._lay_down()
    assert np.array_equal(meter._between(4_000, 8_000), syllables(2)[:4_000])
    assert np.array_equal(meter._between(0, 4_000), syllables(1)[:4_000])


def test_short_segments_say_nothing_and_long_ones_count_with_their_end() -> None:
    agent, meter = syllables(1), EchoMeter()
    caller = echoed(agent, delay_ms=200, level_db=-20)
    shares(agent, caller, meter=meter)
    heard = np.clip(caller, -32_768, 32_767).astype(np.int16)
    assert meter.share(heard[46_000:46_700], 46_000) == 0.0
    end = 46_000
    long, short = heard[end - 6_000 : end], heard[end - LONGEST_SAMPLES : end]
    assert meter.share(long, end - 6_000) == meter.share(short, end - LONGEST_SAMPLES)


@pytest.mark.models
def test_the_bundled_voice_comes_back_and_another_voice_does_not() -> None:
    async def spoken(speed: float, text: str) -> np.ndarray:
        synthesizer = HibariSynthesizer()
        voice = await synthesizer.open(speed=speed)
        said = np.concatenate([chunk async for chunk in voice.speak(text)])
        await synthesizer.aclose()
        return said

    text = "We are open from nine to six, and on Saturday until noon. Parking is free behind the building."
    agent = to_pcm(resample(asyncio.run(spoken(1.0, text)), 24_000, LINE_RATE_HZ))
    other = "Sorry, I meant the other clinic, the one in the old town, and for my daughter."
    caller = to_pcm(resample(asyncio.run(spoken(1.2, other)), 19_000, LINE_RATE_HZ))
    found = shares(agent, echoed(agent, delay_ms=280, level_db=-25))
    assert np.median(seconds(found, 2, 4)) > 0.6
    length = min(len(agent), len(caller))
    over = echoed(agent[:length], delay_ms=280, level_db=-25) + caller[:length]
    assert np.mean(np.array(shares(agent[:length], over)) >= 0.5) < 0.1
