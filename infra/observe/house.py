"""Metrics of what stands in the process at the moment it is asked: places, queues, calls that we make.

Whoever has such a number gives a `Source`; the event loop reads all of them (`look`) before a thread renders.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

log = logging.getLogger(__name__)

Reading = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""


@dataclass(frozen=True, slots=True)
class Source:
    """`read` runs on the event loop and takes microseconds. A counter's name has no `_total`."""

    name: str
    documentation: str
    read: Callable[[], float | Sequence[Reading]]
    kind: Literal["gauge", "counter"] = "gauge"
    labels: tuple[str, ...] = ()

    def _family(self) -> Metric:
        make = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        return make(self.name, self.documentation, labels=self.labels)

    def blank(self) -> Metric:
        return self._family()

    def filled(self) -> Metric:
        family = self._family()
        read = self.read()
        readings = [((), read)] if isinstance(read, int | float) else read
        for values, number in readings:
            family.add_metric(values, number)  # type: ignore[attr-defined]  # both kinds have it
        return family


class HouseCollector(Collector):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources: list[Source] = []
        self._found: list[Metric] = []
        self._registry = registry
        self._registered = False

    def add(self, *sources: Source) -> None:
        """Before the first scrape. Raises `ValueError` for a name that is taken."""
        self._sources += sources
        if self._registered:
            self._registry.unregister(self)
        self._registry.register(self)
        self._registered = True

    def look(self) -> None:
        """Read every source, on the event loop. What cannot be read is left out."""
        found = []
        for source in self._sources:
            try:
                found.append(source.filled())
            except Exception:
                log.exception("the metric %s cannot be read", source.name)
        self._found = found

    def describe(self) -> Iterator[Metric]:
        return (source.blank() for source in self._sources)

    def collect(self) -> Iterator[Metric]:
        return iter(self._found)
