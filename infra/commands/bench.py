"""`maya bench`: speed and quality, measured."""

from importlib import import_module
from typing import TYPE_CHECKING

import typer

from infra.commands.options import Json

if TYPE_CHECKING:
    from bench.report import Report

app = typer.Typer(help="Measure: turns, hearing, media, llm.", no_args_is_help=True, rich_markup_mode="rich")


def _bench(name: str, as_json: bool, options: dict[str, object]) -> None:
    from infra.logs import configure_logging

    configure_logging("warning")
    given = {option: value for option, value in options.items() if value is not None}
    report: Report = import_module(f"bench.{name}").run(**given)
    if as_json:
        typer.echo(report.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=f"maya bench {name}")
    for figure, value in report.figures.items():
        table.add_row(figure, str(value))
    console = Console()
    console.print(table)
    for note in report.notes:
        console.print(f"- {note}")
    console.print(", ".join(f"{key} {value}" for key, value in {**report.machine, **report.load}.items()))


def _command(name: str, summary: str) -> None:
    def command(as_json: Json = False) -> None:
        _bench(name, as_json, {})

    command.__doc__ = f"{summary}\n\nExample: [bold]maya bench {name} --json[/bold]"
    app.command(name)(command)


_command("turns", "Response gap and stop time of whole calls on real models.")
_command("hearing", "Word error rate through mu-law.")
_command("media", "Calls on one core, added jitter and memory per call, with stand-in models.")
_command("llm", "Tokens that two calls on one language model evaluate twice.")
