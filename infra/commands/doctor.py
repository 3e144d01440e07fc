"""`maya doctor`."""

from typing import Annotated

import typer

from infra.commands import options
from infra.commands.options import ConfigFile, Json, settings_for

_SIGNS = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "missing": "[red]missing[/red]"}


def doctor(
    profile: Annotated[str | None, typer.Option(help="The profile that should run.")] = None,
    tts: options.Tts = None,
    mimi: options.Mimi = None,
    tokenizer: options.Tokenizer = None,
    voice_prompt: options.VoicePrompt = None,
    codec: options.Codec = None,
    voice_weights: options.VoiceWeights = None,
    tts_slots: options.TtsSlots = None,
    devices: options.Devices = None,
    as_json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say what is missing before calls can be answered, and how to mend it; where each model goes, how much
    memory it takes there, and under which licence it comes.

    Example: [bold]maya doctor --profile maya --devices llm=cuda:0,tts=cuda:1[/bold]
    """
    import json
    from dataclasses import asdict

    from infra.doctor import examine

    settings = settings_for(
        config,
        profile=profile,
        tts=tts,
        mimi=mimi,
        tokenizer=tokenizer,
        voice_prompt=voice_prompt,
        codec=codec,
        voice_weights=voice_weights,
        tts_slots=tts_slots,
        devices=devices,
    )
    findings = examine(settings)
    missing = sum(finding.verdict == "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
        raise typer.Exit(1 if missing else 0)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mend = f"\n[bold]mend:[/bold] {escape(finding.mend)}" if finding.mend else ""
        table.add_row(_SIGNS[finding.verdict], finding.subject, escape(finding.detail) + mend)
    console = Console()
    console.print(table)
    console.print(
        f"\n{missing} thing(s) missing." if missing else "\nNothing is missing for a first call: maya demo"
    )
    raise typer.Exit(1 if missing else 0)
