"""`maya recordings`: what is kept of calls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import ConfigFile, Json, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.records.keys import KeyRing
    from infra.records.policy import RecordingPolicy
    from infra.records.reader import CallFolder, FileState

app = typer.Typer(
    help="What is kept of calls: list, export, verify, prune, key.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

EXIT_DAMAGED = 1
"""`verify` found something altered, or `prune` something that it could not delete."""

CallsDir = Annotated[Path | None, typer.Option(help="Where calls are kept; else as `maya serve` has it.")]
KeyFile = Annotated[Path | None, typer.Option(help="Keys, one a line; MAYA_RECORDINGS_KEY comes first.")]


@app.command("list")
def list_(
    calls_dir: CallsDir = None, key_file: KeyFile = None, as_json: Json = False, config: ConfigFile = None
) -> None:
    """List the calls that are kept.

    Example: [bold]maya recordings list[/bold]
    """
    import json

    from infra.records.reader import list_calls

    root, _, keys = _kept(config, calls_dir, key_file)
    rows = [_row(folder) for folder in list_calls(root, keys)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("call", "began", "seconds", "from", "turns", "outcome", "files")
    for row in rows:
        cells = (row[name] for name in ("id", "began", "seconds", "caller", "turns", "outcome", "files"))
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in cells))
    Console().print(table)


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Calls: calls/<id>", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="A folder, in which one is made for each call.")],
    key_file: KeyFile = None,
    config: ConfigFile = None,
) -> None:
    """Copy calls as readable files: recording.wav, transcript.json, events.jsonl.

    Example: [bold]maya recordings export calls/CA0123 --to readable[/bold]
    """
    from infra.records.reader import CallFolder

    _, _, keys = _kept(config, None, key_file)
    for folder in folders:
        target = to / folder.resolve().name
        try:
            found = CallFolder(folder, keys).export(target)
        except FileExistsError as error:
            raise CommandError(f"{error.filename} exists already: choose another place with --to") from None
        typer.echo(target)
        for state in found:
            if state.state != "whole":
                typer.echo(f"  {state.name}: {_said(state)}", err=True)


@app.command()
def verify(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Calls: calls/<id>; all of them unless given.")
    ] = None,
    calls_dir: CallsDir = None,
    key_file: KeyFile = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Read every byte of calls. Exits with 1 when anything was altered; a file that ended early is told.

    Example: [bold]maya recordings verify[/bold]
    """
    import json

    from infra.records.reader import CallFolder, list_calls

    root, _, keys = _kept(config, calls_dir, key_file)
    calls = [CallFolder(folder, keys) for folder in folders] if folders else list_calls(root, keys)
    for call in calls:
        if not call.is_call:
            raise CommandError(f"{call.path} holds no call")
    found = [(call, call.verify()) for call in calls]
    if as_json:
        typer.echo(json.dumps([_states(call, files) for call, files in found], indent=2, ensure_ascii=False))
    else:
        for call, files in found:
            for state in files:
                if state.state != "whole":
                    typer.echo(f"{call.path / state.name}: {_said(state)}{' (live)' if call.live else ''}")
        whole = sum(all(state.state == "whole" for state in files) for _, files in found)
        typer.echo(f"{whole} of {len(found)} calls are whole")
    if any(state.state == "damaged" for _, files in found for state in files):
        raise typer.Exit(EXIT_DAMAGED)


@app.command()
def prune(
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Days; else retention_days of the settings.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    calls_dir: CallsDir = None,
    config: ConfigFile = None,
) -> None:
    """Delete calls that were kept long enough. Live ones stay, and whatever is not Maya's.

    Example: [bold]maya recordings prune --older-than 30 --dry-run[/bold]
    """
    import time

    from infra.records.retention import prune as delete

    root, policy, _ = _kept(config, calls_dir, None)
    days = older_than if older_than is not None else policy.retention_days
    if days is None:
        raise CommandError("say how many days calls are kept: --older-than 30")
    done = delete(root, days, time.time(), dry_run=dry_run)
    for folder in done.deleted:
        typer.echo(folder)
    verb = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{len(done.deleted)} calls {verb}, {done.freed_bytes / 1e6:.1f} MB", err=True)
    for folder, why in done.kept.items():
        typer.echo(f"{folder} stays: {why}", err=True)
    if done.kept:
        raise typer.Exit(EXIT_DAMAGED)


@app.command()
def key() -> None:
    """Make a key for MAYA_RECORDINGS_KEY.

    Keep a copy of it where recordings are not: whatever was encrypted with a lost key is lost.

    Example: [bold]export MAYA_RECORDINGS_KEY=$(maya recordings key)[/bold]
    """
    from infra.records.keys import new_key

    typer.echo(new_key())


def _kept(
    config: Path | None, calls_dir: Path | None, key_file: Path | None
) -> "tuple[Path, RecordingPolicy, KeyRing]":
    import os

    from infra.records.keys import KeyRing

    settings = settings_for(config, calls_dir=calls_dir, log_level="warning")
    policy = settings.recording
    return settings.calls_dir, policy, KeyRing.load(os.environ, key_file or policy.key_file)


def _row(folder: "CallFolder") -> dict[str, Any]:
    from infra.records.keys import RecordingKeyError
    from infra.records.reader import RecordingError

    row: dict[str, Any] = dict.fromkeys(("began", "seconds", "caller", "turns", "outcome"))
    row |= {"id": folder.path.name, "files": "encrypted" if folder.encrypted else "readable"}
    if folder.live:
        row["outcome"] = "live"
    try:
        document = folder.transcript()
        call, outcome = document["call"], document["outcome"]
        row |= {
            "began": call["started_at"],
            "seconds": call["duration_s"],
            "caller": call["caller"],
            "turns": len(document["turns"]),
        }
        if outcome is not None:
            row["outcome"] = f"{outcome['outcome']}: {outcome['reason']}"
        elif not folder.live:
            row["outcome"] = "ended early"
    except RecordingKeyError:
        row["files"] = "encrypted, key not at hand"
    except (RecordingError, KeyError, TypeError):
        row["outcome"] = row["outcome"] or "unreadable"
    return row


def _states(call: "CallFolder", files: "Sequence[FileState]") -> dict[str, Any]:
    return {
        "folder": str(call.path),
        "live": call.live,
        "files": [
            {"name": f.name, "state": f.state, "bytes": f.size_bytes, "detail": f.detail} for f in files
        ],
    }


def _said(state: "FileState") -> str:
    return state.detail if state.state == "ended early" else f"{state.state}: {state.detail}"
