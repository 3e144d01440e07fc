"""`maya timeline`."""

from pathlib import Path
from typing import Annotated

import typer


def timeline(
    folder: Annotated[Path, typer.Argument(help="A call's folder: calls/<id>", show_default=False)],
) -> None:
    """Draw a recorded call: both voices, the stages of every turn, the words.

    Example: [bold]maya timeline calls/CA0123[/bold]
    """
    import os

    from infra.commands.options import settings_for
    from infra.records.keys import KeyRing
    from infra.timeline import render_timeline

    settings = settings_for(log_level="warning")
    typer.echo(render_timeline(folder, KeyRing.load(os.environ, settings.recording.key_file)))
