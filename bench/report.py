"""What a bench prints: figures with machine and load, percentiles, and rates that say how sure they are."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

P95_NEEDS = 60
"""Below this many values a 95th percentile is decided by two or three of them; the maximum stands instead."""


@dataclass(frozen=True, slots=True)
class Report:
    """One bench run: `figures` by agreed names, `notes` a reader must know, `details` for per-item rows."""

    figures: Mapping[str, object]
    notes: Sequence[str] = ()
    details: Mapping[str, object] = field(default_factory=dict)
    machine: Mapping[str, object] = field(default_factory=lambda: describe_machine())
    load: Mapping[str, object] = field(default_factory=lambda: describe_load())

    def to_json(self) -> str:
        """`{"machine", "load", "figures", "notes", "details"}`; the last two only when not empty."""
        document: dict[str, object] = {
            "machine": dict(self.machine),
            "load": dict(self.load),
            "figures": {name: _plain(value) for name, value in self.figures.items()},
        }
        if self.notes:
            document["notes"] = list(self.notes)
        if self.details:
            document["details"] = {name: _plain(value) for name, value in self.details.items()}
        return json.dumps(document, indent=1, ensure_ascii=False)


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics. Raises `ValueError` when there are no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(
    name: str, values: Sequence[float], *, unit: str = "ms", digits: int = 0
) -> dict[str, float | int]:
    """`{name_p50_ms, name_p95_ms, name_max_ms, name_n}`; p95 only for n >= 60; no values give n = 0 alone."""
    figures: dict[str, float | int] = {}
    if values:
        figures[f"{name}_p50_{unit}"] = _rounded(percentile(values, 50), digits)
        if len(values) >= P95_NEEDS:
            figures[f"{name}_p95_{unit}"] = _rounded(percentile(values, 95), digits)
        figures[f"{name}_max_{unit}"] = _rounded(max(values), digits)
    figures[f"{name}_n"] = len(values)
    return figures


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927, JASA 22:209); honest near 0 and 1, unlike the normal one."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no rate")
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate(name: str, successes: int, n: int) -> dict[str, object]:
    """`{name, name_n, name_interval}` with the 95 % Wilson interval."""
    low, high = wilson_interval(successes, n)
    return {
        name: round(successes / n, 4),
        f"{name}_n": n,
        f"{name}_interval": [round(low, 4), round(high, 4)],
    }


def describe_machine() -> dict[str, object]:
    """Processor, cores this process may use, memory, system and Python."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_name(),
        "cores": usable,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def describe_load() -> dict[str, object]:
    """Load averages now: other work on the machine makes every figure worse."""
    one, five, _ = os.getloadavg()
    return {"load_1_min": round(one, 2), "load_5_min": round(five, 2)}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
    return round(pages * size / 2**30, 1)


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) if digits else round(value)


def _plain(value: Any) -> Any:
    """Numbers of numpy become Python's; everything else stays."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
