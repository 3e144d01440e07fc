"""Every way in but Twilio's: SIP and AudioSocket on ports of their own, Asterisk's WebSocket and the page on
the web server. Each hands its lines to the same `Calls.answer`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import APIRouter

from infra.calls import Calls
from infra.settings import Settings
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


@asynccontextmanager
async def open_ways_in(settings: Settings, calls: Calls) -> AsyncIterator[WaysIn]:
    """Raises `SipConfigError`, `AsteriskConfigError`, `BrowserConfigError`: ports that are taken, mostly."""
    routers: list[APIRouter] = []
    async with AsyncExitStack() as stack:
        config = browser_config(settings)
        if config.on:
            desk = BrowserDesk(config, calls.answer, accepting=calls.accepting)
            calls.watchers.append(desk.observer)
            routers.append(browser_router(desk))
            log.info("talk in the browser: %s/talk", settings.public_base_url)
        if settings.asterisk is not None:
            book = CallBook(settings.asterisk.announced_for_s, asyncio.get_running_loop().time)
            routers.append(
                asterisk_router(settings.asterisk, calls.answer, accepting=calls.accepting, book=book)
            )
            server = AudioSocketServer(settings.asterisk, calls.answer, calls.accepting, book=book)
            await stack.enter_async_context(server)
            log.info("Asterisk's WebSocket at port %d, path %s", settings.port, MEDIA)
        sip = None
        if settings.sip is not None:
            sip = await stack.enter_async_context(
                SipServer(settings.sip, calls.answer, accepting=calls.accepting)
            )
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
