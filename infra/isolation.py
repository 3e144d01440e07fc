"""Keeps the threads in which models compute out of the way of the calls' own thread.

The event loop of a call server needs a core for some microseconds every millisecond; models take every core
for as long as they are given it. On Linux niceness belongs to a thread, and one that is started by a thread
inherits its niceness: those that compute are made nicer, the loop's stays as it is. Of the interpreter's own
lock the loop waits for at most `SWITCH_INTERVAL_S`, for inference itself runs without it.

`maya bench media --saturated`, 20 calls beside the bundled models on two cores, p99 and largest gap between a
call's packets: 34 and 45 ms without this, 24 and 30 ms with it; with the models in a process of their own 24
and 29 ms. So inference stays in threads; whoever wants more puts models into other processes by `--cluster`.
"""

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

MODEL_NICENESS = 10
"""A ninth of the weight of a thread at 0: enough that the loop runs when it wants to, and models still move
on beside other programs."""
SWITCH_INTERVAL_S = 0.001
"""After which a thread that runs Python hands the interpreter's lock to one that waits; 5 ms by default."""
_AGAIN_S = 5.0
"""Threads are started when they are first needed."""
MODEL_THREADS = ("maya-llama", "hibari", "whisper", "csm")
"""Names of Python's threads that compute. `glimpse` and `vad` decide within a caller's syllable, and are
not."""


def threads_that_compute(python: Iterable[tuple[int, str]], of_process: Iterable[int], own: int) -> list[int]:
    """Which threads of a process are models': Python's by name, and all that libraries started for
    themselves. `python` are (native id, name), `own` is the event loop's."""
    named = dict(python)
    return [
        thread
        for thread in of_process
        if thread != own and (thread not in named or named[thread].startswith(MODEL_THREADS))
    ]


def yield_to_calls() -> int:
    """Make the threads that compute nicer, from the event loop's thread. How many were not so yet; 0 where
    the system has no niceness of threads. Takes some hundred microseconds, never raises."""
    if sys.platform != "linux":
        return 0
    python = [(thread.native_id, thread.name) for thread in threading.enumerate() if thread.native_id]
    try:
        of_process = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return 0
    changed = 0
    for thread in threads_that_compute(python, of_process, threading.get_native_id()):
        # It may have ended, or be nicer already and not allowed to be less so.
        with contextlib.suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, thread) < MODEL_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, MODEL_NICENESS)
                changed += 1
    return changed


async def keep_apart() -> None:
    """For as long as it runs. Start it once the models are warm."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    while True:
        if changed := yield_to_calls():
            log.debug("%d threads that compute now yield to calls", changed)
        await asyncio.sleep(_AGAIN_S)
