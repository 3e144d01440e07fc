"""The server that `maya bench console` looks at: all that `maya serve` has on the web, with calls that only
report. Prints one JSON line: what its process used while it was measured.

With `--page` the console is told of the calls and viewers may look; without it everything else is the same.
One call more, `probe`, tells the time in its words about once a second.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import uvicorn

from bench.console_load import ScriptedCall, Watch, keep_talking
from bench.processes import cpu_s
from infra.access.front import Front
from infra.app import create_app
from infra.calls import Calls, open_calls
from infra.loading import load
from infra.settings import Settings
from pipeline.events import CallerTurn, CallObserver, CallStarted, Unobserved
from pipeline.line import LineInfo
from telephony.collector import spare_what_is_loaded

PROBE = "probe"
WARM_UP_S = 3.0


async def main(port: int, calls: int, seconds: float, *, page: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {
                "insecure": True,
                "profile": "scripted",
                "port": port,
                "talk": False,
                "record": False,
                "store": {"enabled": False},
                "calls_dir": Path(folder),
            }
        )
        async with open_calls(settings, lambda: load(settings)) as house:
            await _serve(settings, house, calls, seconds, page=page)


async def _serve(settings: Settings, house: Calls, calls: int, seconds: float, *, page: bool) -> None:
    house.watchers.clear()  # of those that watch, the console alone is measured
    front = Front(create_app(settings, house), settings.access)
    server = uvicorn.Server(
        uvicorn.Config(
            front.app,
            port=settings.port,
            http=front.protocol,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=5,
        )
    )
    serving = asyncio.create_task(server.serve())

    def watch(info: LineInfo) -> CallObserver:
        return house.observer(info) if page else Unobserved()

    spare_what_is_loaded()
    talking = [ScriptedCall(number, watch) for number in range(calls)]
    probing = asyncio.create_task(_probe(watch))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await keep_talking(talking, WARM_UP_S)
    pid = os.getpid()
    used_s, began = cpu_s(pid), time.monotonic()
    await keep_talking(talking, seconds)
    told = {"cpu_s": cpu_s(pid) - used_s, "wall_s": time.monotonic() - began}
    print(json.dumps(told), flush=True)
    probing.cancel()
    house.draining = True  # as `maya serve` does before it stops: streams end
    server.should_exit = True
    await serving


async def _probe(watch: Watch) -> None:
    """Says when it said so, for ever."""
    info = LineInfo(PROBE, "sip", "probe", "probe")
    observer = watch(info)
    observer.observe(CallStarted(0.0, info, "probe"))
    rand, turn = random.Random(1), 0
    while True:
        await asyncio.sleep(0.2 + 1.6 * rand.random())
        turn += 1
        observer.observe(CallerTurn(0.0, turn, f"{time.time():.6f}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--page", action="store_true")
    told = parser.parse_args()
    logging.basicConfig(level="WARNING")
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(told.port, told.calls, told.seconds, page=told.page))
