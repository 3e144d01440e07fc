"""Every way in but Twilio's: SIP and AudioSocket on ports of their own, Asterisk's WebSocket and the page on
the web server. Each hands its lines to the same `Calls.answer`."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter

from infra.calls import Calls
from infra.observe.health import lives
from infra.settings import Settings, SettingsError
from telephony.asterisk.book import CallBook
from telephony.asterisk.routes import MEDIA
from telephony.asterisk.routes import create_router as asterisk_router
from telephony.asterisk.server import AudioSocketServer
from telephony.browser.config import BrowserConfig
from telephony.browser.desk import BrowserDesk
from telephony.browser.routes import create_router as browser_router
from telephony.sip.config import SipConfig
from telephony.sip.server import SipServer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WaysIn:
    """`routers` belong into the web application; `sip` dials, too."""

    routers: tuple[APIRouter, ...]
    sip: SipServer | None


def browser_config(settings: Settings) -> BrowserConfig:
    """Raises `BrowserConfigError`."""
    return BrowserConfig(
        public_url=settings.public_base_url,
        password=settings.talk_password.get_secret_value(),
        enabled=settings.talk,
        start_timeout_s=settings.start_timeout_s,
        media_timeout_s=settings.media_timeout_s,
    )


def check_ways_in(settings: Settings) -> None:
    """What `open_ways_in` would only find out when the models have been loaded. Raises `SettingsError`,
    `BrowserConfigError`."""
    browser_config(settings)
    if (sip := settings.sip) is not None:
        for wanted, kind in ((sip.udp, socket.SOCK_DGRAM), (sip.tcp, socket.SOCK_STREAM)):
            if wanted:
                _try_port(sip.host, sip.port, kind, "[sip] port")
    if (asterisk := settings.asterisk) is not None:
        host, port = asterisk.audiosocket_host, asterisk.audiosocket_port
        _try_port(host, port, socket.SOCK_STREAM, "[asterisk] audiosocket_port")


def _try_port(host: str, port: int, kind: socket.SocketKind, setting: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            raise SettingsError(f"{setting}: {_why(error, host, port)}") from None


def _why(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} on {host} is taken by another program (see: ss -tulnp 'sport = :{port}'). "
                "Stop it, or choose another port"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{host} is no address of this machine. Listen on one that is, or on 0.0.0.0, which is all "
                "of them; the address that a NAT shows to others is [sip] public_address"
            )
        case errno.EACCES:
            return f"port {port} needs more rights; choose one above 1023"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror or error}"


@asynccontextmanager
async def open_ways_in(settings: Settings, calls: Calls) -> AsyncIterator[WaysIn]:
    """Raises `SipConfigError`, `AsteriskConfigError`, `BrowserConfigError`: ports that are taken, mostly."""
    routers: list[APIRouter] = []
    async with AsyncExitStack() as stack:
        config = browser_config(settings)
        if config.on:
            desk = BrowserDesk(config, calls.answer, lines=calls.admission)
            calls.watchers.append(desk.observer)
            routers.append(browser_router(desk))
            log.info("talk in the browser: %s/talk", settings.public_base_url)
        if settings.asterisk is not None:
            book = CallBook(settings.asterisk.announced_for_s, asyncio.get_running_loop().time)
            routers.append(asterisk_router(settings.asterisk, calls.answer, lines=calls.admission, book=book))
            server = AudioSocketServer(settings.asterisk, calls.answer, lines=calls.admission, book=book)
            await stack.enter_async_context(server)
            log.info("Asterisk's WebSocket at port %d, path %s", settings.port, MEDIA)
        sip = None
        if settings.sip is not None:
            sip = await stack.enter_async_context(
                SipServer(settings.sip, calls.answer, accepting=calls.accepting, lines=calls.admission)
            )
            calls.vital.watch("sip", lives(partial(getattr, sip, "listening"), "its sockets are closed"))
            log.info("SIP on %s port %d, from %s", settings.sip.host, sip.port, _who_may_call(settings.sip))
        yield WaysIn(tuple(routers), sip)


def _who_may_call(sip: SipConfig) -> str:
    callers = [str(network) for network in sip.allow]
    if sip.insecure:
        callers.append("this machine")
    if sip.users:
        callers.append(f"{len(sip.users)} user(s) with a secret")
    if sip.trunk is not None:
        callers.append(f"the trunk {sip.trunk.host}")
    return ", ".join(callers)
