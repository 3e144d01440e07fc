"""Calls on a private Ray whose replicas are killed and stopped while somebody listens."""

import asyncio
import contextlib
import os
import re
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.cluster_ear import EarLine
from infra.cluster.front import Cluster
from infra.cluster.roles import Role
from infra.store.store import CallStore
from models.base import STT_RATE_HZ, Message, Models, Transcriber
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber, voiced_signal
from pipeline.events import AgentTurn, CallerTurn, CallEvent, CallObserver, Fault, Observers
from pipeline.line import LINE_RATE_HZ, LineInfo, Pcm
from pipeline.persona import Persona
from pipeline.resample import from_pcm, resample, to_pcm
from pipeline.service import CallService

CLAUSES = (
    ("monday", "apple", "valley"),
    ("tuesday", "banana", "harbour"),
    ("wednesday", "cherr", "basket"),
    ("thursday", "grape", "hill"),
    ("friday", "lemon", "south"),
)
ANSWER = (
    "On Monday we sell apples from the valley, on Tuesday there are bananas from the harbour, "
    "on Wednesday you can buy cherries in a basket, on Thursday we have grapes from the hills, "
    "and on Friday there are lemons from the south."
)
"""`CLAUSES` are words of its clauses. Of a clause that is missing, two and more of three are not heard; of
one that comes twice, two and more are heard twice: a single word may be one that was cut."""
PERSONA = Persona(
    name="Drill",
    greeting="Market.",
    system="Be short.",
    pardon="Sorry?",
    apology="Sorry.",
    still_there="Hello?",
    go_on="Yes?",
    last_minute="Time is up.",
    goodbye="Bye.",
)
"""Few words: they are voiced anew for each call."""
QUESTIONS = 3
QUESTION_S = 0.8
AROUND_S = 3.0
"""A silence that begins so long after a replica was lost is not its doing."""
_TURN_S = 20.0


@dataclass(slots=True)
class Seen:
    """What a call reported."""

    events: list[CallEvent] = field(default_factory=list)

    def observe(self, event: CallEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass(frozen=True, slots=True)
class Cut:
    """A reply in whose midst a voice was lost, or was not. Seconds."""

    silence_s: float
    """The longest one that was not the voice's own, within `AROUND_S` of the loss."""
    longest_s: float
    """The longest one there, the voice's own pauses included."""
    spoken_s: float
    """From the answer's first sound to its last."""
    moved: bool
    """Another replica had to go on with it."""
    lost: int
    repeated: int
    text: str


@asynccontextmanager
async def call(
    models: Models, name: str, store: CallStore | None = None
) -> AsyncIterator[tuple[EarLine, Seen]]:
    """A call that is past its greeting, and that the `store` keeps."""
    seen = Seen()

    def observe(info: LineInfo) -> CallObserver:
        return seen if store is None else Observers(seen, store.observer(info))

    service = CallService(models, PERSONA, observe=observe)
    await service.start()
    line = EarLine(name)
    answering = asyncio.create_task(service.answer(line))
    try:
        await line.until_heard(5.0)
        await line.until_quiet(0.3, 10.0)
        yield line, seen
    finally:
        line.close()
        await asyncio.wait_for(answering, 30)
        await service.aclose()


def question(number: int = 0) -> Pcm:
    return to_pcm(resample(voiced_signal(f"question {number}", QUESTION_S), 24_000, LINE_RATE_HZ))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def tts_cut(
    models: Models, cluster: Cluster, ears: Transcriber, number: int, *, at_s: float | None
) -> Cut:
    """Somebody asks, the answer is read out, and `at_s` into it the voice's replica is killed."""
    local = replace(
        models,
        transcriber=ScriptedTranscriber(lambda audio: "What do you sell?"),
        chat=ScriptedChat(lambda messages: ANSWER, first_token_s=0.1, tokens_per_s=60),
        voice_activity=EnergyVoiceActivity(),
    )
    async with call(local, f"tts-{number}") as (line, _):
        line.say(question())
        await line.until_heard(_TURN_S)
        began_s = line.now()
        lost_s = began_s + (at_s or 2.0)
        await asyncio.sleep(at_s or 2.0)
        moved_before = cluster.fleet.moved["tts"]
        if at_s is not None:
            link = next(link for link in cluster.fleet.links("tts") if link.sessions)
            kill(link.where.pid)
            lost_s = line.now()
        await line.until_quiet(1.5, 60.0)
        silences = line.silences()
        end_s = max(silence.start_s for silence in silences)
        first_s = next((s.end_s for s in silences if s.start_s <= began_s < s.end_s), began_s)
        around = [
            silence
            for silence in silences
            if silence.end_s > lost_s and silence.start_s < lost_s + AROUND_S and silence.end_s < end_s + 0.01
        ]
        # A silence counts whole where the line ran dry within it; else it is the voice's own.
        caused = [
            silence.length_s
            for silence in around
            if any(dry.start_s < silence.end_s and dry.end_s > silence.start_s for dry in line.dry)
        ]
        heard = line.heard()[round((began_s - 0.2) * LINE_RATE_HZ) : round((end_s + 0.2) * LINE_RATE_HZ)]
    text = await words(ears, heard)
    text = text.replace("harbor", "harbour")
    counts = [[len(re.findall(rf"\b{word}", text)) for word in clause] for clause in CLAUSES]
    lost = sum(clause.count(0) >= 2 for clause in counts)
    repeated = sum(sum(count > 1 for count in clause) >= 2 for clause in counts)
    longest_s = max((silence.length_s for silence in around), default=0.0)
    moved = cluster.fleet.moved["tts"] > moved_before
    return Cut(max(caused, default=0.0), longest_s, end_s - first_s, moved, lost, repeated, text)


async def words(ears: Transcriber, heard: Pcm) -> str:
    """In pieces that a transcriber takes; cut where it is quiet."""
    audio = resample(from_pcm(heard), LINE_RATE_HZ, STT_RATE_HZ)
    said: list[str] = []
    while len(audio):
        cut = len(audio)
        if cut > 14 * STT_RATE_HZ:
            window = audio[10 * STT_RATE_HZ : 14 * STT_RATE_HZ]
            size = STT_RATE_HZ // 10
            blocks = np.square(window[: len(window) // size * size]).reshape(-1, size).mean(axis=1)
            cut = 10 * STT_RATE_HZ + (int(np.argmin(blocks)) * size + size // 2)
        said.append((await ears.transcribe(audio[:cut])).text)
        audio = audio[cut:]
    return " ".join(said).lower()


@dataclass(frozen=True, slots=True)
class Drill:
    """A call of three turns, in whose second something happens to a replica."""

    turns_lost: int
    """Unanswered, or not in the store as they were."""
    went_on: bool
    wait_s: float
    """From the end of the second question to its answer."""
    usual_wait_s: float
    faults: int


def turns_lost(seen: Seen, said: int = QUESTIONS) -> int:
    """How many of the turns that the script `said` have no answer that was heard. One that was lost with its
    transcriber is none that the call reports, and a greeting or an apology, a turn of its own, answers
    none."""
    asked = {event.turn for event in seen.of(CallerTurn)}
    answered = {event.turn for event in seen.of(AgentTurn) if event.heard and event.turn > 0}
    return max(0, said - len(asked & answered))


def turns_stored(store: CallStore, call_id: str) -> int:
    """Turns that are committed with the caller's words and the answer that was heard."""
    found = store.call(call_id)
    return 0 if found is None else sum(bool(turn.caller and turn.heard) for turn in found.turns)


async def drill(
    models: Models, cluster: Cluster, name: str, store: CallStore, strike: Callable[[], Any]
) -> Drill:
    """`strike()` as soon as the second question is over."""
    waits: list[float] = []
    struck: Any = None
    async with call(models, name, store) as (line, seen):
        for number in range(QUESTIONS):
            line.say(question(number))
            await asyncio.sleep(QUESTION_S)
            asked_s = line.now()
            if number == 1:
                struck = asyncio.create_task(strike())
            await line.until_heard(_TURN_S)
            waits.append(line.now() - asked_s)
            await line.until_quiet(0.6, _TURN_S)
            if line.hung_up:
                break
        await asyncio.sleep(0.3)
    with contextlib.suppress(asyncio.CancelledError):
        await struck
    await asyncio.to_thread(store.flush)
    lost = max(turns_lost(seen), QUESTIONS - await asyncio.to_thread(turns_stored, store, name))
    return Drill(
        turns_lost=lost,
        went_on=line.hung_up is None and lost == 0,
        wait_s=waits[1] if len(waits) > 1 else float("inf"),
        usual_wait_s=statistics.median([waits[0], *waits[2:]]),
        faults=len(seen.of(Fault)),
    )


def striking(
    cluster: Cluster, role: Role, number: signal.Signals, resume_s: float = 0.0
) -> Callable[[], Any]:
    """Signal the replica of that role that works for us next; with `resume_s`, let it go on after that."""

    async def strike() -> None:
        async with asyncio.timeout(_TURN_S):
            while True:
                links = cluster.fleet.links(role)
                working = [link for link in links if (link._answers if role != "tts" else link.sessions)]
                if working:
                    break
                await asyncio.sleep(0.002)
        pid = working[0].where.pid
        os.kill(pid, number)
        if resume_s:
            await asyncio.sleep(resume_s)
            os.kill(pid, signal.SIGCONT)

    return strike


async def until_whole(cluster: Cluster, role: Role, replicas: int, within_s: float = 60.0) -> float:
    """Seconds until Serve has replaced what was killed."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while cluster.fleet.serving()[role] < replicas:  # noqa: ASYNC110 (another process's news)
            await asyncio.sleep(0.1)
    return time.monotonic() - began


async def cancel_ms(models: Models, times: int) -> list[float]:
    """From closing a reply until the replica is free for the next one: the cancel has reached the model by
    then."""
    session = await models.chat.open([Message("system", "Be short.")])
    taken: list[float] = []
    for number in range(times):
        reply = session.reply([Message("user", f"Please tell me a very long story, number {number}.")])
        await anext(reply)
        began = time.perf_counter()
        await reply.aclose()
        await session.prefill([Message("user", f"Please tell me a very long story, number {number}.")])
        taken.append((time.perf_counter() - began) * 1e3)
    await session.aclose()
    return taken


def worst(cuts: Sequence[Cut]) -> float:
    return max(cut.silence_s for cut in cuts)
