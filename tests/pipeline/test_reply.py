"""One reply in the making: what is done ahead, what leaves when, and what stops it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from models.base import AgentSpeech, CallerSpeech, Message, ModelFailed, Speech
from models.scripted import BreaksOff, ScriptedChat, ScriptedSynthesizer
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.reply import CLAUSES_AHEAD, Reply
from telephony.simulator.virtual_loop import run_virtual

PARDON = "Sorry, I did not catch that."
TWO_SENTENCES = "We are open today. You may come in at any time before noon."


@dataclass
class Desk:
    """Makes one reply; keeps what left, with the loop's time."""

    chat: ScriptedChat
    synthesizer: ScriptedSynthesizer = field(default_factory=lambda: ScriptedSynthesizer(latency_s=0.05))
    context: tuple[Speech, ...] = ()
    clauses: list[tuple[float, str]] = field(default_factory=list)
    audio: list[tuple[float, Pcm]] = field(default_factory=list)
    turn_ends: list[float] = field(default_factory=list)
    ended_s: float | None = None

    def make(self, script: Callable[[Reply, "asyncio.Task[None]"], Awaitable[None]]) -> Reply:
        """`script` runs beside the reply from its beginning, at time 0; then the reply is waited for."""
        return run_virtual(self._make(script))

    async def _make(self, script: Callable[[Reply, "asyncio.Task[None]"], Awaitable[None]]) -> Reply:
        now = asyncio.get_running_loop().time
        session = await self.chat.open(())
        reply = Reply(
            session,
            await self.synthesizer.open(),
            [Message("user", "hello")],
            max_tokens=60,
            if_silent=PARDON,
            name="reply",
            context=self.context,
            on_clause=lambda clause: self.clauses.append((now(), clause.text)),
            on_audio=lambda pcm: self.audio.append((now(), pcm)),
            on_turn_end=self.turn_ends.append,
        )
        making = asyncio.create_task(reply.run())
        try:
            await script(reply, making)
            async with asyncio.timeout(600):
                await making
        finally:
            self.ended_s = now()
            await session.aclose()
        return reply

    @property
    def said(self) -> list[str]:
        return [text for _, text in self.clauses]

    @property
    def samples(self) -> int:
        return sum(pcm.size for _, pcm in self.audio)


async def at_once(reply: Reply, making: "asyncio.Task[None]") -> None:
    reply.gate.set()


async def cancelled_after_1_s(reply: Reply, making: "asyncio.Task[None]") -> None:
    reply.gate.set()
    await asyncio.sleep(1.0)
    making.cancel()


def slow_chat(*script: str | Exception | BreaksOff) -> ScriptedChat:
    return ScriptedChat(script or (TWO_SENTENCES,), first_token_s=0.1, tokens_per_s=4)


def test_a_reply_is_said_whole_and_in_order() -> None:
    desk = Desk(ScriptedChat([TWO_SENTENCES]))
    desk.make(at_once)
    assert " ".join(desk.said) == TWO_SENTENCES
    assert desk.synthesizer.said == desk.said
    spoken_s = sum(0.06 * len(text) for text in desk.said)
    assert desk.samples == pytest.approx(spoken_s * LINE_RATE_HZ, abs=LINE_RATE_HZ // 50)


def test_the_first_clause_is_voiced_before_the_second_is_written() -> None:
    desk = Desk(slow_chat())
    reply = desk.make(at_once)
    words = len(TWO_SENTENCES.split())
    written_s = 0.1 + (words - 1) / 4
    first_audio_s, _ = desk.audio[0]
    assert reply.times.first_audio == first_audio_s
    assert first_audio_s < 0.1 + 4 / 4 + 0.1
    assert desk.clauses[1][0] >= written_s > first_audio_s


def test_behind_the_gate_the_first_clause_is_made_ready_and_nothing_leaves() -> None:
    desk = Desk(slow_chat())

    async def opened_late(reply: Reply, making: "asyncio.Task[None]") -> None:
        await asyncio.sleep(20.0)
        assert desk.clauses == []
        assert desk.audio == []
        assert reply.times.first_audio is not None
        assert desk.synthesizer.said == ["We are open today."]
        reply.gate.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert desk.said == ["We are open today."], "what was ready leaves at once"

    reply = desk.make(opened_late)
    assert " ".join(desk.said) == TWO_SENTENCES
    assert reply.times.first_token is not None
    assert reply.times.first_clause is not None
    assert reply.times.first_audio is not None
    assert reply.times.first_token <= reply.times.first_clause < reply.times.first_audio < 20.0


def test_the_language_model_waits_for_a_voice_that_is_behind() -> None:
    """Behind a closed gate nobody writes on for ever: a dropped speculation has cost little."""
    chat = ScriptedChat(["This is one sentence. " * 50], tokens_per_s=1000, keep_to_limit=False)
    desk = Desk(chat)

    async def never_opened(reply: Reply, making: "asyncio.Task[None]") -> None:
        await asyncio.sleep(100.0)
        making.cancel()

    with pytest.raises(asyncio.CancelledError):
        desk.make(never_opened)
    assert chat.closed_early == 1, "the other sentences were not written"
    assert len(desk.synthesizer.said) <= CLAUSES_AHEAD


@pytest.mark.parametrize("empty", ["", "   ", "**", "\n\n"])
def test_a_model_with_nothing_to_say_asks_for_pardon(empty: str) -> None:
    desk = Desk(ScriptedChat([empty]))
    desk.make(at_once)
    assert desk.said == [PARDON]
    assert desk.samples > 0


def test_a_clause_without_words_is_not_announced() -> None:
    desk = Desk(ScriptedChat(["We are open today. ** ** You may come in."]))
    desk.make(at_once)
    assert all(any(c.isalpha() for c in text) for text in desk.said)
    assert PARDON not in desk.said


def test_each_clause_is_voiced_in_the_context_of_those_that_sounded() -> None:
    before = CallerSpeech("caller/1", "hello")
    synthesizer = ScriptedSynthesizer(takes_context="text")
    desk = Desk(ScriptedChat(["We open at 8. ** ** You may come in."]), synthesizer, context=(before,))
    desk.make(at_once)
    first, second = synthesizer.spoken
    assert (first.utterance, second.utterance) == ("reply/1", "reply/2")
    assert first.context == (before,)
    assert second.context == (before, AgentSpeech("reply/1", "We open at eight."))


def test_a_clause_of_which_the_voice_makes_nothing_is_no_context() -> None:
    synthesizer = ScriptedSynthesizer(takes_context="text", character_s=0.0)
    desk = Desk(ScriptedChat([TWO_SENTENCES]), synthesizer)
    desk.make(at_once)
    assert [request.context for request in synthesizer.spoken] == [(), ()]


def test_cancelling_stops_the_language_model() -> None:
    desk = Desk(slow_chat())
    with pytest.raises(asyncio.CancelledError):
        desk.make(cancelled_after_1_s)
    assert desk.ended_s == pytest.approx(1.0)
    assert desk.chat.closed_early == 1


def test_cancelling_stops_the_voice() -> None:
    desk = Desk(ScriptedChat(["word " * 50]), ScriptedSynthesizer(realtime_factor=1.0))
    with pytest.raises(asyncio.CancelledError):
        desk.make(cancelled_after_1_s)
    assert desk.ended_s == pytest.approx(1.0)
    assert desk.synthesizer.closed_early == 1


def test_a_stopped_reply_says_nothing_more_even_before_its_cancellation() -> None:
    desk = Desk(slow_chat())

    async def stopped(reply: Reply, making: "asyncio.Task[None]") -> None:
        await asyncio.sleep(5.0)
        reply.stop()
        reply.gate.set()

    desk.make(stopped)
    assert (desk.clauses, desk.audio) == ([], [])


@pytest.mark.parametrize(
    "script",
    [ModelFailed("no words"), BreaksOff("We are open today. You may", ModelFailed("no words"))],
    ids=["at once", "in the middle"],
)
def test_a_language_model_that_fails_is_the_replys_failure(script: Exception | BreaksOff) -> None:
    with pytest.raises(ModelFailed, match="no words"):
        Desk(slow_chat(script)).make(at_once)


def test_a_voice_that_fails_is_the_replys_failure_and_stops_the_language_model() -> None:
    desk = Desk(slow_chat(), ScriptedSynthesizer(fail=lambda text: ModelFailed("hoarse")))
    with pytest.raises(ModelFailed, match="hoarse"):
        desk.make(at_once)
    assert desk.chat.closed_early == 1


def test_no_more_tokens_are_asked_for_than_allowed() -> None:
    desk = Desk(ScriptedChat(["word " * 500]))
    desk.make(at_once)
    assert sum(text.count("word") for text in desk.said) == 60
