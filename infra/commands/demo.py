"""`maya demo`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import ConfigFile, settings_for


def demo(
    scenario: Annotated[Path | None, typer.Option(help="Another scenario than the clinic's.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Models: embedded (default), tiny, maya or scripted.")
    ] = None,
    persona: Annotated[Path | None, typer.Option(help="Who answers: a persona's TOML file.")] = None,
    calls_dir: Annotated[Path | None, typer.Option(help="Where the call is kept.")] = None,
    config: ConfigFile = None,
) -> None:
    """Play a whole call on this machine: real models, Twilio's wire protocol, no account, no GPU.

    Example: [bold]maya demo[/bold]
    """
    settings = settings_for(
        config, profile=profile, persona=persona, calls_dir=calls_dir, log_level="warning"
    )
    from infra.demo import play

    play(settings, scenario)
