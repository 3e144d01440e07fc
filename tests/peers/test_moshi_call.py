"""A whole phone call on Twilio's protocol, in virtual time, with moshi for a codec and with ours: the caller
interrupts, and hears the same sound."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.csm.engine import Engine
from models.csm.host import LoopHost
from models.csm.shapes import CONTEXT_ROWS
from models.csm.stepper import TorchStepper
from models.csm.text import TextTokenizer, save_byte_tokenizer
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from models.mimi.checkpoint import open_mimi
from models.mimi.codec import Codec
from models.mimi.config import MIMI_TINY
from models.scripted import ScriptedChat
from pipeline.events import AgentAudio
from pipeline.line import LINE_RATE_HZ, Pcm
from telephony.simulator import Report
from tests.models.csm.tiny_stepper import tiny_model
from tests.peers.moshi_mimi import SizedMoshi, save
from tests.pipeline.virtual_calls import PERSONA, House, hears

STEPS = [
    "listen",
    {"say": "when are you open"},
    {"interrupt": {"after_s": 1.0, "say": "where are you"}},
    "listen",
    "hang_up",
]


def now() -> float:
    return asyncio.get_running_loop().time()


def call(codec: Codec, folder: Path) -> tuple[House, Report]:
    tokens = folder / "tokenizer.json"
    save_byte_tokenizer(tokens)
    engine = Engine(TorchStepper(tiny_model(), codec, 2, CONTEXT_ROWS), clock=now)
    voice: Any = CsmSynthesizer([LoopHost(engine)], TextTokenizer.open(tokens), CsmVoiceOptions())
    chat = ScriptedChat(["From nine until six, from Monday to Friday.", "Here."], first_token_s=0.1)
    persona = PERSONA.model_copy(update={"greeting": "Hello."})
    house = House(transcriber=hears("when", "where"), chat=chat, synthesizer=voice, persona=persona)
    return house, house.play(STEPS)


def sound(house: House) -> Pcm:
    return np.concatenate([event.pcm for event in house.observed.events if isinstance(event, AgentAudio)])


@pytest.mark.timeout(300)
def test_a_phone_call_is_the_same_through_both(tmp_path: Path) -> None:
    file = save(tmp_path / "mimi.safetensors", MIMI_TINY, 3)
    (ours, our_report), (theirs, their_report) = (
        call(codec, tmp_path) for codec in (open_mimi(file), SizedMoshi(file, MIMI_TINY))
    )
    for house, report in ((ours, our_report), (theirs, their_report)):
        assert not report.violations
        assert not house.observed.faults
        assert house.observed.caller == ["when", "where"]
        assert [turn.interrupted for turn in house.observed.agent[1:]] == [True, False]
    one, other = sound(ours), sound(theirs)
    assert one.size == other.size > LINE_RATE_HZ
    assert np.abs(one.astype(int) - other).max() <= 1
    assert [turn.heard for turn in ours.observed.agent] == [turn.heard for turn in theirs.observed.agent]
