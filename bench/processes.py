"""Processor time of a process and of a core, from Linux's /proc."""

import contextlib
import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Seconds that the process's threads have run."""
    ran = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ran += int((thread / "schedstat").read_text().split()[0])
    return ran / 1e9


def core_s(core: int) -> float:
    """Seconds that a core has worked, for whomever."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            idle, waiting = int(ticks[3]), int(ticks[4])
            return (sum(map(int, ticks[:8])) - idle - waiting) / os.sysconf("SC_CLK_TCK")
    return 0.0
