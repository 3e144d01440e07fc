"""How reliably a language model uses the right tool: a clinic's callers, through the real `LlamaChat` and
grammar.

Each request is a call of its own. *Right*: the wanted tool, once, with arguments that hold what the caller
said; or words alone where no tool is wanted. *Answered*: the reply after a look-up holds what was looked up.
*Temptations* ask for numbers that are not the persona's.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from bench.report import Report, rate, spread
from models.base import ChatModel, Message
from models.llama import LlamaChat
from models.store import Store
from pipeline.documents import read_toml
from pipeline.persona import Persona, load_persona
from pipeline.tools.running import Run, Running
from pipeline.tools.tool import Tool
from pipeline.tools.use import Filler, Pause, ToolPolicy, ToolUse

DESK = Path(__file__).with_name("tool_desk")
CONTEXT_TOKENS = 4096
_NOON = datetime(2026, 3, 5, 17, 0, tzinfo=UTC)
"""When the bench's callers ask for the time: Thursday, noon in New York."""
_FACTS = {
    "say_time": ("12", "twelve", "noon", "march", "thursday"),
    "free_slots": ("9", "10", "4", "nothing", "no ", "not "),
    "lab_result": ("ready", "friday", "pick"),
}
"""After a look-up one of these stands in the answer."""


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    say: str
    tool: str
    holds: dict[str, str] = Field(default_factory=dict)
    held_out: bool = False

    def is_met_by(self, runs: Sequence[Run]) -> bool:
        if not self.tool:
            return not runs
        if not runs or runs[0].name != self.tool:
            return False
        given = runs[0].arguments
        return all(words.lower() in str(given.get(name, "")).lower() for name, words in self.holds.items())


class Requests(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    requests: Annotated[tuple[Request, ...], Field(min_length=1)]
    temptations: tuple[str, ...]


@dataclass
class BenchDesk:
    """`Desk` and `Watcher`: notes what was asked for, and does nothing."""

    dialled: list[str] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    call_s: float | None = None
    """When the first call was complete."""

    def now(self, timezone: str) -> datetime:
        return _NOON.astimezone(ZoneInfo(timezone))

    async def transfer(self, name: str, target: str) -> None:
        self.dialled.append(target)

    async def press_keys(self, digits: str) -> None:
        self.dialled.append(digits)

    def take_message(self, name: str, number: str, text: str) -> None:
        return None

    def pause_recording(self) -> None:
        return None

    def resume_recording(self) -> None:
        return None

    def leave(self) -> None:
        return None

    def tool_begins(self, tool: Tool) -> None:
        self.call_s = self.call_s or time.perf_counter()

    def tool_works(self, running: Running) -> None:
        return None

    def tool_ended(self, run: Run) -> None:
        self.ended.append(run)


@dataclass(frozen=True, slots=True)
class Answer:
    runs: tuple[Run, ...]
    words: str
    dialled: tuple[str, ...]
    call_s: float | None
    """From the request to a complete call."""


def run(
    *,
    model: str = "qwen2.5-coder-1.5b",
    gguf: Path | None = None,
    threads: int = 2,
    persona: Path | None = None,
) -> Report:
    """Blocks for about two minutes. Raises `ModelMissing`, `DocumentError`. `gguf` overrides the catalogue's
    `model`; `persona` is another desk with the same tools."""
    path = gguf or Store(None).path(model)
    if path.is_dir():
        path = next(path.glob("*.gguf"))
    asked = read_toml(DESK / "requests.toml", Requests)
    return asyncio.run(_run(path, threads, load_persona(persona or DESK / "desk.toml"), asked))


async def _run(gguf: Path, threads: int, persona: Persona, asked: Requests) -> Report:
    chat = await asyncio.to_thread(
        LlamaChat, gguf, threads=threads, context_tokens=CONTEXT_TOKENS, sequences=1
    )
    try:
        answers = [await ask(chat, persona, request.say) for request in asked.requests]
        tempted = [await ask(chat, persona, words) for words in asked.temptations]
        prompt_tokens = chat.count_tokens(persona.prefix())
    finally:
        await chat.aclose()
    met = [r.is_met_by(a.runs) for r, a in zip(asked.requests, answers, strict=True)]
    return Report(
        figures={
            **_rates(asked.requests, met, held_out=False),
            **_rates(asked.requests, met, held_out=True),
            **_answered(asked.requests, answers),
            "malformed_calls": sum(run.detail != "" for a in (*answers, *tempted) for run in a.runs),
            "numbers_not_listed": _strangers(persona, (*answers, *tempted)),
            "temptations": len(tempted),
            "temptations_transferred": sum(bool(a.dialled) for a in tempted),
            **spread("call", [a.call_s * 1000 for a in answers if a.call_s is not None]),
            "prompt_tokens": prompt_tokens,
        },
        notes=(f"{gguf.name}, {threads} threads, greedy",),
        details={
            "requests": [
                {"caller": r.say, "held_out": r.held_out, "wanted": r.tool, "right": ok} | _row(a)
                for r, a, ok in zip(asked.requests, answers, met, strict=True)
            ],
            "temptations": [
                {"caller": words} | _row(a) for words, a in zip(asked.temptations, tempted, strict=True)
            ],
        },
    )


async def ask(chat: ChatModel, persona: Persona, words: str) -> Answer:
    """One request in a call of its own, whose turn is over."""
    session = await chat.open(persona.prefix())
    desk = BenchDesk()
    gate = asyncio.Event()
    gate.set()
    messages = [Message("user", words)]
    await session.prefill(messages)
    start = time.perf_counter()
    use = ToolUse(
        persona.toolbox,
        ToolPolicy(filler="", rounds=persona.tools.rounds),
        session,
        messages,
        desk,
        desk,
        max_tokens=persona.limits.reply_tokens,
        on_turn_end=lambda probability: None,
    )
    text = ""
    try:
        async with aclosing(use.write(gate, _heard)) as pieces:
            async for piece in pieces:
                text += " " if isinstance(piece, Pause | Filler) else piece
    finally:
        await session.aclose()
    call_s = None if desk.call_s is None else desk.call_s - start
    return Answer(tuple(use.runs), " ".join(text.split()), tuple(desk.dialled), call_s)


async def _heard() -> None:
    return None


def _rates(requests: Sequence[Request], met: Sequence[bool], *, held_out: bool) -> dict[str, object]:
    name = "held_out" if held_out else "tuned_on"
    of_these = [(r, ok) for r, ok in zip(requests, met, strict=True) if r.held_out is held_out]
    wanted = [ok for r, ok in of_these if r.tool]
    words = [ok for r, ok in of_these if not r.tool]
    return rate(f"{name}_tool_right", sum(wanted), len(wanted)) | rate(
        f"{name}_words_right", sum(words), len(words)
    )


def _answered(requests: Sequence[Request], answers: Sequence[Answer]) -> dict[str, object]:
    looked_up = [
        any(word in answer.words.lower() for word in _FACTS[request.tool])
        for request, answer in zip(requests, answers, strict=True)
        if request.tool in _FACTS and request.is_met_by(answer.runs)
    ]
    return rate("looked_up_answered", sum(looked_up), len(looked_up)) if looked_up else {}


def _strangers(persona: Persona, answers: Sequence[Answer]) -> int:
    known = set(persona.transfer.targets.values()) | set(persona.keys.allowed.values())
    return sum(target not in known for answer in answers for target in answer.dialled)


def _row(answer: Answer) -> dict[str, object]:
    return {"calls": [f"{r.outcome}: {r.call}" for r in answer.runs], "words": answer.words}
