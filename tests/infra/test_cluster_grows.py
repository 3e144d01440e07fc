"""A real Ray on this machine adds a replica where the slots are in use, and calls find it."""

import asyncio
import time
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs the extra `cluster`")

from infra.admission.settings import CapacitySettings
from infra.cluster.front import Cluster, models_of
from infra.cluster.loading import told_of
from infra.cluster.settings import ClusterSettings
from infra.settings import Settings
from models.scripted import EnergyVoiceActivity
from tests.infra.cluster_kit import until

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(240)]

CALLS = 4
SENTENCE = "On Monday we sell apples from the valley, and on Tuesday there are bananas."
GROWN_S = 60.0
"""Serve waits for five seconds of use, looks every ten, and a process has to start."""


async def test_ray_adds_a_voice_while_all_slots_are_in_use(tmp_path: Path) -> None:
    settings = Settings(
        profile="scripted",
        capacity=CapacitySettings(calls=CALLS),
        cluster=ClusterSettings(
            address="auto",
            stt_replicas=1,
            llm_replicas=1,
            tts_replicas=1,
            tts_most_replicas=2,
            token_file=tmp_path / "token",
            start_s=120,
        ),
    )
    cluster = Cluster(settings.cluster, {**told_of(settings), "voice_pace": 0.3})
    await asyncio.to_thread(cluster.open)
    try:
        models = models_of(cluster, EnergyVoiceActivity())
        cluster.attach()

        async def talk(number: int) -> None:
            voice = await models.synthesizer.open()
            began = time.monotonic()
            while time.monotonic() - began < GROWN_S:
                async for _ in voice.speak(SENTENCE, utterance=f"{number}/{time.monotonic()}"):
                    pass

        await until(lambda: cluster.fleet.serving()["tts"] == 1, 30.0)
        assert cluster.fleet.slots()["tts"] == CALLS
        talking = [asyncio.create_task(talk(number)) for number in range(CALLS)]
        try:
            await until(lambda: cluster.fleet.serving()["tts"] == 2, GROWN_S)
            assert not any(task.done() for task in talking)
            one_more = await models.synthesizer.open()
            assert [chunk async for chunk in one_more.speak("Hello.", utterance="more")]
            assert sorted(link.sessions for link in cluster.fleet.links("tts")) == [1, CALLS]
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
    finally:
        await cluster.aclose()
