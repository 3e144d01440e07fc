"""Whole calls of the simulated caller with a parrot, in virtual time, through the server's own stream
shell."""

import hashlib
import json
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audible import voiced_runs
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.caller import Caller, Speech
from telephony.simulator.report import Report, ServerTurn
from telephony.simulator.scenario import Scenario
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import SILENCE_S, THINKING_S, Parrot, parrots, silence, tone

LINES = {"one": tone(1.0), "two": tone(2.0), "three": tone(0.6), "long": tone(4.0)}
NO_JITTER = {"delay_ms": 60, "jitter_ms": 0}


def script(*steps: Any, network: dict[str, float] | None = None, **fields: Any) -> Scenario:
    return Scenario.model_validate(
        {"name": "test", "network": NO_JITTER if network is None else network, "steps": list(steps), **fields}
    )


def speeches(scenario: Scenario) -> dict[int, Speech]:
    texts = {
        n: getattr(step, "text", None) or getattr(step, "say", None) for n, step in enumerate(scenario.steps)
    }
    return {number: Speech.of(text, LINES[text]) for number, text in texts.items() if text}


def call(scenario: Scenario, parrot: Parrot, **options: Any) -> Report:
    return simulate_virtual(scenario, parrots(parrot), speeches=speeches(scenario), **options)


def interrupt(after_s: float, say: str = "three") -> dict[str, Any]:
    return {"interrupt": {"after_s": after_s, "say": say}}


def test_gaps_are_exact_at_the_ear_and_at_the_edge():
    report = call(script("listen", {"say": "one"}, "listen", {"say": "two"}, "listen", "hang_up"), Parrot())
    expected_ms = (SILENCE_S + THINKING_S) * 1000
    assert [turn.caller for turn in report.turns] == ["one", "two"]
    assert [turn.edge_gap_ms for turn in report.turns] == pytest.approx([expected_ms] * 2, abs=0.3)
    # 60 ms each way lie between the ear and the edge.
    assert [turn.gap_ms for turn in report.turns] == pytest.approx([expected_ms + 120] * 2, abs=0.3)
    assert report.ending == "caller hung up"
    assert report.violations == ()
    assert report.gap_ms.n == 2


def test_jitter_lengthens_the_ears_gap_by_the_playout_buffer():
    network = {"delay_ms": 60, "jitter_ms": 15, "seed": 3}
    report = call(script("listen", {"say": "one"}, "listen", network=network), Parrot())
    (turn,) = report.turns
    assert turn.gap_ms is not None
    assert turn.edge_gap_ms is not None
    assert 120 + 15 - 16 <= turn.gap_ms - turn.edge_gap_ms <= 120 + 15 + 16


def test_an_interruption_is_timed_and_belongs_to_the_answer_it_cut():
    report = call(script("listen", {"say": "two"}, interrupt(0.5), "listen"), Parrot())
    cut, last = report.turns
    assert cut.interrupted
    # The parrot yields on 160 ms of voice; a caller hears that 60 ms later, and has spoken 60 ms earlier.
    assert cut.edge_stop_ms == pytest.approx(160, abs=0.3)
    assert cut.stop_ms == pytest.approx(280, abs=0.3)
    assert (last.caller, last.interrupted, last.stop_ms) == ("three", False, None)
    assert last.edge_gap_ms == pytest.approx(800, abs=0.3)
    assert report.stop_ms.n == 1


def test_an_interruption_begins_so_long_after_the_agent_became_audible():
    report = call(script({"say": "two"}, interrupt(0.5), "listen"), Parrot(greeting=silence(0.1)))
    assert report.hearing is not None
    answer = voiced_runs(report.hearing.agent)[0].start / LINE_RATE_HZ
    spoke = report.hearing.at_ear[1].first_voiced_s
    assert spoke == pytest.approx(answer + 0.5, abs=0.021)


def test_an_interrupted_greeting_has_a_row_of_its_own():
    report = call(script(interrupt(0.3), "listen"), Parrot(greeting=tone(3.0)))
    greeting, answer = report.turns
    assert (greeting.caller, greeting.interrupted, greeting.gap_ms) == (None, True, None)
    assert greeting.stop_ms == pytest.approx(280, abs=0.3)
    assert answer.caller == "three"


def test_an_agent_that_will_not_yield_is_found_out():
    parrot = Parrot(yields=False, answer=lambda heard: heard if len(heard) > LINE_RATE_HZ else heard[:0])
    report = call(script("listen", {"say": "long"}, interrupt(0.5), "listen"), parrot)
    # 4 s of answer, 0.5 s of them heard before the interruption, which came on the next 20 ms.
    assert report.turns[0].stop_ms == pytest.approx(3500, abs=21)


def test_a_short_wait_is_a_pause_inside_the_turn_and_a_long_one_is_not():
    short = call(script("listen", {"say": "one"}, {"wait": 0.3}, {"say": "one"}, "listen"), Parrot())
    assert [turn.caller for turn in short.turns] == ["one one"]
    assert short.turns[0].edge_gap_ms == pytest.approx(800, abs=0.3)
    long = call(script("listen", {"say": "one"}, {"wait": 4}, {"say": "one"}, "listen"), Parrot())
    assert [turn.caller for turn in long.turns] == ["one", "one"]
    assert long.edge_gap_ms.n == 2


def test_listen_waits_through_the_agents_pauses():
    """The answer has a hole of 0.8 s, shorter than the listener's patience of 1 s."""
    holed = np.concatenate((tone(0.5), silence(0.8), tone(0.5)))
    report = call(
        script("listen", {"say": "one"}, "listen", {"say": "two"}), Parrot(answer=lambda heard: holed)
    )
    assert report.hearing is not None
    assert report.hearing.at_ear[1].first_voiced_s is not None
    assert report.turns[0].interrupted is False
    assert len(voiced_runs(report.hearing.agent)) == 3


def test_listen_gives_up_on_a_silent_agent():
    report = call(
        script({"listen": {"timeout_s": 2}}, {"say": "one"}, {"listen": {"timeout_s": 3}}),
        Parrot(greeting=silence(0.1), answer=lambda heard: silence(0.1)),
    )
    assert report.duration_s == pytest.approx(6.0, abs=0.1)
    assert report.turns[0].gap_ms is None
    assert report.gap_ms == report.stop_ms
    assert report.to_json()["gap_ms"] == {"p50": None, "p95": None, "max": None, "n": 0}


def test_keys_reach_the_server_in_order():
    parrot = Parrot()
    call(script("listen", {"keys": "12#"}, {"wait": 1}, "hang_up"), parrot)
    assert parrot.keys == ["1", "2", "#"]


def test_hanging_up_says_stop_and_dropping_says_nothing():
    hung, dropped = Parrot(), Parrot()
    assert call(script({"wait": 1}, "hang_up"), hung).ending == "caller hung up"
    assert hung.closed == "caller hung up"
    assert call(script({"wait": 1}, "drop"), dropped).ending == "connection dropped"
    assert dropped.closed == "connection lost"


def test_the_agent_hanging_up_ends_the_call():
    report = call(script("listen", {"say": "one"}, "listen", {"say": "one"}, {"wait": 60}), Parrot(turns=1))
    assert report.ending == "agent hung up"
    assert report.duration_s < 15
    assert report.violations == ()


def test_a_call_of_no_length():
    report = call(script("hang_up"), Parrot())
    assert report.turns == ()
    assert report.duration_s == 0
    assert report.ending == "caller hung up"


def test_media_flows_without_holes_whatever_the_network_loses():
    parrot = Parrot(greeting=silence(0.1))
    network = {"delay_ms": 50, "jitter_ms": 40, "loss": 0.2, "seed": 5}
    report = call(script({"wait": 5}, {"say": "long"}, {"wait": 5}, network=network), parrot)
    # What was still on its way when the caller hung up (90 ms at most) never arrived.
    assert 0 <= report.duration_s * LINE_RATE_HZ - parrot.received_samples <= 0.1 * LINE_RATE_HZ


def test_loss_is_heard():
    whole = call(script("listen"), Parrot(greeting=tone(4.0)))
    lossy = call(script("listen", network={**NO_JITTER, "loss": 0.1}), Parrot(greeting=tone(4.0)))
    assert whole.hearing is not None
    assert lossy.hearing is not None
    heard = [np.count_nonzero(report.hearing.agent[:32_000]) for report in (whole, lossy)]
    assert heard[1] / heard[0] == pytest.approx(0.9, abs=0.05)


def test_noise_lies_under_what_is_sent_and_not_under_what_is_measured():
    noisy = call(script({"wait": 0.5}, {"say": "one"}, {"wait": 2}, noise={"level_dbfs": -30}), Parrot())
    assert noisy.hearing is not None
    pause = noisy.hearing.caller[:4000].astype(float)
    assert 20 * np.log10(np.sqrt(np.mean(pause**2)) / 32768) == pytest.approx(-30, abs=0.5)
    assert noisy.hearing.at_ear[0].first_voiced_s == pytest.approx(0.5)


def test_the_recording_is_what_the_ear_heard(tmp_path):
    report = call(script("listen", {"say": "one"}, "listen"), Parrot(), recording_dir=tmp_path)
    assert report.recording is not None
    with wave.open(str(report.recording)) as recording:
        assert (recording.getnchannels(), recording.getsampwidth(), recording.getframerate()) == (2, 2, 8000)
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").reshape(-1, 2)
    assert report.hearing is not None
    assert np.array_equal(samples[:, 0], report.hearing.caller)
    assert np.array_equal(samples[:, 1], report.hearing.agent)
    greeting, answer = voiced_runs(samples[:, 1])
    (said,) = voiced_runs(samples[:, 0])
    # Mouth to edge, and the parrot's greeting to the ear: 60 ms each.
    assert greeting.start / LINE_RATE_HZ == pytest.approx(0.06, abs=0.0003)
    assert (answer.start - said.stop) / LINE_RATE_HZ * 1000 == pytest.approx(report.turns[0].gap_ms, abs=0.1)


def test_reports_and_recordings_are_bit_identical_and_fast(tmp_path: Path):
    scenario = script(
        *(
            "listen",
            {"say": "one"},
            "listen",
            {"say": "two"},
            interrupt(0.5),
            "listen",
            {"keys": "1"},
            "hang_up",
        ),
        network={"delay_ms": 60, "jitter_ms": 15, "loss": 0.02, "seed": 11},
    )
    outcomes, began = [], time.perf_counter()
    for attempt in range(3):
        report = call(scenario, Parrot(), recording_dir=tmp_path / str(attempt))
        assert report.recording is not None
        sound = hashlib.sha256(report.recording.read_bytes()).hexdigest()
        outcomes.append((sound, report.json().replace(str(report.recording), "")))
    took_s = time.perf_counter() - began
    print(f"virtual time ran {3 * report.duration_s / took_s:.0f} times faster than the call")
    assert outcomes[0] == outcomes[1] == outcomes[2]
    other = scenario.model_copy(update={"network": scenario.network.model_copy(update={"seed": 12})})
    assert call(other, Parrot()).json() != outcomes[0][1]


def test_the_servers_own_account_is_joined_by_time():
    """The greeting first, then a turn that the server took for two."""
    account = [
        ServerTurn("", "Hello.", "Hello."),
        ServerTurn("I want", "What?", "Wh", speech_end_s=3.0),
        ServerTurn("an appointment.", "Sure.", "Sure.", speech_end_s=4.4),
        ServerTurn("Thanks.", "Bye.", "Bye.", speech_end_s=99.0),
    ]
    report = call(
        script("listen", {"say": "one"}, {"wait": 0.3}, {"say": "one"}, "listen", {"say": "two"}, "listen"),
        Parrot(),
        transcripts=lambda call_id: account,
    )
    assert [(turn.transcript, turn.agent, turn.agent_heard) for turn in report.turns] == [
        ("I want an appointment.", "What? Sure.", "Wh Sure."),
        ("Thanks.", "Bye.", "Bye."),
    ]


def test_the_servers_own_account_without_times_is_joined_in_order():
    account = [ServerTurn("", "Hello.", "Hel"), ServerTurn("a", "A.", "A."), ServerTurn("b", "B.", "B.")]
    report = call(
        script(interrupt(0.3, "one"), "listen", {"say": "two"}, "listen"),
        Parrot(greeting=tone(3.0)),
        transcripts=lambda call_id: account,
    )
    assert [(turn.caller, turn.transcript, turn.agent_heard) for turn in report.turns] == [
        (None, None, "Hel"),
        ("one", "a", "A."),
        ("two", "b", "B."),
    ]


def test_the_json_is_the_documented_one():
    report = call(script("listen", {"say": "one"}, "listen"), Parrot())
    document = report.to_json()
    assert list(document) == [
        *("turns", "gap_ms", "edge_gap_ms", "stop_ms", "violations", "recording", "overlaps", "expectations")
    ]
    assert list(document["turns"][0]) == [
        *("caller", "transcript", "agent", "agent_heard", "gap_ms", "edge_gap_ms", "interrupted", "stop_ms"),
        "cut_off",
        "stages",
    ]
    assert list(document["gap_ms"]) == ["p50", "p95", "max", "n"]


def test_a_server_that_dies_is_a_violation():
    class Dying(Parrot):
        async def __call__(self, line):
            raise RuntimeError("dies")

    report = call(script({"wait": 5}), Dying())
    assert report.ending == "agent hung up"
    assert any("code 1011" in violation for violation in report.violations)


def test_a_stalled_shell_catches_up_without_drift():
    """The caller's clock is the schedule: after a pause of the process everything overdue is sent at once."""
    caller = Caller(script({"wait": 60}), {}, TwilioSide(StreamIdentity("AC1", "CA1", "MZ1")))
    caller.begin()
    sent = [json.loads(message) for message in caller.advance(0.21)]
    sent += [json.loads(message) for message in caller.advance(1.21)]
    # What was spoken in the last 60 ms is still on its way.
    assert [int(message["media"]["timestamp"]) for message in sent] == [20 * n for n in range(57)]
    assert [int(message["media"]["chunk"]) for message in sent] == list(range(1, 58))
    assert caller.next_deadline() == pytest.approx(1.22, abs=0.001)


@pytest.mark.parametrize(("goodbye", "wait_s"), [("hang_up", 0.82), ("drop", 0.88)])
def test_what_was_never_played_is_not_measured(goodbye, wait_s):
    """20 ms of the answer had been played, the rest lay in Twilio's buffer, when the call ended at the
    edge."""
    report = call(script({"say": "one"}, {"wait": wait_s}, goodbye), Parrot(greeting=silence(0.1)))
    assert (report.turns[0].gap_ms, report.turns[0].edge_gap_ms) == (None, None)


def test_a_backchannel_that_the_server_took_for_a_turn_is_no_part_of_the_turn_before():
    account = [
        ServerTurn("", "Hello.", "Hello."),
        ServerTurn("Tell me.", "A long story.", "A long", speech_end_s=3.0),
        ServerTurn("Mm-hmm.", "What?", "What?", speech_end_s=5.9),
        ServerTurn("Thanks.", "Bye.", "Bye.", speech_end_s=99.0),
    ]
    report = call(
        script(
            *("listen", {"say": "two"}, {"backchannel": {"after_s": 0.5, "say": "three"}}, "listen"),
            *({"say": "one"}, "listen"),
        ),
        Parrot(),
        transcripts=lambda call_id: account,
    )
    assert [(turn.transcript, turn.agent) for turn in report.turns] == [
        ("Tell me.", "A long story."),
        ("Thanks.", "Bye."),
    ]
    (overlap,) = report.overlaps
    assert 5.3 < overlap.at_s < 5.9
    assert (overlap.transcript, overlap.agent, overlap.stopped) == ("Mm-hmm.", "What?", True)
