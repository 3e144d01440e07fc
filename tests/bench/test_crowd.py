"""How many calls are answered in time: what is made of what was heard."""

import os
import time

import pytest

from bench.crowd import WAIT_RATIO, Round, cpu_s, in_time, report, scenario_of


def heard(calls: int, *gaps_s: float, unanswered: int = 0) -> Round:
    return Round(calls, gaps_s, unanswered, 25.0)


def test_calls_are_in_time_up_to_the_first_number_that_waits_too_long() -> None:
    alone = heard(1, 1.0, 1.2, 1.4)
    slow = heard(3, 1.2 * WAIT_RATIO + 0.1)
    assert in_time([alone, heard(2, 1.2 * WAIT_RATIO), slow, heard(4, 1.0)]) == 2
    assert in_time([alone, heard(2, 1.2, unanswered=1)]) == 1
    assert in_time([heard(1, unanswered=4), heard(2, 1.0)]) == 0


def test_each_figure_names_its_number_of_calls() -> None:
    figures = report("embedded", [heard(1, 1.0, 2.0), heard(4, 3.0, unanswered=1)]).figures
    assert figures["in_time"] == 1
    assert (figures["gap_p50_ms_of_1"], figures["gap_max_ms_of_4"]) == (1_500, 3_000)
    assert (figures["unanswered_of_4"], figures["cpu_s_per_call_minute_of_4"]) == (1, 25.0)


def test_callers_ask_different_things_in_turn() -> None:
    said = [
        [step.text for step in scenario_of(number, 4).steps if hasattr(step, "text")] for number in range(6)
    ]
    assert all(len(set(lines)) == 4 for lines in said)
    assert len({lines[0] for lines in said}) == 6


def test_processor_time_is_what_the_kernel_says() -> None:
    spent_s = time.process_time()
    assert cpu_s(os.getpid()) == pytest.approx(spent_s, abs=0.5)
