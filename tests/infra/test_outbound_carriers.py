"""Calls through the SIP trunk: what becomes of those that nobody answers, and of those that fail."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from infra.outbound.carriers import SipCarrier
from infra.outbound.dialler import CarrierRefused, Order
from pipeline.line import Line, LineInfo
from pipeline.service import CallOutcome
from telephony.simulator.virtual_loop import run_virtual
from telephony.sip.errors import DialFailed
from telephony.twilio.routes import ORDER_PARAMETER
from tests.pipeline.hand_line import HandLine

ORDER = Order("o-1", "+12025550123", "")


class Desk:
    """A carrier whose server dials as `dial` does; `over` is what it told of its orders."""

    def __init__(self, dial: Callable[..., Awaitable[HandLine]], *, trunk: object = "a trunk") -> None:
        self.over: list[tuple[str, str]] = []
        self.answered: list[LineInfo] = []
        self.fails = False
        server: Any = SimpleNamespace(config=SimpleNamespace(trunk=trunk), dial=dial)
        self.carrier = SipCarrier(
            server,
            self._answer,
            lambda order, detail: self.over.append((order, detail)),
            caller_id="+12025550199",
            ring_s=30,
        )

    async def _answer(self, line: Line) -> CallOutcome:
        self.answered.append(line.info)
        if self.fails:
            raise RuntimeError("broken")
        return CallOutcome(True, "goodbye")


async def ring_for_ever(number: str, *, caller: str) -> HandLine:
    await asyncio.sleep(3_600)
    raise AssertionError


def failing(error: Exception) -> Callable[..., Awaitable[HandLine]]:
    async def dial(number: str, *, caller: str) -> HandLine:
        raise error

    return dial


@pytest.mark.parametrize(
    ("dial", "detail"),
    [
        (ring_for_ever, "no answer"),
        (failing(DialFailed(486, "486 Busy Here")), "busy"),
        (failing(DialFailed(603, "603 Decline")), "declined"),
        (failing(DialFailed(500, "500 Server Error")), "not reachable (500"),
        (failing(ValueError("no caller")), "ValueError: no caller"),
    ],
)
def test_who_does_not_answer_is_told_of(dial: Callable[..., Awaitable[HandLine]], detail: str) -> None:
    async def main() -> None:
        desk = Desk(dial)
        assert await desk.carrier.place(ORDER) == "sip-o-1"
        await asyncio.sleep(31)
        ((order, told),) = desk.over
        assert order == "o-1"
        assert told.startswith(detail)
        assert desk.answered == []

    run_virtual(main())


@pytest.mark.parametrize("fails", [False, True])
def test_who_answers_is_on_the_line_with_the_order_and_hung_up_in_the_end(fails: bool) -> None:
    async def main() -> None:
        line = HandLine()

        async def dial(number: str, *, caller: str) -> HandLine:
            assert (number, caller) == ("+12025550123", "+12025550199")
            return line

        desk = Desk(dial)
        desk.fails = fails
        await desk.carrier.place(ORDER)
        await asyncio.sleep(1)
        assert [info.parameters for info in desk.answered] == [{ORDER_PARAMETER: "o-1"}]
        assert line.hung_up == "goodbye"
        assert desk.over == []

    run_virtual(main())


def test_a_server_that_stops_lets_nothing_ring_on() -> None:
    async def main() -> None:
        desk = Desk(ring_for_ever)
        await desk.carrier.place(ORDER)
        await asyncio.sleep(0.1)
        await desk.carrier.aclose()
        assert desk.carrier._calls == set()

    run_virtual(main())


async def test_without_a_trunk_nothing_is_dialled() -> None:
    with pytest.raises(CarrierRefused, match=r"\[sip\.trunk\]"):
        await Desk(ring_for_ever, trunk=None).carrier.place(ORDER)
