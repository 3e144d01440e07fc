"""`maya bench turns`: whole calls in real time on real models, measured in the audio at the server's edge.

A server process of its own (`maya serve`, signed as Twilio signs) is called over a real WebSocket by the
simulated caller, who says turns of the corpus (`bench.corpus`; only its held-out part may be quoted) over
noisy and lossy lines. Three stretches, one call at a time:

1. each stage of an answer alone, on the idle machine (`turns_stages`);
2. conversations (`turns_calls`): response gaps and cut-offs; with `tiny` or a `peer`, call by call in turns
   with the other servers, which stay loaded;
3. a long announcement with sounds and interruptions over it: what stops the agent, how fast, and what does
   not.

What the figures mean, and what is left out of them: `turns_measures`. A default run takes about 25 minutes,
and no call begins after `LONGEST_S`.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.corpus import Corpus, PartName, corpus, make, recorded
from bench.report import Report
from bench.turns_calls import ANNOUNCEMENT, PlannedCall, conversation_calls, overlap_calls
from bench.turns_measures import (
    CallResult,
    account_figures,
    overlap_figures,
    ratio,
    result_of,
    turn_figures,
    wait_in_force_ms,
)
from bench.turns_stages import measured_alone
from bench.turns_virtual import virtual_figures
from infra.errors import CommandError
from infra.local_server import local_server
from infra.settings import CLINIC_PERSONA
from pipeline.persona import load_persona
from telephony.simulator import Report as CallReport
from telephony.simulator import SimulatorError, simulate

LONGEST_S = 28 * 60.0
"""No call begins later: one takes up to two minutes."""

Progress = Callable[[str], None]
What = Literal["turns", "overlaps"]


@dataclass(frozen=True, slots=True)
class _Server:
    """Somebody to call. `call` plays one planned call; `calls_dir` is where the server leaves its
    transcripts."""

    name: str
    call: Callable[[PlannedCall], Coroutine[Any, Any, CallReport]]
    calls_dir: Path | None


def run(
    *,
    profile: str = "embedded",
    part: PartName = "held_out",
    calls: int | None = None,
    only: What | None = None,
    tiny: bool = False,
    peer: Literal["pipecat"] | None = None,
    speech_dir: Path | None = None,
    keep: Path | None = None,
    progress: Progress = lambda line: None,
) -> Report:
    """Play the first `calls` calls of each kind (all by default) against a server of `profile`.

    `only` conversations ("turns") or interruptions ("overlaps"); `tiny` and `peer` add servers to the
    conversations, and mean only="turns" unless it is given. `speech_dir` adds recorded turns to the tuning
    part. `keep` is a folder for the servers' and the caller's recordings. Raises `CommandError`."""
    bench = _Bench(profile, part, progress, time.monotonic() + LONGEST_S)
    only = only or ("turns" if tiny or peer else None)
    material = _material(part, speech_dir, progress)
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        if only != "overlaps":
            bench.conversations(conversation_calls(material)[:calls], folder, tiny=tiny, peer=peer)
        if only != "turns":
            bench.overlaps(overlap_calls(material)[:calls], folder, peer=peer)
    return bench.report()


def make_corpus(out: Path | None = None, progress: Progress = lambda line: None) -> Report:
    """Make the corpus, as WAV files in `out` too if given, and count what is in it."""
    folder = make(out, progress)
    whole = corpus()
    figures: dict[str, object] = {"turns": len(whole.turns), "overlaps": len(whole.overlaps)}
    parts: tuple[PartName, ...] = ("tuning", "held_out")
    for part in parts:
        turns = whole.of(part).turns
        pauses = np.asarray([pause for turn in turns for pause in turn.pauses_s])
        figures |= {
            f"{part}_turns": len(turns),
            f"{part}_turns_with_pauses": round(sum(bool(turn.pauses_s) for turn in turns) / len(turns), 3),
            f"{part}_pause_p50_s": round(float(np.median(pauses)), 3),
            f"{part}_pauses_over_1.2_s": round(float((pauses > 1.2).mean()), 3),
            f"{part}_minutes": round(sum(len(turn.pcm) for turn in turns) / 8000 / 60, 1),
            f"{part}_voices": sorted({turn.voice for turn in turns}),
            f"{part}_noises": sorted({turn.condition.noise or "none" for turn in turns}),
        }
    return Report(figures, notes=(f"in {folder}", f"digest {whole.digest}"), details={"kinds": whole.kinds()})


def _material(part: PartName, speech_dir: Path | None, progress: Progress) -> Corpus:
    material = corpus(part, progress)
    if speech_dir is None:
        return material
    if part != "tuning":
        raise CommandError("recorded speech belongs to the tuning part: --speech-dir needs --part tuning")
    return Corpus((*material.turns, *recorded(speech_dir)), material.overlaps, material.digest)


class _Bench:
    """Collects figures as it goes. `deadline` is monotonic seconds."""

    def __init__(self, profile: str, part: PartName, progress: Progress, deadline: float) -> None:
        self._profile = profile
        self._part = part
        self._progress = progress
        self._deadline = deadline
        self._figures: dict[str, object] = {}
        self._details: dict[str, Any] = {}
        self._notes = [
            f"profile {profile}; {part} part of the corpus",
            "one call at a time; server and caller share the machine",
        ]
        if part == "tuning":
            self._notes.append("the tuning part: for development, not to be quoted")

    def conversations(
        self, calls: Sequence[PlannedCall], folder: Path, *, tiny: bool, peer: str | None
    ) -> None:
        self._progress("playing a call in virtual time")
        self._figures |= virtual_figures(calls[0])
        self._progress(f"measuring the stages of {self._profile} alone")
        alone = measured_alone(self._profile, CLINIC_PERSONA, self._part)
        with ExitStack() as stack:
            servers = [self._maya(stack, self._profile, folder / self._profile, None)]
            if tiny and self._profile != "tiny":
                servers.append(self._maya(stack, "tiny", folder / "tiny", None))
            if peer:
                servers.append(self._pipecat(stack, folder / "pipecat", CLINIC_PERSONA))
            results = asyncio.run(self._play(calls, servers))
        for server in servers:
            played = results[server.name]
            prefix = self._prefix(server)
            self._figures |= turn_figures(played, prefix) | account_figures(played, prefix)
            self._details[f"{prefix}turns"] = [turn.to_json() for result in played for turn in result.turns]
            self._keep_violations(prefix, played)
        self._against_alone(alone, results[self._profile])
        if peer:
            self._figures["pipecat_gap_ratio"] = ratio(
                self._figures, "edge_gap_p50_ms", "pipecat_edge_gap_p50_ms"
            )

    def overlaps(self, calls: Sequence[PlannedCall], folder: Path, *, peer: str | None) -> None:
        with ExitStack() as stack:
            servers = [self._maya(stack, self._profile, folder / "announcement", ANNOUNCEMENT)]
            if peer:
                servers.append(self._pipecat(stack, folder / "pipecat-announcement", ANNOUNCEMENT))
            results = asyncio.run(self._play(calls, servers))
        for server in servers:
            played, prefix = results[server.name], self._prefix(server)
            self._figures |= overlap_figures(played, prefix)
            self._details[f"{prefix}overlaps"] = [each.to_json() for call in played for each in call.overlaps]
            self._keep_violations(f"{prefix}overlap_", played)

    def report(self) -> Report:
        return Report(self._figures, notes=tuple(self._notes), details=self._details)

    def _prefix(self, server: _Server) -> str:
        return "" if server.name == self._profile else f"{server.name}_"

    def _against_alone(self, alone: dict[str, float], played: Sequence[CallResult]) -> None:
        longest_ms = load_persona(CLINIC_PERSONA).turns.endpoint_silence_s * 1000
        wait_ms = wait_in_force_ms(played, longest_ms)
        wait_ms = longest_ms if wait_ms is None else wait_ms
        self._figures |= {f"alone_{stage}_ms": value for stage, value in alone.items() if stage != "sum"}
        self._figures["alone_endpoint_wait_ms"] = round(wait_ms)
        self._figures["stages_alone_ms"] = round(alone["sum"] + wait_ms)
        self._figures["gap_over_stages"] = ratio(self._figures, "edge_gap_p50_ms", "stages_alone_ms")

    def _keep_violations(self, prefix: str, played: Sequence[CallResult]) -> None:
        violations = [f"{result.name}: {violation}" for result in played for violation in result.violations]
        if violations:
            self._details[f"{prefix}violations"] = violations

    def _maya(self, stack: ExitStack, profile: str, folder: Path, persona: Path | None) -> _Server:
        options = ["--profile", profile]
        if persona is not None:
            options += ["--persona", str(persona)]
        calls_dir = folder / "calls"
        server = stack.enter_context(local_server(calls_dir, folder / "server.log", options))
        server.wait_until_ready(self._progress)

        def call(planned: PlannedCall) -> Coroutine[Any, Any, CallReport]:
            return simulate(
                planned.scenario,
                url=f"http://127.0.0.1:{server.port}/twilio/voice",
                auth_token=server.auth_token,
                recording_dir=folder / "ear",
                calls_dir=calls_dir,
                speeches=planned.speeches,
            )

        return _Server(profile, call, calls_dir)

    def _pipecat(self, stack: ExitStack, folder: Path, persona: Path) -> _Server:
        from bench.pipecat_peer import pipecat_server

        server = stack.enter_context(
            pipecat_server(folder, folder / "server.log", profile=self._profile, persona=persona)
        )
        server.wait_until_ready(self._progress)

        def call(planned: PlannedCall) -> Coroutine[Any, Any, CallReport]:
            return simulate(
                planned.scenario,
                url=server.stream_url,
                recording_dir=folder / "ear",
                calls_dir=server.calls_dir,
                speeches=planned.speeches,
            )

        return _Server("pipecat", call, server.calls_dir)

    async def _play(
        self, calls: Sequence[PlannedCall], servers: Sequence[_Server]
    ) -> dict[str, list[CallResult]]:
        """Each call against each server before the next call; who is first changes from call to call."""
        results: dict[str, list[CallResult]] = {server.name: [] for server in servers}
        for number, planned in enumerate(calls):
            if time.monotonic() > self._deadline:
                self._notes.append(f"{len(calls) - number} of {len(calls)} calls left out: time was up")
                break
            for server in servers if number % 2 == 0 else servers[::-1]:
                result = await self._played(planned, server)
                if result is not None:
                    results[server.name].append(result)
        return results

    async def _played(self, planned: PlannedCall, server: _Server) -> CallResult | None:
        began = time.monotonic()
        try:
            report = await server.call(planned)
        except (SimulatorError, OSError, ExceptionGroup) as failure:
            # One lost call must not cost the twenty minutes before it.
            self._notes.append(f"{planned.scenario.name} against {server.name} failed: {failure}")
            return None
        result = await asyncio.to_thread(result_of, planned, report, server.calls_dir)
        took_s = time.monotonic() - began
        self._progress(f"{server.name}: {planned.scenario.name}, {took_s:.0f} s, {report.ending}")
        for turn in result.turns:
            gap = "cut off" if turn.cut_off else f"{turn.gap_ms} ms"
            self._progress(f"  {turn.turn.text!r} -> {turn.transcript!r} -> {turn.agent!r} {gap}")
        for each in result.overlaps:
            seen = each.report
            did = ("stopped" if seen.stopped else "kept") if seen.placed else "not placed"
            times = f"{did}, last sample {seen.stop_ms} ms, ducked {seen.duck_ms} ms"
            self._progress(f"  {each.overlap.kind} {each.overlap.text or each.overlap.voice!r}: {times}")
        return result
