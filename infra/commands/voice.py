"""`maya voice`: the voice that CSM goes on with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands import options
from infra.commands.options import ConfigFile, Json, LogLevel, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from infra.settings import Settings

app = typer.Typer(
    help="The voice that CSM speaks with: prompt.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.callback()
def voice() -> None:
    """Keeps `prompt` a command of its own while it is the only one."""


@app.command()
def prompt(
    recording: Annotated[
        Path, typer.Argument(help="10 to 20 s of calm speech: a sound file of any rate.", show_default=False)
    ],
    text: Annotated[str, typer.Option(help="Exactly the words that are spoken in it.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where the prompt goes.")] = Path("prompt.safetensors"),
    speaker: options.Speaker = None,
    tts: options.Tts = None,
    mimi: options.Mimi = None,
    codec: options.Codec = None,
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Encode a recording as the voice that every call begins with. Put it to use with --voice-prompt.

    Example: [bold]maya voice prompt reading.wav --text "The words of it." --out prompt.safetensors[/bold]
    """
    settings = settings_for(
        config, tts=tts, mimi=mimi, codec=codec, speaker=speaker, log_level=log_level or "warning"
    )
    from models.csm.prompt import checked_words, make_prompt, read_speech, save_prompt, sha256_of
    from models.mimi.opening import open_codec

    text = checked_words(text)
    speech = read_speech(recording)
    if not out.parent.is_dir():
        raise CommandError(f"{out.parent} is no folder: say --out with another place.")
    path = _mimi(settings)
    opened = open_codec(settings.codec, path)
    made = make_prompt(speech, text, opened, speaker=settings.speaker, mimi_sha256=sha256_of(path))
    try:
        save_prompt(made, out)
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error}") from error
    rows = len(made.codes) + 1
    if as_json:
        figures = {"out": str(out), "duration_s": made.duration_s, "speaker": made.speaker, "rows": rows}
        typer.echo(json.dumps(figures | {"text": made.text, "mimi_sha256": made.mimi_sha256}))
    else:
        typer.echo(f"{out}: {made.duration_s:.1f} s of speaker {made.speaker}. Use it: --voice-prompt {out}")


def _mimi(settings: "Settings") -> Path:
    """The codec's weights: as named, else beside the voice's files, else the catalogue's. Raises
    `ModelError`."""
    from models.base import ModelMissing
    from models.profiles import CODEC
    from models.store import Store
    from models.voices import VoiceChoice, find_voice

    if settings.mimi is not None:
        return settings.mimi.expanduser()
    store = Store(settings.models_dir)
    plan = find_voice(settings.profile, VoiceChoice(tts=settings.tts), store, [])
    if plan is not None and plan.files.mimi is not None:
        return plan.files.mimi
    try:
        return store.path(CODEC)
    except ModelMissing as error:
        raise CommandError(f"{error} Or name its file with --mimi.") from error
