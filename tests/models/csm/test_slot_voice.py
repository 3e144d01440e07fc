"""The voice on the real model at its tiny size: noise comes out, but every CodecFrame is accounted for."""

import asyncio

import numpy as np
import pytest

from models.base import AgentSpeech, CallerSpeech, Speech
from models.csm.ending import EndLimits
from models.csm.engine import Engine
from models.csm.host import ThreadHost
from models.csm.prompt import VoicePrompt
from models.csm.stepper import TorchStepper
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from tests.models.csm.tiny_stepper import tiny_codec, tiny_model
from tests.models.csm.voice_kit import byte_tokenizer, n_codec_frames, say

ENDS = EndLimits(most_extra=6)
PROMPT = VoicePrompt("Hi.", np.random.default_rng(4).integers(0, 2048, (6, 32), dtype=np.int32))


def synthesizer(slots: int = 2, seed: int = 0) -> CsmSynthesizer:
    def load() -> Engine:
        return Engine(TorchStepper(tiny_model(), tiny_codec(), slots, 256), lead_s=float("inf"))

    host = ThreadHost(load)
    host.wait_loaded(60)
    return CsmSynthesizer(
        [host],
        byte_tokenizer(),
        CsmVoiceOptions(prompt=PROMPT, seed=seed, rows=256, ends=ENDS, codes_wait_s=30),
    )


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


async def test_a_call_on_the_tiny_model_is_the_same_when_played_again() -> None:
    played = []
    for seed in (1, 1, 2):
        made = synthesizer(seed=seed)
        played.append(await call(made))
        await made.aclose()
    for audio in played[0]:
        assert n_codec_frames(audio) >= 2
        assert np.isfinite(audio).all() and np.abs(audio).max() > 0
    assert n_codec_frames(played[0][0]) == 5
    assert all(np.array_equal(a, b) for a, b in zip(played[0], played[1], strict=True))
    assert not np.array_equal(played[0][0], played[2][0])


async def test_two_calls_at_once() -> None:
    made = synthesizer()
    both = await asyncio.gather(call(made), call(made))
    assert not np.array_equal(both[0][0], both[1][0]), "each call has its own noise"
    stats = made.stats[0]
    assert stats.failures == 0
    await made.aclose()


async def test_a_call_that_is_cancelled_in_the_middle_frees_its_slot() -> None:
    made = synthesizer(slots=1)
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
