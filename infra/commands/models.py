"""`maya models`: what is installed, and getting what is not."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigFile, Json, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from models.catalogue import Licence
    from models.csm.inspection import Inspection
    from models.fetching import ProgressCallback
    from models.store import State, Store

app = typer.Typer(
    help="The models: list, pull, verify, inspect.", no_args_is_help=True, rich_markup_mode="rich"
)

Names = Annotated[list[str] | None, typer.Argument(help="Names, as in: maya models list", show_default=False)]
Profiles = Annotated[
    list[str] | None, typer.Option("--profile", help="All models of a profile; may be repeated.")
]


@app.command("list")
def list_(as_json: Json = False, config: ConfigFile = None) -> None:
    """List the models and whether they are installed.

    Example: [bold]maya models list[/bold]
    """
    states = _store(config).states()
    if as_json:
        rows = [
            {
                "name": state.entry.name,
                "kind": state.entry.kind,
                "state": state.state,
                "size_bytes": state.entry.size_bytes,
                "bundled": state.entry.bundled,
                "licence": state.entry.licence.name,
                "folder": str(state.folder),
            }
            for state in states
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for state in states:
        entry = state.entry
        size = _size(entry.size_bytes) if entry.size_bytes else ""
        typer.echo(f"{entry.name:<24} {size:>7}  {entry.origin:<9}  {state.state}")
        typer.echo(f"    {entry.title}; {entry.licence.name}")


@app.command()
def pull(
    names: Names = None,
    profile: Profiles = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the models' licences without being asked.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not hash again what was found sound before; say nothing then.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Fetch models: with progress, resumed where it stopped, checked by hash.

    Example: [bold]maya models pull --profile embedded[/bold]
    """
    store = _store(config)
    for name in _chosen(names, profile):
        if quick and store.state(name).state == "installed":
            continue
        with _Bar() as bar:
            path = store.pull(name, bar, accept_licence=True if accept_licence else _ask)
        typer.echo(f"{name}: {path}")


@app.command()
def verify(names: Names = None, profile: Profiles = None, config: ConfigFile = None) -> None:
    """Hash every file of the models that are installed, or of the named ones.

    Example: [bold]maya models verify[/bold]
    """
    store = _store(config)
    wanted = _chosen(names, profile) if names or profile else []
    unsound: list[State] = []
    for entry in [store.entry(name) for name in wanted] or store.entries:
        if not wanted and store.state(entry.name).state == "missing":
            continue
        with _Bar() as bar:
            state = store.verify(entry.name, bar)
        typer.echo(f"{entry.name}: {'sound' if state.state == 'installed' else state.problem}")
        if state.state != "installed":
            unsound.append(state)
    if unsound:
        raise CommandError("mend with: " + "; ".join(state.mend for state in unsound))


@app.command()
def inspect(
    place: Annotated[
        Path, typer.Argument(help="A file of weights, or the folder of a voice.", metavar="FILE")
    ],
    hashed: Annotated[bool, typer.Option("--sha256/--no-sha256", help="Read it whole for its hash.")] = True,
    as_json: Json = False,
) -> None:
    """Tell what a file of weights is: CSM in any layout, a part of it, Mimi, a voice prompt.

    Example: [bold]maya models inspect model_merged.pt[/bold]
    """
    try:
        from models.csm.inspection import inspect as inspect_place
    except ModuleNotFoundError as error:
        raise CommandError("reading weights needs torch: pip install 'maya-voice[csm]'") from error
    found = inspect_place(place, hashed=hashed)
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "path": str(one.path)} for one in found], indent=1))
    else:
        for one in found:
            _show(one)
    if unsound := [str(one.path) for one in found if one.problems]:
        raise CommandError(f"cannot be used as it is: {', '.join(unsound)}")


def _show(one: "Inspection") -> None:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in one.dtypes.items())
    typer.echo(f"{one.path}: {one.what}")
    typer.echo(
        f"    {one.container}, {_size(one.size_bytes)}; {one.n_parameters:,} numbers, tensors: {dtypes}"
    )
    if one.layout:
        typer.echo(f"    layout of {one.layout}")
    for group, parameters in one.groups.items():
        typer.echo(f"    {group:<20} {parameters:>15,}")
    for key, value in one.metadata.items():
        typer.echo(f"    {key}: {value[:80]}")
    if one.ignored:
        typer.echo(f"    {len(one.ignored)} entries would be ignored, as {one.ignored[0]}")
    for path, digest in one.sha256.items():
        typer.echo(f"    sha256 {digest} {Path(path).name}")
    typer.echo(f"    PROBLEM: {one.problems}" if one.problems else "    sound")


def _store(config: "ConfigFile") -> "Store":
    from models.store import Store

    return Store(settings_for(config).models_dir)


def _chosen(names: list[str] | None, profiles: list[str] | None) -> list[str]:
    from models.profiles import find_profile

    chosen = list(names or [])
    for profile in profiles or []:
        chosen += find_profile(profile).model_names
    if not chosen:
        raise CommandError("name a model (see: maya models list) or a profile: --profile embedded")
    return list(dict.fromkeys(chosen))


def _ask(licence: "Licence") -> bool:
    if not sys.stdin.isatty():
        return False
    typer.echo(f"{licence.notice}\n{licence.name}: {licence.url}", err=True)
    return typer.confirm("Do you accept this licence?", err=True)


def _size(n_bytes: int) -> str:
    if n_bytes < 1_000_000:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


_STAGES = {"wait": "waiting for another pull of", "fetch": "fetching", "check": "checking"}


class _Bar:
    """Progress on stderr: a line that renews itself on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._shown_at = float("-inf")
        self._stage = ""
        self._width = 0

    def __enter__(self) -> "ProgressCallback":
        from models.fetching import Progress

        def show(progress: Progress) -> None:
            now = time.monotonic()
            pause_s = 0.2 if sys.stderr.isatty() else 10.0
            if progress.stage == self._stage and now - self._shown_at < pause_s:
                return
            self._stage, self._shown_at = progress.stage, now
            text = f"    {_STAGES[progress.stage]} {progress.entry}"
            if progress.total_bytes:
                percent = 100 * progress.done_bytes / progress.total_bytes
                text += f"  {percent:3.0f} % of {_size(progress.total_bytes)}"
            if sys.stderr.isatty():
                print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
                self._width = len(text)
            else:
                print(text, file=sys.stderr, flush=True)

        return show

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
