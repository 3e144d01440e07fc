"""One server behind three kinds of line, for `bench.lines`: the same calls over Twilio, SIP and AudioSocket.

Models are stand-ins whose latencies do not vary, voices are detected by level on the event loop: what differs
between two calls is their line.
"""

import argparse
import asyncio
import os
import signal

import uvicorn
from fastapi import FastAPI

from bench.sip_server import LineRateSynthesizer, load_config
from models.base import Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber
from pipeline.events import Unobserved
from pipeline.persona import Persona, TurnTaking
from pipeline.service import CallService
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.server import AudioSocketServer
from telephony.sip.server import SipServer
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router


def steady_service() -> CallService:
    models = Models(
        ScriptedTranscriber(lambda audio: "When are you open?", latency_s=0.1),
        ScriptedChat(lambda messages: "At nine in the morning.", first_token_s=0.1, tokens_per_s=50.0),
        LineRateSynthesizer(),
        EnergyVoiceActivity(),
    )
    persona = Persona(
        name="bench", greeting="Hello.", system="You talk.", turns=TurnTaking(end_of_turn="silence")
    )
    return CallService(models, persona, observe=lambda info: Unobserved(), inline=True)


async def serve(web_port: int, sip_port: int, audiosocket_port: int) -> None:
    """Take calls over all three until SIGTERM."""
    service = steady_service()
    await service.start()
    app = FastAPI()
    url = f"http://127.0.0.1:{web_port}"
    app.include_router(create_router(TwilioConfig(url, insecure=True), service.answer))
    web = uvicorn.Server(
        uvicorn.Config(
            app,
            port=web_port,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )
    asterisk = AsteriskConfig.of(audiosocket_port=audiosocket_port)
    ended = asyncio.Event()
    try:
        async with (
            AudioSocketServer(asterisk, service.answer),
            SipServer(load_config(sip_port), service.answer),
        ):
            serving = asyncio.create_task(web.serve(), name="web")
            # uvicorn takes the signal for itself while it serves.
            serving.add_done_callback(lambda _: ended.set())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
            await ended.wait()
            web.should_exit = True
            await serving
    finally:
        await service.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--web-port", type=int, required=True)
    parser.add_argument("--sip-port", type=int, required=True)
    parser.add_argument("--audiosocket-port", type=int, required=True)
    parser.add_argument("--core", type=int, help="run on this core only")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.web_port, arguments.sip_port, arguments.audiosocket_port))


if __name__ == "__main__":
    main()
