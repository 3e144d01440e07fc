"""A front-end's models when they are elsewhere: `connect(settings)` in place of loading them."""

import asyncio
import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from infra.cluster.bridge import Wanted
from infra.cluster.chat import RemoteChat
from infra.cluster.choice import Patience
from infra.cluster.fleet import Fleet
from infra.cluster.hearing import RemoteTranscriber
from infra.cluster.link import Replica
from infra.cluster.loading import told_of
from infra.cluster.roles import ROLES, Role
from infra.cluster.settings import ClusterSettings
from infra.cluster.supervisor import News, Supervisor
from infra.cluster.token import token_environment
from infra.cluster.voice import RemoteSynthesizer
from infra.settings import Settings, SettingsError
from models.base import ModelFailed, Models, VoiceActivity

log = logging.getLogger(__name__)

HEAD_GONE_S = 5.0
HEAD_GONE_MOST_S = 600.0
"""An `auto` Ray whose head died is started anew as soon as no call is on; at the latest after this."""


class Cluster:
    """The bridge and the fleet. `open()` blocks; then everything is on the loop that `attach` was called
    on."""

    def __init__(self, settings: ClusterSettings, models: Mapping[str, Any]) -> None:
        """Raises `SettingsError` where Ray or its token is missing."""
        if find_spec("ray") is None:
            raise SettingsError("--cluster needs Ray: pip install 'maya-voice[cluster]'.")
        auto = settings.address == "auto"
        environment = token_environment(os.environ, settings.token_file, make=auto)
        needed = sum(settings.replicas(role)[1] * settings.cpus(role) for role in ROLES)
        wanted = Wanted(
            address=settings.address,
            cluster=settings.model_dump(mode="json", exclude={"token_file"}),
            models=dict(models),
            start_s=settings.start_s,
            # What replicas set aside bounds where they are placed, not what they use: all must have room
            # here.
            logical_cpus=math.ceil(needed) + 2,
        )
        self.settings = settings
        self.head = False
        """Ray's head takes connections."""
        self.supervisor = Supervisor(wanted, environment, self._on_news)
        self.fleet = Fleet(
            patience=Patience(replica=settings.replica_wait_s),
            stall_s=settings.stall_s,
            tell=self.supervisor.tell,
        )
        self._replicas: list[Replica] = []
        self._bridge = True
        self._error = ""
        self._news = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._healing: asyncio.Task[None] | None = None
        self._head_gone_since: float | None = None

    def open(self) -> None:
        """Until every model has a replica. Blocks for as long as they load. Raises `ModelFailed`."""
        self.supervisor.start()
        until = time.monotonic() + self.settings.start_s
        with self._news:
            while missing := [role for role in ROLES if not any(r.role == role for r in self._replicas)]:
                if self._error or not self._bridge or time.monotonic() >= until:
                    break
                self._news.wait(1.0)
        if missing:
            self.supervisor.close()
            why = self._error or " | ".join(self.supervisor.last_words) or "no time is left"
            raise ModelFailed(f"The cluster has no {', '.join(missing)} replica: {why}")

    def attach(self) -> None:
        """From now on this loop's. Safe to call again."""
        if self._loop is None:
            with self._news:
                self._loop = asyncio.get_running_loop()
                self.fleet.update(self._replicas)
            self._healing = asyncio.create_task(self._heal(), name="cluster-heal")

    @property
    def serving(self) -> bool:
        """Every model has a replica that answers: a call could be held."""
        return all(self.fleet.serving().values())

    def check(self) -> str:
        """What is wrong, for `/readyz`: "" while every model has a replica and Ray could replace it."""
        if not (self.head and self._bridge):
            return "Ray's head is gone"
        missing = [role for role, number in self.fleet.serving().items() if not number]
        return f"no {', '.join(missing)} replica answers" if missing else ""

    def status(self) -> dict[str, object]:
        """For `/readyz` and metrics."""
        return {
            "head": self.head and self._bridge,
            "replicas": {str(role): number for role, number in self.fleet.serving().items()},
            "moved": {str(role): number for role, number in self.fleet.moved.items()},
            "bridge_starts": self.supervisor.starts,
        }

    async def aclose(self) -> None:
        if self._healing is not None:
            self._healing.cancel()
        await self.fleet.aclose()
        await asyncio.to_thread(self.supervisor.close)

    # From the supervisor's thread

    def _on_news(self, news: News) -> None:
        with self._news:
            if "replicas" in news:
                self._bridge = True
                self._replicas = [_replica(told) for told in news["replicas"]]
            if "error" in news:
                self._error = str(news["error"])
            if news.get("bridge") is False:
                self._bridge = False
            self._news.notify_all()
            loop = self._loop
        with contextlib.suppress(RuntimeError):  # the loop is closed: so are the calls
            if loop is not None:
                loop.call_soon_threadsafe(self._heard, news)
            else:
                self._heard(news)

    def _heard(self, news: News) -> None:
        if "head" in news:
            self._mark_head(bool(news["head"]))
        if news.get("bridge") is False:
            self._mark_head(False)
        elif "replicas" in news and self._loop is not None:
            self.fleet.update(self._replicas)

    def _mark_head(self, there: bool) -> None:
        if there != self.head:
            (log.info if there else log.error)("Ray's head %s", "is there" if there else "is gone")
        self.head = there
        self._head_gone_since = None if there else self._head_gone_since or time.monotonic()

    async def _heal(self) -> None:
        """An `auto` Ray whose head died is ours to replace. Calls that are on keep their replicas
        meanwhile."""
        while True:
            await asyncio.sleep(1.0)
            since = self._head_gone_since
            if self.settings.address != "auto" or since is None or not self._bridge:
                continue
            gone_s = time.monotonic() - since
            idle = all(link.idle for role in ROLES for link in self.fleet.links(role))
            if gone_s > HEAD_GONE_MOST_S or (idle and gone_s > HEAD_GONE_S):
                log.warning("starting Ray anew")
                await asyncio.to_thread(self.supervisor.restart)


def _replica(told: Mapping[str, Any]) -> Replica:
    return Replica(
        str(told["replica"]),
        _role(told["role"]),
        str(told["host"]),
        int(told["port"]),
        bytes.fromhex(told["secret"]),
        int(told["slots"]),
        int(told["pid"]),
        str(told.get("certificate", "")),
    )


def _role(name: str) -> Role:
    return next(role for role in ROLES if role == name)


def connect(settings: Settings) -> Models:
    """Start Ray or join it, wait for the replicas, and load the voice detector, which stays here. Blocks
    for as long as models load. Raises `SettingsError`, `ModelError`."""
    from models.load import load_voice_activity
    from models.store import Store

    detector = load_voice_activity(settings.profile, Store(settings.models_dir))
    cluster = Cluster(settings.cluster, told_of(settings))
    cluster.open()
    return models_of(cluster, detector)


def models_of(cluster: Cluster, detector: VoiceActivity) -> Models:
    """On the loop that uses them first. Closing them closes the cluster."""
    fleet = cluster.fleet
    fleet.on_first_use = cluster.attach
    return Models(RemoteTranscriber(fleet), RemoteChat(fleet), ClusterSynthesizer(cluster), detector)


class ClusterSynthesizer(RemoteSynthesizer):
    """The last of the models to be closed; it closes the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.fleet)
        self.cluster = cluster

    async def aclose(self) -> None:
        await self.cluster.aclose()


def cluster_of(models: Models) -> Cluster | None:
    """Of models that `connect` gave; None for others."""
    synthesizer = models.synthesizer
    return synthesizer.cluster if isinstance(synthesizer, ClusterSynthesizer) else None
