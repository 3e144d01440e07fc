"""The voice on the real model at its tiny size: noise comes out, but every CodecFrame is accounted for."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from models.base import AgentSpeech, CallerSpeech, Speech
from models.csm.ending import EndLimits, EndRules
from models.csm.engine import Engine
from models.csm.host import LoopHost, ThreadHost
from models.csm.prompt import VoicePrompt
from models.csm.rows import text_rows
from models.csm.slot_voice import seed_of
from models.csm.stepper import TorchStepper
from models.csm.utterance import Utterance
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from telephony.simulator.virtual_loop import run_virtual
from tests.models.csm.tiny_stepper import tiny_codec, tiny_model
from tests.models.csm.voice_kit import byte_tokenizer, n_codec_frames, say

ENDS = EndLimits(most_extra=6)
PROMPT = VoicePrompt("Hi.", np.random.default_rng(4).integers(0, 2048, (6, 32), dtype=np.int32))


OPTIONS = CsmVoiceOptions(prompt=PROMPT, rows=256, ends=ENDS, codes_wait_s=30)


def threaded(slots: int = 2) -> CsmSynthesizer:
    def load() -> Engine:
        return Engine(TorchStepper(tiny_model(), tiny_codec(), slots, 256), lead_s=float("inf"))

    host = ThreadHost(load)
    host.wait_loaded(60)
    return CsmSynthesizer([host], byte_tokenizer(), OPTIONS)


def virtual(seed: int) -> tuple[CsmSynthesizer, LoopHost, Engine]:
    clock = asyncio.get_running_loop().time
    engine = Engine(TorchStepper(tiny_model(), tiny_codec(), 2, 256), clock=clock)
    options = replace(OPTIONS, seed=seed)
    host = LoopHost(engine)
    return CsmSynthesizer([host], byte_tokenizer(), options), host, engine


async def call(made: CsmSynthesizer) -> list[np.ndarray]:
    """Two turns with the caller's sound, the first answer cut by a barge-in."""
    voice = await made.open()
    caller = CallerSpeech("c/1", "Hello?", np.sin(np.arange(4_000, dtype=np.float32)))
    context: tuple[Speech, ...] = (caller,)
    voice.prepare(context)
    first = await say(voice, "One.", utterance="a/1", context=context, most=5)
    context = (caller, AgentSpeech("a/1", "One", heard_s=0.25))
    voice.prepare(context)
    second = await say(voice, "Two.", utterance="a/2", context=context)
    await voice.aclose()
    return [first, second]


def test_a_call_on_the_tiny_model_is_the_same_when_played_again() -> None:
    async def play(seed: int) -> list[np.ndarray]:
        return await call(virtual(seed)[0])

    played = [run_virtual(play(seed)) for seed in (1, 1, 2)]
    for audio in played[0]:
        assert n_codec_frames(audio) >= 2
        assert np.isfinite(audio).all() and np.abs(audio).max() > 0
    assert n_codec_frames(played[0][0]) == 5
    assert all(np.array_equal(a, b) for a, b in zip(played[0], played[1], strict=True))
    assert not np.array_equal(played[0][0], played[2][0])


def test_a_rewound_slot_speaks_as_one_that_never_said_the_rest() -> None:
    async def scene() -> None:
        made, host, engine = virtual(1)
        voice = await made.open()
        await say(voice, "One two three.", utterance="a", most=5)
        context = (AgentSpeech("a", "One two", heard_s=0.25),)
        voice.prepare(context)
        await asyncio.sleep(1.0)
        before = engine.holds(0)
        rewound = await say(voice, "Yes.", context=context)

        codes: list[np.ndarray] = []
        ended = asyncio.Event()
        rows = np.concatenate([before, text_rows(byte_tokenizer().encode(0, "Yes."))])
        utterance = Utterance(
            rows=rows,
            seed=seed_of(1, 0, 1),
            judge=EndRules("Yes.", ENDS).judge,
            most_codec_frames=ENDS.most_codec_frames("Yes."),
            on_frame=lambda frame: codes.append(frame.codes.copy()),
            on_end=lambda reason: ended.set(),
        )
        host.post(lambda engine: engine.speak(engine.open(), utterance))
        await ended.wait()
        assert len(codes) == n_codec_frames(rewound) >= 2
        assert np.array_equal(engine.holds(0)[len(rows) :][: len(codes), :32], np.stack(codes))

    run_virtual(scene())


async def test_two_calls_at_once() -> None:
    made = threaded()
    both = await asyncio.gather(call(made), call(made))
    assert not np.array_equal(both[0][0], both[1][0]), "each call has its own noise"
    stats = made.stats[0]
    assert stats.failures == 0
    await made.aclose()


async def test_a_call_that_is_cancelled_in_the_middle_frees_its_slot() -> None:
    made = threaded(slots=1)
    voice = await made.open()
    speaking = asyncio.create_task(say(voice, "A rather long sentence for a small model."))
    await asyncio.sleep(0.05)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    await voice.aclose()
    again = await made.open()
    assert n_codec_frames(await say(again, "Hi")) >= 2
    await made.aclose()
