"""The console in Debian's Chromium: a server in a thread, with calls that only report."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page

from bench.console_load import ScriptedCall
from infra.access.front import Front
from infra.app import create_app
from infra.calls import Calls, open_calls
from infra.loading import load
from infra.local_server import free_port
from infra.settings import Settings
from pipeline.events import CallEvent, CallObserver
from pipeline.line import LineInfo
from tests.infra.browser_kit import Shell


class ConsoleServer:
    """`in_loop(f)` runs `f()` on the server's loop and returns what it returns."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = settings.public_base_url
        self.calls: Calls
        self.app: FastAPI
        self.loop: asyncio.AbstractEventLoop
        self.stop: Callable[[], None] = lambda: None

    def in_loop(self, action: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(20)

    def observer(self, info: LineInfo) -> CallObserver:
        return self.calls.observer(info)

    def report(self, observer: CallObserver, *events: CallEvent) -> None:
        self.in_loop(lambda: [observer.observe(event) for event in events])

    def begin(self, count: int) -> list[ScriptedCall]:
        made: list[ScriptedCall] = self.in_loop(
            lambda: [ScriptedCall(number, self.calls.observer) for number in range(count)]
        )
        return made

    def go_on(self, calls: Sequence[ScriptedCall], seconds: float) -> None:
        """At once: nobody waits for the time to pass."""
        for _ in range(round(seconds / 0.02)):
            self.in_loop(lambda: [call.step() for call in calls])


@contextmanager
def console_served(folder: Path, **changes: Any) -> Iterator[ConsoleServer]:
    """Serve everything that `maya serve` does on the web, from a thread with a loop of its own."""
    told = {
        "insecure": True,
        "profile": "scripted",
        "calls_dir": folder / "calls",
        "port": free_port(),
        "talk": False,
    }
    server = ConsoleServer(Settings.model_validate(told | changes))
    up = threading.Event()
    failed: list[BaseException] = []

    async def main() -> None:
        server.loop = asyncio.get_running_loop()
        async with open_calls(server.settings, lambda: load(server.settings)) as calls:
            server.calls = calls
            server.app = create_app(server.settings, calls)
            front = Front(server.app, server.settings.access)
            config = uvicorn.Config(
                front.app,
                port=server.settings.port,
                http=front.protocol,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=5,
            )
            shell = Shell(config, up)

            def stop() -> None:
                calls.draining = True  # as `maya serve` does before it stops
                shell.should_exit = True

            server.stop = stop
            await shell.serve()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failed.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    up.wait(120)
    try:
        if failed:
            raise failed[0]
        yield server
    finally:
        server.stop()
        thread.join(20)


def open_console(chromium: Browser, url: str, where: str = "", **context_options: Any) -> Page:
    """The console in a fresh profile. What its scripts complain of is kept in `page.complaints`."""
    page = chromium.new_context(**context_options).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    page.complaints = complaints  # type: ignore[attr-defined]
    page.goto(f"{url}/console{where}")
    return page
