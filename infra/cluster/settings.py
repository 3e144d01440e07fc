"""`[cluster]`: where the models run when not in this process, and how many of them."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.cluster.roles import Role

Replicas = Annotated[int, Field(ge=1, le=1_000)]
Share = Annotated[float, Field(ge=0, le=64)]
Seconds = Annotated[float, Field(gt=0, le=600)]


class ClusterSettings(BaseModel):
    """`address`: "" runs the models in this process; `auto` starts a Ray of this server's own on this
    machine; else the `host:port` of the head of a Ray cluster that this machine has joined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = ""
    stt_replicas: Replicas = 1
    """So many at least; 2 and more go on when one dies."""
    llm_replicas: Replicas = 1
    tts_replicas: Replicas = 1
    stt_most_replicas: Replicas | None = None
    """Ray adds replicas up to so many while requests pile up; None: as many as there are at least."""
    llm_most_replicas: Replicas | None = None
    tts_most_replicas: Replicas | None = None
    stt_gpus: Share = 0.0
    """Of one replica; fractions share a GPU."""
    llm_gpus: Share = 0.0
    tts_gpus: Share = 0.0
    stt_cpus: Share = 1.0
    """What Ray sets aside for one replica. It bounds where replicas are placed, not what they use."""
    llm_cpus: Share = 1.0
    tts_cpus: Share = 1.0
    busy_share: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Ray adds a replica when more than this share of the slots is in use."""
    object_store_mb: Annotated[int, Field(ge=80, le=65_536)] = 100
    """Of `auto`. Audio does not pass through it."""
    token_file: Path | None = None
    """Ray's token; None: $RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token. `auto` makes one where there is
    none."""
    stall_s: Seconds = 0.25
    """A replica that works for a call and answers no ping for so long is replaced."""
    replica_wait_s: Seconds = 6.0
    """A call waits so long for a replica while there is none; then it apologises."""
    start_s: Annotated[float, Field(gt=0, le=3_600)] = 600.0
    """How long the first replicas may take to load their models."""

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        if address in ("", "auto"):
            return address
        host, _, port = address.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ValueError(
                "it is auto, or host:port of Ray's head (6379 by default); ray:// is not supported"
            )
        return address

    def replicas(self, role: Role) -> tuple[int, int]:
        """(least, most)."""
        least = int(getattr(self, f"{role}_replicas"))
        return least, max(least, getattr(self, f"{role}_most_replicas") or least)

    def gpus(self, role: Role) -> float:
        return float(getattr(self, f"{role}_gpus"))

    def cpus(self, role: Role) -> float:
        return float(getattr(self, f"{role}_cpus"))
