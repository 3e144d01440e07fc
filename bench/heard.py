"""`maya bench heard`: does the agent know, to the word, what the caller heard before cutting it off?

Whole calls in virtual time: the server's stream shell, turn taking, playout ledger and resampler, Twilio's
playback as the simulated caller models it, and the bundled voice on its real network; only the hearing and
the thinking are scripted. The caller interrupts answers (`heard.toml`) at random moments, in half of the
calls behind a phone network of 60 +- 15 ms.

The truth comes from elsewhere. How much of an answer was played is found in what the caller's ear recorded,
by comparing its samples with the answer's own; the ledger and the marks are not asked. Where the words of
that sound lie is found by `bench.heard_alignment`, which does not ask the voice. Which spoken words a written
word stands for is given in `heard.toml`. A word was heard when at least half of it was played.
"""

import asyncio
import random
import tomllib
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.heard_alignment import Aligner, Span
from bench.report import Report, percentile, rate
from models.base import Message, Models, Samples
from models.hibari import RATE_HZ, HibariSynthesizer, SpokenPiece, synthesise
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber, voiced_signal
from pipeline.events import AgentClause, AgentTurn, CallEvent
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.persona import Persona
from pipeline.resample import Resampler, to_pcm
from pipeline.service import CallService
from pipeline.speakable import speakable
from telephony import g711
from telephony.answer import Answer
from telephony.simulator import Report as CallReport
from telephony.simulator import Scenario, simulate_virtual
from telephony.simulator.caller import Speech as CallerLine

SENTENCES = Path(__file__).with_name("heard.toml")
INTERRUPTIONS_A_CALL = 10
SENTENCES_AN_ANSWER = 2
EARLIEST_S = 0.3
"""After the answer became audible. Earlier, nothing but its first word could be at stake."""
LATEST_BEFORE_END_S = 0.5
"""Later, the agent would mostly have finished before it could stop."""
NETWORK_DELAY_MS, NETWORK_JITTER_MS = 60, 15

_PERSONA = Persona(name="Bench", greeting="Greenfield Clinic, how can I help you?", system="You help.")
_LINE = "Sorry, I have another question"
_LINE_S = 1.1
_OPENING_SAMPLES = LINE_RATE_HZ * 60 // 1000
"""The beginning of an answer, from its first sample that is not zero, by which it is found."""
_BLOCK = LINE_RATE_HZ // 100
_SILENT_PEAK = 64
"""A block whose samples stay below is silence, in which nothing tells whether it was played."""
_SAME = 0.8
"""Correlation of a played block with the clean one; mu-law leaves 0.99, other words give less than 0.5."""


@dataclass(frozen=True, slots=True)
class Token:
    """A written word and the words that it is spoken as."""

    written: str
    spoken: tuple[str, ...]


def sentences(path: Path = SENTENCES) -> list[tuple[Token, ...]]:
    """The answers' sentences; see the head of `heard.toml` for their form."""
    return [
        tuple(_token(part) for part in sentence.split())
        for sentence in tomllib.loads(path.read_text("utf-8"))["sentences"]
    ]


def _token(part: str) -> Token:
    written, _, spoken = part.partition("|")
    return Token(written, tuple((spoken or written).split("_")))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One interruption: words that the agent believes to have been heard, and those that were. `played` are
    the samples of the answer that reached the ear, -1 where the recording could not be read."""

    text: str
    believed: int
    heard: int
    by_the_voice: int
    """Words heard, had the voice's own timing been the truth."""
    played: int
    network: bool

    @property
    def exact(self) -> bool:
        return self.played >= 0 and self.believed == self.heard

    @property
    def within_one(self) -> bool:
        return self.played >= 0 and abs(self.believed - self.heard) <= 1


def run(
    *, interruptions: int = 300, seed: int = 4, progress: Callable[[str], None] = lambda line: None
) -> Report:
    """Play calls until at least `interruptions` answers were cut short. Takes about three minutes for 300."""
    bench = _Bench(seed)
    outcomes: list[Outcome] = []
    finished = violations = calls = 0
    while len(outcomes) < interruptions:
        played = bench.call(calls, network=calls % 2 == 1)
        outcomes += played.outcomes
        finished += played.finished
        violations += played.violations
        calls += 1
        progress(f"call {calls}: {len(outcomes)} interruptions, {sum(o.exact for o in outcomes)} exact")
        if calls > interruptions:
            raise RuntimeError(f"{calls} calls gave {len(outcomes)} interruptions")
    return _report(outcomes, bench.deviations_ms, calls, finished, violations)


def _report(
    outcomes: Sequence[Outcome], deviations_ms: Sequence[float], calls: int, finished: int, violations: int
) -> Report:
    n = len(outcomes)
    behind = [outcome for outcome in outcomes if outcome.network]
    own = sum(o.played >= 0 and o.believed == o.by_the_voice for o in outcomes)
    deviations = [abs(deviation) for deviation in deviations_ms]
    figures: dict[str, object] = {
        **rate("heard_exact", sum(o.exact for o in outcomes), n),
        **rate("heard_within_one", sum(o.within_one for o in outcomes), n),
        **rate("heard_exact_own_timing", own, n),
        **(rate("heard_exact_network", sum(o.exact for o in behind), len(behind)) if behind else {}),
        "heard_more_than_heard": sum(o.believed > o.heard for o in outcomes),
        "heard_less_than_heard": sum(o.believed < o.heard for o in outcomes),
        "heard_unreadable": sum(o.played < 0 for o in outcomes),
        "middle_deviation_mean_ms": round(sum(deviations) / len(deviations), 1),
        "middle_deviation_p95_ms": round(percentile(deviations, 95), 1),
        "finished_before_the_stop": finished,
        "violations": violations,
    }
    return Report(
        figures,
        notes=(
            f"{calls} calls in virtual time, half of them behind a phone network of {NETWORK_DELAY_MS} +- "
            f"{NETWORK_JITTER_MS} ms; the bundled voice; hearing and thinking are scripted",
            "truth: samples found in the ear's recording, words by an alignment that does not ask the voice; "
            "heard_exact_own_timing takes the voice's own timing for the words' places instead",
            "middle_deviation: between the two, of the middles of all the words that were spoken",
        ),
        details={
            "misses": [
                {
                    "text": o.text,
                    "believed": o.believed,
                    "heard": o.heard,
                    "by_the_voice": o.by_the_voice,
                    "played": o.played,
                }
                for o in outcomes
                if not o.exact
            ]
        },
    )


@dataclass(slots=True)
class _Played:
    outcomes: list[Outcome]
    finished: int
    violations: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer as it sounds: its samples at the line's rate, and where the middles of its written words lie,
    in samples, by the alignment and by the voice's own timing."""

    pcm: Pcm
    middles: list[float]
    own_middles: list[float]


class _Bench:
    """Keeps what was synthesised and aligned from call to call."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"heard {seed}")
        self._sentences = sentences()
        self._synthesizer = _InlineHibari()
        self._aligner = Aligner()
        self._clauses: dict[str, tuple[Samples, list[Span], list[Span]]] = {}
        self.deviations_ms: list[float] = []

    def call(self, number: int, *, network: bool) -> _Played:
        """One call of `INTERRUPTIONS_A_CALL` answers, each of which is interrupted."""
        answers = [
            [token for s in self._random.sample(self._sentences, SENTENCES_AN_ANSWER) for token in s]
            for _ in range(INTERRUPTIONS_A_CALL)
        ]
        texts = [" ".join(token.written for token in answer) for answer in answers]
        steps: list[object] = ["listen", {"say": _LINE}]
        for text in texts:
            # A rough length does: where in the answer an interruption falls is random anyway.
            latest_s = max(EARLIEST_S + 0.1, self._length_s(text) - LATEST_BEFORE_END_S)
            after_s = round(self._random.uniform(EARLIEST_S, latest_s), 3)
            steps.append({"interrupt": {"after_s": after_s, "say": _LINE}})
        steps += [{"wait": 1.0}, "hang_up"]
        scenario = Scenario.model_validate(
            {
                "name": f"heard {number}",
                "steps": steps,
                "network": {
                    "delay_ms": NETWORK_DELAY_MS * network,
                    "jitter_ms": NETWORK_JITTER_MS * network,
                    "seed": self._random.randrange(1_000_000),
                },
            }
        )
        heard = _Observer()
        report = simulate_virtual(
            scenario, lambda: self._house(texts, heard), speeches=_caller_lines(scenario)
        )
        return self._judged(report, heard.events, answers, network)

    def _length_s(self, text: str) -> float:
        return 0.065 * len(text)

    @asynccontextmanager
    async def _house(self, texts: Sequence[str], heard: "_Observer") -> AsyncIterator[Answer]:
        def reply(messages: Sequence[Message]) -> str:
            turn = sum(message.role == "user" for message in messages)
            return texts[turn - 1] if turn <= len(texts) else "Goodbye then."

        models = Models(
            ScriptedTranscriber(lambda audio: f"{_LINE}.", latency_s=0.2),
            ScriptedChat(reply, prefill_s=0.05, first_token_s=0.1, tokens_per_s=40),
            self._synthesizer,
            EnergyVoiceActivity(),
        )
        service = CallService(models, _PERSONA, observe=lambda info: heard, inline=True)
        await service.start()
        try:
            yield service.answer
        finally:
            await service.aclose()

    # What came of it

    def _judged(
        self,
        report: CallReport,
        events: Sequence[CallEvent],
        answers: Sequence[Sequence[Token]],
        network: bool,
    ) -> _Played:
        if report.hearing is None:
            raise RuntimeError("the simulator kept no recording")
        recording = report.hearing.agent
        by_text = {" ".join(token.written for token in answer): answer for answer in answers}
        played = _Played([], 0, len(report.violations))
        clauses: list[str] = []
        at = 0
        for event in events:
            if isinstance(event, AgentClause):
                clauses.append(event.text)
            elif isinstance(event, AgentTurn):
                said, clauses = _last(clauses, event.text), []
                tokens = _beginning(by_text, event.text)
                if tokens is None:
                    continue
                if not event.interrupted:
                    played.finished += 1
                    continue
                answer = self._answer(said, tokens)
                start, stop = played_part(recording, answer.pcm, at)
                at = max(at, stop)
                samples = stop - start if start >= 0 else -1
                believed = event.heard.split()
                if believed != event.text.split()[: len(believed)]:
                    raise RuntimeError(f"{event.heard!r} is not how {event.text!r} begins")
                played.outcomes.append(
                    Outcome(
                        event.text,
                        len(believed),
                        bisect_right(answer.middles, samples),
                        bisect_right(answer.own_middles, samples),
                        samples,
                        network,
                    )
                )
        return played

    def _answer(self, clauses: Sequence[str], tokens: Sequence[Token]) -> _Answer:
        resampler = Resampler(RATE_HZ, LINE_RATE_HZ)
        pcm: list[Pcm] = []
        middles: list[float] = []
        own_middles: list[float] = []
        start, at = 0, 0
        for clause in clauses:
            part = tokens[at : at + len(clause.split())]
            at += len(part)
            spoken = [word for token in part for word in token.spoken]
            words = speakable(clause).strip()
            if _letters(spoken) != _letters(words.split()):
                raise ValueError(f"{words!r} is not spoken as heard.toml says: {' '.join(spoken)!r}")
            audio, spans, own = self._clause(words)
            pcm.append(to_pcm(resampler.push(audio)))
            middles += [start + middle for middle in _middles(part, spans, resampler.delay_s)]
            own_middles += [start + middle for middle in _middles(part, own, resampler.delay_s)]
            start += pcm[-1].size
        pcm.append(to_pcm(resampler.flush()))
        return _Answer(np.concatenate(pcm), middles, own_middles)

    def _clause(self, words: str) -> tuple[Samples, list[Span], list[Span]]:
        """The audio of a clause, and where its words lie by the alignment and by the voice."""
        if words not in self._clauses:
            audio, own = asyncio.run(self._spoken(words))
            spans = self._aligner.spans(words.split(), audio)
            self.deviations_ms += [
                500 * (first + last - start - end)
                for (start, end), (first, last) in zip(spans, own, strict=True)
            ]
            self._clauses[words] = audio, spans, own
        return self._clauses[words]

    async def _spoken(self, words: str) -> tuple[Samples, list[Span]]:
        voice = await self._synthesizer.open()
        chunks = [chunk async for chunk in voice.speak(words, utterance="bench")]
        return np.concatenate(chunks), list(voice.word_spans("bench"))


class _InlineHibari(HibariSynthesizer):
    """Works on the event loop, since virtual time waits for no thread, and says each text only once."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: dict[tuple[str, float], SpokenPiece] = {}

    def submit(self, voice: Any, text: str, speed: float) -> "asyncio.Future[SpokenPiece]":
        if (text, speed) not in self._pieces:
            self._pieces[text, speed] = synthesise(voice, text, speed)
        future: asyncio.Future[SpokenPiece] = asyncio.get_running_loop().create_future()
        future.set_result(self._pieces[text, speed])
        return future


@dataclass(slots=True)
class _Observer:
    events: list[CallEvent] = field(default_factory=list)

    def observe(self, event: CallEvent) -> None:
        if isinstance(event, AgentClause | AgentTurn):
            self.events.append(event)


def _caller_lines(scenario: Scenario) -> dict[int, CallerLine]:
    tone = to_pcm(voiced_signal(_LINE, _LINE_S, LINE_RATE_HZ))
    return {
        number: CallerLine.of(_LINE, tone)
        for number, step in enumerate(scenario.steps)
        if getattr(step, "text", None) or getattr(step, "say", None)
    }


def _last(clauses: Sequence[str], text: str) -> list[str]:
    """The last clauses, those that make up `text`; what stands before them was retracted."""
    for first in range(len(clauses)):
        if " ".join(clauses[first:]) == text:
            return list(clauses[first:])
    return []


def _beginning(answers: dict[str, Sequence[Token]], text: str) -> Sequence[Token] | None:
    """The words of the answer that begins with `text`, which ends where its clauses did."""
    for whole, tokens in answers.items():
        if text and f"{whole} ".startswith(f"{text} "):
            return tokens[: len(text.split())]
    return None


def _letters(words: Sequence[str]) -> str:
    return "".join(character for word in words for character in word.casefold() if character.isalnum())


def _middles(tokens: Sequence[Token], spans: Sequence[Span], delay_s: float) -> list[float]:
    """Where the middle of each written word lies, in samples at 8 kHz."""
    middles = []
    at = 0
    for token in tokens:
        own = spans[at : at + len(token.spoken)]
        at += len(token.spoken)
        middles.append(((own[0][0] + own[-1][1]) / 2 + delay_s) * LINE_RATE_HZ)
    return middles


def played_part(recording: Pcm, clean: Pcm, after: int) -> tuple[int, int]:
    """From where to where `recording`, from sample `after` on, holds the beginning of `clean`, which may
    turn quieter on its way; (-1, -1) if it does not. Digital silence at the end counts as not played."""
    clean = g711.decode(g711.encode(clean))
    first = int(np.argmax(clean != 0))
    opening = clean[first : first + _OPENING_SAMPLES].tobytes()
    found = recording[after:].tobytes().find(opening)
    while found % 2 and found >= 0:
        found = recording[after:].tobytes().find(opening, found + 1)
    if found < 0:
        return -1, -1
    start = after + found // 2 - first
    length = min(len(clean), len(recording) - start)
    heard = np.asarray(recording[max(0, start) : start + length], np.float64)
    heard = np.concatenate((np.zeros(length - len(heard)), heard))
    unlike: int | None = None
    for at in range(0, length, _BLOCK):
        if _alike(heard[at : at + _BLOCK], clean[at : at + _BLOCK].astype(np.float64)):
            unlike = None
        elif unlike is None:
            # One block alone: the level changes within it.
            unlike = at
        else:
            break
    if unlike is not None:
        # What the line fills in is exactly zero, and the quietest speech is not.
        sounding = np.flatnonzero(heard[: unlike + _BLOCK])
        return start, start + (int(sounding[-1]) + 1 if sounding.size else 0)
    return start, start + length


def _alike(heard: Samples | Any, clean: Any) -> bool:
    if np.abs(clean).max() < _SILENT_PEAK:
        return bool(np.abs(heard).max() < _SILENT_PEAK)
    size = float(np.sqrt((heard**2).sum() * (clean**2).sum()))
    return size > 0 and float((heard * clean).sum()) / size > _SAME
