"""Who dials for us."""

import asyncio

from infra.outbound.dialler import CarrierRefused, Order
from telephony.twilio.account import TwilioAccount
from telephony.twilio.config import TwilioConfig
from telephony.twilio.errors import TwilioAccountError
from telephony.twilio.outgoing import place_call


class TwilioCarrier:
    """Through the account's REST API; whoever answers comes in on the media stream."""

    def __init__(self, account: TwilioAccount, config: TwilioConfig, *, caller_id: str, ring_s: int) -> None:
        self._account = account
        self._config = config
        self._caller_id = caller_id
        self._ring_s = ring_s

    async def place(self, order: Order) -> str:
        def place() -> str:
            return place_call(
                self._account,
                self._config,
                to=order.number,
                caller_id=self._caller_id,
                order=order.id,
                ring_s=self._ring_s,
            )

        try:
            return await asyncio.to_thread(place)
        except TwilioAccountError as error:
            raise CarrierRefused(str(error)) from None
