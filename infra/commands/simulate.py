"""`maya simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigFile, Json, LogLevel, settings_for

if TYPE_CHECKING:
    from telephony.simulator.report import Report


def simulate(
    scenario: Annotated[Path, typer.Argument(help="What the caller does: a YAML file.", show_default=False)],
    url: Annotated[
        str | None, typer.Option(help="The server's stream; default ws://127.0.0.1:8080/twilio/media")
    ] = None,
    recording_dir: Annotated[
        Path | None, typer.Option(help="Keep what the caller's ear heard in this folder, two channels.")
    ] = None,
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Call a server as Twilio would, with a scripted caller, and measure the call.

    Signs with TWILIO_AUTH_TOKEN if it is set, as a server that is not --insecure demands.

    Example: [bold]maya simulate scenario.yaml --url ws://127.0.0.1:8080/twilio/media --json[/bold]
    """
    import asyncio

    settings = settings_for(config, log_level=log_level or "warning")
    from telephony.simulator import simulate as call
    from telephony.simulator.scenario import Scenario

    script = Scenario.load(scenario)
    tokens = settings.auth_tokens
    report = asyncio.run(
        call(
            script,
            url=url or f"ws://127.0.0.1:{settings.port}/twilio/media",
            auth_token=tokens[0] if tokens else None,
            recording_dir=recording_dir,
            calls_dir=settings.calls_dir,
        )
    )
    if as_json:
        typer.echo(report.json())
    else:
        show(report)


def show(report: "Report") -> None:
    """The call's turns and times as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("caller", "agent", "gap ms", "at the edge", "stop ms", title="Measured in the audio")
    for turn in report.turns:
        agent = turn.agent_heard if turn.interrupted and turn.agent_heard else turn.agent
        table.add_row(
            turn.caller or "",
            (agent or "") + (" [interrupted]" if turn.interrupted else ""),
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
    for violation in report.violations:
        console.print(f"[red]protocol:[/red] {violation}")
    if report.recording:
        console.print(f"recording: {report.recording}")


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
