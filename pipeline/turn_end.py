"""How long a silence must last before the caller's turn is over."""

from dataclasses import dataclass

from pipeline.persona import TurnTaking


@dataclass(frozen=True, slots=True)
class Evidence:
    text: str | None = None
    ends: float | None = None
    pauses_s: tuple[float, ...] = ()


def silence_needed_s(evidence: Evidence, policy: TurnTaking) -> float:
    return policy.endpoint_silence_s
