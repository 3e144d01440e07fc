"""`maya say`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands import options
from infra.commands.options import ConfigFile, Json, LogLevel, settings_for
from infra.errors import CommandError

if TYPE_CHECKING:
    from infra.saying import Said


def say(
    text: Annotated[str, typer.Argument(help="What to say.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where the sound goes: a WAV file.")] = Path("say.wav"),
    profile: options.Profile = None,
    persona: Annotated[Path | None, typer.Option(help="Whose voice: a persona's TOML file.")] = None,
    tts: options.Tts = None,
    mimi: options.Mimi = None,
    tokenizer: options.Tokenizer = None,
    voice_prompt: options.VoicePrompt = None,
    speaker: options.Speaker = None,
    codec: options.Codec = None,
    voice_context: options.VoiceContext = None,
    voice_weights: options.VoiceWeights = None,
    devices: options.Devices = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the voice.")] = None,
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Say a text with the voice that `maya serve` would have, and time it.

    Example: [bold]maya say "We are open until six." --out open.wav[/bold]
    """
    import asyncio

    settings = settings_for(
        config,
        profile=profile,
        persona=persona,
        tts=tts,
        mimi=mimi,
        tokenizer=tokenizer,
        voice_prompt=voice_prompt,
        speaker=speaker,
        codec=codec,
        voice_context=voice_context,
        voice_weights=voice_weights,
        devices=devices,
        threads=threads,
        log_level=log_level or "warning",
    )
    from infra.saying import clauses_of, say_with, write_wav

    if not clauses_of(text):
        raise CommandError(f"there is nothing to say in {text[:60]!r}.")
    if out.is_dir():
        raise CommandError(f"{out} is a folder: say --out with a file in it, as {out / 'say.wav'}.")
    if not out.parent.is_dir():
        raise CommandError(f"{out.parent} is no folder: say --out with another place.")
    said, load_s = asyncio.run(say_with(settings, text))
    if not said.audio.size:
        raise CommandError("the voice made no sound of it.")
    write_wav(out, said.audio, said.sample_rate_hz)
    if as_json:
        import json

        typer.echo(json.dumps({"file": str(out), "load_s": round(load_s, 3), **said.figures()}, indent=1))
    else:
        _show(said, out, load_s)


def _show(said: "Said", out: Path, load_s: float) -> None:
    first_ms = (said.first_audio_s or 0.0) * 1000
    rate_khz = said.sample_rate_hz // 1000
    typer.echo(f"{out}: {said.audio_s:.2f} s at {rate_khz} kHz, {len(said.clauses)} clause(s)")
    typer.echo(f"first audio after {first_ms:,.0f} ms, RTF {said.rtf:.3f} (loading took {load_s:.1f} s)")
