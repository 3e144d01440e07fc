"""baresip calls us with a WAV for a microphone and dumps what it hears: lengths, levels, keys, secrets, and a
conversation."""

import asyncio
import contextlib
import socket
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from models.base import Models
from models.scripted import (
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    voiced_signal,
)
from pipeline.events import AgentTurn, CallerTurn, CallEvent
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.persona import Persona
from pipeline.resample import to_pcm
from pipeline.service import CallService
from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, level_db, loopback, spoken_part
from tests.sip_peers.programs import HERE, Program, filled, free_port, needs, running, until

pytestmark = [needs("baresip"), pytest.mark.realtime, pytest.mark.timeout(60)]

ESTABLISHED: Final = "Call established"
_MODULES: Final = "/usr/lib/baresip/modules"
SILENT: Final = np.zeros(7 * LINE_RATE_HZ, np.int16)
"""Longer than the calls that have nothing to say: baresip hangs up where its WAV ends."""
_AROUND_S: Final = 0.6


@dataclass
class Baresip:
    program: Program
    folder: Path
    console: int

    def press(self, key: str) -> None:
        """On its keypad."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(key.encode(), ("127.0.0.1", self.console))

    def heard(self) -> Pcm:
        """What it has decoded. Read it when baresip has ended."""
        (dump,) = self.folder.glob("dump-*-dec.wav")
        with wave.open(str(dump)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (LINE_RATE_HZ, 1, 2)
            return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@contextlib.asynccontextmanager
async def phone(
    folder: Path, port: int, said: Pcm, *, seconds: int = 8, secret: str = "", codec: str = "PCMU"
) -> AsyncIterator[Baresip]:
    """Calls `port`, says `said` and hangs up after `seconds`."""
    wav = folder / "said.wav"
    with wave.open(str(wav), "wb") as file:
        file.setparams((1, 2, LINE_RATE_HZ, said.size, "NONE", ""))
        file.writeframes(said.tobytes())
    own, rtp, console = free_port(), free_port(together=10), free_port()
    values = {
        "port": own,
        "rtp": rtp + rtp % 2,
        "rtp_last": rtp + 9,
        "console": console,
        "wav": wav,
        "folder": folder,
        "modules": _MODULES,
    }
    settings = folder / "baresip"
    settings.mkdir()
    (settings / "config").write_text(filled((HERE / "baresip" / "config").read_text(), **values))
    account = f"<sip:ann@127.0.0.1:{port}>;regint=0;audio_codecs={codec}/8000/1"
    if secret:
        account += f";auth_user=ann;auth_pass={secret}"
    (settings / "accounts").write_text(account + "\n")
    (settings / "contacts").write_text("")
    arguments = ("-f", str(settings), "-e", f"/dial sip:maya@127.0.0.1:{port}", "-t", str(seconds))
    async with running("baresip", *arguments, folder=folder, typed=True) as program:
        yield Baresip(program, folder, console)


def utterance(seconds: float) -> Pcm:
    """Speech between silences: what a phone sends while the call begins need not be heard."""
    silence = np.zeros(round(_AROUND_S * LINE_RATE_HZ), np.int16)
    voice = to_pcm(voiced_signal("When are you open?", seconds, LINE_RATE_HZ))
    return np.concatenate([silence, voice, silence])


def assert_alike(heard: Pcm, said: Pcm) -> None:
    """Level within 1 dB, length within 2 %."""
    got, wanted = spoken_part(heard), spoken_part(said)
    assert abs(got.size / wanted.size - 1) <= 0.02, (got.size, wanted.size)
    assert abs(level_db(got) - level_db(wanted)) <= 1.0, (level_db(got), level_db(wanted))


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_what_it_says_comes_back(codec: str, tmp_path: Path) -> None:
    said, agent = utterance(4.0), Agent(echo=True)
    async with SipServer(loopback(), agent) as server:
        async with phone(tmp_path, server.port, said, codec=codec) as baresip:
            await baresip.program.finished(20)
        talk = await agent.call()
        assert talk.ended == "caller hung up"
        assert_alike(talk.heard(), said)
        assert_alike(baresip.heard(), said)


async def test_it_hears_what_we_play(tmp_path: Path) -> None:
    said = utterance(4.0)
    agent = Agent(lambda _: said)
    async with SipServer(loopback(), agent) as server:
        async with phone(tmp_path, server.port, SILENT, seconds=6) as baresip:
            await baresip.program.finished(20)
        assert_alike(baresip.heard(), said)


async def test_its_keys_arrive(tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        async with phone(tmp_path, server.port, SILENT, seconds=6) as baresip:
            await baresip.program.prints(ESTABLISHED)
            for key in "19*#":
                baresip.press(key)
                await asyncio.sleep(0.4)
            await baresip.program.finished(20)
        assert (await agent.call()).keys == "19*#"


@pytest.mark.parametrize(("secret", "calls"), [("ann-s-secret", 1), ("guessed", 0)])
async def test_its_secret(secret: str, calls: int, tmp_path: Path) -> None:
    agent = Agent()
    config = loopback(insecure=False, users={"ann": "ann-s-secret"})
    async with SipServer(config, agent) as server:
        async with phone(tmp_path, server.port, SILENT, secret=secret, seconds=3) as baresip:
            await baresip.program.finished(20)
            assert (ESTABLISHED in baresip.program.output()) == bool(calls)
        assert len(agent.talks) == calls


async def test_it_holds_a_conversation(tmp_path: Path) -> None:
    """A greeting, a question, an answer; the models are stand-ins, all else is what answers real calls."""
    question, greeting, reply = "When are you open?", "Good morning, who is there?", "From nine to five."
    synthesizer = ScriptedSynthesizer()
    models = Models(
        ScriptedTranscriber(lambda audio: question, latency_s=0.05),
        ScriptedChat(lambda messages: reply, first_token_s=0.05),
        synthesizer,
        EnergyVoiceActivity(),
    )
    happened: list[CallEvent] = []

    class Observer:
        def observe(self, event: CallEvent) -> None:
            happened.append(event)

    service = CallService(
        models, Persona(name="clinic", greeting=greeting, system="You talk."), observe=lambda info: Observer()
    )
    await service.start()
    silence = np.zeros(4 * LINE_RATE_HZ, np.int16)
    said = np.concatenate([silence, utterance(1.5), silence])
    try:
        async with SipServer(loopback(), service.answer) as server:
            async with phone(tmp_path, server.port, said, seconds=10) as baresip:
                await baresip.program.finished(20)
            await until(lambda: service.live_calls == 0)
    finally:
        await service.aclose()
    turns = [event for event in happened if isinstance(event, CallerTurn)]
    answers = [event for event in happened if isinstance(event, AgentTurn)]
    assert [turn.text for turn in turns] == [question]
    assert [answer.heard for answer in answers[:2]] == [greeting, reply]
    # The two of them, as baresip heard them: 60 ms a character, at the level of the voice.
    heard = baresip.heard()
    loud = (
        np.abs(heard.astype(np.int32)).reshape(-1)[: heard.size // 160 * 160].reshape(-1, 160).max(axis=1)
        > 300
    )
    assert abs(loud.sum() * 0.02 - 0.06 * len(greeting + reply)) < 0.15
