"""`maya twilio`: point a phone number at this server, and check that it is."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import ConfigFile, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from infra.settings import Settings
    from telephony.twilio.numbers import NumberChange, PhoneNumbers

app = typer.Typer(help="Your Twilio number: configure, check.", no_args_is_help=True, rich_markup_mode="rich")

_API_VARIABLE = "MAYA_TWILIO_API"
"""Another REST server than api.twilio.com, for tests."""

Number = Annotated[str, typer.Argument(help="Your number in E.164, such as +15550100123", show_default=False)]


@app.command()
def configure(
    number: Number,
    public_url: Annotated[
        str | None, typer.Option(help="Where Twilio reaches this server; else MAYA_PUBLIC_URL.")
    ] = None,
    fallback_url: Annotated[
        str | None, typer.Option(help="TwiML for when this server is down, such as a TwiML Bin's URL.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what stood there before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Undo even if it was changed since.")] = False,
    config: ConfigFile = None,
) -> None:
    """Point a number's voice URL, fallback and status callback at this server.

    Example: [bold]maya twilio configure +15550100123 --public-url https://maya.example.com[/bold]

    Back again: [bold]maya twilio configure +15550100123 --undo[/bold]
    """
    settings = settings_for(config, public_url=public_url)
    numbers = _numbers(settings)
    if undo:
        _show(numbers.undo(number, force=force))
        return
    if not settings.public_url:
        raise CommandError("say where Twilio reaches this server: --public-url https://maya.example.com")
    _show(numbers.configure(number, settings.public_url, fallback_url=fallback_url))
    if not fallback_url:
        typer.echo(
            "Callers hear nothing useful while this server is down: give a TwiML Bin with --fallback-url.",
            err=True,
        )
    typer.echo(f"Undo with: maya twilio configure {number} --undo")


@app.command()
def check(
    public_url: Annotated[
        str | None, typer.Option(help="Where Twilio reaches this server; else MAYA_PUBLIC_URL.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Check the account's credentials, where its numbers lead, and whether this server is there: certificate,
    signatures, streams. The server must be running.

    Example: [bold]maya twilio check --public-url https://maya.example.com[/bold]
    """
    settings = settings_for(config, public_url=public_url)
    found = _numbers(settings).check()
    typer.echo(f"account {found.name} ({found.kind}): {found.status}")
    ours = f"{settings.public_base_url}/twilio/voice" if settings.public_url else None
    for number, voice_url in found.numbers:
        there = "this server" if voice_url == ours else voice_url or "(nowhere)"
        typer.echo(f"  {number}  ->  {there}")
    if not found.numbers:
        typer.echo("  no phone numbers yet: buy one in console.twilio.com, Phone Numbers")
    if not settings.public_url:
        typer.echo("not checked: whether Twilio reaches this server (give --public-url or MAYA_PUBLIC_URL)")
        return
    from infra.app import twilio_config
    from telephony.twilio.reach import look

    good = True
    for finding in look(twilio_config(settings)):
        typer.echo(f"{'ok' if finding.good else 'NO'}  {finding.text}")
        good = good and finding.good
    if not good:
        raise typer.Exit(1)


def _numbers(settings: "Settings") -> "PhoneNumbers":
    from telephony.twilio.account import TwilioAccount
    from telephony.twilio.numbers import PhoneNumbers

    missing = [
        name
        for name, value in (
            ("TWILIO_ACCOUNT_SID", settings.account_sid),
            ("TWILIO_AUTH_TOKEN", settings.auth_token.get_secret_value()),
        )
        if not value
    ]
    if missing:
        raise CommandError(f"set {' and '.join(missing)} (console.twilio.com, Account Info)")
    account = TwilioAccount(
        settings.account_sid,
        settings.auth_token.get_secret_value(),
        api_base_url=os.environ.get(_API_VARIABLE) or None,
    )
    return PhoneNumbers(account, _state_folder() / "twilio-numbers.json")


def _state_folder() -> Path:
    """XDG base directory specification: state that should survive, such as an undo record."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "maya"


def _show(change: "NumberChange") -> None:
    if not change.changed:
        typer.echo(f"{change.number} stands as wanted already")
        return
    typer.echo(f"{change.number}:")
    for name, (before, after) in change.changed.items():
        typer.echo(f"  {name}: {before or '(empty)'}  ->  {after or '(empty)'}")
