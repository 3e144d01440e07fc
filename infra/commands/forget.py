"""`maya forget`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigFile, Json, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from infra.forgetting import ForgottenCaller
    from infra.settings import Settings

EXIT_INCOMPLETE = 1
"""Something of the caller could not be deleted; what, and why, was printed."""


def forget(
    number: Annotated[str, typer.Argument(help="The caller: +12025550123", show_default=False)],
    calls_dir: Annotated[
        Path | None, typer.Option(help="Where calls are kept; else as `maya serve` has it.")
    ] = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Delete what is kept of a caller: calls, turns, messages, recordings, and that the number was dialled.

    Servers may run meanwhile. The number stays on the do-not-call list, if it is there. Exits with 1 when
    something had to stay; then run it again later.

    Example: [bold]maya forget +12025550123[/bold]
    """
    import json
    import os
    from dataclasses import asdict

    from infra.forgetting import forget_caller
    from infra.records.keys import KeyRing
    from infra.store.errors import StoreError
    from infra.store.serving import open_store
    from infra.store.words import same_number

    if sum(character.isdigit() for character in same_number(number)) < 3 and "@" not in number:
        raise CommandError(f"{number!r} is no caller's number: write it as +12025550123")
    settings = settings_for(config, calls_dir=calls_dir, log_level="warning")
    keys = KeyRing.load(os.environ, settings.recording.key_file)
    no_store, store = "", None
    try:
        store = open_store(settings, keys, writing=False) if _is_stored(settings) else None
    except StoreError as error:
        no_store = str(error)
    try:
        done = forget_caller(settings, number, keys, store, no_store=no_store)
    finally:
        if store is not None:
            store.close()
    if as_json:
        kept = {str(folder): why for folder, why in done.kept.items()}
        told = {**asdict(done), "kept": kept, "complete": done.complete}
        typer.echo(json.dumps(told, indent=2, default=str))
    else:
        _tell(done)
    if not done.complete:
        raise typer.Exit(EXIT_INCOMPLETE)


def _is_stored(settings: "Settings") -> bool:
    """There may be a store to ask: not where nothing was ever stored."""
    from infra.store.engine import sqlite_file

    if not settings.store.enabled:
        return False
    file = sqlite_file(settings.store.database(settings.calls_dir))
    return file is None or file.exists()


def _tell(done: "ForgottenCaller") -> None:
    stored = done.stored
    if stored is not None:
        typer.echo(
            f"deleted from the store: {len(stored.calls)} calls, {stored.turns} turns, "
            f"{stored.tool_runs} tool runs, {stored.messages} messages"
        )
    typer.echo(f"deleted recordings: {len(done.folders)}")
    for folder in done.folders:
        typer.echo(f"  {folder}")
    typer.echo(f"blotted out among the calls that were dialled: {done.dialled}")
    if done.on_do_not_call:
        typer.echo(f"{done.number} stays on the do-not-call list, so that nobody calls it")
    for call_id in stored.on_now if stored is not None else ():
        typer.echo(f"call {call_id} is on, or waits to be stored: nothing more of it is stored", err=True)
    for folder, why in done.kept.items():
        typer.echo(f"{folder} stays: {why}", err=True)
    for place in done.elsewhere:
        typer.echo(f"{place} is on another machine, whose server deletes it within a day", err=True)
    for what, why in done.failed.items():
        typer.echo(f"{what} could not be looked up: {why}", err=True)
    for folder in done.unreadable:
        typer.echo(f"{folder} stays: it cannot be read whose call it is", err=True)
    for folder in done.named_in:
        typer.echo(f"{folder} stays: another caller's, who left this number with a message", err=True)
