"""What one decode for all calls is worth: the same turns put to the same model by eight calls at once and by
one call at a time, in turns, so that noise hits both alike.

Every call's prefix is in memory already (they share the persona's). What the caller said is too, as in a
call, where it is evaluated while the caller speaks; figures of *cold* turns are of those where it is not.
*Alone*, a call's reply is asked for when the reply before it has ended: that is the queue which calls wait in
where a model serves one at a time, and the time to a first piece counts from the moment when all eight were
asked for, as it does for eight at once. Tokens are those of the replies. Wall time decides; CPU time, which
other work on the machine disturbs less, stands beside it.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from bench.report import percentile
from models.base import Message
from models.llama import LlamaChat, LlamaSession
from pipeline.persona import Persona

CALLS = 8
"""At once; the figures' names do not say so."""


@dataclass(frozen=True, slots=True)
class Served:
    """One turn of `CALLS` calls: the replies in the calls' order, and what they took together."""

    texts: tuple[str, ...]
    pieces: int
    """One for each token of the replies but for split characters."""
    first_piece_s: tuple[float, ...]
    """Of each call, since all were asked for."""
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Round:
    alone: Served
    together: Served


async def compare(
    chat: LlamaChat, persona: Persona, lines: Sequence[str], *, ahead: bool, calls: int = CALLS
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Figures, and a row for each turn of `calls` lines; lines that fill no turn are left out. `ahead`: the
    lines are in memory before the clock starts. `chat` needs as many sequences. Takes about 15 s a turn with
    the default model on two cores. Raises `ValueError` when the lines fill no turn."""
    if len(lines) < calls:
        raise ValueError(f"{len(lines)} lines for {calls} calls")
    rounds: list[Round] = []
    for first in range(0, len(lines) - calls + 1, calls):
        asked = lines[first : first + calls]
        served = {}
        for at_once in (True, False) if len(rounds) % 2 else (False, True):
            served[at_once] = await serve(chat, persona, asked, at_once=at_once, ahead=ahead)
        rounds.append(Round(served[False], served[True]))
    return figures(rounds), [_row(r) for r in rounds]


async def serve(
    chat: LlamaChat, persona: Persona, lines: Sequence[str], *, at_once: bool, ahead: bool
) -> Served:
    """A line each of as many calls, all asked for now. Their sessions are opened, and `ahead` their lines
    prefilled, before the clock starts."""
    sessions = [await chat.open(persona.prefix()) for _ in lines]
    try:
        if ahead:
            await asyncio.gather(
                *(
                    session.prefill([Message("user", line)])
                    for session, line in zip(sessions, lines, strict=True)
                )
            )
        began, cpu = time.perf_counter(), time.process_time()
        asked = [
            _reply(session, [Message("user", line)], persona, began)
            for session, line in zip(sessions, lines, strict=True)
        ]
        replies = await asyncio.gather(*asked) if at_once else [await reply for reply in asked]
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    finally:
        for session in sessions:
            await session.aclose()
    return Served(
        texts=tuple("".join(pieces) for pieces, _ in replies),
        pieces=sum(len(pieces) for pieces, _ in replies),
        first_piece_s=tuple(first for _, first in replies),
        wall_s=wall_s,
        cpu_s=cpu_s,
    )


async def _reply(
    session: LlamaSession, messages: list[Message], persona: Persona, began: float
) -> tuple[list[str], float]:
    first, pieces = 0.0, list[str]()
    async with aclosing(session.reply(messages, max_tokens=persona.limits.reply_tokens)) as text:
        async for piece in text:
            first = first or time.perf_counter() - began
            pieces.append(piece)
    return pieces, first or time.perf_counter() - began


def figures(rounds: Sequence[Round]) -> dict[str, object]:
    """Of at least one round. Rates are tokens of all rounds over the time of all rounds."""
    alone, together = [r.alone for r in rounds], [r.together for r in rounds]
    first_alone, first_together = (
        [s for served in each for s in served.first_piece_s] for each in (alone, together)
    )
    same = [a == b for r in rounds for a, b in zip(r.alone.texts, r.together.texts, strict=True)]
    return {
        "tokens_ratio": round(_per_second(together) / _per_second(alone), 2),
        "tokens_cpu_ratio": round(_per_cpu_second(together) / _per_cpu_second(alone), 2),
        "together_tokens_per_s": round(_per_second(together), 1),
        "alone_tokens_per_s": round(_per_second(alone), 1),
        "first_token_p95_ratio": round(percentile(first_together, 95) / percentile(first_alone, 95), 3),
        "first_token_p50_ms": round(percentile(first_together, 50) * 1000),
        "first_token_p95_ms": round(percentile(first_together, 95) * 1000),
        "first_token_queued_p50_ms": round(percentile(first_alone, 50) * 1000),
        "first_token_queued_p95_ms": round(percentile(first_alone, 95) * 1000),
        "first_token_n": len(first_together),
        "replies_equal_at_once": round(sum(same) / len(same), 3),
    }


def _per_second(served: Sequence[Served]) -> float:
    return sum(s.pieces for s in served) / sum(s.wall_s for s in served)


def _per_cpu_second(served: Sequence[Served]) -> float:
    return sum(s.pieces for s in served) / sum(s.cpu_s for s in served)


def _row(r: Round) -> dict[str, object]:
    return {
        name: {
            "tokens": served.pieces,
            "wall_ms": round(served.wall_s * 1000),
            "cpu_ms": round(served.cpu_s * 1000),
            "first_piece_ms": [round(s * 1000) for s in served.first_piece_s],
        }
        for name, served in (("alone", r.alone), ("together", r.together))
    }
