"""Whole calls with the CSM voice: a tiny random model, which speaks noise, through the real loading path."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.base import Samples
from models.csm.assembly import make_engine, voice_options
from models.csm.checkpoint import open_checkpoint
from models.csm.files import find_csm_files
from models.csm.host import LoopHost
from models.csm.measures import EngineStats
from models.csm.random_weights import save_random
from models.csm.shapes import CODEC_FRAME_SAMPLES, CSM_TINY
from models.csm.text import TextTokenizer
from models.csm.voice import CsmSynthesizer, CsmVoice
from models.placement import CPU
from models.scripted import ScriptedChat
from models.store import Store
from models.voices import CsmVoicePlan, VoiceChoice
from pipeline.line import AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from pipeline.service import CallService
from telephony.simulator import Report, Scenario, simulate
from tests.infra.served import served
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import PERSONA, House, hears, tone

pytestmark = pytest.mark.models  # the tokenizer is the real one

TICK_S = 0.03
"""Of virtual time, for one step of the engine."""


DESK = PERSONA.model_copy(update={"greeting": "Hello."})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_random(folder, CSM_TINY, seed=3)
    return folder


@cache
def tokenizer() -> TextTokenizer:
    return TextTokenizer.open(Store().path("llama-3-tokenizer"))


def synthesizer(folder: Path, slots: int = 2) -> CsmSynthesizer:
    """What `load_csm` makes, but in virtual time and with a declared cost of each step."""
    choice = VoiceChoice(tts=str(folder))
    plan = CsmVoicePlan("tiny", find_csm_files(folder))
    with open_checkpoint(plan.files.base, hashed=False) as checkpoint:
        engine = make_engine(checkpoint, plan, choice, CPU, slots=slots, threads=1, clock=virtual_now)
    return CsmSynthesizer([LoopHost(engine, tick_s=TICK_S)], tokenizer(), voice_options(choice, None))


def virtual_now() -> float:
    return asyncio.get_running_loop().time()


def house(folder: Path, *replies: str, heard: tuple[str, ...] = ("when", "where")) -> House:
    chat = ScriptedChat(list(replies), prefill_s=0.05, first_token_s=0.1, tokens_per_s=20)
    voice: Any = synthesizer(folder)
    return House(transcriber=hears(*heard), chat=chat, synthesizer=voice, persona=DESK)


def stats_of(desk: House) -> EngineStats:
    voice: Any = desk.synthesizer
    (stats,) = voice.stats
    return stats


@pytest.fixture(scope="module")
def whole(tiny: Path) -> tuple[House, Report]:
    return played(tiny)


def played(folder: Path) -> tuple[House, Report]:
    desk = house(folder, "At nine.", "Here.")
    steps = ["listen", {"say": "when are you open"}, "listen", {"say": "where are you"}, "listen", "hang_up"]
    return desk, desk.play(steps)


def test_a_call_is_held_and_every_slot_comes_back(whole: tuple[House, Report]) -> None:
    desk, report = whole
    assert not report.violations
    assert not desk.observed.faults
    assert desk.observed.caller == ["when", "where"]
    assert [turn.text for turn in desk.observed.agent[1:]] == ["At nine.", "Here."]
    assert all(turn.heard == turn.text for turn in desk.observed.agent)
    stats = stats_of(desk)
    assert stats.open_slots == 0
    assert stats.failures == 0
    assert stats.underruns == 0


def test_a_call_is_the_same_each_time(tiny: Path, whole: tuple[House, Report]) -> None:
    _, first = whole
    _, second = played(tiny)
    assert first.json() == second.json()


def test_the_voice_evaluates_little_twice(whole: tuple[House, Report]) -> None:
    """What was spoken stands in the cache: each turn adds its words and the caller's turn."""
    desk, _ = whole
    stats = stats_of(desk)
    assert stats.prefilled_rows < stats.codec_frames
    assert stats.ticks == pytest.approx(stats.codec_frames, abs=10)


def test_an_interruption_is_obeyed_within_a_tick(tiny: Path) -> None:
    desk = house(tiny, "We are open from nine until six.", "All right.", heard=("when", "stop"))
    steps = [
        "listen",
        {"say": "when are you open"},
        {"interrupt": {"after_s": 1.0, "say": "stop it please"}},
        "listen",
        "hang_up",
    ]
    report = desk.play(steps)
    assert not report.violations
    assert not desk.observed.faults
    cut = next(turn for turn in desk.observed.agent if turn.interrupted)
    assert 0 < len(cut.heard) < len(cut.text)
    assert desk.observed.agent[-1].text == "All right."
    stats = stats_of(desk)
    assert stats.open_slots == 0


class CountingLine(HandLine):
    """Keeps account of what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Pcm] = []
        self.marks = 0

    async def send_audio(self, pcm: Pcm) -> None:
        await super().send_audio(pcm)
        self.sent.append(pcm)

    async def send_mark(self, name: str) -> None:
        await super().send_mark(name)
        self.marks += 1


def test_every_codec_frame_is_played_once_and_marked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = house(tiny, "At nine.", heard=("when",))
    spoken: Counter[str] = Counter()
    speak = CsmVoice.speak

    async def counted(voice: CsmVoice, text: str, **known: Any) -> AsyncGenerator[Samples, None]:
        async with aclosing(speak(voice, text, **known)) as chunks:
            async for chunk in chunks:
                spoken[text] += len(chunk)
                yield chunk

    monkeypatch.setattr(CsmVoice, "speak", counted)

    async def caller(line: HandLine, service: CallService) -> None:
        await line.end_of_reply()
        await line.say(tone("when are you open"))
        await line.end_of_reply()
        await line.silent(0.5)

    line = desk.by_hand(caller, CountingLine)
    assert isinstance(line, CountingLine)
    sent = np.concatenate(line.sent)
    played = spoken["Hello."] + spoken["At nine."]
    assert played % CODEC_FRAME_SAMPLES == 0
    assert len(sent) == pytest.approx(played // 3, abs=2 * AUDIO_FRAME_SAMPLES)
    per_codec_frame = np.abs(sent[: len(sent) // 640 * 640].reshape(-1, 640).astype(np.int32)).max(axis=1)
    assert (per_codec_frame > 0).all(), "80 ms without a sound: a CodecFrame was lost"
    assert line.marks >= len(sent) / LINE_RATE_HZ / 0.16 - 2
    assert [turn.heard for turn in desk.observed.agent] == ["Hello.", "At nine."]


PERSONA_FILE = """
name = "Test Desk"
greeting = "Hello."
system = "You help."
fallback = "What?"
"""


@pytest.mark.realtime
@pytest.mark.timeout(180)
async def test_maya_serve_answers_with_csm(tiny: Path, tmp_path: Path) -> None:
    persona = tmp_path / "desk.toml"
    persona.write_text(PERSONA_FILE)
    options = ("--tts", str(tiny), "--devices", "tts=cpu", "--persona", str(persona), "--tts-slots", "3")
    scenario = Scenario.model_validate(
        {"name": "csm", "voice": "ruth", "steps": ["listen", {"say": "What time is it?"}, {"wait": 4.0}]}
    )
    with served(tmp_path, "tiny", *options) as server:
        report = await simulate(
            scenario, url=server.stream_url, auth_token=server.auth_token, calls_dir=tmp_path / "calls"
        )
    assert not report.violations
    folder = tmp_path / "calls" / report.call_sid
    transcript = json.loads((folder / "transcript.json").read_text())
    assert not transcript["faults"]
    assert transcript["turns"][0]["agent"] == "Hello."
    assert len(transcript["turns"]) >= 2
    log = (tmp_path / "server.log").read_text()
    assert "6 slots" not in log
    assert "3 slots" in log
    assert "Traceback" not in log
