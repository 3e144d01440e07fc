"""The page in Debian's Chromium: a server in a thread, and a browser whose microphone is a WAV file."""

import asyncio
import shutil
import socket
import threading
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from infra.local_server import free_port
from models.base import Models, Samples
from models.scripted import (
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    voiced_signal,
)
from pipeline.events import CallEvent, CallObserver
from pipeline.line import LineInfo
from pipeline.persona import Persona
from pipeline.service import CallService
from telephony.browser.config import BrowserConfig
from telephony.browser.desk import BrowserDesk
from telephony.browser.routes import create_router

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MICROPHONE_HZ = 48_000
GREETING = "Greenfield Clinic, this is Maya. How can I help you?"


def stand_ins(
    heard: Sequence[str] = ("When are you open on Saturday?", "And on Sunday?"),
    said: Sequence[str] = ("We are open from nine to noon on Saturday.", "We are closed on Sunday."),
) -> Models:
    return Models(
        voice_activity=EnergyVoiceActivity(),
        transcriber=ScriptedTranscriber(heard, latency_s=0.15, once_per_turn=True),
        chat=ScriptedChat(said, first_token_s=0.1, tokens_per_s=30.0),
        synthesizer=ScriptedSynthesizer(latency_s=0.1, realtime_factor=0.3),
    )


class Server:
    """A server that has only the page. `events` are those of its calls, as observers were told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.events: list[CallEvent] = []
        self.accepting = True
        self.stop: Callable[[], None] = lambda: None

    def seen(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]


class _Watch:
    """The test, and the page where the call is the page's."""

    def __init__(self, *observers: CallObserver | None) -> None:
        self._observers = [observer for observer in observers if observer is not None]

    def observe(self, event: CallEvent) -> None:
        for observer in self._observers:
            observer.observe(event)


class _Kept:
    def __init__(self, events: list[CallEvent]) -> None:
        self._events = events

    def observe(self, event: CallEvent) -> None:
        self._events.append(event)


class Shell(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, up: threading.Event) -> None:
        super().__init__(config)
        self._up = up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()


@contextmanager
def page_served(models: Models, persona: Persona | None = None, **changes: Any) -> Iterator[Server]:
    """Serve the page, alone, from a thread with a loop of its own."""
    server = Server(free_port())
    up = threading.Event()
    failed: list[BaseException] = []
    config = BrowserConfig(**({"public_url": server.url, "title": "Maya"} | changes))

    async def main() -> None:
        desk: BrowserDesk | None = None

        def observe(info: LineInfo) -> CallObserver:
            return _Watch(_Kept(server.events), desk.observer(info) if desk is not None else None)

        who = persona or Persona(name="Greenfield Clinic", greeting=GREETING, system="You answer the phone.")
        service = CallService(models, who, observe=observe)
        await service.start()
        desk = BrowserDesk(config, service.answer, accepting=lambda: server.accepting)
        app = FastAPI()
        app.include_router(create_router(desk))
        shell = Shell(
            uvicorn.Config(
                app,
                port=server.port,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=1,
            ),
            up,
        )
        server.stop = lambda: setattr(shell, "should_exit", True)
        await shell.serve()
        await service.aclose()
        await models.aclose()

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


@contextmanager
def browser(
    playwright: Playwright, microphone: Path | None = None, *, ask: bool = False, device: bool = True
) -> Iterator[Browser]:
    """A headless Chromium that allows its fake microphone, which plays `microphone` once. `ask`: it asks, and
    nobody is there to allow it. Without `device` there is none."""
    options = ["--autoplay-policy=user-gesture-required", "--disable-gpu"]
    if device:
        options.append("--use-fake-device-for-media-stream")
    if not ask:
        options.append("--use-fake-ui-for-media-stream")
    if microphone is not None:
        options.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=options)
    try:
        yield chromium
    finally:
        chromium.close()


def open_page(chromium: Browser, url: str, **context_options: Any) -> Page:
    """A page of a fresh profile at /talk. What its scripts complain of is kept in `page.complaints`."""
    context: BrowserContext = chromium.new_context(**context_options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    page.complaints = complaints  # type: ignore[attr-defined]
    page.goto(url + "/talk")
    page.wait_for_selector("body:not([data-view=loading])")
    return page


def speech(text: str, duration_s: float) -> Samples:
    """(n,) float32 at 48 kHz: what the scripted voice would say, at its level."""
    return voiced_signal(text, duration_s, MICROPHONE_HZ)


def write_microphone(path: Path, pieces: Sequence[tuple[float, Samples]]) -> Path:
    """A WAV at 48 kHz: each piece begins at its second of the recording, silence elsewhere and 30 s after."""
    length = max(round(at * MICROPHONE_HZ) + len(sound) for at, sound in pieces) + 30 * MICROPHONE_HZ
    audio = np.zeros(length, np.float32)
    for at, sound in pieces:
        start = round(at * MICROPHONE_HZ)
        audio[start : start + len(sound)] += sound
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_HZ)
        file.writeframes((audio * 32767).astype("<i2").tobytes())
    return path
