"""The bench that puts the same turns to a model that guesses and to one that does not."""

import asyncio
from pathlib import Path

import pytest

from bench import llm_guesses
from bench.llm import CLINIC
from models.llama import LlamaChat
from models.llama.drafting import DRAFT_ROWS
from models.store import Store
from pipeline.persona import load_persona


def test_the_corpus_gives_one_line_of_each_question_and_wish_and_the_same_each_time() -> None:
    lines = llm_guesses.corpus_lines()
    assert lines == llm_guesses.corpus_lines()
    assert len(set(lines)) == len(lines) >= 14
    assert not any(set(line) & set("{}|") for line in lines)


@pytest.mark.models
async def test_both_answer_every_turn_with_the_same_history() -> None:
    path = Store(None).path("smollm2-135m")
    gguf: Path = next(path.glob("*.gguf")) if path.is_dir() else path
    lines = llm_guesses.corpus_lines()[:4]
    guessing, plain = [
        await asyncio.to_thread(LlamaChat, gguf, threads=1, context_tokens=2048, sequences=1, draft_rows=rows)
        for rows in (DRAFT_ROWS, 0)
    ]
    try:
        figures, rows = await llm_guesses.compare(guessing, plain, load_persona(CLINIC), lines)
        assert plain.counters().guessed == 0 < guessing.counters().guessed
    finally:
        await guessing.aclose()
        await plain.aclose()
    assert [row["caller"] for row in rows] == list(lines)
    assert all(row["agent"] for row in rows)
    assert 0 < float(str(figures["guesses_right"])) <= 1
    assert float(str(figures["evaluated_over_kept"])) >= float(str(figures["evaluated_over_kept_plain"])) >= 1
