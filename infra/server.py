"""`maya serve`: uvicorn over the application, on a socket that is bound before any model is loaded, and the
other ways in."""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from urllib.parse import urlsplit

import uvicorn

from infra.access.front import Front
from infra.access.tls import check_access
from infra.app import create_app, twilio_config
from infra.calls import Calls, open_calls
from infra.inherited import WEB, inherited_sockets, notify
from infra.loading import load
from infra.loopback import is_loopback
from infra.observe.observatory import check_observe, open_observatory
from infra.outbound.office import check_outbound, open_outbound
from infra.resuming import front_end_name
from infra.settings import Settings, SettingsError
from infra.ways_in import check_ways_in, open_ways_in
from models.base import Models
from telephony.collector import spare_what_is_loaded
from telephony.socket_uvicorn import MediaWebSocket

log = logging.getLogger(__name__)

_LARGEST_MESSAGE_BYTES = 2**21


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `SettingsError`, `ModelError`, `DocumentError`,
    `TwilioConfigError`, `AccessConfigError`, `InheritedSocketError` before the first call.

    Listens on a socket of its own, or on the one that a service manager hands over (`infra.inherited`)."""
    inherited = inherited_sockets(os.environ)
    if WEB in inherited:
        # Whoever gave it chose the address, for which the same rules hold.
        settings = settings.model_copy(update={"host": inherited[WEB].getsockname()[0]})
    if settings.takes_twilio:
        twilio_config(settings)  # complains before models are loaded
    settings.check_serving()
    check_access(settings.access, settings.outbound.api_keys)
    check_outbound(settings)
    check_observe(settings)
    check_ways_in(settings)
    listener = inherited.get(WEB)
    handed_over = listener is not None
    if listener is None:
        listener = bind(settings.bind_host, settings.port)
    if settings.port == 0 or handed_over:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    with listener:
        _run(serve_on(settings, listener, lambda: load(settings), handed_over=handed_over))


def bind(host: str, port: int) -> socket.socket:
    """A listening address of our own, or `SettingsError` that says who may have it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two servers with SO_REUSEADDR may both bind; only one may listen.
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"port {port} on {host} is taken by another program (see: ss -ltnp 'sport = :{port}'). "
                f"Stop it, or choose another port: maya serve --port {port + 1 if port < 65_535 else 8080}"
            ) from None
        if error.errno == errno.EACCES:
            raise SettingsError(f"port {port} needs more rights; choose one above 1023 with --port") from None
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    except OverflowError:
        listener.close()
        raise SettingsError(f"port {port} is no port; choose one from 1 to 65535") from None
    return listener


async def serve_on(
    settings: Settings,
    listener: socket.socket,
    load_: Callable[[], Models],
    *,
    handed_over: bool = False,
) -> None:
    """Serve on a socket that listens, until a signal comes and the calls that are on have ended.
    `handed_over`: others have the same socket, and take what comes once we drain. Raises `SettingsError`."""
    listeners = [listener]
    if handed_over:
        settings, own = _address_of_its_own(settings)
        listeners += own
    async with (
        open_calls(settings, load_) as calls,
        open_ways_in(settings, calls) as ways,
        open_outbound(settings, calls, ways.sip),
        open_observatory(settings, calls, ways) as observatory,
    ):
        app = create_app(settings, calls, ways, observatory)
        front = Front(app, settings.access)
        config = uvicorn.Config(
            front.app,
            http=front.protocol,
            ws=MediaWebSocket,
            ws_max_size=_LARGEST_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=None,  # media flows all the time, and Twilio's side is not known to answer
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the public URL is configured, never believed from a request
            timeout_graceful_shutdown=5,
        )
        if not settings.takes_twilio:
            log.info("no calls from Twilio: TWILIO_AUTH_TOKEN is not set")
        at, port = listener.getsockname()[:2]
        log.info("listening on %s port %d, public URL %s", at, port, settings.public_base_url)
        if not is_loopback(at) and settings.access.tls_certificate is None:
            log.warning(
                "%s port %d takes what comes without TLS: let only the proxy that has TLS reach it, or set "
                "[access] tls_certificate and tls_key",
                *(at, port),
            )
        if is_loopback(at) and not is_loopback(urlsplit(settings.public_base_url).hostname or ""):
            log.info(
                "only this machine reaches that address: its proxy with TLS, or a tunnel; else say --host"
            )
        if is_loopback(at) and settings.store.is_shared:
            log.warning(
                "other machines' front-ends cannot reach this one at %s: what Twilio brings to them about "
                "its calls is not passed on. Give each front-end of the store an address of its own: --host",
                at,
            )
        server = _DrainingServer(config, calls, settings.drain_s, handed_over=handed_over)
        # From here on, for uvicorn only listens to signals a moment later. And it raises them again once it
        # has shut down, which by default would end the process before recordings are complete.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        spare_what_is_loaded()
        async with front.secured(config):
            await server.serve(sockets=listeners)


def _address_of_its_own(settings: Settings) -> tuple[Settings, list[socket.socket]]:
    """Where several processes have one address, who asks there about a call reaches any of them, and never
    one that drains. So each listens at a port of its own, too, and is named in the store after that: it is
    for the other front-ends, to which Twilio brings what it asks about the calls of this one, such as whom
    to dial. Nothing where they could not ask. Raises `SettingsError`."""
    if settings.store.front_end or not front_end_name(settings):
        return settings, []
    own = bind(settings.bind_host, 0)
    name = front_end_name(settings.model_copy(update={"port": own.getsockname()[1]}))
    store = settings.store.model_copy(update={"front_end": name})
    return settings.model_copy(update={"store": store}), [own]


class _DrainingServer(uvicorn.Server):
    """Lets live calls end before uvicorn closes their sockets."""

    def __init__(self, config: uvicorn.Config, calls: Calls, drain_s: float, *, handed_over: bool) -> None:
        super().__init__(config)
        self._calls = calls
        self._drain_s = drain_s
        self._handed_over = handed_over

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        if self._handed_over:
            # What waits in the queue is for whoever else has the socket; our own port stays open.
            for server in self.servers[:1]:
                server.close()
            for listening in (sockets or [])[:1]:
                listening.close()
        await self._calls.drain(self._drain_s, lambda: self.force_exit, handed_over=self._handed_over)
        await super().shutdown(sockets)


def _run(main: Coroutine[object, object, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
