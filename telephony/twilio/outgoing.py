"""Calls that we make through Twilio: REST to place one, the same media stream once somebody answers."""

from typing import Final
from urllib.parse import quote, urlencode

from telephony.twilio.account import TwilioAccount
from telephony.twilio.config import TwilioConfig
from telephony.twilio.elsewhere import FRONT_END_PARAMETER
from telephony.twilio.routes import ANSWERED, ORDER_PARAMETER, STATUS

_EVENTS: Final = ["initiated", "ringing", "answered", "completed"]
LONGEST_S: Final = 4 * 3600
"""A call that has lost us ends by itself."""


def place_call(
    account: TwilioAccount,
    config: TwilioConfig,
    *,
    to: str,
    caller_id: str,
    order: str,
    ring_s: int,
    front_end: str = "",
) -> str:
    """Ask Twilio to dial `to` (E.164) and show `caller_id`; the CallSid. `order` comes back with the stream
    and with every report, and so does `front_end`, the name of this one where there are several. Blocks for
    a request; raises `TwilioAccountError`, after which nothing rings unless Twilio's answer was lost on its
    way."""
    told = {ORDER_PARAMETER: order} | ({FRONT_END_PARAMETER: front_end} if front_end else {})
    query = f"?{urlencode(told, quote_via=quote, safe='')}"
    made = account.ask(
        f"calling {to}",
        lambda: account.client.calls.create(
            to=to,
            from_=caller_id,
            url=config.webhook_url(ANSWERED) + query,
            method="POST",
            status_callback=config.webhook_url(STATUS) + query,
            status_callback_method="POST",
            status_callback_event=_EVENTS,
            timeout=ring_s,
            time_limit=LONGEST_S,
        ),
    )
    return str(made.sid)
