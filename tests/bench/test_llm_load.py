"""Eight calls at once against one at a time: the sums, and one turn on a model that is small enough."""

import asyncio

import pytest

from bench import llm, llm_load
from bench.llm_load import Round, Served, figures
from models.base import ModelError
from models.llama import LlamaChat
from models.store import Store
from pipeline.persona import load_persona


def served(pieces: int, wall_s: float, cpu_s: float, *first_piece_s: float, texts: tuple[str, ...]) -> Served:
    return Served(texts, pieces, first_piece_s, wall_s, cpu_s)


def test_rates_are_of_all_rounds_together_and_the_queue_counts() -> None:
    rounds = [
        Round(
            served(20, 4.0, 6.0, 1.0, 3.0, texts=("a", "b")), served(20, 2.0, 4.0, 0.5, 0.5, texts=("a", "b"))
        ),
        Round(
            served(10, 2.0, 3.0, 1.0, 3.0, texts=("a", "b")), served(10, 0.5, 1.0, 0.5, 0.5, texts=("a", "x"))
        ),
    ]
    found = figures(rounds)
    assert found["alone_tokens_per_s"] == 5.0
    assert found["together_tokens_per_s"] == 12.0
    assert found["tokens_ratio"] == 2.4
    assert found["tokens_cpu_ratio"] == 1.8
    assert found["first_token_queued_p50_ms"] == 2000
    assert found["first_token_p95_ratio"] == round(0.5 / 3.0, 3)
    assert found["first_token_n"] == 4
    assert found["replies_equal_at_once"] == 0.75


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="speed"):
        llm.run(only="speed")


@pytest.mark.models
async def test_a_turn_of_three_calls_on_the_smallest_model() -> None:
    persona = load_persona(llm.CLINIC)
    path = Store(None).path("smollm2-135m")
    gguf = next(path.glob("*.gguf")) if path.is_dir() else path
    chat = await asyncio.to_thread(LlamaChat, gguf, threads=1, context_tokens=4096, sequences=3)
    try:
        with pytest.raises(ValueError, match="3 calls"):
            await llm_load.compare(chat, persona, ["Hello?"], ahead=True, calls=3)
        lines = ["Are you open?", "Where are you?", "Who are you?"]
        found, rows = await llm_load.compare(chat, persona, lines, ahead=True, calls=3)
        cold = await llm_load.serve(chat, persona, lines, at_once=True, ahead=False)
    finally:
        await chat.aclose()
    assert len(rows) == 1
    assert found["first_token_n"] == 3
    assert float(str(found["first_token_p95_ratio"])) < 1
    assert all(cold.texts)
    assert chat.counters().reevaluated == 0
