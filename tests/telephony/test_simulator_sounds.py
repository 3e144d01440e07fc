import numpy as np
import pytest

from pipeline.audible import voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.scenario import Scenario
from telephony.simulator.sounds import PEAK, SOUNDS, make_sound
from telephony.simulator.voices import render


@pytest.mark.parametrize(
    ("like", "least_s", "most_s"),
    [("cough", 0.4, 0.6), ("click", 0.02, 0.06), ("door", 0.3, 0.5), ("breath", 0.8, 1.0)],
)
def test_sounds_are_short_loud_and_the_same_every_time(like, least_s, most_s):
    sound = make_sound(like)
    assert least_s < len(sound) / LINE_RATE_HZ < most_s
    assert np.abs(sound.astype(int)).max() == pytest.approx(PEAK, abs=1)
    assert np.array_equal(sound, make_sound(like))
    assert sound.dtype == np.int16


def test_a_cough_begins_at_once_and_is_measurable():
    first = voiced_runs(make_sound("cough"))[0]
    assert first.start < 0.02 * LINE_RATE_HZ


def test_every_sound_can_be_scripted():
    steps = [{"sound": {"after_s": 1, "like": like}} for like in SOUNDS]
    speeches = render(Scenario.model_validate({"steps": steps}))
    assert [speeches[number].text for number in range(len(SOUNDS))] == list(SOUNDS)
