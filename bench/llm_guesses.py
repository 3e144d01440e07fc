"""What guessing a reply's next tokens is worth (`models.llama.drafting`): the same turns put to two models,
one that guesses and one that does not, in turns, so that noise hits both alike.

The turns make calls of `CALL_TURNS`, each with the history before it (the answers of the one that does not
guess), as in real calls; the caller's words are prefilled before the clock starts. The first clause is what
the voice is given first (`pipeline.clauses`): until it is complete nothing can be said.
"""

import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bench.corpus.held_out import PART
from bench.corpus.templates import filled
from bench.report import percentile, rate
from models.base import Message, Usage
from models.llama import LlamaChat, LlamaSession
from pipeline.clauses import ClauseChunker
from pipeline.persona import Persona

CALL_TURNS = 6
_KINDS = ("question", "statement")
_SEED = 20


@dataclass(frozen=True, slots=True)
class Written:
    """One reply. Seconds after it was asked for."""

    text: str
    first_piece_s: float
    first_clause_s: float
    total_s: float

    @property
    def clause_s(self) -> float:
        """From the first piece to the first clause."""
        return self.first_clause_s - self.first_piece_s

    @property
    def rest_s(self) -> float:
        """From the first piece to the end."""
        return self.total_s - self.first_piece_s


@dataclass(frozen=True, slots=True)
class Pair:
    caller: str
    guessing: Written
    plain: Written
    clause_tokens: int
    """Pieces of the plain reply's first clause, one for each token of it but for split characters."""


def corpus_lines() -> tuple[str, ...]:
    """What the corpus's held-out callers ask and want, one line of each template."""
    chance = random.Random(_SEED)
    return tuple(
        " ".join(filled(template.text, PART.fillings, chance))
        for template in PART.turns
        if template.kind in _KINDS
    )


async def compare(
    guessing: LlamaChat, plain: LlamaChat, persona: Persona, lines: Sequence[str]
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Figures and a row for each turn. Takes about 3 s a turn with the default model on two cores."""
    before = guessing.counters()
    usages: tuple[list[Usage], list[Usage]] = ([], [])
    pairs: list[Pair] = []
    for first in range(0, len(lines), CALL_TURNS):
        sessions = await guessing.open(persona.prefix()), await plain.open(persona.prefix())
        try:
            pairs += await _call(*sessions, persona, lines[first : first + CALL_TURNS])
        finally:
            for session, used in zip(sessions, usages, strict=True):
                used.append(session.usage())
                await session.aclose()
    after = guessing.counters()
    guessed, right = after.guessed - before.guessed, after.guessed_right - before.guessed_right
    figures = {
        **(rate("guesses_right", right, guessed) if guessed else {}),
        "guesses_wrong_per_reply": round((guessed - right) / len(pairs), 2),
        "evaluated_over_kept": _waste(usages[0]),
        "evaluated_over_kept_plain": _waste(usages[1]),
        **rate("guessed_replies_equal", sum(p.guessing.text == p.plain.text for p in pairs), len(pairs)),
        "first_clause_tokens_mean": round(sum(p.clause_tokens for p in pairs) / len(pairs), 1),
        "first_clause_ratio": _ratio([p.guessing.clause_s for p in pairs], [p.plain.clause_s for p in pairs]),
        "first_clause_mean_ms": _mean_ms([p.guessing.clause_s for p in pairs]),
        "first_clause_plain_mean_ms": _mean_ms([p.plain.clause_s for p in pairs]),
        "until_first_clause_p50_ms": round(percentile([p.guessing.first_clause_s for p in pairs], 50) * 1000),
        "until_first_clause_plain_p50_ms": round(
            percentile([p.plain.first_clause_s for p in pairs], 50) * 1000
        ),
        "reply_ratio": _ratio([p.guessing.rest_s for p in pairs], [p.plain.rest_s for p in pairs]),
    }
    return figures, [
        {
            "caller": p.caller,
            "agent": p.guessing.text,
            **({} if p.guessing.text == p.plain.text else {"plain": p.plain.text}),
            "clause_tokens": p.clause_tokens,
            "clause_ms": [round(w.clause_s * 1000) for w in (p.guessing, p.plain)],
            "rest_ms": [round(w.rest_s * 1000) for w in (p.guessing, p.plain)],
        }
        for p in pairs
    ]


async def _call(
    guessing: LlamaSession, plain: LlamaSession, persona: Persona, lines: Sequence[str]
) -> list[Pair]:
    history: list[Message] = []
    pairs: list[Pair] = []
    for number, line in enumerate(lines):
        history.append(Message("user", line))
        written: dict[bool, tuple[Written, int]] = {}
        for guesses in (True, False) if number % 2 else (False, True):
            session = guessing if guesses else plain
            await session.prefill(history)
            written[guesses] = await _write(session, history, persona)
        (ours, _), (plainly, tokens) = written[True], written[False]
        pairs.append(Pair(line, ours, plainly, tokens))
        history.append(Message("assistant", plainly.text))
    return pairs


async def _write(session: LlamaSession, messages: list[Message], persona: Persona) -> tuple[Written, int]:
    chunker = ClauseChunker()
    pieces: list[str] = []
    clause_tokens = 0
    began = time.perf_counter()
    first = clause = 0.0
    async with aclosing(session.reply(messages, max_tokens=persona.limits.reply_tokens)) as text:
        async for piece in text:
            now = time.perf_counter() - began
            first = first or now
            pieces.append(piece)
            if not clause and chunker.push(piece):
                clause, clause_tokens = now, len(pieces)
    total = time.perf_counter() - began
    written = Written("".join(pieces).strip(), first or total, clause or total, total)
    return written, clause_tokens or len(pieces)


def _waste(usages: Sequence[Usage]) -> float:
    return round(sum(u.evaluated for u in usages) / sum(u.kept for u in usages), 3)


def _ratio(ours: Sequence[float], plain: Sequence[float]) -> float:
    return round(sum(ours) / sum(plain), 3)


def _mean_ms(values: Sequence[float]) -> int:
    return round(sum(values) / len(values) * 1000)
