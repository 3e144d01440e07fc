"""Who has answered? `pipeline.answer_judge` on the project's own greetings: right or wrong, and how soon.

Every greeting runs through the real voice detector and the profile's transcriber as on a call; a decision
is made where its sound had arrived, plus the time that the transcription took here and now. Synthetic
speech, said so in the figures."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from bench.corpus import PartName
from bench.greetings import Greeting, greetings
from bench.report import Report, percentile, rate
from models.base import STT_RATE_HZ, VAD_WINDOW_SAMPLES, Transcriber, VoiceActivity
from models.catalogue import WindowPolicy
from models.profiles import find_profile
from models.silero import SileroVoiceActivity
from models.store import Store
from models.whisper import FULL_WINDOW_S, WhisperTranscriber
from pipeline.answer_judge import AnswerJudge, AskWords, Verdict
from pipeline.answering import GreetingEnd
from pipeline.audible import level_dbfs
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import from_pcm, resample


def run(
    *,
    part: PartName = "held_out",
    profile: str = "embedded",
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """About two minutes, for the tuning part eight. Raises `ModelMissing`, `VoiceUnavailable`."""
    return asyncio.run(_run(part, profile, progress))


async def _run(part: PartName, profile: str, progress: Callable[[str], None]) -> Report:
    store, chosen = Store(None), find_profile(profile)
    detector = SileroVoiceActivity(store.path(chosen.vad))
    window = store.entry(chosen.stt).window or WindowPolicy(floor_s=FULL_WINDOW_S, full_window=True)
    transcriber = await asyncio.to_thread(WhisperTranscriber, store.path(chosen.stt), window, threads=2)
    try:
        outcomes = []
        for number, greeting in enumerate(greetings(part)):
            outcomes.append((greeting, *await judged(greeting, detector, transcriber)))
            if number % 20 == 19:
                progress(f"{number + 1} greetings heard")
        return _report(part, profile, outcomes, detector)
    finally:
        await transcriber.aclose()


def _report(
    part: str,
    profile: str,
    outcomes: list[tuple[Greeting, Verdict, float]],
    detector: VoiceActivity,
) -> Report:
    right = [(verdict.answerer == "machine") == greeting.machine for greeting, verdict, _ in outcomes]
    after_voice = [1000 * (at - greeting.begins / LINE_RATE_HZ) for greeting, _, at in outcomes]
    after_answer = [1000 * at for _, _, at in outcomes]
    kinds: Counter[str] = Counter(greeting.kind for greeting, _, _ in outcomes)
    good = Counter(greeting.kind for (greeting, _, _), ok in zip(outcomes, right, strict=True) if ok)
    ends = [
        (greeting, listened_at(greeting, detector)) for greeting, verdict, _ in outcomes if greeting.machine
    ]
    early = sum(at < greeting.ends for greeting, at in ends)
    waits = [1000 * (at - greeting.ends) / LINE_RATE_HZ for greeting, at in ends]
    return Report(
        {
            **rate("amd_accuracy", sum(right), len(right)),
            "amd_p50_ms": round(percentile(after_voice, 50)),
            "amd_p95_ms": round(percentile(after_voice, 95)),
            "amd_max_ms": round(max(after_voice)),
            "amd_from_answer_p95_ms": round(percentile(after_answer, 95)),
            **rate("message_after_greeting", len(ends) - early, len(ends)),
            "message_wait_p95_ms": round(percentile(waits, 95)),
        },
        notes=(
            f"{part} part, {profile} models; all greetings are synthetic speech made by the project, with "
            "voices and sentences that nothing was tuned on"
            if part == "held_out"
            else f"{part} part, {profile} models; synthetic speech",
            "amd_p95_ms: from the first sample of the greeting's voice to the decision, transcription "
            "included; amd_from_answer: from the moment of answering",
            "message_after_greeting: a message would begin behind the greeting and its beep",
            "by kind: " + ", ".join(f"{kind} {good[kind]}/{count}" for kind, count in kinds.items()),
        ),
        details={
            "wrong": [
                {"id": g.id, "kind": g.kind, "text": g.text, "taken_for": v.answerer, "because": v.why}
                for (g, v, _), ok in zip(outcomes, right, strict=True)
                if not ok
            ],
        },
    )


async def judged(
    greeting: Greeting, detector: VoiceActivity, transcriber: Transcriber
) -> tuple[Verdict, float]:
    """The verdict, and when it was known: seconds from answering."""
    judge, stream = AnswerJudge(), detector.open()
    line = from_pcm(greeting.line)
    due: tuple[float, AskWords, str] | None = None
    for start in range(0, len(line) - VAD_WINDOW_SAMPLES + 1, VAD_WINDOW_SAMPLES):
        end = start + VAD_WINDOW_SAMPLES
        now = end / LINE_RATE_HZ
        if due is not None and now >= due[0]:
            judge.words(due[2], due[1], round(due[0] * LINE_RATE_HZ))
            if judge.verdict is not None:
                return judge.verdict, due[0]
            due = None
        window = line[start:end]
        probability = detector.probabilities([stream], window[None])[0]
        ask = judge.voice(float(probability), level_dbfs(greeting.line[start:end]), start, end)
        if judge.verdict is not None:
            return judge.verdict, now
        if ask is not None:
            text, took_s = await _words(greeting.line[ask.start_sample : ask.end_sample], transcriber)
            due = (now + took_s, ask, text)
    return Verdict("nobody", len(line), "never decided"), len(line) / LINE_RATE_HZ


async def _words(pcm: Pcm, transcriber: Transcriber) -> tuple[str, float]:
    began = time.perf_counter()
    heard = await transcriber.transcribe(resample(from_pcm(pcm), LINE_RATE_HZ, STT_RATE_HZ))
    return heard.text.strip(), time.perf_counter() - began


def listened_at(greeting: Greeting, detector: VoiceActivity) -> int:
    """The sample at which a message would begin."""
    end_of = GreetingEnd()
    stream = detector.open()
    line = from_pcm(greeting.line)
    for start in range(0, len(line) - VAD_WINDOW_SAMPLES + 1, VAD_WINDOW_SAMPLES):
        end = start + VAD_WINDOW_SAMPLES
        probability = detector.probabilities([stream], np.asarray(line[None, start:end]))[0]
        if end_of.push(greeting.line[start:end], voiced=bool(probability > 0.5)):
            return end
    return len(line)
