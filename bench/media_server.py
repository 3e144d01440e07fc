"""The server that `maya bench media` loads: production's stream shell, call and voice hub; models are
stand-ins.

Speech detection is the real Silero network. Transcriber, language model and voice are `models.scripted`
stand-ins, which compute little, so that what is measured is the media plane. Every reply is longer than the
time between two interruptions: the agent talks nearly all the time. Nothing is recorded.
"""

import argparse
import asyncio
import os
import sys

import uvicorn
from fastapi import FastAPI

from models.base import ModelError, Models
from models.scripted import ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from models.silero import SileroVoiceActivity
from models.store import Store
from pipeline.events import Unobserved
from pipeline.persona import Limits, Persona, TurnTaking
from pipeline.service import CallService
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router

_SENTENCE = "We are open on weekdays from nine in the morning until five in the afternoon."
_REPLY = " ".join([_SENTENCE] * 7)


def talkative_service() -> CallService:
    """Answers every turn with half a minute of speech, and a little more. Raises `ModelMissing` without
    Silero's file."""
    models = Models(
        ScriptedTranscriber(lambda audio: "When are you open?", latency_s=0.1),
        ScriptedChat(lambda messages: _REPLY, first_token_s=0.1, tokens_per_s=20.0),
        ScriptedSynthesizer(latency_s=0.05, realtime_factor=0.05),
        SileroVoiceActivity(Store(None).path("silero-vad")),
    )
    persona = Persona(
        name="bench",
        greeting=_SENTENCE,
        system="You talk.",
        limits=Limits(reply_tokens=1024, call_s=7200),
        turns=TurnTaking(endpoint_silence_s=0.4),
    )
    return CallService(models, persona, observe=lambda info: Unobserved())


async def serve(port: int) -> None:
    service = talkative_service()
    await service.start()
    app = FastAPI()
    app.include_router(create_router(TwilioConfig(f"http://127.0.0.1:{port}", insecure=True), service.answer))
    config = uvicorn.Config(
        app,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        await service.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, help="run on this core only")
    arguments = parser.parse_args()
    if arguments.core is not None:
        # Before the first thread: later ones inherit it.
        os.sched_setaffinity(0, {arguments.core})
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(arguments.port))
    except ModelError as missing:
        sys.exit(f"maya: {missing}")


if __name__ == "__main__":
    main()
