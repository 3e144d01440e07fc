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

    from infra.records.keys import KeyRing
    from infra.timeline import render_timeline

    typer.echo(render_timeline(folder, KeyRing.load(os.environ)))
