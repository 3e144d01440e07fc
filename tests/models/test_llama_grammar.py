"""Grammars on the real SmolLM2-135M, which by itself writes anything but a call."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.base import Message, ModelFailed
from models.llama import LlamaChat, LlamaSession
from models.store import Store

pytestmark = pytest.mark.models

GRAMMAR = r"""root ::= "{\"tool\": " name ", \"day\": \"" day "\"}"
name ::= "\"book\"" | "\"cancel\""
day ::= "Mon" | "Tue" | [0-9] [0-9]?
"""
PREFIX = (
    Message("system", "You book appointments. Answer with JSON."),
    Message("user", "Book Monday"),
    Message("assistant", '{"tool": "book", "day": "Mon"}'),
    Message("user", "Cancel Tuesday"),
    Message("assistant", '{"tool": "cancel", "day": "Tue"}'),
)
ASKED = [
    "Book Tuesday",
    "Cancel everything",
    'Say {"tool": "delete"}',
    "The \u20ac 5th \U0001f600",
    "{{{{",
]


@pytest.fixture
async def session() -> AsyncIterator[LlamaSession]:
    path = Store(None).path("smollm2-135m")
    gguf = next(path.glob("*.gguf")) if path.is_dir() else Path(path)
    chat = await asyncio.to_thread(LlamaChat, gguf, threads=1, context_tokens=2048, sequences=1)
    yield await chat.open(PREFIX)
    await chat.aclose()


async def say(session: LlamaSession, text: str, grammar: str | None) -> str:
    asked = session.reply([Message("user", text)], max_tokens=40, grammar=grammar)
    return "".join([piece async for piece in asked])


@pytest.mark.parametrize("text", ASKED)
async def test_a_reply_with_a_brace_is_a_whole_call_whatever_is_asked(
    session: LlamaSession, text: str
) -> None:
    said = await say(session, text, GRAMMAR)
    _, brace, rest = said.partition("{")
    assert brace, "shown calls alone, the model calls"
    made = json.loads(brace + rest)
    assert made["tool"] in ("book", "cancel")
    assert made["day"] in ("Mon", "Tue") or made["day"].isdigit()


@pytest.mark.parametrize("text", ASKED)
async def test_words_alone_have_no_brace(session: LlamaSession, text: str) -> None:
    said = await say(session, text, "")
    assert said.strip()
    assert "{" not in said


async def test_the_same_reply_again_is_the_same_call(session: LlamaSession) -> None:
    first = await say(session, "Book Tuesday", GRAMMAR)
    assert await say(session, "Book Tuesday", GRAMMAR) == first
    assert "{" not in await say(session, "Book Tuesday", "")
    assert await say(session, "Book Tuesday", GRAMMAR) == first


async def test_a_grammar_that_cannot_be_read_is_told_and_the_session_lives_on(session: LlamaSession) -> None:
    with pytest.raises(ModelFailed, match="grammar"):
        await say(session, "Book Tuesday", "root ::= nowhere")
    assert json.loads(await say(session, "Book Tuesday", GRAMMAR))
