"""The transcriber, the language model and the voice on replicas: the same as here, also when one is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from infra.cluster.chat import RemoteChat
from infra.cluster.choice import Patience
from infra.cluster.hearing import RemoteTranscriber
from infra.cluster.voice import RemoteSynthesizer, RemoteVoice
from models.base import (
    GREEDY,
    SHARED,
    AgentSpeech,
    CallerSpeech,
    Glimpse,
    Message,
    ModelFailed,
    ModelLate,
    Samples,
    Sampling,
)
from models.scripted import BreaksOff, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from tests.infra.cluster_kit import House, house, stand, until

TURN = np.linspace(-0.5, 0.5, 32_000, dtype=np.float32)
PREFIX = [Message("system", "Be kind.")]
DRAWN = Sampling(0.7, 0.9, seed=5)
HELLO = [Message("user", "Hello.")]
CLAUSE = "We are open from nine to five on weekdays, and on Saturday until noon."


# Hearing


async def test_a_turn_is_heard_as_it_was_said() -> None:
    heard: list[Samples] = []
    model = ScriptedTranscriber(lambda audio: heard.append(audio) or "Yes.")  # type: ignore[func-returns-value]
    model._glimpses = lambda audio: Glimpse(0.9, 0.1, 0.0, "mm")
    async with house(stand("a", "stt", model)) as there:
        remote = RemoteTranscriber(there.fleet)
        transcript = await remote.transcribe(TURN, hot_words="Miller")
        assert (transcript.text, transcript.duration_s) == ("Yes.", 2.0)
        assert np.array_equal(heard[0], TURN)
        assert model.hot_words == ["Miller"]
        assert await remote.glimpse(TURN[:3_000]) == Glimpse(0.9, 0.1, 0.0, "mm")
        assert there.told[0][:3] == ("hold", "stt", "a")


async def test_a_turn_whose_replica_dies_is_heard_by_another_one() -> None:
    stands = [stand(name, "stt", ScriptedTranscriber(latency_s=0.3)) for name in ("a", "b")]
    async with house(*stands) as there:
        asking = asyncio.create_task(RemoteTranscriber(there.fleet).transcribe(TURN))
        await until(lambda: any(one.station.used for one in stands))
        next(one for one in stands if one.station.used).die()
        assert (await asking).text == "Hello there."
        assert there.fleet.moved["stt"] == 1


async def test_a_stopped_replica_costs_a_turn_little_more_than_the_time_to_notice() -> None:
    stands = [stand(name, "stt", ScriptedTranscriber(latency_s=0.2)) for name in ("a", "b")]
    async with house(*stands, stall_s=0.15) as there:
        asking = asyncio.create_task(RemoteTranscriber(there.fleet).transcribe(TURN))
        await until(lambda: any(one.station.used for one in stands))
        next(one for one in stands if one.station.used).stand_still(3.0)
        assert (await asyncio.wait_for(asking, 2.0)).text == "Hello there."


async def test_a_turn_that_fails_everywhere_fails() -> None:
    stands = [stand(name, "stt", ScriptedTranscriber([ModelFailed("broke")])) for name in ("a", "b")]
    async with house(*stands) as there:
        with pytest.raises(ModelFailed):
            await RemoteTranscriber(there.fleet).transcribe(TURN)


async def test_a_deadline_is_kept_on_both_sides() -> None:
    model = ScriptedTranscriber(latency_s=0.4)
    async with house(stand("a", "stt", model)) as there:
        remote = RemoteTranscriber(there.fleet)
        with pytest.raises(ModelLate):
            await remote.transcribe(TURN, deadline_s=0.1)
        assert (await remote.transcribe(TURN, deadline_s=5.0)).text == "Hello there."
        assert set(model.deadlines_s) == {0.1, 5.0}


async def test_cancelling_drops_the_request() -> None:
    model = ScriptedTranscriber(latency_s=5)
    async with house(stand("a", "stt", model)) as there:
        asking = asyncio.create_task(RemoteTranscriber(there.fleet).transcribe(TURN))
        await until(lambda: there.at("a").station.used == 1)
        asking.cancel()
        await until(lambda: model.cancelled == 1)


# The language model


async def said(reply: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in reply])


def on(there: House, session: object) -> str:
    return str(session._seat.link.where.replica)  # type: ignore[attr-defined]


async def test_a_reply_that_breaks_off_goes_on_elsewhere_with_what_was_said() -> None:
    chats = {
        name: ScriptedChat(lambda messages: "One two three four five six.", tokens_per_s=40) for name in "ab"
    }
    stands = [stand(name, "llm", chat) for name, chat in chats.items()]
    async with house(*stands) as there:
        session = await RemoteChat(there.fleet).open(PREFIX, sampling=DRAWN)
        first = on(there, session)
        assert chats[first].samplings[-1] == DRAWN
        await session.prefill(HELLO)
        text = ""
        async with aclosing(session.reply(HELLO, max_tokens=50, grammar="g")) as pieces:
            async for piece in pieces:
                text += piece
                if text.endswith("three"):
                    there.at(first).die()
        assert text == "One two three four five six."
        second = chats["b" if first == "a" else "a"]
        assert second.begun == ["One two three"]
        assert second.prefixes[-1] == tuple(PREFIX)
        assert second.samplings == [GREEDY, DRAWN], "the prompt evaluated ahead, then the call as it was"
        assert second.requests == [tuple(HELLO)]
        assert second.grammars == ["g"]
        assert there.fleet.moved["llm"] == 1
        assert await said(session.reply(HELLO)) == "One two three four five six."
        await session.aclose()
        await until(lambda: second.sessions == 0)


async def test_prompts_that_are_opened_at_once_are_evaluated_everywhere() -> None:
    chats = {name: ScriptedChat() for name in "ab"}
    async with house(*(stand(name, "llm", chat) for name, chat in chats.items())) as there:
        remote = RemoteChat(there.fleet)
        prefixes = [(Message("system", f"You are number {number}."),) for number in range(3)]
        await asyncio.gather(*map(remote.open, prefixes))
        await until(lambda: all(set(chat.prefixes) == set(prefixes) for chat in chats.values()))
        await until(lambda: sum(chat.sessions for chat in chats.values()) == 3)


async def test_the_turns_end_is_told_once_whoever_says_it() -> None:
    chats = [
        ScriptedChat(lambda messages: "One two three.", tokens_per_s=20, turn_end=lambda messages: 0.75)
        for _ in range(2)
    ]
    async with house(*(stand(name, "llm", chat) for name, chat in zip("ab", chats, strict=True))) as there:
        session = await RemoteChat(there.fleet).open(PREFIX)
        told: list[float] = []
        text = ""
        async for piece in session.reply(HELLO, on_turn_end=told.append):
            if not text:
                there.at(on(there, session)).die()
            text += piece
        assert text == "One two three."
        assert told == [0.75]


async def test_a_model_that_fails_alone_fails_for_its_call_and_lives_on() -> None:
    chat = ScriptedChat([BreaksOff("One two"), "Fine."])
    async with house(stand("a", "llm", chat)) as there:
        session = await RemoteChat(there.fleet).open(PREFIX)
        with pytest.raises(ModelFailed, match="breaks off"):
            await said(session.reply(HELLO))
        assert await said(session.reply(HELLO)) == "Fine."
        assert chat.sessions == 1


async def test_with_no_other_replica_the_call_apologises() -> None:
    chat = ScriptedChat(lambda messages: "One two three.", tokens_per_s=20)
    async with house(stand("a", "llm", chat), patience=Patience(replica=0.2)) as there:
        session = await RemoteChat(there.fleet).open(PREFIX)
        with pytest.raises(ModelFailed):
            async for _ in session.reply(HELLO):
                there.at("a").die()


async def test_prompts_are_evaluated_ahead_wherever_a_call_may_move_to() -> None:
    chats = {name: ScriptedChat() for name in "abc"}
    stands = {name: stand(name, "llm", chat) for name, chat in chats.items()}
    async with house(stands["a"], stands["b"]) as there:
        session = await RemoteChat(there.fleet).open(PREFIX)
        await until(lambda: all(chats[name].prefixes == [tuple(PREFIX)] for name in "ab"))
        there.fleet.update([one.where for one in stands.values()])
        await until(lambda: chats["c"].prefixes == [tuple(PREFIX)])
        await until(lambda: sum(chat.sessions for chat in chats.values()) == 1)
        await session.aclose()
        await asyncio.to_thread(stands["c"].end)


# The voice


async def spoken(voice: RemoteVoice, text: str, utterance: str = "") -> Samples:
    chunks = [chunk async for chunk in voice.speak(text, utterance=utterance)]
    return np.concatenate([np.zeros(0, np.float32), *chunks])


async def reference(text: str) -> Samples:
    voice = await ScriptedSynthesizer().open()
    return np.concatenate([chunk async for chunk in voice.speak(text)])


@pytest.mark.parametrize("after_chunks", [1, 4, 12])
async def test_a_clause_whose_replica_dies_is_heard_whole_and_once(after_chunks: int) -> None:
    stands = [stand(name, "tts", ScriptedSynthesizer(realtime_factor=0.02)) for name in ("a", "b")]
    async with house(*stands) as there:
        voice = await RemoteSynthesizer(there.fleet).open()
        chunks: list[Samples] = []
        async with aclosing(voice.speak(CLAUSE, utterance="reply/1")) as speaking:
            async for chunk in speaking:
                chunks.append(chunk)
                if len(chunks) == after_chunks:
                    there.at(on(there, voice)).die()
        assert np.array_equal(np.concatenate(chunks), await reference(CLAUSE))
        assert there.fleet.moved["tts"] == 1
        assert np.array_equal(await spoken(voice, "And on."), await reference("And on."))
        await voice.aclose()


async def test_a_stopped_replica_is_left_in_mid_clause() -> None:
    models = {name: ScriptedSynthesizer(realtime_factor=0.3) for name in "ab"}
    stands = [stand(name, "tts", model) for name, model in models.items()]
    async with house(*stands, stall_s=0.15) as there:
        voice = await RemoteSynthesizer(there.fleet).open()
        chunks: list[Samples] = []
        gaps_s: list[float] = []
        last = asyncio.get_running_loop().time()
        async for chunk in voice.speak(CLAUSE):
            gaps_s.append(asyncio.get_running_loop().time() - last)
            last += gaps_s[-1]
            chunks.append(chunk)
            if len(chunks) == 3:
                there.at(first := on(there, voice)).stand_still(4.0)
        # A voice so slow is not asked to say again what was heard.
        rest = models["b" if first == "a" else "a"].spoken[0].text
        assert CLAUSE.endswith(" " + rest)
        assert len(CLAUSE) - 12 < len(rest) < len(CLAUSE)
        assert max(gaps_s) < 2.0


async def test_where_words_sound_is_known_as_with_a_voice_of_our_own() -> None:
    own = await ScriptedSynthesizer().open()
    async for _ in own.speak(CLAUSE, utterance="x"):
        pass
    async with house(stand("a", "tts", ScriptedSynthesizer())) as there:
        synthesizer = RemoteSynthesizer(there.fleet)
        voice, other = await synthesizer.open(), await synthesizer.open()
        await spoken(voice, CLAUSE, "reply/1")
        await spoken(voice, CLAUSE, SHARED + "greeting")
        expected = [pytest.approx(span) for span in own.word_spans("x")]
        assert expected
        assert list(voice.word_spans("reply/1")) == expected
        assert list(other.word_spans(SHARED + "greeting")) == expected
        assert other.word_spans("reply/1") == ()


async def test_closing_a_clause_stops_the_model() -> None:
    model = ScriptedSynthesizer(realtime_factor=1.0)
    async with house(stand("a", "tts", model)) as there:
        voice = await RemoteSynthesizer(there.fleet).open()
        async with aclosing(voice.speak(CLAUSE)) as speaking:
            await anext(speaking)
        await until(lambda: model.closed_early == 1)
        assert np.array_equal(await spoken(voice, "On."), await reference("On."))
        assert model.overlaps == 0


async def test_a_context_reaches_the_voice_and_what_prepares_for_it_too() -> None:
    model = ScriptedSynthesizer(takes_context="audio")
    context = (CallerSpeech("c/1", "hello", TURN), AgentSpeech("r/1", "hi", 0.4))
    async with house(stand("a", "tts", model)) as there:
        voice = await RemoteSynthesizer(there.fleet).open()
        voice.prepare(context)
        async for _ in voice.speak("Hello.", utterance="r/2", context=context):
            pass
        for got in (model.prepared[0], model.spoken[0].context):
            assert isinstance(got[0], CallerSpeech)
            assert got[0].audio is not None
            assert np.array_equal(got[0].audio, TURN)
            assert got[1] == context[1]


async def test_a_voice_that_never_says_the_same_twice_goes_on_with_the_next_words() -> None:
    models = {name: ScriptedSynthesizer(realtime_factor=0.2, takes_context="text") for name in "ab"}
    async with house(*(stand(name, "tts", model) for name, model in models.items())) as there:
        voice = await RemoteSynthesizer(there.fleet).open()
        first = on(there, voice)
        count = 0
        async for _ in voice.speak(CLAUSE, utterance="r/1", context=(CallerSpeech("c", "hi", TURN),)):
            count += 1
            if count == 5:
                there.at(first).die()
        rest = models["b" if first == "a" else "a"].spoken[0]
        assert 0 < len(rest.text) < len(CLAUSE)
        assert CLAUSE.endswith(rest.text)
        assert rest.utterance == ""
        assert isinstance(rest.context[0], CallerSpeech)
        assert rest.context[0].audio is None
