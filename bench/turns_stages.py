"""Each stage of an answer measured alone, on an otherwise idle machine: `python -m bench.turns_stages`.

In a process of its own, with the profile's models as the server loads them, for a few turns of the corpus:
the whole turn is transcribed; its words are then put to the language model, whose prompt (the persona) is
evaluated and nothing of this turn; first token, first clause and the voice's first chunk of it are timed
one after the other. A system that began no work before the turn was over would need the sum of these and of
its wait for the end of the turn. Prints one JSON object: medians in ms, and the number of turns."""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from bench.corpus import PartName, Turn, corpus
from bench.report import percentile
from models.base import ChatSession, Message, Models, Voice
from models.load import load_models
from models.store import Store
from pipeline.clauses import ClauseChunker
from pipeline.hearing import Hearing
from pipeline.persona import Persona, load_persona
from pipeline.speakable import speakable

STAGES = ("transcription", "first_token", "first_clause", "first_audio")
TURNS = 12
_TIMEOUT_S = 300.0


def measured_alone(profile: str, persona: Path, part: PartName, turns: int = TURNS) -> dict[str, float]:
    """Median ms by stage, in a process of its own. Blocks for about half a minute. Raises `RuntimeError` with
    what that process said."""
    command = [sys.executable, "-m", "bench.turns_stages", "--profile", profile, "--persona", str(persona)]
    command += ["--part", part, "--turns", str(turns)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the stages could not be measured: {done.stderr[-800:]}")
    medians: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return medians


async def measure(models: Models, persona: Persona, turns: Sequence[Turn]) -> dict[str, float]:
    """Median ms by stage over `turns`; one more turn before them warms everything up."""
    hearing = Hearing(models.transcriber)
    voice = await models.synthesizer.open(persona.voice.name, speed=persona.voice.speed)
    rows = []
    for turn in (turns[0], *turns):
        # A session for each: nothing but the prefix is known to the language model.
        session = await models.chat.open(persona.prefix())
        try:
            rows.append(await _one(hearing, session, voice, persona, turn))
        finally:
            await session.aclose()
    return {stage: round(percentile([row[stage] for row in rows[1:]], 50), 1) for stage in STAGES} | {
        "sum": round(statistics.median(sum(row.values()) for row in rows[1:]), 1)
    }


async def _one(
    hearing: Hearing, session: ChatSession, voice: Voice, persona: Persona, turn: Turn
) -> dict[str, float]:
    began = time.perf_counter()
    words = await hearing.words(turn.pcm, language=persona.language, hot_words=", ".join(persona.vocabulary))
    heard = time.perf_counter()
    first_token, clause = None, persona.pardon
    chunker = ClauseChunker()
    asked = [Message("user", words or turn.text)]
    async with aclosing(session.reply(asked, max_tokens=persona.limits.reply_tokens)) as pieces:
        async for piece in pieces:
            first_token = first_token or time.perf_counter()
            if complete := chunker.push(piece):
                clause = complete[0]
                break
        else:
            clause = (chunker.flush() or [clause])[0]
    written = time.perf_counter()
    async with aclosing(voice.speak(speakable(clause).strip() or persona.pardon)) as chunks:
        async for _ in chunks:
            break
    spoken = time.perf_counter()
    first_token = first_token or written
    times = (heard - began, first_token - heard, written - first_token, spoken - written)
    return {stage: 1000 * seconds for stage, seconds in zip(STAGES, times, strict=True)}


async def _main(profile: str, persona: Path, part: PartName, turns: int) -> dict[str, float]:
    models = await asyncio.to_thread(load_models, profile, Store())
    try:
        return await measure(models, load_persona(persona), corpus(part).turns[:turns])
    finally:
        await models.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--persona", type=Path, required=True)
    parser.add_argument("--part", choices=("tuning", "held_out"), required=True)
    parser.add_argument("--turns", type=int, default=TURNS)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(_main(given.profile, given.persona, given.part, given.turns))))
