"""The simulation behind the sizing page: what it must show whatever its times are."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.sizing import (
    CARDS,
    SIZES,
    TICK_S,
    TIMES,
    WAIT_LIMIT_S,
    Card,
    most_calls,
    plan,
    run,
    simulate,
    voice_alone,
    words_alone,
)

QUICK = Card("quick", 24, 0.005, 0.0001, 0.005, 0.001, 0.002, 0.0001, 0.004, 200)
SECONDS = 60.0


def test_the_same_seed_is_the_same_run() -> None:
    assert simulate(QUICK, 10, seconds=SECONDS) == simulate(QUICK, 10, seconds=SECONDS)
    assert simulate(QUICK, 10, seconds=SECONDS) != simulate(QUICK, 10, seconds=SECONDS, seed=2)


def test_one_call_waits_for_its_own_work_alone() -> None:
    found = simulate(QUICK, 1, seconds=SECONDS)
    work_s = QUICK.stt_s + QUICK.prefill_s + 14 * (QUICK.step_s + QUICK.step_each_s) + QUICK.tick_s
    assert found.wait_p50_s == pytest.approx(work_s, rel=0.3)
    assert found.late == 0
    assert found.kept


def test_more_calls_wait_longer_and_keep_the_card_busier() -> None:
    few, many = simulate(QUICK, 5, seconds=SECONDS), simulate(QUICK, 80, seconds=SECONDS)
    assert few.busy < many.busy
    assert few.wait_p95_s < many.wait_p95_s


def test_a_tick_that_takes_longer_than_its_sound_is_late() -> None:
    slow = replace(QUICK, tick_s=1.3 * TICK_S)
    found = simulate(slow, 1, seconds=SECONDS)
    assert found.late > 0.1
    assert not found.kept
    assert most_calls(slow, seconds=SECONDS).calls == 0


def test_sound_that_is_made_while_the_last_one_plays_is_not_late() -> None:
    """A tick takes more than half of what it makes sound for."""
    found = simulate(replace(QUICK, tick_s=0.6 * TICK_S), 1, seconds=SECONDS)
    assert found.late == 0


def test_what_is_on_another_card_takes_no_time_on_this_one() -> None:
    slow_words = replace(QUICK, stt_s=1.0, prefill_s=1.0, step_s=0.1)
    voice = replace(voice_alone(slow_words), slots=200)
    found = simulate(voice, 20, seconds=SECONDS)
    assert found.kept
    assert found.wait_p95_s < 3 * voice.tick_s
    slow_voice = replace(QUICK, tick_s=0.5)
    words = replace(words_alone(slow_voice), slots=200)
    assert simulate(words, 20, seconds=SECONDS).kept


def test_words_so_far_are_asked_for_only_when_there_is_time() -> None:
    slow = replace(QUICK, stt_s=0.3)
    found = simulate(slow, 1, seconds=SECONDS)
    assert found.wait_p95_s < 2 * slow.stt_s + 0.1, "behind one of them at most"
    assert found.busy < 0.15, "they are not counted: what is left of a turn is one transcription"


def test_a_voice_of_more_than_64_calls_is_several() -> None:
    """Each replica reads its own weights: the second costs a tick of its own."""
    alone = replace(voice_alone(QUICK), slots=500, tick_each_s=0.0, tick_s=0.01)
    one, two = (simulate(alone, calls, seconds=SECONDS).busy for calls in (64, 128))
    assert two == pytest.approx(2 * one, rel=0.1)


def test_the_command_says_a_plan_for_every_card_that_carries_a_call() -> None:
    told: list[str] = []
    report = run(seconds=30, cards=[replace(QUICK, slots=4)], progress=told.append)
    assert report.figures["quick_calls"] == 4
    assert told == ["quick: 4 calls of 4 for which there is memory"]
    assert set(report.details["quick"]) == {str(size) for size in SIZES}  # type: ignore[call-overload]


def test_the_most_calls_keep_the_promises_and_one_more_does_not() -> None:
    tight = replace(QUICK, step_s=0.02, step_each_s=0.001)
    found = most_calls(tight, seconds=SECONDS)
    assert 1 < found.calls < tight.slots
    assert found.wait_p95_s <= WAIT_LIMIT_S
    assert not simulate(tight, found.calls + 1, seconds=SECONDS).kept


def test_memory_is_the_limit_where_time_is_not() -> None:
    assert most_calls(replace(QUICK, slots=7), seconds=SECONDS).calls == 7


def test_plans_grow_with_the_calls_and_have_one_to_spare() -> None:
    plans = [plan(size, 40) for size in SIZES]
    for name in plans[0]:
        values = [each[name] for each in plans]
        assert values == sorted(values)
    assert plan(1_000, 40)["gpus"] == 51
    half_a_core = TIMES["front_end_calls_per_core"].value / 2
    assert plan(1_000, 40)["front_end_cores"] == math.ceil(1_000 / half_a_core) + 1


def test_the_page_plans_what_the_command_plans() -> None:
    page = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text()
    [per_card] = re.findall(r"^\| H100 \(80 GB\) \| (\d+)", page, re.MULTILINE)
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| [\d.]+ GiB", page, re.MULTILINE)
    told = {int(size.replace(",", "")): (int(gpus), int(cores)) for size, gpus, cores in rows}
    planned = {size: plan(size, int(per_card)) for size in SIZES}
    assert told == {size: (each["gpus"], each["front_end_cores"]) for size, each in planned.items()}


def test_each_time_says_where_it_comes_from() -> None:
    assert all(time.source and time.value > 0 for time in TIMES.values())
    assert {time.origin for time in TIMES.values()} == {"measured", "computed", "assumed"}
    assert all(card.slots >= 1 and card.tick_s > 0 for card in CARDS)
