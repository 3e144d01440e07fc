"""`maya bench sip`: how punctual and how cheap SIP calls are, with stand-in models on one core.

The server (`bench.sip_server`) runs in a process of its own, pinned to one core: production's SIP server, the
media clock of all calls, the call with its turn-taking. The phones (`bench.sip_load`) run on another core;
each speaks over the agent every `CYCLE_S` seconds, so that packets flow both ways all the time and the agent
talks nearly all the time. The kernel stamps the server's packets as they arrive, so the phones' own delay
does not count; both processes share the machine, which counts against the server.

Figures:
- `gap_p99_ms`, `gap_p999_ms`: time between two packets of the server's in one call, over all packets of all
  calls: 20 ms where nothing disturbs. Every call is held by production's turn-taking. `gap_p99_ms_dsp` is
  the same with fewer calls, every one with the Silero network and both resamplers besides.
- `cpu_share`: the part of its core that the server took with `calls` calls without speech work: SIP, RTP in
  and out, and an agent's speech paced by production's playout, which nobody listens to. `cpu_share_call` is
  with production's call in the agent's place, which measures both voices and takes turns.
- `setup_p95_ms`: from an INVITE's sending to the 200's arrival, at `SETUPS_PER_S` new calls a second that
  last a few seconds each. `setup_loaded_p95_ms` is the same while the calls of the first figure build up.
- `gap_difference_ms`: how far the wait for an answer over SIP or AudioSocket is from that over Twilio's line,
  the same call, median against median (`bench.lines`).
- `core_lost`: the part of the server's core that other work on the machine took; above a few per cent the
  figures say more about that work.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.lines import gap_figures
from bench.processes import core_s, cpu_s
from bench.report import Report
from bench.sip_load import HOST, Load, Phone, options
from pipeline.line import AUDIO_FRAME_S
from telephony.simulator.caller import Speech
from telephony.simulator.errors import CannotCall
from telephony.simulator.voices import speak

CYCLE_S = 30.0
SETUPS_PER_S = 20
_SETUPS_LAST_S = 3.0
_INTERRUPTION = "Sorry, what about the day after tomorrow?"
_SETTLE_S = 6.0
_START_LIMIT_S = 60.0
_ATTEMPTS = 2
_DISTURBED = 0.05
"""A measurement while other work took so much of the server's core is made again."""


Work = Literal["none", "call", "speech"]
"""What the server computes besides signalling and media (`bench.sip_server`)."""
_TOLD: Mapping[Work, str] = {
    "none": "no speech work",
    "call": "turn-taking, no models",
    "speech": "voice detection and resampling",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement of calls that are up."""

    calls: int
    work: Work
    gaps_ms: NDArray[np.float64]
    setups_ms: tuple[float, ...]
    packets_lost: int
    calls_lost: int
    cpu_share: float
    core_lost: float
    load_late_p99_ms: float

    def gap_ms(self, percent: float) -> float:
        return round(float(np.percentile(self.gaps_ms, percent)), 2) if len(self.gaps_ms) else float("inf")

    def told(self) -> str:
        return (
            f"{self.calls} calls, {_TOLD[self.work]}: gap p99 {self.gap_ms(99)} ms, "
            f"p99.9 {self.gap_ms(99.9)} ms, core {self.cpu_share:.0%}, "
            f"lost to other work {self.core_lost:.0%}"
        )


def run(
    *,
    calls: int = 100,
    dsp_calls: int = 50,
    seconds: float = 20.0,
    setup_seconds: float = 15.0,
    turns: int = 6,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Measure `calls` calls without and `dsp_calls` with speech work for `seconds` each, call set-up for
    `setup_seconds`, and `turns` turns over each kind of line; 0 leaves a part out. Two minutes. Raises
    `CannotCall` where there are no two cores, or when a server does not start."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise CannotCall("bench sip needs Linux and two cores: one for the server, one for its callers")
    line = Speech.of(_INTERRUPTION, speak(_INTERRUPTION, "ruth")).audio_frames
    os.sched_setaffinity(0, {cores[1]})
    try:
        bare = _measured(cores[0], line, calls, seconds / 2, "none", progress)
        plain = _measured(cores[0], line, calls, seconds, "call", progress)
        setups = _setups(cores[0], line, setup_seconds, progress)
        dsp = _measured(cores[0], line, dsp_calls, seconds, "speech", progress)
        waits = gap_figures(cores[0], line, turns) if turns else {}
    finally:
        os.sched_setaffinity(0, cores)
    return _report([step for step in (bare, plain, dsp) if step is not None], setups, waits)


def _measured(
    core: int,
    line: tuple[bytes, ...],
    calls: int,
    seconds: float,
    work: Work,
    progress: Callable[[str], None],
) -> Step | None:
    if not calls or not seconds:
        return None
    with _server(core, work) as (process, server):
        load = Load(server)
        try:
            phones = [_phone(number, line) for number in range(calls)]
            for phone in phones:
                load.call(phone)
                load.run(1 / SETUPS_PER_S)
            load.run(_SETTLE_S)
            for _ in range(_ATTEMPTS):
                step = _measure(process.pid, core, load, phones, seconds, work)
                progress(step.told())
                if step.core_lost < _DISTURBED:
                    break
        finally:
            load.close()
    return step


def _phone(number: int, line: tuple[bytes, ...]) -> Phone:
    # First words within two seconds, so that all talk soon; then spread over the cycle.
    cycle = round(CYCLE_S / AUDIO_FRAME_S)
    return Phone(number, line, cycle - (number * 7) % 50, 50 + (number * 37) % 100)


def _measure(pid: int, core: int, load: Load, phones: list[Phone], seconds: float, work: Work) -> Step:
    load.late_s = type(load.late_s)("d")
    lost = sum(phone.lost for phone in phones)
    began_s, began, ran_s, worked_s = time.time(), time.monotonic(), cpu_s(pid), core_s(core)
    load.run(seconds)
    took_s, ran_s, worked_s = time.monotonic() - began, cpu_s(pid) - ran_s, core_s(core) - worked_s
    gaps = [gaps_ms(phone, began_s, began_s + took_s) for phone in phones]
    return Step(
        calls=len(phones),
        work=work,
        gaps_ms=np.concatenate(gaps) if gaps else np.zeros(0),
        setups_ms=tuple(setup_ms(phones)),
        packets_lost=sum(phone.lost for phone in phones) - lost,
        calls_lost=sum(phone.over != "" for phone in phones),
        cpu_share=round(ran_s / took_s, 3),
        core_lost=round(max(0.0, worked_s - ran_s) / took_s, 3),
        load_late_p99_ms=round(float(np.percentile(np.asarray(load.late_s), 99)) * 1000, 2),
    )


def gaps_ms(phone: Phone, began_s: float, ended_s: float) -> NDArray[np.float64]:
    """Times between successive packets that arrived in [began, ended)."""
    arrived = np.asarray(phone.arrived_s)
    inside = arrived[(arrived >= began_s) & (arrived < ended_s)]
    gaps: NDArray[np.float64] = np.diff(inside) * 1000
    return gaps


def setup_ms(phones: list[Phone]) -> list[float]:
    """INVITE to 200, of each call that was answered."""
    return [(phone.answered_s - phone.invited_s) * 1000 for phone in phones if phone.answered_s is not None]


def _setups(
    core: int, line: tuple[bytes, ...], seconds: float, progress: Callable[[str], None]
) -> list[Phone]:
    """Calls that come at `SETUPS_PER_S` and go again."""
    if not seconds:
        return []
    with _server(core, "call") as (_, server):
        load = Load(server)
        try:
            phones: list[Phone] = []
            last = round(_SETUPS_LAST_S * SETUPS_PER_S)
            for number in range(round(seconds * SETUPS_PER_S) + last):
                if number < round(seconds * SETUPS_PER_S):
                    phones.append(_phone(number, line))
                    load.call(phones[-1])
                if number >= last:
                    load.hang_up(phones[number - last])
                load.run(1 / SETUPS_PER_S)
        finally:
            load.close()
    times = setup_ms(phones)
    if times:
        progress(
            f"{len(times)} calls set up: p95 {np.percentile(times, 95):.1f} ms, most {max(times):.1f} ms"
        )
    return phones


def _report(steps: Sequence[Step], setups: list[Phone], waits: Mapping[str, object]) -> Report:
    figures: dict[str, object] = {}
    details: dict[str, object] = {}
    for step in steps:
        if step.work == "none":
            figures |= {"cpu_share": step.cpu_share, "core_lost": step.core_lost}
        else:
            ending = "" if step.work == "call" else "_dsp"
            figures |= {
                f"calls{ending}": step.calls,
                f"gap_p99_ms{ending}": step.gap_ms(99),
                f"gap_p999_ms{ending}": step.gap_ms(99.9),
                f"gap_max_ms{ending}": step.gap_ms(100),
                f"cpu_share_{'call' if step.work == 'call' else 'dsp'}": step.cpu_share,
                f"core_lost_{'call' if step.work == 'call' else 'dsp'}": step.core_lost,
            }
        if step.work == "call":
            figures["setup_loaded_p95_ms"] = _p95(step.setups_ms)
        details[step.work] = {
            "gaps": len(step.gaps_ms),
            "gap_p50_ms": step.gap_ms(50),
            "gap_p99_ms": step.gap_ms(99),
            "gap_p999_ms": step.gap_ms(99.9),
            "packets_lost": step.packets_lost,
            "calls_lost": step.calls_lost,
            "load_late_p99_ms": step.load_late_p99_ms,
        }
    times = setup_ms(setups)
    if times:
        figures |= {
            "setup_p50_ms": round(float(np.percentile(times, 50)), 2),
            "setup_p95_ms": _p95(times),
            "setup_max_ms": round(max(times), 2),
            "setup_n": len(times),
            "setup_failed": len(setups) - len(times),
        }
    figures |= waits
    return Report(
        figures=figures,
        notes=[
            "stand-in models; real SIP and RTP over loopback, no recording",
            "server on one core, phones on another; packets are stamped by the kernel",
            f"every caller speaks over the agent each {CYCLE_S:.0f} s",
        ],
        details=details,
    )


def _p95(values: Sequence[float]) -> float:
    return round(float(np.percentile(values, 95)), 2) if values else float("inf")


@contextlib.contextmanager
def _server(core: int, work: Work) -> Iterator[tuple["subprocess.Popen[bytes]", tuple[str, int]]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        server: tuple[str, int] = (HOST, probe.getsockname()[1])
    command = [sys.executable, "-m", "bench.sip_server", "--port", str(server[1]), "--core", str(core)]
    process = subprocess.Popen([*command, "--work", work], start_new_session=True)
    try:
        deadline = time.monotonic() + _START_LIMIT_S
        while not options(server, 0.3):
            if process.poll() is not None:
                raise CannotCall("the server under test did not start; its own words stand above")
            if time.monotonic() > deadline:
                raise CannotCall(f"the server under test took more than {_START_LIMIT_S:.0f} s to start")
        yield process, server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
