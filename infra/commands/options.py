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

Profile = Annotated[str | None, typer.Option(help="Models: embedded (default), tiny, maya or scripted.")]
Tts = Annotated[
    str | None,
    typer.Option(help="The voice: hibari, a voice of the catalogue, or the path of CSM's files."),
]
Mimi = Annotated[Path | None, typer.Option(help="Another Mimi file than the catalogue's.")]
Tokenizer = Annotated[Path | None, typer.Option(help="Another Llama 3 tokenizer than the catalogue's.")]
VoicePrompt = Annotated[Path | None, typer.Option(help="A voice that CSM goes on with: maya voice prompt.")]
Speaker = Annotated[int | None, typer.Option(help="CSM's number for the agent; default 0.")]
Codec = Annotated[str | None, typer.Option(help="Whose Mimi runs: own (default) or moshi.")]
VoiceContext = Annotated[
    str | None, typer.Option(help="What CSM is shown of the conversation: audio (default), text or nothing.")
]
VoiceWeights = Annotated[
    str | None, typer.Option(help="CSM's weights: full (default), w8a8 (CPU) or int8 (GPU).")
]
TtsSlots = Annotated[int | None, typer.Option(help="Calls that CSM speaks for at once, per device.")]
Devices = Annotated[
    str | None, typer.Option(help="Where models run: stt=cuda:0,llm=cuda:0,tts=cuda:1,tts=cuda:2")
]


def settings_for(config: Path | None = None, **options: object) -> "Settings":
    """Read all settings once, and set up logging as they say. Raises `SettingsError`, `DocumentError`."""
    import logging
    import os

    from infra.logs import configure_logging
    from infra.redaction import hide, secrets_of
    from infra.settings import load_settings, misspelt_variables

    settings = load_settings(os.environ, config, options)
    hide(secrets_of(settings))
    configure_logging(settings.log_level, settings.observe.log_format)
    for line in misspelt_variables(os.environ):
        logging.getLogger("infra.settings").warning("%s", line)
    return settings
