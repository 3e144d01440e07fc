"""Slots of the models and who has them, without clock or I/O.

A call needs a slot of every model at once: with a voice but no transcriber it could only be hung up on. So
all that a call needs is taken together, or nothing is. Whoever has slots has them until a time: `renew` moves
it on, `expire` takes back what nobody has renewed. A bug in a call can therefore cost slots for a while,
never for good.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Model = Literal["stt", "llm", "tts"]
EVERY_MODEL: tuple[Model, ...] = get_args(Model)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Calls that each model serves at once."""

    stt: int
    llm: int
    tts: int

    def __post_init__(self) -> None:
        if min(self.stt, self.llm, self.tts) < 1:
            raise ValueError("each model must serve one call at least")

    @classmethod
    def of_calls(cls, calls: int) -> "Capacity":
        return cls(calls, calls, calls)

    @property
    def calls(self) -> int:
        """Calls at once: the model that serves the fewest decides."""
        return min(self.stt, self.llm, self.tts)

    def of(self, model: Model) -> int:
        return int(getattr(self, model))


@dataclass(slots=True)
class Lease:
    """What one call has. Slots that were taken back are `lost`: renewing them does nothing."""

    key: str
    models: tuple[Model, ...]
    until: float
    """Seconds on the clock that `now` is read from."""
    lost: bool = False

    def renew(self, until: float) -> None:
        """Never shortens it."""
        self.until = max(self.until, until)


class SlotBook:
    """Every lease of one process by its key. `now` and `until` are seconds on one monotonic clock."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._in_use: dict[Model, int] = dict.fromkeys(EVERY_MODEL, 0)
        self._leases: dict[str, Lease] = {}

    def reserve(self, key: str, until: float, *, models: Iterable[Model] = EVERY_MODEL) -> Lease | None:
        """One slot of each of `models`, all or none; None where one has none left. A key that has its slots
        already keeps them, at least until `until`."""
        known = self._leases.get(key)
        if known is not None:
            known.renew(until)
            return known
        wanted = tuple(dict.fromkeys(models))
        if any(self._in_use[model] >= self.capacity.of(model) for model in wanted):
            return None
        for model in wanted:
            self._in_use[model] += 1
        lease = self._leases[key] = Lease(key, wanted, until)
        return lease

    def lease(self, key: str) -> Lease | None:
        return self._leases.get(key)

    def give_back(self, lease: Lease) -> bool:
        """False where it was taken back already, whoever has the key by now."""
        if self._leases.get(lease.key) is not lease:
            return False
        del self._leases[lease.key]
        lease.lost = True
        for model in lease.models:
            self._in_use[model] -= 1
        return True

    def expire(self, now: float) -> list[Lease]:
        """Take back what nobody has renewed in time."""
        late = [lease for lease in self._leases.values() if lease.until <= now]
        for lease in late:
            self.give_back(lease)
        return late

    def next_deadline(self) -> float | None:
        """When to call `expire`; None while nothing is taken. Renewing only moves it on."""
        return min((lease.until for lease in self._leases.values()), default=None)

    @property
    def leases(self) -> int:
        return len(self._leases)

    def in_use(self, model: Model) -> int:
        return self._in_use[model]

    @property
    def free(self) -> int:
        """Places for calls that need every model."""
        return min(self.capacity.of(model) - self._in_use[model] for model in EVERY_MODEL)

    def usage(self) -> Mapping[Model, tuple[int, int]]:
        """(in use, of) by model."""
        return {model: (self._in_use[model], self.capacity.of(model)) for model in EVERY_MODEL}
