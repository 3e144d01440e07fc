"""The deployments of Ray Serve: one application for each role, so that each is scaled and upgraded by itself.

A Serve config names `infra.cluster.application:build` as import path; its `args` are `role`, keys of
`[cluster]` under `cluster`, and the model settings (`infra.cluster.loading.MODEL_SETTINGS`) under `models`.

Serve places replicas, watches and replaces them, and adds more while requests pile up. What a call says
goes to the replica's own port (`infra.cluster.station`), and is an ongoing request of Serve's all the
while: `hold`.
"""

import asyncio
import concurrent.futures
import logging
import os
import secrets
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.util import get_node_ip_address

from infra.cluster.loading import load_role, settings_of
from infra.cluster.roles import ROLES, Role
from infra.cluster.settings import ClusterSettings
from infra.cluster.station import Station
from infra.cluster.tls import make_identity
from infra.loading import capacity_of
from infra.loopback import is_loopback

log = logging.getLogger(__name__)

T = TypeVar("T")

SPARE_REQUESTS = 64
"""Beyond the slots: questions where a replica is, and requests whose end Serve has not heard of."""
ROUTER = "infra.cluster.router:NamedReplicaRouter"
ALIVE_S = 5.0
LEAVE_S = 180.0
"""A replica that is to go waits so long for its calls to end."""


def application_name(role: Role) -> str:
    return f"maya-{role}"


class Replica:
    """One model in a process of its own, behind a `Station` on a thread of its own."""

    def __init__(self, role: Role, models: Mapping[str, Any], gpus: float, host: str) -> None:
        """Loads the model: seconds to minutes. Listens on `host`; "" is the node's address. Off loopback it
        speaks TLS. Raises `ModelError`, `OSError`."""
        logging.getLogger("infra").setLevel(logging.INFO)
        self._model, self._slots = load_role(role, models, on_gpu=gpus > 0)
        self._role = role
        self._secret = secrets.token_bytes(32)
        self._host = host or str(get_node_ip_address())  # type: ignore[no-untyped-call]
        # Made here and kept here: Ray is told the certificate, never the key.
        self._identity = None if is_loopback(self._host) else make_identity()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="station", daemon=True).start()
        self._station, self._port = self._submit(self._open(self._model)).result()

    async def _open(self, model: Any) -> tuple[Station, int]:
        station = Station(self._role, model, slots=self._slots, secret=self._secret, identity=self._identity)
        return station, await station.start(self._host)

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def where(self, *, replica: str) -> dict[str, Any]:
        """How to reach it, for front-ends that Ray has let in."""
        return {
            "replica": serve.get_replica_context().replica_id.unique_id,
            "role": self._role,
            "host": self._host,
            "port": self._port,
            "secret": self._secret.hex(),
            "certificate": "" if self._identity is None else self._identity.certificate,
            "slots": self._slots,
            "pid": os.getpid(),
        }

    async def hold(self, *, replica: str, ticket: str) -> None:
        """Returns when what has this ticket is over: the request that Serve counts."""
        await asyncio.wrap_future(self._submit(self._station.until_over(ticket)))

    async def check_health(self) -> None:
        """Serve replaces a replica whose station hangs, or whose model has died."""
        if not getattr(self._model, "alive", True):
            raise RuntimeError("the model's thread is dead")
        async with asyncio.timeout(ALIVE_S):
            await asyncio.wrap_future(self._submit(_nothing()))


async def _nothing() -> None:
    return None


def build(args: Mapping[str, Any]) -> Application:
    """The application of `args["role"]`. Raises `ValueError`, `pydantic.ValidationError`."""
    role = args.get("role")
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    cluster = ClusterSettings.model_validate(args.get("cluster", {}))
    models = dict(args.get("models", {}))
    least, most = cluster.replicas(role)
    gpus = cluster.gpus(role)
    slots = capacity_of(settings_of(models), here=False).of(role)
    deployment: Any = serve.deployment(
        Replica,
        name=role,
        ray_actor_options={"num_cpus": cluster.cpus(role), "num_gpus": gpus},
        max_ongoing_requests=slots + SPARE_REQUESTS,
        autoscaling_config=AutoscalingConfig(
            min_replicas=least,
            max_replicas=most,
            target_ongoing_requests=max(1.0, cluster.busy_share * slots),
            upscale_delay_s=5.0,
            downscale_delay_s=600.0,
        ),
        health_check_period_s=1.0,
        health_check_timeout_s=8.0,
        graceful_shutdown_wait_loop_s=1.0,
        graceful_shutdown_timeout_s=LEAVE_S,
        # Their annotation says dict; a path or a class is what is read.
        request_router_config=RequestRouterConfig(request_router_class=cast(Any, ROUTER)),
    )
    # A Ray of this machine only is nobody else's business.
    host = "127.0.0.1" if cluster.address == "auto" else ""
    return cast(Application, deployment.bind(role, models, gpus, host))
