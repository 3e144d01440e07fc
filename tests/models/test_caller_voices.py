"""The simulated caller's people, spoken by the real bundled voice."""

import numpy as np
import pytest

from pipeline.audible import voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.measure import utterances
from telephony.simulator.scenario import Scenario
from telephony.simulator.voices import PEOPLE, render, speak

LINE = "When are you open on Saturday?"
pytestmark = pytest.mark.models


def pitch_hz(pcm) -> float:
    """Median over voiced 40 ms windows of the autocorrelation's peak between 70 and 400 Hz."""
    found = []
    for start in range(0, len(pcm) - 320, 160):
        window = pcm[start : start + 320].astype(float)
        if np.sqrt(np.mean(window**2)) < 1500:
            continue
        correlation = np.correlate(window, window, "full")[319:]
        low, high = LINE_RATE_HZ // 400, LINE_RATE_HZ // 70
        found.append(LINE_RATE_HZ / (low + int(np.argmax(correlation[low:high]))))
    return float(np.median(found))


@pytest.mark.parametrize("name", PEOPLE)
def test_everybody_speaks_at_the_same_level_and_at_once(name):
    line = speak(LINE, name)
    (said,) = utterances(voiced_runs(line))
    assert said.start < 0.15 * LINE_RATE_HZ
    assert 1.0 < (said.stop - said.start) / LINE_RATE_HZ < 3.5
    voiced = line[said.start : said.stop].astype(float)
    assert 20 * np.log10(np.sqrt(np.mean(voiced**2)) / 32768) == pytest.approx(-20, abs=1.5)


def test_they_are_other_people_than_the_agent():
    import hibari

    from pipeline.resample import resample, to_pcm

    agent = pitch_hz(
        to_pcm(resample(hibari.Hibari(threads=1)(LINE, seed=0), hibari.SAMPLE_RATE, LINE_RATE_HZ))
    )
    for name, person in PEOPLE.items():
        assert pitch_hz(speak(LINE, name)) / agent == pytest.approx(person.pitch, rel=0.12), name


def test_a_line_is_the_same_every_time():
    assert np.array_equal(speak(LINE, "ruth"), speak(LINE, "ruth"))
    scenario = Scenario.model_validate(
        {"voice": "lily", "steps": [{"say": LINE}, {"say": {"text": LINE, "voice": "ruth"}}]}
    )
    lily, ruth = render(scenario).values()
    assert lily != ruth
