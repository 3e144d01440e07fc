"""The server of `maya bench churn`: all of `maya serve` over stand-in models that keep nothing of a call,
and a socket on which it tells what it holds: tasks, descriptors, threads, places, resident memory."""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

from bench.media_server import bench_settings
from bench.tone_voice import ToneSynthesizer
from infra.logs import configure_logging
from infra.server import bind, serve_on
from models.base import ModelError, Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber

_TIDY_S = 0.5


class Inside:
    """Answers every connection on a socket in `folder` with one line of JSON."""

    def __init__(self, path: Path, chat: ScriptedChat) -> None:
        self._path = path
        self._chat = chat

    async def serve(self) -> None:
        server = await asyncio.start_unix_server(self._tell, self._path)
        async with server:
            while True:
                await asyncio.sleep(_TIDY_S)
                # What tests ask of the stand-in, and nobody here.
                for name in ("prefixes", "samplings", "prefills", "requests", "grammars", "begun"):
                    getattr(self._chat, name).clear()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gc.collect()
        tasks = [task.get_name() for task in asyncio.all_tasks()]
        writer.write(
            json.dumps(
                {
                    "tasks": len(tasks),
                    "names": sorted(tasks),
                    "handles": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  (memory, not a disk)
                    "threads": threading.active_count(),
                }
            ).encode()
        )
        writer.close()


async def _run(port: int, folder: Path, control: Path) -> None:
    chat = ScriptedChat(first_token_s=0.1, tokens_per_s=20.0)
    models = Models(ScriptedTranscriber(latency_s=0.1), chat, ToneSynthesizer(8_000), EnergyVoiceActivity())
    settings = bench_settings(port, folder, calls=1_000, auth_token=os.environ["TWILIO_AUTH_TOKEN"])
    telling = asyncio.create_task(Inside(control, chat).serve(), name="inside")
    with bind("127.0.0.1", port) as listener:
        await serve_on(settings, listener, lambda: models)
    telling.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=Path, required=True)
    arguments = parser.parse_args()
    import uvloop

    configure_logging("warning")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="maya-bench-") as folder,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_run(arguments.port, Path(folder), arguments.control))
    except ModelError as missing:
        sys.exit(f"maya: {missing}")


if __name__ == "__main__":
    main()
