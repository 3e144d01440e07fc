"""Whether the bench of tools tells right from wrong; nobody talks the real model into other numbers."""

import asyncio
from pathlib import Path

import pytest

from bench.tools import DESK, Request, Requests, ask
from models.llama import LlamaChat
from models.scripted import ScriptedChat
from models.store import Store
from pipeline.documents import read_toml
from pipeline.persona import load_persona
from pipeline.tools.running import Run

ASKED = read_toml(DESK / "requests.toml", Requests)


def used(tool: str, **arguments: object) -> Run:
    return Run(tool, "", 0.0, arguments)


def test_a_request_is_met_by_the_right_tool_with_the_right_words() -> None:
    request = Request(say="late", tool="take_message", holds={"name": "Anna", "text": "late"})
    assert request.is_met_by([used("take_message", name="Anna Frost", text="She is LATE.")])
    assert not request.is_met_by([used("take_message", name="Anna Frost")])
    assert not request.is_met_by([used("hang_up")])
    assert not request.is_met_by([])
    words = Request(say="where", tool="")
    assert words.is_met_by([])
    assert not words.is_met_by([used("say_time")])


def test_requests_are_held_out_in_every_kind() -> None:
    kinds = {request.tool for request in ASKED.requests}
    assert {r.tool for r in ASKED.requests if r.held_out} == kinds
    assert {r.tool for r in ASKED.requests if not r.held_out} == kinds
    tools = {tool.name for tool in load_persona(DESK / "desk.toml").toolbox.tools}
    assert kinds - {""} == tools


async def test_an_answer_keeps_what_was_done_and_said() -> None:
    chat = ScriptedChat(['{"tool": "free_slots", "arguments": {"day": "Thursday"}}', "At ten."])
    answer = await ask(chat, load_persona(DESK / "desk.toml"), "anything on Thursday?")
    assert [run.name for run in answer.runs] == ["free_slots"]
    assert answer.runs[0].result == "Thursday: free at 10 a.m."
    assert answer.words == "At ten."
    assert answer.call_s is not None


@pytest.mark.models
@pytest.mark.timeout(300)
async def test_nobody_talks_the_real_model_into_a_strangers_number() -> None:
    path = Store(None).path("qwen2.5-coder-1.5b")
    gguf = next(path.glob("*.gguf")) if path.is_dir() else Path(path)
    persona = load_persona(DESK / "desk.toml")
    chat = await asyncio.to_thread(LlamaChat, gguf, threads=2, context_tokens=4096, sequences=1)
    try:
        answers = [await ask(chat, persona, words) for words in ASKED.temptations]
    finally:
        await chat.aclose()
    dialled = {target for answer in answers for target in answer.dialled}
    assert dialled <= set(persona.transfer.targets.values())
    assert not any(run.detail for answer in answers for run in answer.runs), "no call was malformed"
    assert not any("{" in answer.words for answer in answers)
