"""`maya bench turns`: whole calls in real time on real models, measured in the audio.

A server process of its own (`maya serve`, signed as Twilio signs) is called over a real WebSocket by the
simulated caller; every call of `turns.yaml` is played to its end. Gaps and stop times come from the two
channels that the caller recorded, by code that shares nothing with the agent's voice detector:

- `gap`: last voiced caller sample to first voiced agent sample, at the caller's ear; the simulated phone
  network delays 60 +- 15 ms each way. `edge_gap`: the same at the server's edge.
- `stop`: first voiced sample of an interruption to the last audible agent sample, at the edge.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.report import Report, spread
from infra.local_server import LocalServer, local_server
from pipeline.documents import read_yaml
from telephony.simulator import Report as CallReport
from telephony.simulator import Scenario, simulate

CALLS = Path(__file__).with_name("turns.yaml")


class Calls(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    calls: tuple[Scenario, ...]


def run(
    *,
    profile: str = "embedded",
    calls: int | None = None,
    keep: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Play the first `calls` calls (all by default) against a server of `profile`. `keep` is a folder for
    the server's and the caller's recordings. Takes about 12 minutes for all."""
    scenarios = read_yaml(CALLS, Calls).calls[:calls]
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        with local_server(folder / "calls", folder / "server.log", ["--profile", profile]) as server:
            server.wait_until_ready(progress)
            reports = asyncio.run(_play(scenarios, server, folder, progress))
    return _report(profile, scenarios, reports)


async def _play(
    scenarios: Iterable[Scenario], server: LocalServer, folder: Path, progress: Callable[[str], None]
) -> list[CallReport]:
    reports = []
    for scenario in scenarios:
        report = await simulate(
            scenario,
            url=f"http://127.0.0.1:{server.port}/twilio/voice",
            auth_token=server.auth_token,
            recording_dir=folder / "ear",
            calls_dir=folder / "calls",
        )
        reports.append(report)
        for turn in report.turns:
            heard = f"{turn.caller!r} -> {turn.transcript!r} -> {turn.agent!r}"
            progress(f"{scenario.name}: {heard} {turn.edge_gap_ms}")
    return reports


def _report(profile: str, scenarios: Iterable[Scenario], reports: Iterable[CallReport]) -> Report:
    turns = [turn for report in reports for turn in report.turns]
    edge_gaps = [turn.edge_gap_ms for turn in turns if turn.edge_gap_ms is not None]
    gaps = [turn.gap_ms for turn in turns if turn.gap_ms is not None]
    stops = [turn.edge_stop_ms for turn in turns if turn.edge_stop_ms is not None]
    # A turn that the caller never let be answered has no gap; one that was let and got none is a failure.
    unanswered = [
        turn.caller
        for turn in turns
        if turn.caller is not None and turn.gap_ms is None and not turn.interrupted
    ]
    violations = [violation for report in reports for violation in report.violations]
    figures: dict[str, object] = {
        **spread("edge_gap", edge_gaps),
        **spread("gap", gaps),
        **spread("stop", stops),
        "unanswered": len(unanswered),
        "violations": len(violations),
    }
    details = {
        "turns": [turn.to_json() | {"edge_stop_ms": turn.edge_stop_ms} for turn in turns],
        "violations": violations,
    }
    return Report(
        figures,
        notes=(
            f"profile {profile}; {len(list(scenarios))} simulated calls, one at a time; server and caller "
            "share the machine",
            "gap is at the caller's ear behind a simulated phone network of 60 +- 15 ms each way",
        ),
        details=details,
    )
