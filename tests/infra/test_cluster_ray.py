"""A real Ray of our own on this machine, with stand-ins: started once, killed at in many ways, ended for
sure."""

import asyncio
import os
import signal
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

pytest.importorskip("ray.serve", reason="needs the extra `cluster`")

from infra.cluster.front import Cluster, cluster_of, models_of
from infra.cluster.loading import told_of
from infra.cluster.settings import ClusterSettings
from infra.settings import Settings
from models.base import Message, Models, Samples
from models.scripted import EnergyVoiceActivity, ScriptedSynthesizer
from tests.infra.cluster_kit import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

HELLO = [Message("user", "one two three four five six seven eight nine ten")]
CLAUSE = "We are open from nine to five on weekdays, and on Saturday until noon."


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    token = tmp_path_factory.mktemp("ray") / "token"
    settings = Settings(
        profile="scripted",
        cluster=ClusterSettings(
            address="auto", stt_replicas=2, llm_replicas=2, tts_replicas=2, token_file=token, start_s=120
        ),
    )
    made = Cluster(settings.cluster, {**told_of(settings), "voice_pace": 0.3})
    made.open()
    pid = made.supervisor._process.pid if made.supervisor._process is not None else 0
    try:
        yield made
    finally:
        made.supervisor.close()
        assert not of_session(pid)


def of_session(session: int) -> list[str]:
    """Live processes of it."""
    alive = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = file.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, its_session, *_ = fields.split()
        if int(its_session) == session and state not in "ZX":
            alive.append(name)
    return alive


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(cluster: Cluster) -> AsyncIterator[Models]:
    made = models_of(cluster, EnergyVoiceActivity())
    cluster.attach()
    await until(lambda: cluster.fleet.serving() == {"stt": 2, "llm": 2, "tts": 2} and not cluster.check(), 30)
    yield made
    await cluster.fleet.aclose()


async def whole(cluster: Cluster) -> None:
    """Serve has replaced what was killed."""
    await until(lambda: cluster.fleet.serving() == {"stt": 2, "llm": 2, "tts": 2}, 60)


async def reference(text: str) -> Samples:
    voice = await ScriptedSynthesizer().open()
    return np.concatenate([chunk async for chunk in voice.speak(text)])


async def test_the_models_answer_as_they_do_here(cluster: Cluster, models: Models) -> None:
    assert cluster_of(models) is cluster
    assert (await models.transcriber.transcribe(np.zeros(16_000, np.float32))).text == "Hello there."
    assert (await models.transcriber.glimpse(np.zeros(1_600, np.float32))).speech == 1.0
    session = await models.chat.open([Message("system", "x")])
    assert "".join([piece async for piece in session.reply(HELLO)]) == "You said: " + HELLO[0].content
    voice = await models.synthesizer.open()
    chunks = [chunk async for chunk in voice.speak(CLAUSE, utterance="a")]
    assert min(map(len, chunks[:-1])) >= 0.08 * voice.sample_rate_hz
    assert np.array_equal(np.concatenate(chunks), await reference(CLAUSE))
    assert len(voice.word_spans("a")) == len(CLAUSE.split())
    await voice.aclose()
    await session.aclose()


async def test_the_token_is_ours_alone_and_all_listens_on_this_machine(cluster: Cluster) -> None:
    file = cluster.settings.token_file
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cluster.supervisor._environment["RAY_AUTH_MODE"] == "token"
    for role in ("stt", "llm", "tts"):
        assert all(link.where.host == "127.0.0.1" for link in cluster.fleet.links(role))


async def test_a_killed_voice_is_replaced_in_mid_clause_and_then_by_ray(
    cluster: Cluster, models: Models
) -> None:
    voice = await models.synthesizer.open()
    heard: list[Samples] = []
    gaps_s: list[float] = []
    last_s = time.monotonic()
    async for chunk in voice.speak(CLAUSE, utterance="b"):
        gaps_s.append(time.monotonic() - last_s)
        last_s = time.monotonic()
        heard.append(chunk)
        if len(heard) == 8:
            link = next(link for link in cluster.fleet.links("tts") if link.sessions)
            os.kill(link.where.pid, signal.SIGKILL)
    assert cluster.fleet.moved["tts"] == 1
    # The word that was cut is said again: not a clause more, not one less.
    assert len(await reference(CLAUSE)) <= sum(map(len, heard)) < len(await reference(CLAUSE)) + 24_000
    assert max(gaps_s[8:]) < 1.5
    await voice.aclose()
    await whole(cluster)


async def test_a_killed_language_model_goes_on_where_it_was(cluster: Cluster, models: Models) -> None:
    session = await models.chat.open([Message("system", "x")])
    text = ""
    async for piece in session.reply(HELLO):
        text += piece
        if text.endswith("three"):
            link = next(link for link in cluster.fleet.links("llm") if link.sessions)
            os.kill(link.where.pid, signal.SIGKILL)
    assert text == "You said: " + HELLO[0].content
    await session.aclose()
    await whole(cluster)


async def test_a_stopped_transcriber_is_passed_over_and_comes_back(cluster: Cluster, models: Models) -> None:
    asking = asyncio.create_task(models.transcriber.transcribe(np.zeros(16_000, np.float32)))
    await until(lambda: any(not link.idle for link in cluster.fleet.links("stt")))
    link = next(link for link in cluster.fleet.links("stt") if not link.idle)
    os.kill(link.where.pid, signal.SIGSTOP)
    try:
        assert (await asyncio.wait_for(asking, 5)).text == "Hello there."
        assert cluster.fleet.serving()["stt"] == 1
    finally:
        os.kill(link.where.pid, signal.SIGCONT)
    await whole(cluster)


async def test_rays_head_killed_calls_go_on_readiness_is_off_and_ray_is_started_anew(
    cluster: Cluster, models: Models
) -> None:
    """The last test: it leaves another Ray."""
    session = await models.chat.open([Message("system", "x")])
    process = cluster.supervisor._process
    assert process is not None
    os.kill(head_of(process.pid), signal.SIGKILL)
    await until(lambda: not cluster.head, 5)
    assert cluster.check() == "Ray's head is gone"
    assert cluster.serving
    assert "".join([piece async for piece in session.reply(HELLO)]) == "You said: " + HELLO[0].content
    starts = cluster.supervisor.starts
    await session.aclose()
    await until(lambda: cluster.supervisor.starts > starts, 30)
    await until(lambda: cluster.check() == "", 60)
    again = await models.chat.open([Message("system", "x")])
    assert "".join([piece async for piece in again.reply(HELLO)]) == "You said: " + HELLO[0].content
    await again.aclose()


def head_of(session: int) -> int:
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = file.read_text().rpartition(")")
        except OSError:
            continue
        if int(fields.split()[3]) == session and "gcs_server" in name:
            return int(file.parent.name)
    raise AssertionError("no head")
