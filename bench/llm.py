"""How good and how fast the language model answers: the demo persona's questions, through the real
`LlamaChat`.

Five parts. *Questions*: each in a session of its own, greedy; judged by the words that a sensible answer
holds. *Alternating*: two calls take turns on one model, each growing its own history, with the caller's words
prefilled as they come; counts tokens evaluated twice. *Speed*: prompt and reply tokens per second, and the
time to the first piece of a reply with the caller's words prefilled and without. *Guesses* (`llm_guesses`):
what guessing the next tokens is worth, on the questions and on what the corpus's callers say. *Load*
(`llm_load`): eight calls at once against one call at a time.
"""

import asyncio
import re
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bench import llm_guesses, llm_load
from bench.report import Report, percentile, rate
from models.base import Message, ModelError
from models.llama import LlamaChat, LlamaSession
from models.store import Store
from pipeline.documents import read_toml
from pipeline.persona import Persona, load_persona

QUESTIONS = Path(__file__).with_name("questions.toml")
CLINIC = Path(__file__).parents[1] / "infra" / "personas" / "clinic.toml"
CONTEXT_TOKENS = 4096
LOAD_CONTEXT_TOKENS = 6144
LOAD_TURNS, LOAD_COLD_TURNS = 8, 2
"""Of `llm_load.CALLS` calls each: 64 first pieces, so that there is a 95th percentile."""


class Question(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    topic: str
    ask: str
    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()
    held_out: bool = False

    def accepts(self, answer: str) -> bool:
        """Does `answer` hold one of `any_of` and none of `none_of`, as whole words?"""
        return any(_holds(answer, words) for words in self.any_of) and not any(
            _holds(answer, words) for words in self.none_of
        )


class Questions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    first_piece_s: float
    total_s: float
    pieces: int


def run(
    *,
    model: str = "qwen2.5-coder-1.5b",
    gguf: Path | None = None,
    threads: int = 2,
    persona: Path = CLINIC,
    only: str = "all",
) -> Report:
    """Blocks for seven minutes, of which `only="load"` takes three and `only="answers"` the rest. Raises
    `ModelError`, `DocumentError`. `gguf` overrides the catalogue's `model`."""
    if only not in ("all", "answers", "load"):
        raise ModelError(f"bench llm has no part {only!r}; there are answers and load.")
    path = gguf or Store(None).path(model)
    if path.is_dir():
        path = next(path.glob("*.gguf"))
    asked, questions = load_persona(persona), read_toml(QUESTIONS, Questions).questions
    figures: dict[str, object] = {}
    details: dict[str, object] = {}
    for part, measure in (("answers", _answers), ("load", _load)):
        if only in ("all", part):
            some, rows = asyncio.run(measure(path, threads, asked, questions))
            figures |= some
            details |= rows
    return Report(figures=figures, notes=(f"{path.name}, {threads} threads",), details=details)


async def _load(
    gguf: Path, threads: int, persona: Persona, questions: tuple[Question, ...]
) -> tuple[dict[str, object], dict[str, object]]:
    lines = [question.ask for question in questions] + list(llm_guesses.corpus_lines())
    wanted = LOAD_TURNS * llm_load.CALLS
    lines = (lines * (wanted // len(lines) + 1))[:wanted]
    chat = await asyncio.to_thread(
        LlamaChat, gguf, threads=threads, context_tokens=LOAD_CONTEXT_TOKENS, sequences=llm_load.CALLS
    )
    try:
        await (await chat.open(persona.prefix())).aclose()
        figures, rows = await llm_load.compare(chat, persona, lines, ahead=True)
        some = lines[: LOAD_COLD_TURNS * llm_load.CALLS]
        cold, cold_rows = await llm_load.compare(chat, persona, some, ahead=False)
    finally:
        await chat.aclose()
    figures |= {f"cold_{name}": value for name, value in cold.items() if name.endswith("_ratio")}
    return figures, {"load": rows, "load_cold": cold_rows}


async def _answers(
    gguf: Path, threads: int, persona: Persona, questions: tuple[Question, ...]
) -> tuple[dict[str, object], dict[str, object]]:
    chat = await asyncio.to_thread(
        LlamaChat, gguf, threads=threads, context_tokens=CONTEXT_TOKENS, sequences=2
    )
    try:
        speed = await _prefix_speed(chat, persona)
        answers = [await _ask(chat, persona, question) for question in questions]
        cold = [await _ask(chat, persona, question, ahead=False) for question in questions[:4]]
        alternating = await _alternate(chat, persona, tuple(q for q in questions if not q.held_out))
        guesses, replies = await _guesses(chat, gguf, threads, persona, questions)
    finally:
        await chat.aclose()
    right = [question.accepts(answer.text) for question, answer in zip(questions, answers, strict=True)]
    decoding = [a for a in answers if a.pieces > 1]
    return (
        {
            **alternating,
            **guesses,
            **_rate("answers_right", right, questions, held_out=False),
            **_rate("held_out_right", right, questions, held_out=True),
            **speed,
            "decode_tokens_per_s": round(
                sum(a.pieces - 1 for a in decoding) / sum(a.total_s - a.first_piece_s for a in decoding), 1
            ),
            "first_piece_p50_ms": round(percentile([a.first_piece_s for a in answers], 50) * 1000),
            "first_piece_max_ms": round(max(a.first_piece_s for a in answers) * 1000),
            "first_piece_n": len(answers),
            "first_piece_unprefilled_p50_ms": round(percentile([a.first_piece_s for a in cold], 50) * 1000),
            "answer_p50_ms": round(percentile([a.total_s for a in answers], 50) * 1000),
        },
        {
            "answers": [
                {"topic": q.topic, "held_out": q.held_out, "caller": q.ask, "agent": a.text, "right": ok}
                for q, a, ok in zip(questions, answers, right, strict=True)
            ],
            "guesses": replies,
        },
    )


def _rate(
    name: str, right: list[bool], questions: tuple[Question, ...], *, held_out: bool
) -> dict[str, object]:
    of_these = [ok for ok, question in zip(right, questions, strict=True) if question.held_out is held_out]
    return rate(name, sum(of_these), len(of_these)) if of_these else {}


async def _prefix_speed(chat: LlamaChat, persona: Persona) -> dict[str, object]:
    before = time.perf_counter()
    session = await chat.open(persona.prefix())
    took = time.perf_counter() - before
    await session.aclose()
    tokens = chat.counters().evaluated
    return {"prefix_tokens": tokens, "prefill_tokens_per_s": round(tokens / took, 1)}


async def _ask(chat: LlamaChat, persona: Persona, question: Question, *, ahead: bool = True) -> Answer:
    """One question in a call of its own; `ahead`: its words are prefilled before the clock starts."""
    session = await chat.open(persona.prefix())
    try:
        messages = [Message("user", question.ask)]
        if ahead:
            await session.prefill(messages)
        return await _reply(session, messages, persona)
    finally:
        await session.aclose()


async def _reply(session: LlamaSession, messages: list[Message], persona: Persona) -> Answer:
    start = time.perf_counter()
    first, pieces = 0.0, []
    async with aclosing(session.reply(messages, max_tokens=persona.limits.reply_tokens)) as text:
        async for piece in text:
            first = first or time.perf_counter() - start
            pieces.append(piece)
    return Answer("".join(pieces).strip(), first, time.perf_counter() - start, len(pieces))


async def _alternate(chat: LlamaChat, persona: Persona, questions: tuple[Question, ...]) -> dict[str, object]:
    """Two calls, a question each in turn. Each question grows as a partial transcript would."""
    before = chat.counters()
    histories: tuple[list[Message], list[Message]] = ([], [])
    sessions = [await chat.open(persona.prefix()) for _ in histories]
    try:
        for i, question in enumerate(questions):
            session, history = sessions[i % 2], histories[i % 2]
            words = question.ask.split()
            for heard in (len(words) // 2, len(words)):
                await session.prefill([*history, Message("user", " ".join(words[:heard]))])
            history.append(Message("user", question.ask))
            answer = await _reply(session, history, persona)
            history.append(Message("assistant", answer.text))
    finally:
        for session in sessions:
            await session.aclose()
    after = chat.counters()
    return {
        "reevaluated_tokens": after.reevaluated - before.reevaluated,
        "alternating_evaluated_tokens": after.evaluated - before.evaluated,
        "alternating_reused_tokens": after.reused - before.reused,
        "alternating_turns": len(questions),
    }


async def _guesses(
    chat: LlamaChat, gguf: Path, threads: int, persona: Persona, questions: tuple[Question, ...]
) -> tuple[dict[str, object], list[dict[str, object]]]:
    plain = await asyncio.to_thread(
        LlamaChat, gguf, threads=threads, context_tokens=CONTEXT_TOKENS, sequences=2, draft_rows=0
    )
    try:
        lines = (*(question.ask for question in questions), *llm_guesses.corpus_lines())
        return await llm_guesses.compare(chat, plain, persona, lines)
    finally:
        await plain.aclose()


def _holds(text: str, words: str) -> bool:
    """Whole words; an apostrophe may be curly."""
    plain = text.lower().replace("\u2019", "'")
    return re.search(rf"(?<!\w){re.escape(words.lower())}(?!\w)", plain) is not None
