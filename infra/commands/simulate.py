"""`maya simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigFile, Json, LogLevel, settings_for

if TYPE_CHECKING:
    from rich.console import Console

    from infra.settings import Settings
    from telephony.simulator.report import OverlapReport, Report
    from telephony.simulator.runs import Runs
    from telephony.simulator.scenario import Scenario

EXIT_UNMET = 1
"""The calls came about, and an expectation failed."""


def simulate(
    scenario: Annotated[
        list[Path], typer.Argument(help="What the caller does: YAML files.", show_default=False)
    ],
    url: Annotated[
        str | None, typer.Option(help="The server's stream; default ws://127.0.0.1:8080/twilio/media")
    ] = None,
    recording_dir: Annotated[
        Path | None, typer.Option(help="Keep what the caller's ear heard in this folder, two channels.")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Play each so often, in place of its own `repeat`.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the expectations to this file, as JUnit XML for CI servers.")
    ] = None,
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Call a server as Twilio would, with a scripted caller, and measure the call.

    Exits with 1 when an expectation of a scenario failed. Signs with TWILIO_AUTH_TOKEN if it is set, as a
    server that is not --insecure demands.

    Example: [bold]maya simulate hours.yaml --url ws://127.0.0.1:8080/twilio/media --junit hours.xml[/bold]
    """
    import asyncio
    import json
    from datetime import datetime

    settings = settings_for(config, log_level=log_level or "warning")
    from telephony.simulator.errors import SimulatorError
    from telephony.simulator.junit import NoCall, junit_xml
    from telephony.simulator.scenario import Scenario

    scripts = [Scenario.load(path) for path in scenario]
    if repeat is not None:
        scripts = [script.model_copy(update={"repeat": repeat}) for script in scripts]
    began = datetime.now().astimezone()
    played: list[Runs | NoCall] = []
    try:
        for script in scripts:
            try:
                played.append(asyncio.run(_play(script, settings, url, recording_dir, quiet=as_json)))
            except SimulatorError as error:
                played.append(NoCall(script.name, str(error)))
                raise
    finally:
        if junit is not None:
            junit.write_text(junit_xml(played, began), encoding="utf-8")
    runs = [item for item in played if not isinstance(item, NoCall)]
    if as_json:
        documents = [item.to_json() for item in runs]
        typer.echo(
            json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False)
        )
    if any(item.passed < len(item.reports) for item in runs):
        raise typer.Exit(EXIT_UNMET)


async def _play(
    script: "Scenario", settings: "Settings", url: str | None, recording_dir: Path | None, *, quiet: bool
) -> "Runs":
    import os

    from infra.records.keys import KeyRing
    from infra.records.reader import transcript_reader
    from telephony.simulator import simulate as call
    from telephony.simulator.runs import play_all

    tokens = settings.auth_tokens
    read = transcript_reader(KeyRing.load(os.environ, settings.recording.key_file))

    async def play(run: "Scenario") -> "Report":
        return await call(
            run,
            url=url or f"ws://127.0.0.1:{settings.port}/twilio/media",
            auth_token=tokens[0] if tokens else None,
            recording_dir=recording_dir,
            calls_dir=settings.calls_dir,
            read_transcript=read,
        )

    def tell(number: int, report: "Report") -> None:
        if not quiet:
            if script.repeat > 1:
                typer.echo(f"{script.name}: run {number} of {script.repeat}")
            show(report)

    runs = await play_all(script, play, tell)
    if script.repeat > 1 and not quiet:
        typer.echo(f"{script.name}: {runs.passed} of {len(runs.reports)} runs passed")
    return runs


def show(report: "Report") -> None:
    """The call's turns, times and expectations as tables on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("caller", "agent", "gap ms", "at the edge", "stop ms", title="Measured in the audio")
    for turn in report.turns:
        agent = turn.agent_heard if turn.interrupted and turn.agent_heard else turn.agent
        table.add_row(
            escape(turn.caller or ""),
            escape((agent or "") + (" [interrupted]" if turn.interrupted else "")),
            number(turn.gap_ms),
            number(turn.edge_gap_ms),
            number(turn.stop_ms),
        )
    console.print(table)
    for name, summary in (
        ("gap", report.gap_ms),
        ("gap at the server's edge", report.edge_gap_ms),
        ("stop", report.stop_ms),
    ):
        if summary.n:
            console.print(
                f"{name}: median {number(summary.p50)} ms, longest {number(summary.max)} ms, n = {summary.n}"
            )
    for overlap in report.overlaps:
        console.print(
            f'{overlap.kind} "{overlap.text}" at {overlap.at_s:.1f} s: {reaction(overlap)}', markup=False
        )
    for violation in report.violations:
        console.print(f"[red]protocol:[/red] {escape(violation)}")
    if report.recording:
        console.print(f"recording: {escape(str(report.recording))}", soft_wrap=True)
    _show_expectations(report, console)


def reaction(overlap: "OverlapReport") -> str:
    """What the agent did when it was spoken over, in words."""
    if not overlap.placed:
        return "the agent was not audible"
    if overlap.stopped:
        return f"the agent stopped after {number(overlap.stop_ms)} ms"
    if overlap.kind == "interrupt" and overlap.stop_ms is None:
        return "the agent had just finished"
    if overlap.duck_ms is None:
        return "the agent talked on"
    end = "came back" if overlap.restored else "talked on"
    return f"the agent turned its voice down after {number(overlap.duck_ms)} ms and {end}"


def _show_expectations(report: "Report", console: "Console") -> None:
    if not report.verdicts:
        return
    failures = report.failures
    held = len(report.verdicts) - len(failures)
    console.print(f"expectations: {held} of {len(report.verdicts)} held", highlight=False)
    for failure in failures:
        console.print("FAILED", style="red", end=" ")
        console.print(failure.message, markup=False, highlight=False, soft_wrap=True)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
