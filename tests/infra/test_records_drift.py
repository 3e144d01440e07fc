"""Where both voices stand in the recording of an hour-long call, when the caller's clock is not ours."""

from pathlib import Path

import numpy as np
import pytest

from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.records.reader import CallFolder
from infra.records.recorder import CallRecords
from pipeline.events import AgentAudio, CallEnded, CallerAudio
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ
from pipeline.playout import Played
from pipeline.sample_clock import PlacedAudio, SampleClock
from tests.infra.records_kit import KEY
from tests.infra.test_records_recorder import INFO, tone
from tests.pipeline.test_sample_clock import PPM, arrivals

CLICK_EVERY_PACKETS = 60 * 50
FIRST_CLICK = 500


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("skew", [-100 * PPM, 100 * PPM])
def test_both_voices_are_apart_by_the_same_time_throughout_an_hour(
    tmp_path: Path, skew: float, encrypt: bool
) -> None:
    """Every minute the caller claps, and the agent's clap leaves when that one would arrive undelayed."""
    policy = RecordingPolicy(encrypt=encrypt)
    recorder = CallRecords(tmp_path, policy, KeyRing([KEY]), inline=True).observer(INFO)
    clock, placed = SampleClock(), PlacedAudio()
    for number, (end, now) in enumerate(arrivals(skew)):
        clock.arrived(end, now)
        if number % CLICK_EVERY_PACKETS == FIRST_CLICK:
            start = end - AUDIO_FRAME_SAMPLES
            recorder.observe(CallerAudio(start, tone(1000)))
            left_s = 100.0 + start / LINE_RATE_HZ / (1 + skew)
            place, pcm = placed.place(Played(left_s, tone(-1000)), round(clock.at(left_s)))
            recorder.observe(AgentAudio(place, pcm))
    recorder.observe(CallEnded(3600.0, "limit", "completed"))
    audio = CallFolder(tmp_path / "CA123", KeyRing([KEY])).audio()
    caller, agent = (np.flatnonzero(np.diff((voice != 0).astype(np.int8)) == 1) for voice in audio.T)
    assert len(caller) == len(agent) == 60
    np.testing.assert_array_equal(caller, (np.arange(60) * CLICK_EVERY_PACKETS + FIRST_CLICK) * 160 - 1)
    apart_ms = (agent - caller) / 8
    assert apart_ms.max() - apart_ms.min() <= 20.0, "the promise of docs/recordings.md"
    assert np.abs(apart_ms).max() < 2.0
