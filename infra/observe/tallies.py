"""Histograms that cost a fraction of a microsecond, for what is counted with every AudioFrame; and labels
whose number is bounded.

Only one thread, the event loop's, may write to a tally; any may read it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

OTHER: Final = "other"


class Tally:
    """One histogram's counts."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Of each bucket by itself; the last one is beyond all bounds."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        # A bucket holds what is equal to its bound.
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Tallies(Collector):
    """A histogram with labels: `labelled(value, ...)` once, then `observe` on what it gives."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._labels = tuple(labels)
        self._tallies: dict[tuple[str, ...], Tally] = {}
        if not labels:
            self.labelled()
        registry.register(self)

    def labelled(self, *values: str) -> Tally:
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, not {values}")
        tally = self._tallies.get(values)
        if tally is None:
            tally = self._tallies[values] = Tally(self._bounds)
        return tally

    def observe(self, value: float) -> None:
        """Where there are no labels."""
        self.labelled().observe(value)

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        # One step under the interpreter's lock each: the event loop goes on writing meanwhile.
        for values, tally in list(self._tallies.items()):
            counts, total = list(tally.counts), tally.total
            buckets, so_far = [], 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                so_far += count
                buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(so_far)))
            family.add_metric(values, buckets, total)
        yield family


class Bounded:
    """Gives every name back, but `other` for all that come when there are `most` already: callers, personas
    and models must not decide how many time series there are."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._most = most
        self._known = set(known)

    def __call__(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most or not name:
            return OTHER
        self._known.add(name)
        return name

    def known(self, name: str) -> str:
        """Adds nothing."""
        return name if name in self._known else OTHER
