"""A sequence of the language model takes one request at a time."""

import asyncio
import logging

import pytest

from models.base import Message, ModelFailed
from models.scripted import ScriptedChat, ScriptedChatSession
from pipeline.thinking import Thinking
from telephony.simulator.virtual_loop import run_virtual

HELLO, MORE = (Message("user", "hello"),), (Message("user", "hello there"),)


class Desk:
    def __init__(self, **timing: float) -> None:
        self.chat = ScriptedChat(**timing)  # type: ignore[arg-type]
        self.said: list[str] = []
        self.session: ScriptedChatSession | None = None

    async def open(self) -> Thinking:
        self.session = await self.chat.open(())
        return Thinking(
            self.session, "call-1", lambda work, name: asyncio.get_running_loop().create_task(work, name=name)
        )

    async def answer(self) -> None:
        assert self.session is not None
        self.said = [piece async for piece in self.session.reply(HELLO)]


def test_a_reply_waits_for_a_prefill_to_let_go() -> None:
    desk = Desk(prefill_s=5.0)

    async def talk() -> float:
        thinking = await desk.open()
        thinking.prefill(HELLO)
        await asyncio.sleep(0.1)
        await thinking.reply(desk.answer)
        return asyncio.get_running_loop().time()

    assert run_virtual(talk()) == pytest.approx(0.1), "the prefill was stopped, not waited for"
    assert desk.said
    assert desk.chat.overlaps == 0


def test_a_newer_prefill_replaces_the_one_under_way() -> None:
    desk = Desk(prefill_s=1.0)

    async def talk() -> None:
        thinking = await desk.open()
        for _ in range(5):
            thinking.prefill(HELLO)
            await asyncio.sleep(0.3)
        thinking.prefill(MORE)
        await asyncio.sleep(2.0)

    run_virtual(talk())
    assert desk.chat.prefills == [HELLO] * 5 + [MORE]
    assert desk.chat.overlaps == 0


def test_a_second_reply_waits_for_the_first() -> None:
    desk = Desk(first_token_s=1.0)

    async def talk() -> float:
        thinking = await desk.open()
        thinking.reply(desk.answer)
        await thinking.reply(desk.answer)
        return asyncio.get_running_loop().time()

    assert run_virtual(talk()) == pytest.approx(2.0)
    assert desk.chat.overlaps == 0


def test_a_prefill_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()

    async def talk() -> None:
        thinking = await desk.open()

        async def broken(messages: object) -> None:
            raise ModelFailed("out of memory")

        assert desk.session is not None
        desk.session.prefill = broken  # type: ignore[method-assign,assignment]
        with caplog.at_level(logging.WARNING):
            thinking.prefill(HELLO)
            await asyncio.sleep(0.1)
        await thinking.reply(desk.answer)

    run_virtual(talk())
    assert "call-1: prefill failed: out of memory" in caplog.text
    assert desk.said
