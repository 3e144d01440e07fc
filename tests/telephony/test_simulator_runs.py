"""Scenarios played several times, and how fast virtual time runs."""

from typing import Any

import numpy as np
import pytest

from telephony.simulator.caller import Speech
from telephony.simulator.report import Report, ServerTurn
from telephony.simulator.runs import Runs, play_all, virtual_speedup
from telephony.simulator.scenario import Scenario
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import Parrot, parrots, silence, tone

STEPS = ["listen", {"say": "one"}, "listen", {"expect": {"gap": 1.2, "reply": "noon"}}]
ACCOUNTS = ("From nine until noon.", "I do not know.")


def scenario(**fields: Any) -> Scenario:
    return Scenario.model_validate({"name": "hours", "steps": STEPS, **fields})


def play(run: Scenario, number: int = 0) -> Report:
    account = [ServerTurn("", "Hello.", "Hello."), ServerTurn("x", ACCOUNTS[number], ACCOUNTS[number])]
    speeches = {1: Speech.of("one", tone(1.0))}
    return simulate_virtual(run, parrots(Parrot()), speeches=speeches, transcripts=lambda call_id: account)


def test_seeds_advance_by_one():
    script = scenario(repeat=3, network={"seed": 7}, noise={"level_dbfs": -50, "seed": 20})
    runs = script.runs()
    assert [run.network.seed for run in runs] == [7, 8, 9]
    assert [run.noise.seed for run in runs] == [20, 21, 22]
    assert [run.steps for run in runs] == [script.steps] * 3


def test_one_run_is_the_scenario_itself():
    assert scenario().runs() == (scenario(),)


async def test_every_run_is_played_and_told():
    told = []

    async def player(run: Scenario) -> str:
        return f"report {run.network.seed}"

    runs = await play_all(scenario(repeat=2), player, lambda number, report: told.append((number, report)))  # type: ignore
    assert runs.reports == ("report 0", "report 1")
    assert told == [(1, "report 0"), (2, "report 1")]


def test_what_failed_in_some_runs_is_counted():
    script = scenario(repeat=3)
    runs = Runs(script, tuple(play(run, number % 2) for number, run in enumerate(script.runs())))
    assert runs.passed == 2
    assert [(row["expectation"], row["passed"], row["runs"]) for row in runs.counts()] == [
        ("reply: noon", 2, 3),
        ("gap: 1.2", 3, 3),
    ]
    with pytest.raises(AssertionError) as caught:
        runs.check()
    lines = str(caught.value).splitlines()
    assert lines[0] == '"hours" passed in 2 of 3 runs'
    assert '    step 4 of "hours" reply: noon: held in 2 of 3' in lines
    assert any(
        line.startswith('run 2: step 4 of "hours": expected the reply to say "noon"') for line in lines
    )
    document = runs.to_json()
    assert (document["passed"], len(document["runs"])) == (2, 3)


def test_a_single_run_is_its_report():
    report = play(scenario())
    runs = Runs(scenario(), (report,))
    assert runs.check() is runs
    assert runs.to_json() == report.to_json()
    with pytest.raises(AssertionError, match="1 of 2 expectations"):
        Runs(scenario(), (play(scenario(), 1),)).check()


def test_virtual_time_is_timed_and_compared():
    speedup = virtual_speedup(lambda: play(scenario()), runs=2)
    assert speedup.identical
    assert speedup.call_s == pytest.approx(play(scenario()).duration_s)
    assert speedup.times == pytest.approx(speedup.call_s / speedup.wall_s)


def test_a_call_that_comes_out_otherwise_is_found_out():
    seeds = iter(range(10))
    unlike = virtual_speedup(lambda: play(scenario(network={"seed": next(seeds)})), runs=1)
    assert not unlike.identical


def test_a_fingerprint_covers_the_sound():
    def heard(greeting: Any) -> str:
        return simulate_virtual(
            scenario(steps=[{"wait": 1}]), parrots(Parrot(greeting=greeting))
        ).fingerprint()

    softer = np.zeros(800, np.int16)
    softer[400] = 100
    assert heard(silence(0.1)) == heard(silence(0.1))
    assert heard(silence(0.1)) != heard(softer)
