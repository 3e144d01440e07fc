"""`maya keys`: make keys, and see which there are."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from infra.commands.options import ConfigFile, settings_for
from infra.errors import CommandError

app = typer.Typer(
    help="Keys by which programs and people are let in.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.command("new")
def new(
    name: Annotated[str, typer.Option(help="Whose it is; it shows in the log.")] = "",
    role: Annotated[
        str,
        typer.Option(
            help="metrics reads /metrics alone, viewer looks and listens, operator also orders and "
            "ends calls, admin may do all."
        ),
    ] = "operator",
    days: Annotated[int, typer.Option(min=0, max=36_500, help="How long it is good; 0: for ever.")] = 90,
) -> None:
    """Make a key. It is shown once; the settings keep its hash.

    Example: [bold]maya keys new --role operator --name ann --days 90[/bold]
    """
    from infra.access.keys import ROLES, last_day_after, new_key, parse_key

    if role not in ROLES:
        raise CommandError(f"--role is one of {', '.join(ROLES)}")
    key, digest = new_key()
    until = str(last_day_after(days, time.time())) if days else "never"
    try:
        line = parse_key(f"{name or role}:{role}:{until}:{digest}").line()
    except ValueError as error:
        raise CommandError(f"--name: {error}") from None
    typer.echo(f"the key, shown this once (programs: MAYA_API_KEY; people: at /login):\n  {key}")
    typer.echo(f"its line, for the file that MAYA_ACCESS_KEYS_FILE names, or for MAYA_ACCESS_KEYS:\n  {line}")
    typer.echo(f'or, in maya.toml:\n  [access]\n  keys = ["{line}"]')


@app.command("list")
def list_(config: ConfigFile = None) -> None:
    """The keys that the settings know: names, roles, ends and the beginnings of their hashes.

    Example: [bold]maya keys list[/bold]
    """
    from infra.access.door import known_keys

    settings = settings_for(config)
    keys = known_keys(settings.access, settings.outbound.api_keys)
    if not keys:
        typer.echo("no keys yet: maya keys new makes one")
    today = datetime.now(UTC).date()
    for key in keys:
        if key.last_day is None:
            end = "for ever"
        elif key.expired(time.time()):
            end = f"ended on {key.last_day}"
        else:
            end = f"{(key.last_day - today).days} days more, to {key.last_day}"
        typer.echo(f"{key.name:<20} {key.role:<9} {end:<34} {key.digest[:8]}")
