"""A scenario played as often as it says, its seeds one higher each time, and what became of it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from telephony.simulator.report import Report
from telephony.simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Runs:
    """`reports` in the order of the runs."""

    scenario: Scenario
    reports: tuple[Report, ...]

    @property
    def passed(self) -> int:
        """Runs in which no expectation failed."""
        return sum(not report.failures for report in self.reports)

    def check(self) -> "Runs":
        """These runs; raises `AssertionError` with all that is wrong if an expectation failed in one."""
        __tracebackhide__ = True  # pytest then shows the test's own line
        failed = [(number, report) for number, report in enumerate(self.reports, 1) if report.failures]
        if not failed:
            return self
        if len(self.reports) == 1:
            self.reports[0].check()
        head = f'"{self.scenario.name}" passed in {self.passed} of {len(self.reports)} runs'
        told = [
            f"run {number}: {verdict.message}" for number, report in failed for verdict in report.failures
        ]
        raise AssertionError("\n".join((head, *self._counts(), *told)))

    def _counts(self) -> list[str]:
        return [
            f"    {row['where']} {row['expectation']}: held in {row['passed']} of {row['runs']}"
            for row in self.counts()
        ]

    def counts(self) -> list[dict[str, Any]]:
        """For each expectation, in how many runs it held."""
        rows = []
        for verdicts in zip(*(report.verdicts for report in self.reports), strict=True):
            held = sum(verdict.passed for verdict in verdicts)
            first = verdicts[0]
            rows.append(
                {
                    "where": first.where,
                    "expectation": first.expectation,
                    "passed": held,
                    "runs": len(verdicts),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """A single run as its report; several as a list of them with counts."""
        if len(self.reports) == 1:
            return self.reports[0].to_json()
        return {
            "scenario": self.scenario.name,
            "passed": self.passed,
            "runs": [report.to_json() for report in self.reports],
            "expectations": self.counts(),
        }


async def play_all(
    scenario: Scenario,
    play: Callable[[Scenario], Awaitable[Report]],
    progress: Callable[[int, Report], None] = lambda number, report: None,
) -> Runs:
    """Play every run with `play`, one after the other; `progress` is told each as it ends."""
    reports = []
    for number, run in enumerate(scenario.runs(), 1):
        report = await play(run)
        progress(number, report)
        reports.append(report)
    return Runs(scenario, tuple(reports))


@dataclass(frozen=True, slots=True)
class Speedup:
    """`times` seconds of call pass in one second of the machine's. `cpu_s` is what the process computed in
    the fastest run, which a busy machine does not lengthen. `identical`: every run of the call came to the
    same report and the same samples."""

    times: float
    call_s: float
    wall_s: float
    cpu_s: float
    identical: bool


def virtual_speedup(play: Callable[[], Report], runs: int = 3) -> Speedup:
    """Time `play`, which plays one and the same call in virtual time (`simulate_virtual`); the fastest of
    `runs` counts. Blocks. The first call also warms caches, so it is not timed."""
    prints = {play().fingerprint()}
    wall_s, cpu_s, call_s = [], [], 0.0
    for _ in range(runs):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        report = play()
        wall_s.append(time.perf_counter() - began_s)
        cpu_s.append(time.process_time() - began_cpu_s)
        prints.add(report.fingerprint())
        call_s = report.duration_s
    return Speedup(call_s / min(wall_s), call_s, min(wall_s), min(cpu_s), len(prints) == 1)
