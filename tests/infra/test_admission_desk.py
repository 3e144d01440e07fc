"""Places on the clock, in virtual time."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from infra.admission.desk import Admission, LeaseExpired, NoLineFree
from infra.admission.slots import Capacity
from pipeline.events import CallerAudio, KeyReceived
from telephony.simulator.virtual_loop import run_virtual


def virtually(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main)


def small(calls: int = 2) -> Admission:
    return Admission(Capacity.of_calls(calls), ring_s=60.0, lease_s=90.0)


def test_a_call_keeps_its_place_from_ringing_to_its_end() -> None:
    async def main() -> None:
        house = small(1)
        assert house.take("a")
        assert house.take("a")
        assert not house.take("b")
        assert (house.in_use, house.ringing) == (1, 1)
        async with house.lease("a"):
            assert (house.in_use, house.ringing) == (1, 0)
            house.give_back("a")  # its status callback comes before we have put things in order
            assert not house.take("b")
        assert house.in_use == 0
        assert house.take("b")
        assert house.refused == 2

    virtually(main())


def test_a_call_that_rings_and_never_begins_leaves_its_place() -> None:
    async def main() -> None:
        house = small(1)
        house.take("a")
        await asyncio.sleep(59.0)
        assert not house.take("b")
        await asyncio.sleep(1.5)
        assert house.take("b")
        house.give_back("b")
        assert house.take("c")
        view = house.view()
        assert (view.unstarted, view.expired, view.in_use, view.of) == (1, 0, 1, 1)

    virtually(main())


def test_a_call_without_a_sign_of_life_is_ended_and_counted() -> None:
    async def main() -> None:
        house = small(1)
        loop = asyncio.get_running_loop()

        async def hang() -> None:
            async with house.lease("a"):
                await asyncio.Event().wait()

        began_s = loop.time()
        with pytest.raises(LeaseExpired):
            await hang()
        assert loop.time() - began_s == pytest.approx(90.0, abs=1.0)
        assert (house.expired, house.in_use) == (1, 0)

    virtually(main())


def test_signs_of_life_keep_a_call_for_hours_and_their_end_ends_it() -> None:
    async def main() -> None:
        house = small(1)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(LeaseExpired):
            async with house.lease("a"):
                watch = house.observer("a")
                for _ in range(200):
                    await asyncio.sleep(60.0)
                    watch.observe(KeyReceived(0.0, "1"))
                await asyncio.Event().wait()
        assert loop.time() - began_s == pytest.approx(200 * 60 + 90, abs=1.0)

    virtually(main())


def test_sound_that_comes_into_a_call_that_hangs_is_no_sign_of_life() -> None:
    async def main() -> None:
        house = small(1)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(LeaseExpired):
            async with house.lease("a"):
                watch = house.observer("a")
                for n in range(10_000):
                    await asyncio.sleep(0.02)
                    watch.observe(CallerAudio(160 * n, np.zeros(160, np.int16)))
        assert loop.time() - began_s == pytest.approx(90.0, abs=1.0)

    virtually(main())


def test_a_call_that_will_not_end_has_no_place_and_shows() -> None:
    async def main() -> None:
        house = small(1)
        release = asyncio.Event()

        async def stubborn() -> None:
            async with house.lease("a"):
                try:
                    await asyncio.Event().wait()
                finally:
                    await release.wait()

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(100.0)
        assert (house.view().overdue, house.in_use) == (1, 0)
        async with house.lease("b"):
            release.set()
            with pytest.raises(LeaseExpired):
                await task
            assert (house.view().overdue, house.in_use) == (0, 1)

    virtually(main())


@pytest.mark.parametrize("how", ["return", "raise", "cancel", "timeout"])
def test_however_a_call_ends_its_place_is_free(how: str) -> None:
    async def main() -> None:
        house = small(1)

        async def call() -> None:
            async with house.lease("a"):
                if how == "raise":
                    raise RuntimeError("broken")
                if how == "timeout":
                    raise TimeoutError("its own")
                await asyncio.sleep(0 if how == "return" else 1e6)

        task = asyncio.create_task(call())
        await asyncio.sleep(0.1)
        if how == "cancel":
            task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert (
            type(result)
            is {
                "return": type(None),
                "raise": RuntimeError,
                "cancel": asyncio.CancelledError,
                "timeout": TimeoutError,
            }[how]
        )
        assert (house.in_use, house.expired) == (0, 0)

    virtually(main())


def test_one_call_is_not_held_twice() -> None:
    async def main() -> None:
        house = small(5)
        async with house.lease("a"):
            with pytest.raises(NoLineFree):
                async with house.lease("a"):
                    pass
            assert house.in_use == 1

    virtually(main())


def test_our_own_calls_wait_until_there_is_a_place() -> None:
    async def main() -> None:
        house = small(1)
        loop = asyncio.get_running_loop()
        house.take("a")
        orders = [asyncio.create_task(house.wait_and_take(f"order-{n}", for_s=600.0)) for n in range(3)]
        await asyncio.sleep(5.0)
        assert not any(order.done() for order in orders)
        assert house.refused == 0
        house.give_back("a")
        await asyncio.sleep(0.1)
        assert [order.done() for order in orders].count(True) == 1
        house.close()
        results = await asyncio.gather(*orders, return_exceptions=True)
        assert sum(isinstance(result, NoLineFree) for result in results) == 2
        assert house.in_use == 1
        assert loop.time() < 10.0

    virtually(main())


def test_a_house_that_closes_takes_those_that_ring_already() -> None:
    async def main() -> None:
        house = small(5)
        house.take("rings")
        house.close()
        assert house.take("rings")
        assert not house.take("late")
        async with house.lease("rings"):
            pass
        with pytest.raises(NoLineFree):
            async with house.lease("later"):
                pass

    virtually(main())


def test_a_house_that_closes_takes_back_who_was_lost() -> None:
    async def main() -> None:
        house = small(5)
        async with house.lease("lost"):
            house.close()
        assert house.take("lost", goes_on=True)
        assert not house.take("new")
        async with house.lease("lost"):
            assert house.in_use == 1
        with pytest.raises(NoLineFree):
            async with house.lease("lost"):
                pass

    virtually(main())


def test_five_hundred_at_once_get_what_there_is() -> None:
    async def main() -> None:
        house = small(40)
        most = 0

        async def call(name: str) -> bool:
            nonlocal most
            if not house.take(name):
                return False
            await asyncio.sleep(0.2)
            async with house.lease(name):
                most = max(most, house.in_use)
                await asyncio.sleep(10.0)
            return True

        served = await asyncio.gather(*(call(f"call-{n}") for n in range(500)))
        assert (sum(served), most, house.refused, house.in_use) == (40, 40, 460, 0)

    virtually(main())


def test_whoever_waits_is_served_in_order_and_before_those_who_come_later() -> None:
    async def main() -> None:
        house = small(1)
        house.take("on")
        for name in ("first", "second"):
            house.keep_turn(name, for_s=20.0)
            assert not house.take(name)
        assert (house.view().waiting, house.refused) == (2, 0), "nobody was turned away"
        house.give_back("on")
        assert not house.take("new"), "the free place is the first one's"
        assert not house.take("second")
        assert house.take("first")
        assert (house.view().waiting, house.refused) == (1, 1)
        house.give_back("first")
        assert house.take("second")
        house.give_back("second")
        assert house.take("new")

    virtually(main())


def test_a_caller_who_asks_again_keeps_the_turn_and_one_who_is_gone_loses_it() -> None:
    async def main() -> None:
        house = small(1)
        house.take("on")
        house.keep_turn("gone", for_s=20.0)
        house.keep_turn("here", for_s=20.0)
        await asyncio.sleep(15.0)
        house.keep_turn("here", for_s=20.0)
        house.give_back("on")
        assert not house.take("here")
        await asyncio.sleep(6.0)
        assert house.view().waiting == 1
        assert house.take("here")

    virtually(main())


def test_a_call_that_was_lost_goes_on_before_those_who_wait() -> None:
    async def main() -> None:
        house = small(1)
        async with house.lease("lost"):
            house.keep_turn("waits", for_s=20.0)
        house.keep_turn("lost", for_s=20.0, first=True)
        assert not house.take("waits")
        assert house.take("lost")
        assert (house.view().waiting, house.refused) == (1, 0)

    virtually(main())


def test_a_caller_who_hangs_up_or_has_waited_long_enough_holds_nobody_up() -> None:
    async def main() -> None:
        house = small(1)
        house.take("on")
        for name in ("hangs up", "too long", "third"):
            house.keep_turn(name, for_s=900.0)
        house.give_back("hangs up")
        house.leave("too long")
        house.leave("nobody")
        assert house.refused == 1
        house.give_back("on")
        assert house.take("third")

    virtually(main())


def test_our_own_calls_go_behind_callers_who_wait() -> None:
    async def main() -> None:
        house = small(1)
        house.take("on")
        house.keep_turn("caller", for_s=20.0)
        order = asyncio.create_task(house.wait_and_take("order", for_s=600.0))
        house.give_back("on")
        await asyncio.sleep(1.0)
        assert not order.done()
        assert house.take("caller")
        house.give_back("caller")
        await asyncio.sleep(1.0)
        assert order.done()
        house.give_back("order")
        house.keep_turn("vanishes", for_s=20.0)
        another = asyncio.create_task(house.wait_and_take("another", for_s=600.0))
        await asyncio.sleep(21.0)
        assert another.done(), "whoever has gone without a word is waited for no longer"
        assert house.refused == 0

    virtually(main())


@pytest.mark.parametrize(
    ("capacity", "setting"),
    [(Capacity(2, 2, 2), r"\[capacity\] calls$"), (Capacity(5, 2, 5), r"\[capacity\] llm$")],
)
def test_a_refusal_says_which_setting_to_raise(
    capacity: Capacity, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        house = Admission(capacity, ring_s=60.0, lease_s=90.0)
        assert [house.take(name) for name in "abc"] == [True, True, False]

    virtually(main())
    assert re.search(f"no place for call c: 2 of 2 are taken; .* {setting}", caplog.text.strip())
