"""Backchannels, sounds and interruptions: how they are placed, and what is told of the agent's reaction."""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.audible import Run, voiced_runs
from pipeline.line import Line, LineClosed, Pcm
from pipeline.playout import Playout, SendAudio
from telephony import g711
from telephony.simulator.caller import Speech
from telephony.simulator.measure import utterances
from telephony.simulator.overlaps import OverlapMeasures, measure_overlap
from telephony.simulator.report import OverlapReport, Report
from telephony.simulator.scenario import Scenario
from telephony.simulator.twilio_side import Playback
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import Outcome, Parrot, parrots, silence, tone
from tests.telephony.talker import DUCKED, Reaction, Talker, voice

BACKCHANNEL = {"backchannel": {"after_s": 3.0, "say": "mm-hmm"}}
INTERRUPT = {"interrupt": {"after_s": 3.0, "say": "stop"}}


def call(agent: Any, *steps: Any, lines: dict[int, Pcm], **fields: Any) -> Report:
    network = {"delay_ms": 60, "jitter_ms": 0}
    scenario = Scenario.model_validate({"name": "over", "network": network, "steps": list(steps), **fields})
    speeches = {number: Speech.of("mm-hmm", pcm) for number, pcm in lines.items()}
    return simulate_virtual(scenario, parrots(agent), speeches=speeches)


def once(reaction: Reaction) -> OverlapReport:
    report = call(Talker(reaction), BACKCHANNEL, {"wait": 3}, lines={0: tone(0.8)})
    (overlap,) = report.overlaps
    return overlap


def test_an_agent_that_talks_on():
    overlap = once("talk on")
    assert (overlap.kind, overlap.text, overlap.placed, overlap.turn) == ("backchannel", "mm-hmm", True, -1)
    assert (overlap.stopped, overlap.stop_ms, overlap.duck_ms, overlap.restored) == (False, None, None, None)


def test_an_agent_that_stops_at_once():
    overlap = once("stop")
    assert (overlap.stopped, overlap.restored) == (True, None)
    assert overlap.duck_ms == pytest.approx(60, abs=0.3)
    assert overlap.stop_ms == pytest.approx(60, abs=10)


def test_an_agent_that_ducks_and_comes_back():
    overlap = once("duck and restore")
    assert (overlap.stopped, overlap.stop_ms, overlap.restored) == (False, None, True)
    assert overlap.duck_ms == pytest.approx(60, abs=0.3)
    # The talker's account is a packet's way behind Twilio's: it may say some milliseconds twice.
    assert overlap.slip_ms == pytest.approx(0, abs=6)


def test_an_agent_that_ducks_and_stops():
    overlap = once("duck and stop")
    assert (overlap.stopped, overlap.restored) == (True, False)
    assert overlap.duck_ms == pytest.approx(60, abs=0.3)
    assert overlap.stop_ms == pytest.approx(360, abs=10)


def test_an_agent_that_stays_quiet_has_not_come_back():
    overlap = once("duck")
    assert (overlap.stopped, overlap.restored) == (False, False)


def test_an_agent_that_holds_its_breath_and_goes_on_has_not_stopped():
    overlap = once("hold and restore")
    assert (overlap.stopped, overlap.restored) == (False, True)
    assert overlap.duck_ms == pytest.approx(60, abs=0.3)


def test_an_interruption_is_an_overlap_and_a_turn():
    report = call(Talker("stop"), INTERRUPT, {"wait": 3}, lines={0: tone(0.8)})
    (overlap,) = report.overlaps
    assert (overlap.kind, overlap.placed, overlap.turn, overlap.stopped) == ("interrupt", True, 0, True)
    assert report.turns[-1].caller == "mm-hmm"
    assert overlap.stop_ms == pytest.approx(report.turns[0].edge_stop_ms, abs=0.3)
    assert overlap.at_s == pytest.approx(report.hearing.at_ear[0].first_voiced_s)


def test_an_interruption_that_is_ignored_is_timed_to_the_agents_end():
    report = call(Talker("talk on", says=voice(6.0)), INTERRUPT, {"wait": 5}, lines={0: tone(4.0)})
    (overlap,) = report.overlaps
    assert overlap.stopped is False
    # 3 s after it was heard, which is 60 ms after it was sent; 60 ms later the caller is heard.
    assert overlap.stop_ms == pytest.approx(6000 - 3000 - 120, abs=50)


def test_an_interruption_of_silence_is_spoken_and_not_placed():
    step = {"interrupt": {"after_s": 1.0, "say": "hello", "timeout_s": 2}}
    report = call(Parrot(greeting=silence(0.1)), step, "listen", lines={0: tone(0.8)})
    (overlap,) = report.overlaps
    assert (overlap.placed, overlap.stopped, overlap.stop_ms) == (False, None, None)
    assert report.turns[0].gap_ms is not None


def test_a_backchannel_begins_no_turn():
    steps = (BACKCHANNEL, {"say": "one"}, {"wait": 1})
    report = call(Talker("talk on"), *steps, lines={0: tone(0.4), 1: tone(1.0)})
    (turn,) = report.hearing.turns
    assert turn.start == report.hearing.overlaps[0].stop


def test_backchannels_follow_each_other_in_one_utterance():
    report = call(
        Talker("duck and restore"),
        *([BACKCHANNEL] * 4),
        {"wait": 3},
        lines=dict.fromkeys(range(4), tone(0.5)),
    )
    times = [overlap.at_s for overlap in report.overlaps]
    assert np.diff(times) == pytest.approx([3.5] * 3, abs=0.021)
    assert [overlap.restored for overlap in report.overlaps] == [True] * 4
    assert [overlap.duck_ms for overlap in report.overlaps] == pytest.approx([60] * 4, abs=0.3)


def test_nothing_is_said_into_silence():
    step = {"backchannel": {"after_s": 1.0, "say": "mm-hmm", "timeout_s": 2}}
    report = call(Parrot(greeting=silence(0.1)), step, lines={0: tone(0.5)})
    (overlap,) = report.overlaps
    assert (overlap.placed, overlap.stopped) == (False, None)
    assert report.duration_s == pytest.approx(2.0, abs=0.1)
    assert np.count_nonzero(report.hearing.caller) == 0


def test_an_agent_that_has_finished_is_not_waited_for():
    report = call(Parrot(greeting=tone(1.0)), BACKCHANNEL, lines={0: tone(0.5)})
    assert report.overlaps[0].placed is False
    assert report.duration_s < 4.0


def test_a_sound_comes_from_a_file(tmp_path):
    soundfile.write(tmp_path / "cough.wav", tone(0.3), 8000)
    steps = ({"sound": {"after_s": 1.0, "file": "cough.wav"}}, {"wait": 2})
    report = call(Talker("stop"), *steps, lines={}, folder=tmp_path)
    (overlap,) = report.overlaps
    assert (overlap.kind, overlap.text, overlap.stopped) == ("sound", "cough", True)


def measured(playback: Playback, overlap: Run) -> OverlapMeasures:
    agent = g711.decode(bytes(playback.timeline))
    speech = utterances(voiced_runs(agent))
    return measure_overlap(playback, agent, speech, overlap, 80_000, "backchannel")


def test_a_clear_of_an_empty_buffer_stops_nobody():
    playback = Playback()
    playback.queue(g711.encode(voice(2.0)), 0.0)
    playback.clear(3.1)
    found = measured(playback, Run(24_000, 28_000))
    assert (found.stopped, found.duck_s) == (False, None)


def test_a_phrase_in_place_of_what_was_being_said_is_a_stop():
    """The server clears, and at once says something else."""
    playback = Playback()
    playback.queue(g711.encode(voice(2.0)), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(voice(1.0, seed=2)), 1.0)
    found = measured(playback, Run(7_600, 10_000))
    assert (found.stopped, found.stop_s) == (True, 0.05)


@pytest.mark.parametrize("beside_ms", [-40, -5, 0, 7, 40])
def test_what_goes_on_beside_the_cut_goes_on_all_the_same(beside_ms):
    """The server's account of what was heard may be some milliseconds off."""
    said = voice(2.0)
    playback = Playback()
    playback.queue(g711.encode(said[: 8000 + 1600]), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode((said[8000 + beside_ms * 8 :] * DUCKED).astype(np.int16)), 1.0)
    found = measured(playback, Run(7_600, 10_000))
    assert (found.stopped, found.duck_s, found.slip_s) == (False, 0.05, beside_ms / 1000)


@dataclass
class Deaf:
    """Speaks at fixed times, whatever it hears."""

    spans: tuple[tuple[float, float], ...]

    async def __call__(self, line: Line) -> Outcome:
        speaking = asyncio.create_task(self._speak(line))
        try:
            async for _ in line.events():
                pass
        except LineClosed:
            pass
        finally:
            speaking.cancel()
        return Outcome()

    async def _speak(self, line: Line) -> None:
        for start, stop in self.spans:
            await asyncio.sleep(start - asyncio.get_running_loop().time())
            await line.send_audio(voice(stop - start))


@pytest.mark.parametrize(
    ("spans", "cut_off"),
    [
        (((1.7, 2.5),), True),  # in the pause
        (((3.5, 4.5),), True),  # over the last word
        (((4.5, 5.5),), False),
        (((0.2, 1.5),), False),  # it was speaking before the turn began
        (((0.1, 0.3), (1.7, 2.0)), True),
    ],
)
def test_an_agent_that_begins_within_the_turn_cuts_it_off(spans, cut_off):
    report = call(
        Deaf(spans),
        *({"wait": 1}, {"say": "one"}, {"wait": 1.5}, {"say": "two"}, {"wait": 2}),
        lines={1: tone(0.4), 3: tone(1.0)},
    )
    assert [turn.cut_off for turn in report.turns][-1] is cut_off


def test_an_answer_into_the_pause_of_an_interruption_is_a_cut_off():
    """It stopped for the interruption, and then did not wait for its end."""
    steps = (INTERRUPT, {"wait": 1.5}, {"say": "two"}, {"wait": 2})
    report = call(Parrot(greeting=voice(6.0)), *steps, lines={0: tone(0.8), 2: tone(1.0)})
    assert report.turns[-1].cut_off
    assert report.overlaps[0].stop_ms == pytest.approx(160, abs=10)
    patient = call(Talker("stop"), *steps, lines={0: tone(0.8), 2: tone(1.0)})
    assert patient.turns[-1].cut_off is False


def test_a_duck_in_a_pause_of_the_agent_is_known_by_its_clear():
    """Nothing can be compared there; the way back to the full level can."""
    said = np.concatenate((voice(1.0), silence(0.3), voice(2.0, seed=2)))
    ducked = (said * DUCKED).astype(np.int16)
    playback = Playback()
    playback.queue(g711.encode(said[: 8000 + 1600]), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(ducked[8000 : 8000 + 4000]), 1.0)
    found = measured(playback, Run(7_600, 10_000))
    assert (found.stopped, found.duck_s, found.restored) == (False, 0.05, False)
    playback.clear(1.4)
    playback.queue(g711.encode(said[8000 + 3200 :]), 1.4)
    found = measured(playback, Run(7_600, 10_000))
    assert (found.stopped, found.duck_s, found.restored) == (False, 0.05, True)


@pytest.mark.parametrize(("pause_s", "stopped"), [(0.1, False), (1.0, False), (2.5, True)])
def test_the_same_sound_after_a_silence_goes_on_if_it_comes_soon(pause_s, stopped):
    said = voice(3.0)
    playback = Playback()
    playback.queue(g711.encode(said[: 8000 + 1600]), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(said[8000:]), 1.0 + pause_s)
    assert measured(playback, Run(7_600, 10_000)).stopped is stopped


def test_a_tone_after_a_silence_may_be_a_new_one():
    """Every piece of it is like every other: only what follows at once is taken for the same."""
    playback = Playback()
    playback.queue(g711.encode(tone(2.0)), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(tone(1.0)), 2.0)
    assert measured(playback, Run(7_600, 10_000)).stopped
    playback = Playback()
    playback.queue(g711.encode(tone(2.0)), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(tone(1.0)), 1.0)
    assert not measured(playback, Run(7_600, 10_000)).stopped


def test_a_packet_that_crossed_the_clear_is_no_going_on():
    playback = Playback()
    playback.queue(g711.encode(voice(2.0)), 0.0)
    playback.clear(1.0)
    playback.queue(g711.encode(voice(0.02, seed=3)), 1.0)
    assert measured(playback, Run(7_600, 10_000)).stopped


def test_a_clear_before_the_overlap_or_long_after_it_is_no_reaction():
    playback = Playback()
    playback.queue(g711.encode(voice(8.0)), 0.0)
    playback.clear(4.0)
    assert measured(playback, Run(33_000, 36_000)).duck_s is None
    assert measured(playback, Run(8_000, 9_000)).duck_s is None
    assert measured(playback, Run(20_000, 24_000)).duck_s == 1.5


@pytest.mark.parametrize("seed", range(6))
def test_mayas_own_playout_is_seen_through_exactly(seed):
    """Ducks and comes back at times on no grid; neither a sample is lost nor one said twice."""
    duck_s = 1.0 + 0.0137 * seed
    playout, playback = Playout(), Playback()
    playout.append(voice(6.0, seed=seed))
    playout.finish()
    ducks = {round(duck_s, 4): playout.duck, round(duck_s + 0.31, 4): playout.restore}
    for now in sorted({*(number * 0.02 for number in range(250)), *ducks}):
        if now in ducks and ducks[now](now):
            playback.clear(now)
        for action in playout.due(now):
            if isinstance(action, SendAudio):
                playback.queue(g711.encode(action.pcm), now)
    found = measured(playback, Run(7_600, 9_000))
    assert (found.stopped, found.restored) == (False, True)
    assert found.duck_s == pytest.approx(duck_s - 0.95, abs=0.0002)
    assert found.slip_s == pytest.approx(0, abs=0.0002)


def test_an_agent_that_ducked_while_nothing_was_buffered_is_known_by_its_return():
    said = voice(3.0)
    playback = Playback()
    playback.queue(g711.encode(said[:8000]), 0.0)
    playback.queue(g711.encode((said[8000:11_200] * DUCKED).astype(np.int16)), 1.0)
    playback.clear(1.2)
    playback.queue(g711.encode(said[9600:]), 1.2)
    found = measured(playback, Run(7_600, 9_000))
    assert (found.stopped, found.restored, found.duck_s) == (False, True, None)


def test_a_clear_behind_the_last_word_stops_nobody():
    """The reply ended by itself while the caller began to speak."""
    playback = Playback()
    playback.queue(g711.encode(voice(1.0)), 0.0)
    playback.clear(1.1)
    assert not measured(playback, Run(7_600, 9_600)).stopped


def test_a_server_that_sends_no_sooner_than_it_must_is_stopped_too():
    """Nothing is buffered when it clears, but it was heard until then."""
    playback = Playback()
    for number in range(50):
        playback.queue(g711.encode(voice(0.02, seed=number)), number * 0.02)
    playback.clear(1.001)
    found = measured(playback, Run(7_600, 9_600))
    assert found.stopped
    assert found.stop_s == pytest.approx(0.05, abs=0.001)


def test_a_line_with_pauses_in_it_is_one_turn():
    line = np.concatenate((tone(0.5), silence(3.0), tone(0.5)))
    report = call(Parrot(greeting=silence(0.1)), {"say": "one"}, "listen", lines={0: line})
    (turn,) = report.turns
    assert turn.cut_off
    assert report.hearing.at_ear[0].last_voiced_s == pytest.approx(4.0, abs=0.001)
    assert turn.edge_gap_ms == pytest.approx(800, abs=0.3)
    patient = call(Deaf(((4.5, 5.0),)), {"say": "one"}, "listen", lines={0: line})
    assert [turn.cut_off for turn in patient.turns] == [False]
