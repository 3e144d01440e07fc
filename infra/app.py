"""The web application: Twilio's routes and those of other ways in, /calls, /healthz, /readyz, /metrics."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from infra.access import web as access
from infra.calls import Calls
from infra.console.console import Console
from infra.console.routes import create_router as console_router
from infra.loading import capacity_of
from infra.observe.observatory import Observatory
from infra.observe.routes import health_router
from infra.outbound.api import create_router as outbound_router
from infra.settings import Settings
from infra.ways_in import WaysIn
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import VOICE
from telephony.twilio.routes import create_router as twilio_router
from telephony.twilio.waiting import WAITING, WaitingRoom


def twilio_config(settings: Settings) -> TwilioConfig:
    """Raises `TwilioConfigError`."""
    return TwilioConfig(
        public_url=settings.public_base_url,
        auth_tokens=settings.auth_tokens,
        account_sid=settings.account_sid,
        shared_keys=settings.shared_key_pairs,
        insecure=settings.insecure,
        # Every call that was let in may open its stream at the same moment.
        max_pending_sockets=max(settings.max_pending_sockets, capacity_of(settings).calls),
        start_timeout_s=settings.start_timeout_s,
        media_timeout_s=settings.media_timeout_s,
        token_ttl_s=settings.token_ttl_s,
    )


def waiting_room(settings: Settings, calls: Calls) -> WaitingRoom | None:
    """Where callers hold the line when all places are taken; None where they hear that."""
    told = settings.capacity
    if told.when_full == "busy":
        return None
    return WaitingRoom(told.wait_words, told.wait_limit_s, told.wait_ask_s, calls.admission)


def create_app(
    settings: Settings, calls: Calls, ways: WaysIn | None = None, observatory: Observatory | None = None
) -> FastAPI:
    """The application over running calls. Raises `TwilioConfigError`, `AccessConfigError`."""
    app = FastAPI(title="Maya", docs_url=None, redoc_url=None, openapi_url=None)
    access.install(
        app,
        settings.access,
        public_url=settings.public_base_url,
        insecure=settings.insecure,
        operator_hashes=settings.outbound.api_keys,
    )
    dialler = calls.dialler
    if settings.takes_twilio:
        app.include_router(
            twilio_router(
                twilio_config(settings),
                calls.answer,
                lines=calls.admission,
                on_order_over=dialler.over if dialler is not None else lambda order, detail: None,
                elsewhere=calls.resuming,
                waiting=waiting_room(settings, calls),
                neighbour_tls=app.state.neighbourhood.tls,
            )
        )
    for router in ways.routers if ways is not None else ():
        app.include_router(router)
    if dialler is not None:
        app.include_router(outbound_router(dialler))
    app.include_router(console_router(Console(settings, calls, calls.store)))

    app.include_router(health_router(calls.vital, calls.welcome, calls.places_told))
    if observatory is not None:
        observatory.install(app)

    @app.middleware("http")
    async def refuse_new_calls(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        # 503 sends Twilio to the number's fallback URL; calls that live still find /twilio/after.
        if calls.draining and not calls.handed_over and request.url.path.rstrip("/") in (VOICE, WAITING):
            return Response("draining", 503, {"Retry-After": "30"}, "text/plain")
        response = await answer(request)
        if calls.handed_over:
            # The next request is for the process that has the listening socket.
            response.headers["Connection"] = "close"
        return response

    return app
