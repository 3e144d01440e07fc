"""`maya bench crowd`: how many calls at once this machine answers in time, on a profile's models.

One real server, and so many simulated callers at once, each of whom asks the demo persona's questions one
after the other; then more of them. All in real time, server and callers on this machine.

- `gap_*_of_N`: from a caller's last voiced sample to the agent's first, as the caller hears it, with N calls.
- `unanswered_of_N`: questions that no answer came to.
- `cpu_s_per_call_minute_of_N`: the server's processor time for each minute of each call. What all cores have,
  60 s each a minute, divided by it, is where the machine itself ends.
- `in_time`: the most calls of those tried with which the median gap is within `WAIT_RATIO` of the fewest's.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.report import Report, percentile, spread
from infra.local_server import LocalServer, local_server
from telephony.simulator import Scenario, simulate
from telephony.simulator.report import Report as CallReport

TRIED: Final = (1, 2, 3, 4)
WAIT_RATIO: Final = 1.5
"""Who waits half as long again still finds it a conversation."""
_QUESTIONS: Final = (
    "What time do you open on Saturday?",
    "Where can I park my car?",
    "Do you have evening hours on Thursday?",
    "How do I reach you by bus?",
    "What does the first visit cost?",
    "Is there a doctor for children?",
)
_VOICES: Final = ("ruth", "lily", "walter", "martin")
_APART_S: Final = 1.7
"""Callers do not come at the same moment, nor speak at the same one all the time."""
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Round:
    """What so many calls at once heard."""

    calls: int
    gaps_s: tuple[float, ...]
    unanswered: int
    cpu_s_per_call_minute: float

    @property
    def median_s(self) -> float:
        return percentile(self.gaps_s, 50) if self.gaps_s else float("inf")


def run(
    *,
    profile: str = "embedded",
    calls: Sequence[int] | None = None,
    questions: int = 4,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """About three quarters of a minute for each number of `calls`. Raises `CommandError` when the server does
    not start, `CannotCall` when it takes no call."""
    tried = sorted(set(calls or TRIED))
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="maya-crowd-") as name:
        folder = Path(name)
        options = ["--profile", profile, "--log-level", "warning"]
        environ = {"MAYA_CAPACITY_CALLS": str(max(tried))}
        with local_server(folder / "calls", folder / "server.log", options, environ) as server:
            server.wait_until_ready(progress)
            for many in tried:
                rounds.append(asyncio.run(_round(server, many, questions)))
                progress(f"{many} calls: median gap {rounds[-1].median_s:.2f} s")
    return report(profile, rounds)


def report(profile: str, rounds: Sequence[Round]) -> Report:
    figures: dict[str, object] = {"in_time": in_time(rounds)}
    for one in rounds:
        gaps = spread("gap", [1_000 * gap_s for gap_s in one.gaps_s])
        figures |= {f"{name}_of_{one.calls}": value for name, value in gaps.items()}
        figures[f"unanswered_of_{one.calls}"] = one.unanswered
        figures[f"cpu_s_per_call_minute_of_{one.calls}"] = round(one.cpu_s_per_call_minute, 1)
    return Report(
        figures=figures,
        notes=[
            f"profile {profile}; server and callers on this machine",
            f"in_time: the median gap is at most {WAIT_RATIO} times that of the fewest calls",
        ],
    )


def in_time(rounds: Sequence[Round]) -> int:
    """The most calls with which, and with all fewer that were tried, callers are answered nearly as soon as
    the fewest are. 0 where not even these were all answered."""
    best = 0
    for one in rounds:
        if one.unanswered or one.median_s > WAIT_RATIO * rounds[0].median_s:
            break
        best = one.calls
    return best


def scenario_of(number: int, questions: int) -> Scenario:
    """What the `number`th caller does."""
    steps: list[object] = ["listen"]
    for turn in range(questions):
        steps += [{"say": _QUESTIONS[(number + turn) % len(_QUESTIONS)]}, {"listen": {"timeout_s": 20}}]
    return Scenario.model_validate(
        {
            "name": f"crowd {number}",
            "voice": _VOICES[number % len(_VOICES)],
            "network": {"delay_ms": 20, "jitter_ms": 0},
            "steps": [*steps, "hang_up"],
        }
    )


async def _round(server: LocalServer, calls: int, questions: int) -> Round:
    before_s = cpu_s(server.process.pid)

    async def call(number: int) -> CallReport:
        await asyncio.sleep(number * _APART_S)
        return await simulate(
            scenario_of(number, questions),
            url=f"http://127.0.0.1:{server.port}/twilio/voice",
            auth_token=server.auth_token,
        )

    reports = await asyncio.gather(*map(call, range(calls)))
    minutes = sum(each.duration_s for each in reports) / 60
    spent_s = cpu_s(server.process.pid) - before_s
    gaps_s = tuple(turn.gap_ms / 1_000 for each in reports for turn in each.turns if turn.gap_ms is not None)
    return Round(calls, gaps_s, calls * questions - len(gaps_s), spent_s / max(minutes, 1e-9))


def cpu_s(pid: int) -> float:
    """Processor time that a process of this machine has taken, its threads included."""
    fields = (
        Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
