"""The transcriber as calls share it."""

import asyncio

import numpy as np
import pytest

from models.base import STT_RATE_HZ, Glimpse, ModelLate
from models.scripted import ScriptedTranscriber
from pipeline.hearing import WORDS_WITHIN_S, Hearing
from pipeline.line import LINE_RATE_HZ
from telephony.simulator.virtual_loop import run_virtual

SECOND = np.zeros(LINE_RATE_HZ, np.int16)
EXPECTED = {"language": "en", "hot_words": "Greenfield"}


def test_words_come_from_sixteen_kilohertz_and_with_the_hints() -> None:
    transcriber = ScriptedTranscriber(lambda audio: f"  {len(audio) / STT_RATE_HZ:.1f} s ")
    hearing = Hearing(transcriber, inline=True)
    assert run_virtual(hearing.words(SECOND, **EXPECTED)) == "1.0 s"
    assert transcriber.hot_words == ["Greenfield"]


def test_a_partial_transcript_is_not_taken_while_anybody_waits() -> None:
    transcriber = ScriptedTranscriber(lambda audio: "words", latency_s=0.5)
    hearing = Hearing(transcriber, inline=True)

    async def beside() -> tuple[str | None, str | None]:
        words = asyncio.create_task(hearing.words(SECOND, **EXPECTED))
        await asyncio.sleep(0.1)
        during = await hearing.part(SECOND, **EXPECTED)
        await words
        return during, await hearing.part(SECOND, **EXPECTED)

    assert run_virtual(beside()) == (None, "words")
    assert len(transcriber.durations_s) == 2


def test_words_have_a_deadline_and_partial_transcripts_go_behind_them() -> None:
    transcriber = ScriptedTranscriber(latency_s=WORDS_WITHIN_S + 1)
    hearing = Hearing(transcriber, inline=True)
    with pytest.raises(ModelLate):
        run_virtual(hearing.words(SECOND, **EXPECTED))
    run_virtual(hearing.part(SECOND, **EXPECTED))
    assert transcriber.deadlines_s == [WORDS_WITHIN_S, None]


def test_a_cancelled_request_frees_the_transcriber() -> None:
    hearing = Hearing(ScriptedTranscriber(lambda audio: "words", latency_s=0.5), inline=True)

    async def cancelled() -> str | None:
        words = asyncio.create_task(hearing.words(SECOND, **EXPECTED))
        await asyncio.sleep(0.1)
        words.cancel()
        await asyncio.gather(words, return_exceptions=True)
        return await hearing.part(SECOND, **EXPECTED)

    assert run_virtual(cancelled()) == "words"


def test_a_glimpse_is_taken_beside_a_transcription() -> None:
    seen = Glimpse(0.9, 0.05, 0.05, "yeah")
    transcriber = ScriptedTranscriber(latency_s=5.0, glimpses=lambda audio: seen, glimpse_s=0.1)
    hearing = Hearing(transcriber)

    async def beside() -> tuple[Glimpse, bool]:
        words = asyncio.create_task(hearing.words(SECOND, **EXPECTED))
        glimpse = await hearing.glimpse(SECOND[:1600], language="en")
        still_waiting = not words.done()
        words.cancel()
        return glimpse, still_waiting

    assert asyncio.run(beside()) == (seen, True)
    assert transcriber.glimpsed_s == [0.2]
