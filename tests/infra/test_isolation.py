"""Which threads yield to calls, and that they do."""

import os
import subprocess
import sys

import pytest

from infra.isolation import threads_that_compute

LOOP, LLM, EYES, POOL, OMP, WRITER = 100, 101, 102, 103, 104, 105
PYTHON = [
    (LOOP, "MainThread"),
    (LLM, "maya-llama"),
    (EYES, "vad_0"),
    (POOL, "whisper_0"),
    (WRITER, "call-records"),
]


def test_models_threads_and_those_that_libraries_start_compute() -> None:
    assert threads_that_compute(PYTHON, [LOOP, LLM, EYES, POOL, OMP, WRITER], LOOP) == [LLM, POOL, OMP]


def test_the_loops_own_thread_is_left_alone_wherever_it_runs() -> None:
    assert threads_that_compute([(LLM, "whisper-loop")], [LLM, OMP], LLM) == [OMP]


NICE = """
import asyncio, os, threading
from infra.isolation import keep_apart

ready, over = threading.Event(), threading.Event()
found = {}

def compute():
    child = threading.Thread(target=lambda: over.wait(20), name="of-the-model")
    ready.wait(20)
    child.start()
    found["child"] = os.getpriority(os.PRIO_PROCESS, child.native_id)
    over.wait(20)

async def main():
    model = threading.Thread(target=compute, name="whisper_0")
    model.start()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    task = asyncio.create_task(keep_apart())
    await asyncio.sleep(0)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - before
    models = os.getpriority(os.PRIO_PROCESS, model.native_id)
    ready.set()
    while "child" not in found:
        await asyncio.sleep(0.01)
    over.set()
    task.cancel()
    print(own, models, found["child"])

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of a thread is Linux's")
def test_threads_that_models_start_later_inherit_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NICE], capture_output=True, text=True, timeout=60, check=True
    )
    own, models, child = map(int, done.stdout.split())
    assert own == 0
    assert models == max(10, os.getpriority(os.PRIO_PROCESS, 0))
    assert child == models
