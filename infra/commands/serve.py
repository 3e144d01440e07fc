"""`maya serve`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import ConfigFile, LogLevel, settings_for


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one. Default 8080.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Where Twilio reaches this server: https://maya.example.com")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Models: embedded (default), tiny, maya or scripted.")
    ] = None,
    persona: Annotated[Path | None, typer.Option(help="Who answers: a persona's TOML file.")] = None,
    llm: Annotated[str | None, typer.Option(help="Another language model of the catalogue.")] = None,
    stt: Annotated[str | None, typer.Option(help="Another transcriber of the catalogue.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per model.")] = None,
    calls_dir: Annotated[Path | None, typer.Option(help="Where calls are kept.")] = None,
    record: Annotated[bool | None, typer.Option(help="Keep recordings and transcripts.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No signatures, this machine only: for trying things out.")
    ] = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Answer calls: Twilio's webhooks and media streams.

    Example: [bold]TWILIO_AUTH_TOKEN=... maya serve --public-url https://maya.example.com[/bold]

    On this machine only: [bold]maya serve --insecure[/bold]
    """
    settings = settings_for(
        config,
        host=host,
        port=port,
        public_url=public_url,
        profile=profile,
        persona=persona,
        llm=llm,
        stt=stt,
        threads=threads,
        calls_dir=calls_dir,
        record=record,
        insecure=insecure or None,
        log_level=log_level,
    )
    from infra.server import serve as serve_calls

    serve_calls(settings)
