"""Processes of one session, from Linux's /proc."""

import contextlib
import os
import signal
from pathlib import Path


def end_session(session: int) -> None:
    """Kill the processes of a session of ours, this one excepted. Ray's outlive the one that started them
    for a while, each in a group of its own."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            process = int(stat.parent.name)
            # The name may hold spaces and brackets; the session is the fourth field behind it.
            if process != os.getpid() and int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(process, signal.SIGKILL)
