"""Puts the parts of outbound calls together for one server."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from infra.app import twilio_config
from infra.calls import Calls
from infra.outbound.carriers import SipCarrier, TwilioCarrier
from infra.outbound.dialler import Carrier, Dialler
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.policy import OutboundSettings
from infra.settings import Settings, SettingsError
from pipeline.events import CallObserver
from pipeline.line import LineInfo
from telephony.sip.server import SipServer
from telephony.twilio.account import TwilioAccount
from telephony.twilio.elsewhere import RESUMED_PARAMETER
from telephony.twilio.routes import ORDER_PARAMETER

log = logging.getLogger(__name__)

LEDGER = "dialled.jsonl"


def check_outbound(settings: Settings) -> None:
    """What would only be found out when the first call is ordered. Raises `SettingsError`."""
    outbound = settings.outbound
    if not outbound.allowed_prefixes:
        return
    if not (outbound.api_keys or settings.access.keys or settings.access.keys_file):
        raise SettingsError(
            "[outbound] allows calls, but [access] has no keys, so nobody could order one: "
            "`maya keys new --role operator` makes a key, and says what to write there"
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
    if outbound.via == "sip" and (settings.sip is None or settings.sip.trunk is None):
        raise SettingsError('[outbound] via = "sip" needs a trunk to dial through: [sip.trunk] host = "..."')
    _listed(outbound)


@asynccontextmanager
async def open_outbound(settings: Settings, calls: Calls, sip: SipServer | None) -> AsyncIterator[None]:
    """While it is open, `calls` make calls, where the settings allow any."""
    outbound = settings.outbound
    if not outbound.allowed_prefixes:
        yield
        return
    async with AsyncExitStack() as stack:
        log.info(
            "calls may be ordered, through %s; numbers on the do-not-call list %s: %d",
            outbound.via,
            outbound.do_not_call,
            await asyncio.to_thread(_listed, outbound),
        )
        carrier = _carrier(settings, calls, sip, stack)
        dialler = calls.dialler = Dialler(
            outbound,
            carrier,
            CallLedger(settings.calls_dir / LEDGER),
            DoNotCall(outbound.do_not_call),
            persona_named=calls.persona_named,
            rehearse=calls.rehearse,
            accepting=calls.accepting,
            places=calls.admission,
        )
        calls.watchers.append(partial(opt_out, dialler))
        running = asyncio.create_task(dialler.run(), name="dialler")
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def opt_out(dialler: Dialler, info: LineInfo) -> CallObserver | None:
    """Listens for it on the calls that we made; None on others."""
    order = dialler.status(info.parameters.get(ORDER_PARAMETER, ""))
    if order is not None:
        return dialler.opt_out_observer(order.number)
    # One that goes on after its line was lost, maybe at another front-end, has left its order behind.
    if info.parameters.get(RESUMED_PARAMETER) == "outbound" and info.caller.startswith("+"):
        return dialler.opt_out_observer(info.caller)
    return None


def _listed(outbound: OutboundSettings) -> int:
    """How many numbers are on the do-not-call list. Blocks. Raises `SettingsError`."""
    try:
        return len(DoNotCall(outbound.do_not_call).numbers())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the do-not-call list {outbound.do_not_call} cannot be read, so nobody may be called: {error}"
        ) from None


def _carrier(settings: Settings, calls: Calls, sip: SipServer | None, stack: AsyncExitStack) -> Carrier:
    outbound = settings.outbound
    if outbound.via == "sip":
        assert sip is not None  # noqa: S101  (see check_outbound)

        def over(order: str, detail: str) -> None:
            if calls.dialler is not None:
                calls.dialler.over(order, detail)

        carrier = SipCarrier(sip, calls.answer, over, caller_id=outbound.caller_id, ring_s=outbound.ring_s)
        stack.push_async_callback(carrier.aclose)
        return carrier
    account = TwilioAccount(
        settings.account_sid,
        settings.auth_tokens[0],
        api_base_url=os.environ.get("MAYA_TWILIO_API") or None,
    )
    return TwilioCarrier(
        account,
        twilio_config(settings),
        caller_id=outbound.caller_id,
        ring_s=outbound.ring_s,
        front_end=calls.resuming.here if calls.resuming is not None else "",
    )
