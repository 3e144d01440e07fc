"""The voice of whole calls, in virtual time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from models.base import SHARED, AgentSpeech, CallerSpeech, ModelBusy, ModelError, ModelFailed, Speech
from models.csm.host import LoopHost
from models.csm.prompt import VoicePrompt
from models.csm.rows import END_ROW, segment_rows, text_rows
from models.csm.slot_voice import seed_of
from models.csm.stepping import Rows
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from telephony.simulator.virtual_loop import run_virtual
from tests.models.csm.voice_kit import TICK_S, House, byte_tokenizer, n_codec_frames, say

Scene = Callable[[], Coroutine[Any, Any, None]]


def virtual(scene: Scene) -> Callable[[], None]:
    def test() -> None:
        run_virtual(scene())

    test.__name__ = scene.__name__
    test.__doc__ = scene.__doc__
    return test


def tokens(speaker: int, text: str) -> Rows:
    return text_rows(byte_tokenizer().encode(speaker, text))


PROMPT = VoicePrompt("I am the voice.", np.arange(160, dtype=np.int32).reshape(5, 32))
PROMPT_ROWS = segment_rows(byte_tokenizer().encode(0, PROMPT.text), PROMPT.codes)


@virtual
async def test_speaks_80_ms_at_a_time_and_the_first_at_once() -> None:
    house = House()
    voice = await house.synthesizer.open()
    loop = asyncio.get_running_loop()
    began, arrivals = loop.time(), []
    async for chunk in voice.speak("Good morning."):
        assert chunk.shape == (1920,) and chunk.dtype == np.float32
        arrivals.append(loop.time() - began)
    assert len(arrivals) == 10
    assert arrivals[0] == pytest.approx(2 * TICK_S), "one prefill, one tick"
    assert voice.sample_rate_hz == 24_000
    await voice.aclose()
    await house.synthesizer.aclose()


@virtual
async def test_a_slow_engine_holds_some_back() -> None:
    house = House(tick_s=0.06)
    voice = await house.synthesizer.open()
    loop = asyncio.get_running_loop()
    await say(voice, "So that ticks are measured.")
    began = loop.time()
    arrivals = [loop.time() - began async for _ in voice.speak("Good morning.")]
    assert arrivals[0] == arrivals[1] == pytest.approx(3 * 0.06)
    assert arrivals[2] == pytest.approx(4 * 0.06)


@virtual
async def test_the_first_sample_is_faded_in_and_a_cap_fades_out() -> None:
    house = House(ends_at=None)
    voice = await house.synthesizer.open()
    audio = await say(voice, "Hi")
    assert n_codec_frames(audio) == 33, "1.4 CodecFrames a character, and 30"
    assert audio[0] == 0 and audio[119] < 0.25 and audio[120] == np.float32(0.25)
    assert audio[-1] == 0 and np.all(np.diff(audio[-480:]) < 0) and audio[-481] == np.float32(0.25)


@virtual
async def test_the_models_own_end_is_not_faded() -> None:
    house = House()
    audio = await say(await house.synthesizer.open(), "Hi")
    assert n_codec_frames(audio) == 10 and audio[-1] == np.float32(0.25)


@virtual
async def test_a_silent_tail_ends() -> None:
    house = House(ends_at=None)
    house.stepper.silent_from = 12
    voice = await house.synthesizer.open()
    assert n_codec_frames(await say(voice, "Hello.", utterance="a")) == 12 + 9
    context = (AgentSpeech("a", "Hello."),)
    await say(voice, "Again.", context=context)
    held = house.holds()
    start = len(tokens(0, "Hello."))
    assert np.array_equal(held[start + 14 : start + 15], END_ROW), "160 ms of the silence are remembered"


@virtual
async def test_nothing_to_say_is_nothing_said() -> None:
    house = House()
    voice = await house.synthesizer.open()
    for text in ("", "  ", "🙂👍", "..."):
        assert len(await say(voice, text)) == 0
    assert house.stepper.ticks == []


@virtual
async def test_five_thousand_characters_are_spoken_in_utterances_that_know_each_other() -> None:
    house = House(ends_at=30)
    voice = await house.synthesizer.open()
    text = "We are open from nine to five on every working day. " * 97
    audio = await say(voice, text, utterance="long")
    assert n_codec_frames(audio) == 25 * 30
    assert all(row.position < 2048 for batch in house.stepper.ticks for row in batch)
    assert len(house.holds()) > 1000, "earlier pieces are the context of later ones"
    assert house.engines[0].stats.open_slots == 1
    await voice.aclose()
    assert house.engines[0].stats.open_slots in (0, 1)
    await house.synthesizer.aclose()
    assert house.engines[0].stats.open_slots == 0


@virtual
async def test_nothing_of_a_conversation_is_evaluated_twice() -> None:
    house = House(prompt=PROMPT)
    voice = await house.synthesizer.open()
    context: list[Speech] = []
    for turn in range(6):
        context.append(CallerSpeech(f"caller/{turn}", f"Question {turn}?", np.full(4000, 0.1, np.float32)))
        voice.prepare(tuple(context))
        await asyncio.sleep(1.0)
        await say(voice, f"Answer {turn}.", utterance=f"a/{turn}", context=tuple(context))
        context.append(AgentSpeech(f"a/{turn}", f"Answer {turn}."))
    await asyncio.sleep(1.0)
    stats = house.engines[0].stats
    evaluated = stats.prefilled_rows + stats.codec_frames
    # The END row that the model writes itself passes neither as a prefill nor as a spoken CodecFrame.
    assert evaluated + 6 == len(house.holds())


@virtual
async def test_the_cache_holds_prompt_words_and_sound_of_both_sides() -> None:
    house = House(prompt=PROMPT)
    voice = await house.synthesizer.open()
    caller = CallerSpeech("c", "Are you  open?", np.full(8000, 0.5, np.float32))
    voice.prepare((caller,))
    await asyncio.sleep(1.0)
    await say(voice, "Yes.", utterance="a", context=(caller,))
    await asyncio.sleep(1.0)
    held = house.holds()
    heard = segment_rows(byte_tokenizer().encode(1, "Are you open?"), np.zeros((13, 32), np.int32))
    before = [PROMPT_ROWS, heard, tokens(0, "Yes.")]
    n = sum(map(len, before))
    assert len(held) == n + 10 + 1
    codes = held[len(PROMPT_ROWS) + len(tokens(1, "Are you open?")) :][:13]
    # The stand-in encoder tells the loudness of each CodecFrame.
    assert (codes[:12, :32] >= 490).all() and (codes[:, 32] == -1).all()
    assert np.array_equal(held[: len(PROMPT_ROWS)], PROMPT_ROWS)
    assert np.array_equal(held[n - len(before[2]) : n], before[2])
    assert np.array_equal(held[-1:], END_ROW)


@virtual
async def test_a_barge_in_rewinds_to_what_was_heard() -> None:
    house = House(ends_at=None)
    voice = await house.synthesizer.open()
    stepper = house.stepper
    await say(voice, "One two three four five.", utterance="a", most=20)
    ticks = len(stepper.ticks)
    heard = AgentSpeech("a", "One two", heard_s=0.83)
    voice.prepare((heard,))
    await asyncio.sleep(2 * TICK_S)
    assert len(stepper.ticks) <= ticks + 1, "the cancelled utterance goes on"
    held = house.holds()
    start = len(tokens(0, "One two"))
    assert np.array_equal(held[:start], tokens(0, "One two"))
    assert len(held) == start + 10 + 1 and np.array_equal(held[-1:], END_ROW)
    assert stepper.prefills[-1][1] == len(text_rows(byte_tokenizer().encode(0, "One two"))) - 1


@virtual
async def test_a_barge_in_at_the_last_word_keeps_the_whole_sentence_in_the_cache() -> None:
    """The words stand, so only the END row is new: the slot is rewound by setting its position."""
    house = House(ends_at=None)
    voice = await house.synthesizer.open()
    await say(voice, "One two.", utterance="a", most=20)
    voice.prepare((AgentSpeech("a", "One two.", heard_s=1.2),))
    await asyncio.sleep(2 * TICK_S)
    assert house.stepper.prefills[-1] == (0, len(tokens(0, "One two.")) + 15, 1)


@virtual
async def test_cancelling_at_every_moment_leaves_the_slot_usable() -> None:
    house = House(ends_at=None)
    voice = await house.synthesizer.open()
    for wait_s in (0.0, 0.01, TICK_S, 0.03, 2 * TICK_S, 0.05, 0.09, 0.5):
        task = asyncio.create_task(say(voice, "Words that are dropped.", utterance="x"))
        await asyncio.sleep(wait_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ticks = len(house.stepper.ticks)
        await asyncio.sleep(0.5)
        assert len(house.stepper.ticks) <= ticks + 1, f"cancelled after {wait_s} s, and spoken on"
    assert n_codec_frames(await say(voice, "Hi")) == 33


@virtual
async def test_an_utterance_that_fails_is_told_and_the_next_is_spoken() -> None:
    house = House()
    voice = await house.synthesizer.open()
    house.stepper.not_finite.add(0)
    with pytest.raises(ModelFailed, match=r"stopped in 'Hello\.': failed"):
        await say(voice, "Hello.")
    house.stepper.raises = MemoryError("no room")
    with pytest.raises(ModelFailed, match="failed"):
        await say(voice, "Hello.")
    assert n_codec_frames(await say(voice, "Hello.")) == 10


@virtual
async def test_a_newer_utterance_takes_over() -> None:
    house = House(ends_at=None)
    voice = await house.synthesizer.open()
    first = asyncio.create_task(say(voice, "The first of two."))
    await asyncio.sleep(0.2)
    assert n_codec_frames(await say(voice, "Hi")) == 33
    with pytest.raises(ModelFailed, match="cancelled"):
        await first


@virtual
async def test_after_closing_there_is_no_speech() -> None:
    house = House()
    voice = await house.synthesizer.open()
    speaking = voice.speak("Hello there.")
    await anext(speaking)
    await voice.aclose()
    await voice.aclose()
    with pytest.raises(ModelFailed, match="closed"):
        async for _ in speaking:
            pass
    with pytest.raises(ModelFailed, match="closed"):
        await say(voice, "More.")
    voice.prepare(())


def test_a_generator_let_go_after_closing_asks_nothing_of_a_slot_that_is_not_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        house = House(slots=1)
        voice = await house.synthesizer.open()
        speaking = voice.speak("Hello there.")
        await anext(speaking)
        await voice.aclose()
        await speaking.aclose()
        await asyncio.sleep(1.0)

    run_virtual(scene())
    assert "failed" not in caplog.text


@virtual
async def test_late_codes_of_the_caller_do_not_hold_the_answer_up() -> None:
    house = House(tick_s=0.1, codes_wait_s=0.15)
    voice = await house.synthesizer.open()
    caller = CallerSpeech("c", "A very long story.", np.full(80_000, 0.5, np.float32))
    loop = asyncio.get_running_loop()
    voice.prepare((caller,))
    began = loop.time()
    speaking = voice.speak("I see.", utterance="a", context=(caller,))
    await anext(speaking)
    assert loop.time() - began < 0.6, "encoding takes 16 pieces of 0.1 s"
    async for _ in speaking:
        pass
    await asyncio.sleep(5.0)
    context = (caller, AgentSpeech("a", "I see."))
    voice.prepare(context)
    await asyncio.sleep(1.0)
    words = tokens(1, "A very long story.")
    held = house.holds()
    assert np.array_equal(held[: len(words)], words), "what was spoken after the words stays so"
    assert np.array_equal(held[len(words) :][: len(tokens(0, "I see."))], tokens(0, "I see."))


@virtual
async def test_codes_that_come_in_time_wait_for_their_turn() -> None:
    house = House()
    voice = await house.synthesizer.open()
    earlier = AgentSpeech("old", "Welcome.")
    caller = CallerSpeech("c", "Hm.", np.full(16_000, 0.5, np.float32))
    voice.prepare((earlier, caller))
    await asyncio.sleep(1.0)
    welcome, words = tokens(0, "Welcome."), tokens(1, "Hm.")
    assert len(house.holds()) == len(welcome) + len(words) + 25 + 1
    assert house.engines[0].stats.prefilled_rows == len(house.holds()), "no words went in without their sound"


@virtual
async def test_an_abandoned_turn_is_not_encoded() -> None:
    house = House()
    voice = await house.synthesizer.open()
    voice.prepare((CallerSpeech("c", "Hm.", np.full(160_000, 0.5, np.float32)),))
    await asyncio.sleep(TICK_S * 1.5)
    voice.prepare(())
    await asyncio.sleep(TICK_S * 1.5)
    assert house.engines[0].plan(asyncio.get_running_loop().time()) is None


@virtual
async def test_words_only() -> None:
    house = House(context="text")
    voice = await house.synthesizer.open()
    assert voice.takes_context == "text"
    caller = CallerSpeech("c", "Hello?", np.full(8000, 0.5, np.float32))
    await say(voice, "Yes.", utterance="a", context=(caller,))
    context = (caller, AgentSpeech("a", "Yes."))
    voice.prepare(context)
    await say(voice, "Now?", context=context)
    expected = np.concatenate([tokens(1, "Hello?"), tokens(0, "Yes."), tokens(0, "Now?")])
    assert np.array_equal(house.holds()[:-11], expected)


@virtual
async def test_no_context_at_all() -> None:
    house = House(context="nothing", prompt=PROMPT)
    voice = await house.synthesizer.open()
    assert voice.takes_context == "nothing"
    await say(voice, "Yes.", context=(CallerSpeech("c", "Hello?"),))
    assert np.array_equal(house.holds()[:-11], np.concatenate([PROMPT_ROWS, tokens(0, "Yes.")]))


@virtual
async def test_a_long_call_is_rebuilt_rarely_and_while_the_caller_speaks() -> None:
    house = House(rows=900, ends_at=20, prompt=PROMPT)
    voice = await house.synthesizer.open()
    context: list[Speech] = []
    urgent = []
    for turn in range(40):
        context.append(CallerSpeech(f"c/{turn}", f"Question {turn}?", np.full(24_000, 0.1, np.float32)))
        rebuilds = voice._window.rebuilds
        voice.prepare(tuple(context))
        await asyncio.sleep(1.0)
        before = house.engines[0].stats.prefilled_rows
        await say(voice, f"Answer number {turn}.", utterance=f"a/{turn}", context=tuple(context))
        urgent.append(house.engines[0].stats.prefilled_rows - before)
        assert voice._window.rebuilds == rebuilds, "between the caller's last word and the answer"
        context.append(AgentSpeech(f"a/{turn}", f"Answer number {turn}."))
        voice.prepare(tuple(context))
        await asyncio.sleep(1.0)
        assert len(house.holds()) <= 900
    # Between the caller's last word and the answer only the answer's own text is evaluated.
    assert max(urgent) == len(tokens(0, "Answer number 39."))
    assert np.array_equal(house.holds()[: len(PROMPT_ROWS)], PROMPT_ROWS)
    assert 3 <= voice._window.rebuilds <= 25


@virtual
async def test_an_answer_in_a_small_cache_is_shortened_or_refused() -> None:
    house = House(rows=64, ends_at=None)
    voice = await house.synthesizer.open()
    audio = await say(voice, "Hello there.")
    assert n_codec_frames(audio) == 64 - len(tokens(0, "Hello there.")) - 1
    with pytest.raises(ModelFailed, match="64 rows have no room for"):
        await say(voice, "These are far too many words for such a small memory.")


@virtual
async def test_the_voice_prompt_is_evaluated_once_and_shared() -> None:
    house = House(prompt=PROMPT, slots=3)
    voices = [await house.synthesizer.open()]
    await say(voices[0], "Hello.")
    for _ in range(2):
        voices.append(await house.synthesizer.open())
        await say(voices[-1], "Hello.")
    stats = house.engines[0].stats
    assert stats.restored_rows >= len(PROMPT_ROWS)
    assert stats.prefilled_rows == len(PROMPT_ROWS) + 3 * len(tokens(0, "Hello."))


def test_without_a_prompt_the_first_greeting_becomes_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        house = House(slots=2)
        first = await house.synthesizer.open()
        await say(first, "Welcome to the clinic.", utterance=SHARED + "greeting")
        greeting = house.holds()
        await say(
            first,
            "Goodbye.",
            utterance=SHARED + "goodbye",
            context=(AgentSpeech(SHARED + "greeting", "Welcome to the clinic."),),
        )
        await first.aclose()
        call = await house.synthesizer.open()
        context = (
            AgentSpeech(SHARED + "greeting", "Welcome to", heard_s=0.3),
            AgentSpeech(SHARED + "goodbye", "Goodbye."),
        )
        await say(call, "Yes.", utterance="a", context=context)
        held = house.holds(0)
        assert np.array_equal(held[: len(greeting)], greeting), "the greeting stands once, as the prompt"
        rest = held[len(greeting) :]
        goodbye = tokens(0, "Goodbye.")
        assert np.array_equal(rest[: len(goodbye)], goodbye)
        assert np.array_equal(rest[len(goodbye) + 10 :][:1], END_ROW), "with its sound"
        assert np.array_equal(rest[len(goodbye) + 11 :][: len(tokens(0, "Yes."))], tokens(0, "Yes."))

    with caplog.at_level(logging.WARNING):
        run_virtual(scene())
    warnings = [record.message for record in caplog.records if "voice prompt" in record.message]
    assert len(warnings) == 1 and "0.8 s" in warnings[0] and "maya voice prompt" in warnings[0]


@virtual
async def test_a_replayed_call_is_the_same_and_another_seed_is_not() -> None:
    codes = []
    for seed in (7, 7, 8):
        house = House(seed=seed)
        voice = await house.synthesizer.open()
        await say(voice, "Hello.", utterance="a")
        await say(voice, "There.", utterance="b", context=(AgentSpeech("a", "Hello."),))
        codes.append(house.holds())
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])


def test_seeds_are_63_bits_and_differ() -> None:
    seeds = {seed_of(s, c, u) for s in range(5) for c in range(20) for u in range(20)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, 0, 0) == seed_of(0, 0, 0)


@virtual
async def test_calls_go_to_the_engine_with_the_fewest() -> None:
    house = House(engines=2, slots=2)
    voices = [await house.synthesizer.open() for _ in range(3)]
    assert [stats.open_slots for stats in house.synthesizer.stats] == [2, 1]
    await voices[0].aclose()
    await voices[2].aclose()
    voices = [await house.synthesizer.open() for _ in range(3)]
    assert [stats.open_slots for stats in house.synthesizer.stats] == [2, 2]
    with pytest.raises(ModelBusy, match="2 slots"):
        await house.synthesizer.open()
    await voices[0].aclose()
    await house.synthesizer.open()


@virtual
async def test_an_abandoned_opening_leaves_no_slot() -> None:
    house = House(slots=1)
    for moment in range(8):
        opening = asyncio.create_task(house.synthesizer.open())
        for _ in range(moment):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            await opening.result().aclose()
        await asyncio.sleep(0.1)
        assert house.engines[0].stats.open_slots == 0, moment
    assert (await house.synthesizer.open()).takes_context == "audio"


@virtual
async def test_an_engine_that_hangs_or_has_ended_draws_no_calls() -> None:
    house = House(engines=3, slots=2)
    hanging = LoopHost(house.engines[0], tick_s=1e6)
    hosts = [hanging, house.hosts[1], house.hosts[2]]
    synthesizer = CsmSynthesizer(hosts, byte_tokenizer(), CsmVoiceOptions())
    hanging.post(lambda engine: engine.encode(engine.open(), np.ones(50_000, np.float32), lambda codes: None))
    await house.hosts[1].aclose()
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    voices = []
    for waited_s in (10.0, 0.0):
        began = loop.time()
        voices.append(await synthesizer.open())
        assert loop.time() - began == pytest.approx(waited_s, abs=0.1)
    assert house.engines[2].stats.open_slots == 2
    assert n_codec_frames(await say(voices[0], "Hello.")) == 10
    with pytest.raises(ModelBusy, match="2 slots"):
        await synthesizer.open()
    await voices[0].aclose()
    await synthesizer.open()


@virtual
async def test_a_call_that_ends_while_it_waits_for_codes_disturbs_no_other() -> None:
    house = House(slots=1)
    voice = await house.synthesizer.open()
    caller = CallerSpeech("c", "A very long story.", np.full(80_000, 0.5, np.float32))
    waiting = asyncio.create_task(say(voice, "I see.", context=(caller,)))
    await asyncio.sleep(0.05)
    await voice.aclose()
    other = await house.synthesizer.open()
    speaking = asyncio.create_task(say(other, "Hello."))
    with pytest.raises(ModelFailed, match="closed"):
        await waiting
    assert n_codec_frames(await speaking) == 10


@virtual
async def test_voices_are_speaker_numbers() -> None:
    house = House()
    voice = await house.synthesizer.open("7")
    await say(voice, "Hi")
    assert np.array_equal(house.holds()[: len(tokens(7, "Hi"))], tokens(7, "Hi"))
    with pytest.raises(ModelError, match=r"No voice 'heart'.*default is 0"):
        await house.synthesizer.open("heart")
    with pytest.raises(ModelError, match=r"speed is 1\.1"):
        await house.synthesizer.open(speed=1.1)


@virtual
async def test_after_the_end_of_the_house() -> None:
    house = House()
    voice = await house.synthesizer.open()
    await house.synthesizer.aclose()
    with pytest.raises(ModelFailed, match="shut down"):
        await say(voice, "Hello.")
    with pytest.raises(ModelFailed, match="shut down"):
        await house.synthesizer.open()
    await voice.aclose()


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    async def scene() -> None:
        with pytest.raises(ModelError, match=r"takes \d+ of 40 rows"):
            House(rows=40, prompt=PROMPT)
        with pytest.raises(ValueError, match="at least one engine"):
            CsmSynthesizer([], byte_tokenizer())

    run_virtual(scene())


def test_a_prompt_of_another_speaker_is_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        House(prompt=PROMPT, speaker=3)

    run_virtual(scene())
    assert "of speaker 0, the voice speaks as 3" in caplog.text
