"""The server that `maya bench media` loads: all of `maya serve`, with recordings and whatever else it
observes calls with. Models are stand-ins.

Speech detection is the real Silero network. Transcriber, language model and voice are `models.scripted`
stand-ins, which compute little, so that what is measured is the media plane. Every reply is longer than the
time between two interruptions: the agent talks nearly all the time.

With `--saturated` the bundled models work without rest in the same process (`bench.media_saturation`), in
the threads in which they would work for calls.
"""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path

from pydantic import SecretStr

from bench.media_saturation import bundled_models, saturate
from bench.tone_voice import ToneSynthesizer
from infra import isolation
from infra.admission.settings import CapacitySettings
from infra.logs import configure_logging
from infra.server import bind, serve_on
from infra.settings import Settings
from models.base import ModelError, Models
from models.scripted import ScriptedChat, ScriptedTranscriber
from models.silero import SileroVoiceActivity
from models.store import Store
from pipeline.events import Unobserved
from pipeline.persona import Limits, Persona, TurnTaking
from pipeline.service import CallService

_VOICE_RATE_HZ = 24_000
_SENTENCE = "We are open on weekdays from nine in the morning until five in the afternoon."
_REPLY = " ".join([_SENTENCE] * 7)
_PERSONA = f"""name = "bench"
greeting = "{_SENTENCE}"
system = "You talk."
[limits]
reply_tokens = 1024
call_s = 7200
[turns]
endpoint_silence_s = 0.4
"""


def talkative_models() -> Models:
    """Answer every turn with half a minute of speech, and a little more. Raises `ModelMissing` without
    Silero's file."""
    return Models(
        ScriptedTranscriber(lambda audio: "When are you open?", latency_s=0.1),
        ScriptedChat(lambda messages: _REPLY, first_token_s=0.1, tokens_per_s=20.0),
        ToneSynthesizer(_VOICE_RATE_HZ, latency_s=0.05),
        SileroVoiceActivity(Store(None).path("silero-vad")),
    )


def talkative_service() -> CallService:
    """The calls alone, without what production does around them. Raises as `talkative_models`."""
    persona = Persona(
        name="bench",
        greeting=_SENTENCE,
        system="You talk.",
        limits=Limits(reply_tokens=1024, call_s=7200),
        turns=TurnTaking(endpoint_silence_s=0.4),
    )
    return CallService(talkative_models(), persona, observe=lambda info: Unobserved())


def bench_settings(port: int, folder: Path, *, calls: int = 1_000, auth_token: str = "") -> Settings:
    """Of a server for this machine only, that keeps what it keeps in `folder`; calls need a signature where
    there is a token to sign with."""
    persona = folder / "persona.toml"
    persona.write_text(_PERSONA)
    return Settings(
        host="127.0.0.1",
        port=port,
        insecure=not auth_token,
        auth_token=SecretStr(auth_token),
        profile="scripted",
        persona=persona,
        calls_dir=folder / "calls",
        capacity=CapacitySettings(calls=calls),
        drain_s=0.0,
        log_level="warning",
    )


async def _serve_saturated(settings: Settings, listener: socket.socket, *, apart: bool) -> None:
    """Beside the bundled models at work in this very process; not `apart`: as if nobody had thought of it."""
    if not apart:
        isolation.MODEL_NICENESS = 0
        isolation.SWITCH_INTERVAL_S = 0.005
    models = await asyncio.to_thread(bundled_models)
    working = asyncio.create_task(saturate(models), name="saturation")
    serving = asyncio.create_task(serve_on(settings, listener, talkative_models), name="server")
    try:
        # Work never ends by itself: where it does, it has failed, and the bench with it.
        await asyncio.wait((working, serving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        await serving
    finally:
        for task in (working, serving):
            task.cancel()
        await asyncio.gather(working, serving, return_exceptions=True)
        await models.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--saturated", choices=("apart", "together"), help="beside models that never rest")
    arguments = parser.parse_args()
    if arguments.core is not None:
        # Before the first thread: later ones inherit it.
        os.sched_setaffinity(0, {arguments.core})
    import uvloop

    configure_logging("warning")
    try:
        with tempfile.TemporaryDirectory(prefix="maya-bench-") as folder:
            settings = bench_settings(arguments.port, Path(folder))
            listener = bind("127.0.0.1", arguments.port)
            with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                if arguments.saturated:
                    runner.run(_serve_saturated(settings, listener, apart=arguments.saturated == "apart"))
                else:
                    runner.run(serve_on(settings, listener, talkative_models))
    except ModelError as missing:
        sys.exit(f"maya: {missing}")


if __name__ == "__main__":
    main()
