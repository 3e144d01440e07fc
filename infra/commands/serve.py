"""`maya serve`."""

from pathlib import Path
from typing import Annotated

import typer

from infra.commands import options
from infra.commands.options import ConfigFile, LogLevel, settings_for


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks a free one. Default 8080.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Where Twilio reaches this server: https://maya.example.com")
    ] = None,
    profile: options.Profile = None,
    persona: Annotated[Path | None, typer.Option(help="Who answers: a persona's TOML file.")] = None,
    routes: Annotated[
        Path | None, typer.Option(help="Which numbers other personas answer, and when: a TOML file.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Another language model of the catalogue.")] = None,
    stt: Annotated[str | None, typer.Option(help="Another transcriber of the catalogue.")] = None,
    tts: options.Tts = None,
    mimi: options.Mimi = None,
    tokenizer: options.Tokenizer = None,
    voice_prompt: options.VoicePrompt = None,
    speaker: options.Speaker = None,
    codec: options.Codec = None,
    voice_context: options.VoiceContext = None,
    voice_weights: options.VoiceWeights = None,
    tts_slots: options.TtsSlots = None,
    devices: options.Devices = None,
    threads: Annotated[int | None, typer.Option(help="Threads per model.")] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Run the models on Ray Serve: auto starts Ray on this machine, host:port joins one. "
            "How many replicas: [cluster] of maya.toml."
        ),
    ] = None,
    sip: Annotated[
        str | None,
        typer.Option(help="Take SIP calls here too: 0.0.0.0:5060. Who may call: [sip] of maya.toml."),
    ] = None,
    talk: Annotated[
        bool | None, typer.Option("--talk/--no-talk", help="The page /talk, to talk in the browser.")
    ] = None,
    calls_dir: Annotated[Path | None, typer.Option(help="Where calls are kept.")] = None,
    record: Annotated[bool | None, typer.Option(help="Keep recordings and transcripts.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No signatures, this machine only: for trying things out.")
    ] = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Answer calls, and make them: Twilio, SIP, Asterisk, the browser.

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
        routes=routes,
        llm=llm,
        stt=stt,
        tts=tts,
        mimi=mimi,
        tokenizer=tokenizer,
        voice_prompt=voice_prompt,
        speaker=speaker,
        codec=codec,
        voice_context=voice_context,
        voice_weights=voice_weights,
        tts_slots=tts_slots,
        devices=devices,
        threads=threads,
        cluster=cluster,
        sip=sip,
        talk=talk,
        calls_dir=calls_dir,
        record=record,
        insecure=insecure or None,
        log_level=log_level,
    )
    from infra.server import serve as serve_calls

    serve_calls(settings)
