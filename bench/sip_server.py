"""The server that `maya bench sip` loads: production's SIP server, media clock and calls; stand-in models.

`--work` says what is computed for a call besides signalling and media. `none`: an agent that talks without
end through production's playout, and hears the caller without listening. `call`: production's call, with its
turn-taking and all that it measures of both voices; a level meter on the event loop stands for the Silero
network, and the voice's audio is at 8 kHz from the start. `speech`: the call, Silero, 24 -> 8 kHz for every
reply and 8 -> 16 kHz for every turn. The agent talks nearly all the time, and nothing is recorded.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from typing import Literal

from bench.media_server import talkative_service
from models.base import ModelError, Models, Samples, Speech
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber, voiced_signal
from pipeline.events import Unobserved
from pipeline.line import LINE_RATE_HZ, Line, LineClosed, MarkReached
from pipeline.persona import Limits, Persona, TurnTaking
from pipeline.playout import Playout, SendAudio
from pipeline.resample import to_pcm
from pipeline.service import CallOutcome, CallService
from telephony.collector import spare_what_is_loaded
from telephony.sip.config import SipConfig, sip_config
from telephony.sip.server import SipServer

RTP_FIRST_PORT, RTP_LAST_PORT = 30_000, 33_999
_SENTENCE = "We are open on weekdays from nine in the morning until five in the afternoon."
_REPLY = " ".join([_SENTENCE] * 7)
_CHARACTER_S = 0.06
_CHUNK_S = 0.1


class LineRateSynthesizer:
    """A tone for every text, at the line's own rate: nothing is left to resample, and nothing made twice."""

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "LineRateVoice":
        return LineRateVoice()

    async def aclose(self) -> None:
        return None


class LineRateVoice:
    sample_rate_hz: int = LINE_RATE_HZ
    takes_context: Literal["nothing", "text", "audio"] = "nothing"

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        audio = _tone(text)
        step = round(_CHUNK_S * LINE_RATE_HZ)
        for start in range(0, len(audio), step):
            # Twenty times as fast as it is spoken, as the other stand-in is.
            await asyncio.sleep(_CHUNK_S / 20)
            yield audio[start : start + step]

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return ()

    def prepare(self, context: Sequence[Speech]) -> None:
        return None

    async def aclose(self) -> None:
        return None


@lru_cache(maxsize=64)
def _tone(text: str) -> Samples:
    return voiced_signal(text, len(text) * _CHARACTER_S, LINE_RATE_HZ)


def plain_service() -> CallService:
    """Answers every turn with half a minute of speech, and computes next to nothing for it."""
    models = Models(
        ScriptedTranscriber(lambda audio: "When are you open?", latency_s=0.1),
        ScriptedChat(lambda messages: _REPLY, first_token_s=0.1, tokens_per_s=20.0),
        LineRateSynthesizer(),
        EnergyVoiceActivity(),
    )
    persona = Persona(
        name="bench",
        greeting=_SENTENCE,
        system="You talk.",
        limits=Limits(reply_tokens=1024, call_s=7200),
        turns=TurnTaking(endpoint_silence_s=0.4),
    )
    return CallService(models, persona, observe=lambda info: Unobserved(), inline=True)


async def talk_without_end(line: Line) -> CallOutcome:
    """Answers a call with a tone that never ends, a playout's lead ahead of the caller's ear. What the caller
    sends keeps the time: a line's audio has no gaps."""
    loop = asyncio.get_running_loop()
    playout = Playout(lead_s=line.lead_s)
    piece = to_pcm(_tone(_REPLY))
    try:
        async for event in line.events():
            now = loop.time()
            if isinstance(event, MarkReached):
                playout.mark_reached(event.name, now)
                continue
            if playout.drained or playout.started_s is None:
                playout.next_passage(now)
                playout.begin_clause(_REPLY)
                playout.append(piece)
                playout.finish()
            for action in playout.due(now):
                if isinstance(action, SendAudio):
                    await line.send_audio(action.pcm)
                else:
                    await line.send_mark(action.name)
            playout.played(now)
    except LineClosed as closed:
        return CallOutcome(True, closed.reason)
    return CallOutcome(True, "line closed")


def load_config(port: int) -> SipConfig:
    """For this machine only, and without the limits that a real server has."""
    return sip_config(
        host="127.0.0.1",
        port=port,
        insecure=True,
        max_calls=1_000,
        max_calls_per_source=1_000,
        invites_per_s=1_000.0,
        messages_per_s=100_000.0,
        rtp_first_port=RTP_FIRST_PORT,
        rtp_last_port=RTP_LAST_PORT,
    )


async def serve(port: int, service: CallService | None) -> None:
    """Take calls until SIGTERM; without a service, with an agent that only talks."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    if service is not None:
        await service.start()
    spare_what_is_loaded()
    try:
        async with SipServer(load_config(port), talk_without_end if service is None else service.answer):
            await ended.wait()
    finally:
        if service is not None:
            await service.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--work", choices=("none", "call", "speech"), required=True)
    arguments = parser.parse_args()
    if arguments.core is not None:
        # Before the first thread: later ones inherit it.
        os.sched_setaffinity(0, {arguments.core})
    import uvloop

    try:
        services = {"none": lambda: None, "call": plain_service, "speech": talkative_service}
        service = services[arguments.work]()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(arguments.port, service))
    except ModelError as missing:
        sys.exit(f"maya: {missing}")


if __name__ == "__main__":
    main()
