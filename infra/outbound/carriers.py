"""Who dials for us."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from infra.outbound.dialler import CarrierRefused, Order
from pipeline.line import Line
from pipeline.service import CallOutcome
from telephony.sip.errors import DialFailed
from telephony.sip.line import spoken
from telephony.sip.server import SipServer
from telephony.twilio.account import TwilioAccount
from telephony.twilio.config import TwilioConfig
from telephony.twilio.errors import TwilioAccountError
from telephony.twilio.outgoing import place_call
from telephony.twilio.routes import ORDER_PARAMETER

log = logging.getLogger(__name__)

_PLAIN = ("busy", "no answer", "declined")
"""Reasons that need no more words; they are Twilio's, too."""


class TwilioCarrier:
    """Through the account's REST API; whoever answers comes in on the media stream. `front_end` names this
    one, to which what becomes of the call is brought where there are several."""

    def __init__(
        self,
        account: TwilioAccount,
        config: TwilioConfig,
        *,
        caller_id: str,
        ring_s: int,
        front_end: str = "",
    ) -> None:
        self._account = account
        self._config = config
        self._caller_id = caller_id
        self._ring_s = ring_s
        self._front_end = front_end

    async def place(self, order: Order) -> str:
        def place() -> str:
            return place_call(
                self._account,
                self._config,
                to=order.number,
                caller_id=self._caller_id,
                order=order.id,
                ring_s=self._ring_s,
                front_end=self._front_end,
            )

        try:
            return await asyncio.to_thread(place)
        except TwilioAccountError as error:
            raise CarrierRefused(str(error)) from None


class SipCarrier:
    """Through the SIP trunk. `over(order, detail)` hears of phones that nobody answers."""

    def __init__(
        self,
        server: SipServer,
        answer: Callable[[Line], Awaitable[CallOutcome]],
        over: Callable[[str, str], None],
        *,
        caller_id: str,
        ring_s: int,
    ) -> None:
        self._server = server
        self._answer = answer
        self._over = over
        self._caller_id = caller_id
        self._ring_s = ring_s
        self._calls: set[asyncio.Task[None]] = set()

    async def place(self, order: Order) -> str:
        if self._server.config.trunk is None:
            raise CarrierRefused("there is no trunk to dial through: [sip.trunk] in maya.toml")
        task = asyncio.create_task(self._call(order), name=f"dial/{order.id}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return f"sip-{order.id}"

    async def _call(self, order: Order) -> None:
        try:
            async with asyncio.timeout(self._ring_s):
                line = await self._server.dial(order.number, caller=self._caller_id)
        except TimeoutError:
            self._over(order.id, "no answer")
            return
        except DialFailed as failed:
            log.info("order %s: nobody answered: %s", order.id, failed)
            word = spoken(failed.code)
            self._over(order.id, word if word in _PLAIN else f"{word} ({failed})")
            return
        except Exception as error:
            log.exception("order %s could not be dialled", order.id)
            self._over(order.id, f"{type(error).__name__}: {error}")
            return
        line.info = replace(line.info, parameters={**line.info.parameters, ORDER_PARAMETER: order.id})
        try:
            await self._answer(line)
        except Exception:
            log.exception("order %s failed on its call", order.id)
        finally:
            await line.hang_up("goodbye")

    async def aclose(self) -> None:
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
