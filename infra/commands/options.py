"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: maya.toml, if it is there.")
]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]


def settings_for(config: Path | None = None, **options: object) -> "Settings":
    """Read all settings once, and set up logging as they say. Raises `SettingsError`, `DocumentError`."""
    import logging
    import os

    from infra.logs import configure_logging
    from infra.settings import load_settings, misspelt_variables

    settings = load_settings(os.environ, config, options)
    configure_logging(settings.log_level)
    for line in misspelt_variables(os.environ):
        logging.getLogger("infra.settings").warning("%s", line)
    return settings
