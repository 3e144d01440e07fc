"""`maya bench media`: how many calls one core carries, at 20 ms packets both ways, with stand-in models.

The server (`bench.media_server`) runs in a process of its own, pinned to one core: all of `maya serve`, with
the call and its turn-taking, echo and levels, Silero for every call, 24 -> 8 kHz for every reply and 8 -> 16
kHz for every turn, the recording of every call and whatever else observes it. Its replies outlast the time
between two interruptions, so packets flow in both directions nearly all the time (`packets_out_per_s` says
how many). The callers run on another core; each speaks over the agent every `CYCLE_S` seconds, one after the
other. Calls are added step by step until the server fails to keep time.

Figures:
- `added_jitter_p99_ms`: the server sends AudioFrame k of a passage (a stretch of the agent's speech without a
  break) at a fixed distance ahead of its playout, one every 20 ms. For each packet, the difference between
  its arrival and its place in the passage, less the median of that difference over the passage; the 99th
  percentile of its absolute value over all packets and calls of one measurement, the packets of the initial
  lead left out. It includes the load generator's own delay (`generator_late_p99_ms`) and thus errs against
  the server.
- `calls_per_core`: the most calls at which that stayed under 20 ms, no packet came too late to be played in
  time, and no call was lost.
- `kib_per_call`: slope of the server's resident memory over the number of calls (least squares over the
  steps up to `calls_per_core`: beyond it, what cannot be written in time waits in memory).
- `cpu_ms_per_call_s`: the server's processor time per second of one call, at `calls_per_core`. `core_busy`
  is the part of its core that the server had, `core_lost` the part that other work on the machine took:
  above a few per cent the figures say more about that work.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.media_load import LoadCaller, Pacer, Passage
from bench.report import Report
from pipeline.line import AUDIO_FRAME_S
from telephony.simulator.caller import Speech
from telephony.simulator.errors import CannotCall
from telephony.simulator.voices import speak

CYCLE_S = 30.0
JITTER_LIMIT_MS = 20.0
_INTERRUPTION = "Sorry, what about the day after tomorrow?"
_LEAD_PACKETS = 20
_GOLDEN = (5**0.5 - 1) / 2
_START_LIMIT_S = 60.0
_ATTEMPTS = 3
_DISTURBED = 0.1
"""A step that failed while other work took so much of the server's core is measured again."""


How = Literal["idle", "together", "apart", "process"]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement."""

    calls: int
    jitter_p50_ms: float
    jitter_p99_ms: float
    jitter_max_ms: float
    generator_late_p99_ms: float
    packets_out_per_s: float
    starved: int
    lost: int
    violations: int
    cpu_ms_per_call_s: float
    core_busy: float
    core_lost: float
    rss_kib: int

    def told(self) -> str:
        verdict = "kept time" if self.kept_time else "did not keep time"
        return (
            f"{self.calls} calls: jitter p99 {self.jitter_p99_ms} ms, "
            f"{self.packets_out_per_s} packets/s out, core busy {self.core_busy:.0%}, "
            f"lost to other work {self.core_lost:.0%}; {verdict}"
        )

    @property
    def kept_time(self) -> bool:
        """No packet came too late, nothing was lost or malformed."""
        return self.jitter_p99_ms < JITTER_LIMIT_MS and not (self.starved or self.lost or self.violations)


def run(
    *,
    first: int = 20,
    step: int = 10,
    most: int = 200,
    seconds: float = 8.0,
    settle_s: float = 5.0,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Add `step` calls at a time from `first` to `most`; measure for `seconds` after `settle_s` each time.
    Stops after two failed steps in a row; one that other work disturbed is tried three times. About 15 s a
    step. Raises `CannotCall` where there are no two cores, or when the server does not start."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise CannotCall("bench media needs Linux and two cores: one for the server, one for its callers")
    with _server("--core", str(cores[0])) as (process, port):
        os.sched_setaffinity(0, {cores[1]})
        try:
            levels = range(first, most + 1, step)
            steps = _run_loop(_ramp(process.pid, port, levels, seconds, settle_s, progress))
        finally:
            os.sched_setaffinity(0, cores)
    return _report(steps)


def run_saturated(
    *,
    calls: int = 20,
    seconds: float = 15.0,
    how: Sequence[How] = ("idle", "together", "process", "apart"),
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Gaps between the packets of a call that the server sends while the bundled models keep every core busy:
    `idle` without them, `together` in threads as Python and Linux treat them, `apart` as production does
    (`infra.isolation`), `process` in a process of their own. The callers run at a higher priority where that
    is allowed. 40 s each. Raises `CannotCall`."""
    figures: dict[str, object] = {"calls": calls}
    for each in how:
        with _saturated_server(each) as (process, port), _urgent():
            found = _run_loop(_gaps(process.pid, port, calls, seconds))
        figures |= {f"{name}_{each}": figure for name, figure in found.items()}
        progress(str({name: figure for name, figure in figures.items() if name.endswith(each)}))
    return Report(
        figures=figures,
        notes=[
            "gaps: between arrivals of one call's packets within the agent's speech, but for its first 0.4 s",
            "two transcriptions, four replies, one voice of the bundled models at any time, on all cores",
        ],
    )


@contextlib.contextmanager
def _urgent() -> Iterator[None]:
    """The load's own lateness is not to be the server's."""
    before, group = os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup")
    # Where Linux shares cores among sessions (autogroup), niceness counts within one alone.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        group.write_text("-15")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            group.write_text("0")
            os.setpriority(os.PRIO_PROCESS, 0, before)


@contextlib.contextmanager
def _saturated_server(how: How) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    beside: subprocess.Popen[bytes] | None = None
    if how == "process":
        command = [sys.executable, "-m", "bench.media_saturation"]
        beside = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert beside.stdout is not None  # noqa: S101  (a pipe)
        if not beside.stdout.readline():
            raise CannotCall("the models could not be loaded; their own words stand above")
    try:
        saturated = ["--saturated", how] if how in ("together", "apart") else []
        with _server(*saturated) as server:
            yield server
    finally:
        if beside is not None:
            beside.kill()
            beside.wait()


async def _gaps(pid: int, port: int, calls: int, seconds: float) -> dict[str, object]:
    pacer = Pacer()
    pacing = asyncio.create_task(pacer.run(), name="pacer")
    try:
        await _add_callers(pacer, port, calls)
        await asyncio.sleep(5.0)
        pacer.late_s = type(pacer.late_s)("d")
        began, ran_s = time.monotonic(), _cpu_s(pid)
        await asyncio.sleep(seconds)
        ended, ran_s = time.monotonic(), _cpu_s(pid) - ran_s
        lost = sum(caller.closed for caller in pacer.callers)
    finally:
        pacing.cancel()
        for caller in pacer.callers:
            caller.hang_up()
        await asyncio.gather(pacing, return_exceptions=True)
    gaps = np.concatenate(
        [_gaps_ms(passage, began, ended) for caller in pacer.callers for passage in caller.passages]
    )
    return {
        "gap_p50_ms": round(float(np.percentile(gaps, 50)), 1),
        "gap_p99_ms": round(float(np.percentile(gaps, 99)), 1),
        "gap_p999_ms": round(float(np.percentile(gaps, 99.9)), 1),
        "gap_max_ms": round(float(gaps.max()), 1),
        "starved": sum(caller.starved for caller in pacer.callers),
        "lost": lost,
        "generator_late_p99_ms": round(float(np.percentile(np.asarray(pacer.late_s), 99)) * 1000, 2),
        "server_cores_busy": round(ran_s / (ended - began), 2),
    }


def _gaps_ms(passage: Passage, began: float, ended: float) -> NDArray[np.float64]:
    """Between the arrivals of consecutive packets of a passage in [began, ended)."""
    arrived = np.asarray(passage.arrived_s)[_LEAD_PACKETS:]
    gaps: NDArray[np.float64] = np.diff(arrived)[(arrived[1:] >= began) & (arrived[1:] < ended)] * 1000
    return gaps


async def _add_callers(pacer: Pacer, port: int, level: int) -> None:
    line = Speech.of(_INTERRUPTION, speak(_INTERRUPTION, "ruth")).audio_frames
    cycle = round(CYCLE_S / AUDIO_FRAME_S)
    while len(pacer.callers) < level:
        number = len(pacer.callers)
        # First words within two seconds, so that all talk soon; then as far apart as strangers are: multiples
        # of the golden ratio fall evenly into the cycle, however many there are.
        earlier = round(number * _GOLDEN % 1.0 * (cycle - len(line)))
        caller = LoadCaller(number, line, cycle, 50 + (number * 37) % 100, earlier=earlier)
        await caller.open(port)
        pacer.callers.append(caller)
        await asyncio.sleep(0.02)


def _run_loop(main: Coroutine[None, None, Result]) -> Result:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _ramp(
    pid: int, port: int, levels: range, seconds: float, settle_s: float, progress: Callable[[str], None]
) -> list[Step]:
    pacer = Pacer()
    pacing = asyncio.create_task(pacer.run(), name="pacer")
    steps: list[Step] = []
    failures = 0
    try:
        for level in levels:
            await _add_callers(pacer, port, level)
            await asyncio.sleep(settle_s)
            for _ in range(_ATTEMPTS):
                steps.append(await _measure(pid, pacer, seconds))
                progress(steps[-1].told())
                if steps[-1].kept_time or steps[-1].core_lost < _DISTURBED:
                    break
            failures = 0 if steps[-1].kept_time else failures + 1
            if failures == 2 or pacing.done():
                break
    finally:
        pacing.cancel()
        for caller in pacer.callers:
            caller.hang_up()
        await asyncio.gather(pacing, return_exceptions=True)
        await asyncio.sleep(0.2)
    return steps


async def _measure(pid: int, pacer: Pacer, seconds: float) -> Step:
    callers = pacer.callers
    starved = sum(caller.starved for caller in callers)
    packets = sum(caller.packets_in for caller in callers)
    pacer.late_s = type(pacer.late_s)("d")
    (core,) = os.sched_getaffinity(pid)
    began, ran_s, worked_s = time.monotonic(), _cpu_s(pid), _core_s(core)
    await asyncio.sleep(seconds)
    ended, ran_s, worked_s = time.monotonic(), _cpu_s(pid) - ran_s, _core_s(core) - worked_s
    calls_s = len(callers) * (ended - began)
    deviations = [
        deviation
        for caller in callers
        for passage in caller.passages
        if len(deviation := _deviations_ms(passage, began, ended))
    ]
    jitter = np.concatenate(deviations) if deviations else np.array([np.inf])
    return Step(
        calls=len(callers),
        jitter_p50_ms=round(float(np.percentile(jitter, 50)), 2),
        jitter_p99_ms=round(float(np.percentile(jitter, 99)), 2),
        jitter_max_ms=round(float(jitter.max()), 2),
        generator_late_p99_ms=round(float(np.percentile(np.asarray(pacer.late_s), 99)) * 1000, 2),
        packets_out_per_s=round((sum(c.packets_in for c in callers) - packets) / calls_s, 1),
        starved=sum(caller.starved for caller in callers) - starved,
        lost=sum(caller.closed for caller in callers),
        violations=sum(len(caller.twilio.violations) for caller in callers),
        cpu_ms_per_call_s=round(ran_s * 1000 / calls_s, 2),
        core_busy=round(ran_s / (ended - began), 3),
        core_lost=round(max(0.0, worked_s - ran_s) / (ended - began), 3),
        rss_kib=_rss_kib(pid),
    )


def _deviations_ms(passage: Passage, began: float, ended: float) -> NDArray[np.float64]:
    """Absolute deviations from the passage's median offset, of its packets in [began, ended)."""
    arrived = np.asarray(passage.arrived_s)[_LEAD_PACKETS:]
    if not len(arrived):
        return np.zeros(0)
    offset = arrived - np.asarray(passage.position_s)[_LEAD_PACKETS:]
    inside = (arrived >= began) & (arrived < ended)
    deviations: NDArray[np.float64] = np.abs(offset - np.median(offset))[inside] * 1000
    return deviations


def _report(steps: list[Step]) -> Report:
    good = [step for step in steps if step.kept_time]
    best = max(good, key=lambda step: step.calls) if good else None
    figures: dict[str, object] = {"calls_per_core": best.calls if best else 0}
    if best is not None:
        figures |= {
            "added_jitter_p99_ms": best.jitter_p99_ms,
            "added_jitter_max_ms": best.jitter_max_ms,
            "generator_late_p99_ms": best.generator_late_p99_ms,
            "packets_out_per_s": best.packets_out_per_s,
            "cpu_ms_per_call_s": best.cpu_ms_per_call_s,
            "core_busy": best.core_busy,
            "core_lost": best.core_lost,
        }
    in_time = [step for step in steps if best is None or step.calls <= best.calls]
    if len({step.calls for step in in_time}) > 1:
        slope = np.polyfit([step.calls for step in in_time], [step.rss_kib for step in in_time], 1)[0]
        figures["kib_per_call"] = round(float(slope))
    return Report(
        figures=figures,
        notes=[
            "stand-in models, real Silero, both resamplers; recording and all other observers on",
            "server on one core, callers on another",
            f"every caller speaks over the agent each {CYCLE_S:.0f} s",
        ],
        details={"steps": [{name: getattr(step, name) for name in step.__slots__} for step in steps]},
    )


@contextlib.contextmanager
def _server(*options: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.media_server", "--port", str(port), *options]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            if process.poll() is not None:
                raise CannotCall("the server under test did not start; its own words stand above")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                break
            if time.monotonic() > deadline:
                raise CannotCall(f"the server under test took more than {_START_LIMIT_S:.0f} s to start")
            time.sleep(0.1)
        yield process, port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpu_s(pid: int) -> float:
    """Seconds that the process's threads have run."""
    ran = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ran += int((thread / "schedstat").read_text().split()[0])
    return ran / 1e9


def _core_s(core: int) -> float:
    """Seconds that a core has worked, for whomever."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            idle, waiting = int(ticks[3]), int(ticks[4])
            return (sum(map(int, ticks[:8])) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0
