"""Puts the parts of outbound calls together for one server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from infra.outbound.dialler import Carrier, Dialler
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.settings import Settings, SettingsError
from pipeline.persona import Persona

LEDGER = "dialled.jsonl"


def check_outbound(settings: Settings) -> None:
    """What would only be found out when the first call is ordered. Raises `SettingsError`."""
    outbound = settings.outbound
    if not outbound.allowed_prefixes:
        return
    if not outbound.api_keys:
        raise SettingsError(
            "[outbound] allows calls, but api_keys is empty, so nobody could order one: "
            "`maya keys new` makes a key, and says what to write there"
        )
    if outbound.hours is None:
        raise SettingsError(
            "[outbound] allows calls, but at no hour: write [outbound.hours] with timezone and weekdays"
        )
    if not outbound.caller_id:
        raise SettingsError("[outbound] caller_id is missing: the number of yours that is shown")
    if outbound.via == "twilio" and not (settings.account_sid and settings.auth_tokens):
        raise SettingsError(
            "calls through Twilio need TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (console.twilio.com)"
        )


@asynccontextmanager
async def open_outbound(
    settings: Settings,
    carrier: Carrier,
    *,
    persona_named: Callable[[str], Persona | None],
    rehearse: Callable[[Persona], Awaitable[None]],
) -> AsyncIterator[Dialler]:
    """A dialler that runs."""
    dialler = Dialler(
        settings.outbound,
        carrier,
        CallLedger(settings.calls_dir / LEDGER),
        DoNotCall(settings.outbound.do_not_call),
        persona_named=persona_named,
        rehearse=rehearse,
    )
    running = asyncio.create_task(dialler.run(), name="dialler")
    try:
        yield dialler
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
