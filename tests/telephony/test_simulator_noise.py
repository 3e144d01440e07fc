"""Noise and echo under the caller's voice: their level, their character, and that they are not measured."""

import numpy as np
import pytest

from pipeline.audible import voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.caller import Speech
from telephony.simulator.noise import NoiseSource
from telephony.simulator.report import Report
from telephony.simulator.scenario import Noise, Scenario
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import Parrot, parrots, silence, tone
from tests.telephony.talker import Talker, voice

KINDS = ("white", "room", "street", "babble", "hum", "crackle", "music")
LOOP_S = 16


def heard(kind: str, seconds: float = LOOP_S, seed: int = 0, level_dbfs: float = -40.0):
    source = NoiseSource(Noise.model_validate({"kind": kind, "level_dbfs": level_dbfs, "seed": seed}))
    return np.concatenate([source.next() for _ in range(round(seconds * 50))])


def share(sound, low_hz: float, high_hz: float) -> float:
    """Of the sound's power, what lies between the two."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / LINE_RATE_HZ)
    return float(power[(hertz >= low_hz) & (hertz < high_hz)].sum() / power.sum())


def swell_db(sound) -> float:
    """From the 10th to the 90th percentile of the level, in windows of 100 ms."""
    level = 10 * np.log10((sound.reshape(-1, LINE_RATE_HZ // 10) ** 2).mean(axis=1))
    return float(np.percentile(level, 90) - np.percentile(level, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_level_it_is_asked_for(kind):
    rms = np.sqrt(np.mean(heard(kind, level_dbfs=-35.0) ** 2))
    assert 20 * np.log10(rms / 32_768) == pytest.approx(-35, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_noise_and_another_one_another(kind):
    assert np.array_equal(heard(kind, 1.0), heard(kind, 1.0))
    if kind != "hum":
        assert abs(np.corrcoef(heard(kind, 4.0, seed=1), heard(kind, 4.0, seed=2))[0, 1]) < 0.9
    assert not np.array_equal(heard(kind, 1.0, seed=1), heard(kind, 1.0, seed=2))


@pytest.mark.parametrize("kind", ["room", "street", "babble", "music"])
def test_the_loop_has_no_seam(kind):
    """The step from its last sample to its first is no larger than steps within it."""
    sound = heard(kind, LOOP_S + 1)
    steps = np.abs(np.diff(sound))
    assert steps[LOOP_S * LINE_RATE_HZ - 1] <= steps.max()
    assert np.array_equal(sound[: LINE_RATE_HZ // 2], sound[LOOP_S * LINE_RATE_HZ :][: LINE_RATE_HZ // 2])


def test_each_kind_sounds_like_itself():
    assert share(heard("white"), 0, 1000) == pytest.approx(0.25, abs=0.02)
    assert share(heard("room"), 100, 600) > 0.6
    assert share(heard("street"), 100, 1000) > 0.6
    assert share(heard("hum"), 40, 700) > 0.95
    assert share(heard("babble"), 90, 3400) > 0.95
    assert share(heard("music"), 150, 1600) > 0.9
    assert swell_db(heard("room")) < 3
    assert swell_db(heard("street")) > 6
    crackle = heard("crackle")
    assert np.abs(crackle).max() > 12 * np.sqrt(np.mean(crackle**2))


def test_babble_is_made_of_voices():
    """Autocorrelation of a voiced piece at the lag of its pitch, which noise has none of."""

    def voicing(sound) -> float:
        best = []
        for piece in sound.reshape(-1, LINE_RATE_HZ // 25):
            centred = piece - piece.mean()
            lags = [float(centred[lag:] @ centred[:-lag]) for lag in range(32, 100)]
            best.append(max(lags) / float(centred @ centred))
        return float(np.median(best))

    assert voicing(heard("babble")) > voicing(heard("white")) + 0.15


def call(agent, *steps, lines, **fields) -> Report:
    network = {"delay_ms": 60, "jitter_ms": 0}
    scenario = Scenario.model_validate({"network": network, "steps": list(steps), **fields})
    speeches = {number: Speech.of("line", pcm) for number, pcm in lines.items()}
    return simulate_virtual(scenario, parrots(agent), speeches=speeches)


def test_the_echo_is_the_agents_voice_late_and_soft():
    said = voice(2.0, level=8000)
    report = call(Parrot(greeting=said), {"wait": 4}, lines={}, echo={"level_db": -30, "delay_ms": 250})
    # 60 ms to the edge, 60 ms back to the ear (the parrot greets at once), 250 ms through the room.
    start = round(0.310 * LINE_RATE_HZ)
    echo = report.hearing.caller[start : start + len(said)].astype(float)
    assert np.corrcoef(echo, said)[0, 1] > 0.98
    assert 20 * np.log10(np.std(echo) / np.std(said.astype(float))) == pytest.approx(-30, abs=0.5)
    assert np.abs(report.hearing.caller[: start - 160]).max() < np.std(echo) / 4


def test_the_echo_of_what_the_server_took_back_is_not_heard():
    steps = ({"backchannel": {"after_s": 1.0, "say": "no"}}, {"wait": 2})
    report = call(Talker("stop"), *steps, lines={0: tone(0.3)}, echo={"level_db": -20, "delay_ms": 100})
    silent = report.overlaps[0].at_s + 0.06 + 0.06 + 0.06 + 0.1 + 0.03
    assert np.abs(report.hearing.caller[round(silent * LINE_RATE_HZ) :]).max() < 50


def test_echo_and_noise_reach_the_server_and_are_not_measured():
    """A loud echo, of an agent that is voiced throughout, and a street between the caller's two words."""
    report = call(
        Talker("talk on", says=voice(6.0, level=8000)),
        *({"wait": 2}, {"say": "one"}, {"wait": 2}),
        lines={1: tone(0.5)},
        echo={"level_db": -10, "delay_ms": 120},
        noise={"kind": "street", "level_dbfs": -30, "seed": 4},
    )
    (turn,) = report.hearing.at_ear
    assert (turn.first_voiced_s, turn.last_voiced_s) == pytest.approx((2.0, 2.5), abs=0.002)
    assert voiced_runs(report.hearing.caller[:16_000])


def test_an_echo_is_the_same_every_time():
    def play() -> Report:
        return call(
            Parrot(greeting=voice(1.0)),
            *("listen", {"say": "one"}, "listen"),
            lines={1: tone(0.5)},
            echo={"level_db": -25, "delay_ms": 333},
            noise={"kind": "babble", "level_dbfs": -45},
            network={"delay_ms": 60, "jitter_ms": 15, "loss": 0.05, "seed": 3},
        )

    assert play().fingerprint() == play().fingerprint()


def test_no_echo_of_silence():
    report = call(Parrot(greeting=silence(0.2)), {"wait": 1}, lines={}, echo={})
    assert np.count_nonzero(report.hearing.caller) == 0
