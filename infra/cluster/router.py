"""Which replica Serve gives an accounting request: the one that it names, since the call sits there
already."""

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class NamedReplicaRouter(RequestRouter):
    """Requests carry `replica="..."`; "" is any. Serve pickles the class by value: it must refer to nothing
    of this module that is state."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        wanted: Any = None
        if pending_request is not None:
            # Else Serve asks again at once, for ever, while the replica is not there.
            pending_request.routing_context.should_backoff = True
            wanted = pending_request.kwargs.get("replica")
        return [[one for one in candidate_replicas if wanted in ("", one.replica_id.unique_id)]]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        from infra.cluster.running import tell

        super().update_replicas(replicas)
        tell(self._deployment_id.name, [one.replica_id.unique_id for one in replicas])
