"""`maya bench cluster`: a private Ray Serve on this machine against the models in this process, and calls
whose replicas are killed and stopped."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

from bench.cluster_drills import cancel_ms, drill, striking, tts_cut, until_whole, worst
from bench.report import Report, spread
from infra.cluster.front import Cluster, models_of
from infra.cluster.loading import told_of
from infra.cluster.settings import ClusterSettings
from infra.loading import load
from infra.settings import Settings
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from models.base import STT_RATE_HZ, Message, Models, Samples
from models.load import load_transcriber
from models.scripted import EnergyVoiceActivity
from models.store import Store
from pipeline.clauses import ClauseChunker
from pipeline.resample import resample

PROFILE = "tiny"
PAIRS = 40
KILLS = 3
KILL_AT_S = (0.3, 2.1, 4.4)
"""Into the answer. A quick voice has made all of it by then: `kills_at_work`."""
PACE = 0.8
STOPPED_S = 5.0
QUESTIONS = (
    "What time do you open on Saturdays?",
    "How much is a first visit?",
    "Can I bring my dog with me?",
    "Where can I park my car?",
)
_PREFIX = [Message("system", "You are a receptionist. Reply with one short sentence.")]


def run(
    *,
    profile: str = PROFILE,
    pairs: int = PAIRS,
    kills: int = KILLS,
    only: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """`only`: latency, voice or drills."""
    return asyncio.run(_run(profile, pairs, kills, only, progress))


async def _run(
    profile: str, pairs: int, kills: int, only: str | None, progress: Callable[[str], None]
) -> Report:
    figures: dict[str, object] = {}
    details: dict[str, object] = {}
    if only in (None, "voice", "drills"):
        figures |= await _faults(kills, only, details, progress)
    if only in (None, "latency"):
        figures |= await _latency(profile, pairs, details, progress)
    notes = [
        f"ray_added: the same question through transcriber, language model and voice of profile {profile}, "
        "in turns in this process and on Ray, from audio to first sound; median of the pairs' differences.",
        "tts_kill_gap: longest silence within 3 s of the kill in which a caller had nothing left "
        "to hear, counted whole, or by how much longer the answer took than one without a kill, whichever "
        "is more; worst of all kills. kills_at_work: another replica had to go on with what was being "
        "spoken. longest_pause: the voice's own pauses included. "
        "Drills: replicas with stand-in STT and LLM and the bundled voice; turns_lost of the calls' store. "
        "paced: the bundled voice slowed to 0.8 of real time, as one that streams; quick: as it is.",
    ]
    return Report(figures, notes=notes, details=details)


@asynccontextmanager
async def on_ray(
    settings: Settings, more: dict[str, Any], progress: Callable[[str], None]
) -> AsyncIterator[tuple[Models, Cluster]]:
    with tempfile.TemporaryDirectory() as folder:
        cluster_settings = settings.cluster.model_copy(update={"token_file": Path(folder) / "token"})
        cluster = Cluster(cluster_settings, {**told_of(settings), **more})
        began = time.monotonic()
        await asyncio.to_thread(cluster.open)
        models = models_of(cluster, EnergyVoiceActivity())
        progress(f"Ray and the replicas are there after {time.monotonic() - began:.0f} s")
        try:
            cluster.attach()
            for role in ("stt", "llm", "tts"):
                await until_whole(cluster, role, settings.cluster.replicas(role)[0])
            yield models, cluster
        finally:
            await cluster.aclose()


# Added latency


async def _latency(
    profile: str, pairs: int, details: dict[str, object], progress: Callable[[str], None]
) -> dict[str, object]:
    settings = Settings(profile=profile, cluster=ClusterSettings(address="auto"))
    here = await asyncio.to_thread(load, replace_cluster(settings))
    audio = await _questions(here)
    taken: dict[str, list[float]] = {"here": [], "ray": []}
    async with on_ray(settings, {}, progress) as (there, _):
        sides = {"here": here, "ray": there}
        sessions = {name: await models.chat.open(_PREFIX) for name, models in sides.items()}
        voices = {name: await models.synthesizer.open() for name, models in sides.items()}
        texts: dict[str, list[str]] = {"here": [], "ray": []}
        for number in range(-2, pairs):
            # Whoever comes second finds a warmer machine.
            order = ("here", "ray") if number % 2 else ("ray", "here")
            for name in order:
                question = audio[number % len(audio)]
                ms, text = await _first_audio_ms(sides[name], sessions[name], voices[name], question)
                if number >= 0:
                    taken[name].append(ms)
                    texts[name].append(text)
        cancels = await cancel_ms(there, 20)
        cancels_here = await cancel_ms(here, 20)
        for session in sessions.values():
            await session.aclose()
    await here.aclose()
    differences = [ray - own for ray, own in zip(taken["ray"], taken["here"], strict=True)]
    details["first_audio_ms"] = {name: [round(ms, 1) for ms in values] for name, values in taken.items()}
    return {
        "ray_added_ms": round(statistics.median(differences), 1),
        **spread("first_audio_in_process", taken["here"]),
        **spread("first_audio_on_ray", taken["ray"]),
        "same_words": f"{sum(a == b for a, b in zip(texts['here'], texts['ray'], strict=True))} of {pairs}",
        "cancel_to_next_ms": round(statistics.median(cancels), 1),
        "cancel_to_next_max_ms": round(max(cancels), 1),
        "cancel_to_next_in_process_ms": round(statistics.median(cancels_here), 1),
    }


def replace_cluster(settings: Settings) -> Settings:
    return settings.model_copy(update={"cluster": ClusterSettings()})


async def _questions(models: Models) -> list[Samples]:
    voice = await models.synthesizer.open()
    spoken = []
    for text in QUESTIONS:
        chunks = [chunk async for chunk in voice.speak(text)]
        spoken.append(resample(concatenated(chunks), voice.sample_rate_hz, STT_RATE_HZ))
    return spoken


def concatenated(chunks: Sequence[Samples]) -> Samples:
    import numpy as np

    return np.concatenate(chunks)


async def _first_audio_ms(models: Models, session: Any, voice: Any, audio: Samples) -> tuple[float, str]:
    began = time.perf_counter()
    words = (await models.transcriber.transcribe(audio)).text
    chunker = ClauseChunker()
    clause = ""
    async with aclosing(session.reply([Message("user", words)], max_tokens=24)) as pieces:
        async for piece in pieces:
            clauses = chunker.push(piece)
            if clauses:
                clause = clauses[0]
                break
        else:
            clause = "".join(chunker.flush()) or "Sorry."
    async with aclosing(voice.speak(clause)) as chunks:
        async for _ in chunks:
            break
    return (time.perf_counter() - began) * 1e3, clause


# Faults


async def _faults(
    kills: int, only: str | None, details: dict[str, object], progress: Callable[[str], None]
) -> dict[str, object]:
    store = Store()
    ears = await asyncio.to_thread(load_transcriber, "embedded", store)
    settings = Settings(
        profile="scripted",
        tts="hibari",
        cluster=ClusterSettings(address="auto", stt_replicas=2, llm_replicas=2, tts_replicas=2),
    )
    figures: dict[str, object] = {}
    lost = repeated = 0
    for name, more in (("", {}), ("paced_", {"voice_pace": PACE})):
        if name and only == "drills":
            break
        async with on_ray(settings, more, progress) as (models, cluster):
            if only != "drills":
                whole = await tts_cut(models, cluster, ears, 0, at_s=None)
                cuts = []
                for number in range(kills):
                    cut = await tts_cut(
                        models, cluster, ears, number + 1, at_s=KILL_AT_S[number % len(KILL_AT_S)]
                    )
                    healed_s = await until_whole(cluster, "tts", 2)
                    progress(
                        f"{name or 'quick '}voice killed: {1e3 * cut.silence_s:.0f} ms of silence (longest "
                        f"pause {1e3 * cut.longest_s:.0f} ms), the answer took "
                        f"{1e3 * (cut.spoken_s - whole.spoken_s):.0f} ms longer, "
                        f"{cut.lost} clauses lost, {cut.repeated} repeated; replaced {healed_s:.1f} s later"
                    )
                    cuts.append(cut)
                lost += sum(cut.lost for cut in cuts)
                repeated += sum(cut.repeated for cut in cuts)
                longer_s = max(cut.spoken_s - whole.spoken_s for cut in cuts)
                figures[f"tts_{name}kill_gap_ms"] = round(1e3 * max(worst(cuts), longer_s))
                figures[f"tts_{name}kills_at_work"] = f"{sum(cut.moved for cut in cuts)} of {len(cuts)}"
                figures[f"tts_{name}longest_pause_ms"] = round(1e3 * max(cut.longest_s for cut in cuts))
                figures[f"tts_{name}longest_pause_no_kill_ms"] = round(1e3 * whole.longest_s)
                details[f"{name}heard"] = [whole.text, *(cut.text for cut in cuts)]
            if not name and only != "voice":
                with tempfile.TemporaryDirectory() as folder:
                    kept = CallStore.open(StoreSettings(), Path(folder))
                    try:
                        figures |= await _drills(models, cluster, kept, progress)
                    finally:
                        kept.close()
    if only != "drills":
        gaps = [figures[f"tts_{name}kill_gap_ms"] for name in ("", "paced_")]
        figures = {
            "tts_kill_gap_ms": max(gap for gap in gaps if isinstance(gap, int)),
            "clauses_lost": lost,
            "clauses_repeated": repeated,
            **{("tts_quick_kill_gap_ms" if k == "tts_kill_gap_ms" else k): v for k, v in figures.items()},
        }
    return figures


async def _drills(
    models: Models, cluster: Cluster, store: CallStore, progress: Callable[[str], None]
) -> dict[str, object]:
    figures: dict[str, object] = {}
    lost = 0
    spoken = replace(models, voice_activity=EnergyVoiceActivity())
    for role in ("stt", "llm", "tts"):
        for word, number, resume_s in (("killed", SIGKILL, 0.0), ("stopped", SIGSTOP, STOPPED_S)):
            strike = striking(cluster, role, number, resume_s)
            result = await drill(spoken, cluster, f"{role}-{word}", store, strike)
            await until_whole(cluster, role, 2)
            progress(f"{role} {word}: {result}")
            figures[f"{role}_{word}_went_on"] = result.went_on
            figures[f"{role}_{word}_added_ms"] = round(1e3 * (result.wait_s - result.usual_wait_s))
            lost += result.turns_lost
    return {"turns_lost": lost, **figures}
