"""`maya calls`: what is stored of calls."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.options import ConfigFile, Json, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.store.rows import CallQuery, CallRow, StoredCall, TurnRow
    from infra.store.store import CallStore

app = typer.Typer(
    help="What is stored of calls: list, show, search, export.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

CallsDir = Annotated[Path | None, typer.Option(help="Where calls are kept; else as `maya serve` has it.")]
Caller = Annotated[str, typer.Option("--from", help="Only calls of this number.")]
Persona = Annotated[str, typer.Option(help="Only calls that this persona answered.")]
Since = Annotated[str, typer.Option(help="Only calls that began then or later: 2026-01-31T12:00.")]
Until = Annotated[str, typer.Option(help="Only calls that began before.")]
State = Annotated[str, typer.Option(help="live, ended, or lost: its front-end died.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]


@app.command("list")
def list_(
    caller: Caller = "",
    persona: Persona = "",
    since: Since = "",
    until: Until = "",
    state: State = "",
    limit: Limit = 50,
    calls_dir: CallsDir = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """List calls, newest first.

    Example: [bold]maya calls list --from +12025550123 --since 2026-01-01[/bold]
    """
    import json

    with _open(config, calls_dir) as store:
        rows = store.calls(_query(caller, persona, since, until, state, limit))
    if as_json:
        typer.echo(json.dumps([_call(row) for row in rows], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("call", "began", "seconds", "way", "from", "to", "persona", "turns", "outcome")
    for row in rows:
        cells = (
            *(row.call_id, _when(row.started_at), f"{row.duration_s:.0f}", row.way, row.caller, row.called),
            *(row.persona, str(row.turns), _outcome(row)),
        )
        table.add_row(*map(escape, cells))
    Console().print(table)


@app.command()
def show(
    call_id: Annotated[str, typer.Argument(help="The call's id", show_default=False)],
    calls_dir: CallsDir = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show one call: who said what, what was heard, and how long each answer took.

    Example: [bold]maya calls show CA0123[/bold]
    """
    import json

    with _open(config, calls_dir) as store:
        found = store.call(call_id)
    if found is None:
        raise CommandError(f"no call {call_id!r} is stored: `maya calls list` shows those that are")
    if as_json:
        typer.echo(json.dumps(_whole(found), indent=2, ensure_ascii=False))
        return
    for line in _told(found):
        typer.echo(line)


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="Words that all occur", show_default=False)],
    limit: Limit = 50,
    calls_dir: CallsDir = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Find what callers, the agent and messages said. Case does not matter; newest calls first.

    Example: [bold]maya calls search insurance card[/bold]
    """
    import json

    with _open(config, calls_dir) as store:
        hits = store.search(" ".join(words), limit=limit)
    if as_json:
        found = [
            {"call": _call(hit.call), "leg": hit.leg, "turn": hit.turn, "who": hit.who, "text": hit.text}
            for hit in hits
        ]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for hit in hits:
        typer.echo(f"{hit.call.call_id}  {_when(hit.call.started_at)}  {hit.who}: {hit.text}")
    if not hits:
        typer.echo("nothing was found", err=True)


@app.command()
def export(
    csv: Annotated[bool, typer.Option("--csv", help="A line for each turn.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A JSON document for each call.")] = False,
    caller: Caller = "",
    persona: Persona = "",
    since: Since = "",
    until: Until = "",
    state: State = "",
    calls_dir: CallsDir = None,
    config: ConfigFile = None,
) -> None:
    """Write calls to stdout, newest first, as they are read: however many they are.

    Example: [bold]maya calls export --csv --since 2026-01-01 > calls.csv[/bold]
    """
    if csv == jsonl:
        raise CommandError("say how: --csv (a line for each turn) or --jsonl (a document for each call)")
    import sys

    from infra.store.exporting import csv_lines, jsonl_lines

    with _open(config, calls_dir) as store:
        calls: Iterator[StoredCall] = store.every_call(_query(caller, persona, since, until, state, 0))
        for line in csv_lines(calls) if csv else jsonl_lines(calls):
            sys.stdout.write(line)


def _open(config: Path | None, calls_dir: Path | None) -> "_Opened":
    import os

    from infra.records.keys import KeyRing
    from infra.store.serving import open_store

    settings = settings_for(config, calls_dir=calls_dir, log_level="warning")
    keys = KeyRing.load(os.environ, settings.recording.key_file)
    store = open_store(settings, keys, writing=False)
    if store is None:
        raise CommandError("the settings say that calls are not stored: [store] enabled = false")
    return _Opened(store)


class _Opened:
    def __init__(self, store: "CallStore") -> None:
        self._store = store

    def __enter__(self) -> "CallStore":
        return self._store

    def __exit__(self, *exc: object) -> None:
        self._store.close()


def _query(caller: str, persona: str, since: str, until: str, state: str, limit: int) -> "CallQuery":
    from typing import get_args

    from infra.store.rows import CallQuery, CallState

    known: dict[str, CallState] = {name: name for name in get_args(CallState)}
    if state and state not in known:
        raise CommandError(f"--state is one of {', '.join(known)}")
    return CallQuery(
        caller=caller,
        persona=persona,
        since=_moment("--since", since),
        until=_moment("--until", until),
        state=known.get(state),
        limit=limit,
    )


def _moment(option: str, text: str) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandError(
            f"{option}: {text!r} is no day or time: write 2026-01-31 or 2026-01-31T12:00"
        ) from None


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _outcome(row: "CallRow") -> str:
    return f"{row.outcome}: {row.reason}" if row.state == "ended" else row.state


def _call(row: "CallRow") -> dict[str, Any]:
    from infra.store.exporting import call_document

    return call_document(row)


def _whole(found: "StoredCall") -> dict[str, Any]:
    from infra.store.exporting import document

    return document(found)


def _told(found: "StoredCall") -> "Iterator[str]":
    row = found.call
    began = datetime.fromtimestamp(row.started_at, UTC).astimezone().isoformat(" ", "seconds")
    yield f"{row.call_id}  {row.way}  {row.caller} -> {row.called}  {row.persona}"
    yield f"began {began}, {row.duration_s:.1f} s, {_outcome(row)}, {row.faults} faults"
    for place in found.recordings:
        yield f"recording: {place.host}:{place.folder}{' (encrypted)' if place.encrypted else ''}"
    for turn in found.turns:
        yield from _spoken(turn)
        for tool in found.tools:
            if (tool.leg, tool.turn) == (turn.leg, turn.turn):
                yield f"          {tool.name}: {tool.outcome} after {tool.seconds:.1f} s"
    for message in found.messages:
        yield f"message from {message.name} ({message.number}): {message.text}"
    for note in found.notes:
        yield f"{note.at_s:8.1f}  {note.kind}: {note.text}".rstrip(": ")


def _spoken(turn: "TurnRow") -> "Iterator[str]":
    if turn.caller:
        yield f"{turn.caller_at_s or 0.0:8.1f}  caller  {turn.caller}"
    if turn.text:
        cut = f"  [heard: {turn.heard}]" if turn.heard != turn.text else ""
        gap = f"  ({sum(turn.stages.values()):.0f} ms)" if turn.stages else ""
        yield f"{turn.began_at_s or 0.0:8.1f}  agent   {turn.text}{cut}{gap}"
