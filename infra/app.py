"""The web application: Twilio's routes, /healthz and /readyz, over one set of models."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from infra.reception import House, Reception, read_house
from infra.recording import CallRecords
from infra.settings import Settings
from models.base import Models
from pipeline.events import CallObserver, Unobserved
from pipeline.line import Line, LineInfo
from pipeline.persona import Persona
from pipeline.service import CallOutcome, CallService
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router

log = logging.getLogger(__name__)

_DRAIN_STEP_S = 0.1
_GOODBYE_S = 10.0
"""How long the goodbyes may take once the drain's time is up."""
_AFTER_S = 2.0
"""When we close a stream, Twilio asks `/twilio/after` what to do next; be there to answer."""


class Calls:
    """The running call service with its models and records; made by `open_calls`."""

    def __init__(
        self, service: CallService, persona_for: Callable[[LineInfo], Persona | None] = lambda info: None
    ) -> None:
        self._service = service
        self._persona_for = persona_for
        self.draining = False

    @property
    def live(self) -> int:
        return self._service.live_calls

    async def answer(self, line: Line) -> CallOutcome:
        return await self._service.answer(line, self._persona_for(line.info))

    async def drain(self, limit_s: float, hurried: Callable[[], bool] = lambda: False) -> None:
        """Take no new calls; return when the live ones have ended, at the latest after `limit_s` and a
        goodbye. `hurried` turning true ends the wait at once."""
        self.draining = True
        if not self.live:
            return
        log.info("waiting up to %.0f s for %d live call(s)", limit_s, self.live)
        if not await self._wait(limit_s, hurried):
            log.info("saying goodbye to %d live call(s)", self.live)
            self._service.end_politely()
            await self._wait(_GOODBYE_S, hurried)
        if not hurried():
            await asyncio.sleep(_AFTER_S)

    async def _wait(self, limit_s: float, hurried: Callable[[], bool]) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while self.live and not hurried():
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_DRAIN_STEP_S)
        return True


@asynccontextmanager
async def open_calls(settings: Settings, load: Callable[[], Models]) -> AsyncIterator[Calls]:
    """Load the models in a thread, warm them for the persona, and close everything in the end.

    Raises `ModelError`, `DocumentError`: each says what to do.
    """

    def read() -> House:
        return read_house(settings.persona, settings.routes)

    house = await asyncio.to_thread(read)
    began = time.monotonic()
    log.info("loading models, profile %s", settings.profile)
    models = await asyncio.to_thread(load)
    names = ", ".join(persona.name for persona in house.personas())
    log.info("models loaded in %.1f s; warming up persona %s", time.monotonic() - began, names)
    records = CallRecords(settings.calls_dir) if settings.record else None

    def observe(info: LineInfo) -> CallObserver:
        return records.observer(info) if records is not None else Unobserved()

    service = CallService(models, house.persona, observe=observe)
    reception = Reception(house, service, read=read)
    watching: asyncio.Task[None] | None = None
    try:
        await service.start()
        await reception.open()
        watching = asyncio.create_task(reception.watch(), name="reception")
        log.info("ready for calls after %.1f s", time.monotonic() - began)
        yield Calls(service, reception.persona_for)
    finally:
        if watching is not None:
            watching.cancel()
        await service.aclose()
        await models.aclose()
        if records is not None:
            await asyncio.to_thread(records.close)


def twilio_config(settings: Settings) -> TwilioConfig:
    """Raises `TwilioConfigError`."""
    return TwilioConfig(
        public_url=settings.public_base_url,
        auth_tokens=settings.auth_tokens,
        account_sid=settings.account_sid,
        shared_keys=settings.shared_key_pairs,
        insecure=settings.insecure,
        max_pending_sockets=settings.max_pending_sockets,
        start_timeout_s=settings.start_timeout_s,
        media_timeout_s=settings.media_timeout_s,
        token_ttl_s=settings.token_ttl_s,
    )


def create_app(settings: Settings, calls: Calls) -> FastAPI:
    """The application over running calls. Raises `TwilioConfigError`."""
    app = FastAPI(title="Maya", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(create_router(twilio_config(settings), calls.answer))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str | int]:
        """New calls are welcome. 503 while the server drains."""
        if calls.draining:
            response.status_code = 503
        return {"status": "draining" if calls.draining else "ready", "live_calls": calls.live}

    @app.middleware("http")
    async def refuse_new_calls(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        # 503 sends Twilio to the number's fallback URL; calls that live still find /twilio/after.
        if calls.draining and request.url.path == "/twilio/voice":
            return Response("draining", 503, {"Retry-After": "30"}, "text/plain")
        return await answer(request)

    return app
