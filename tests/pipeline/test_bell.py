"""Rings and moments, in virtual time."""

import asyncio

from pipeline.bell import Bell
from telephony.simulator.virtual_loop import run_virtual


def test_it_wakes_at_a_ring_or_at_the_moment_whichever_comes_first() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bell = Bell()
        began = loop.time()
        await bell.wait(began + 2)
        assert loop.time() == began + 2
        loop.call_at(began + 3, bell.ring)
        await bell.wait(began + 5)
        assert loop.time() == began + 3
        await bell.wait(began + 5)
        assert loop.time() == began + 5, "the moment that it was woken before still counts"
        loop.call_at(began + 6, bell.ring)
        await bell.wait(began + 9)
        await bell.wait(began + 7)
        assert loop.time() == began + 7, "an earlier moment goes before the one it was set for"
        loop.call_at(began + 20, bell.ring)
        await bell.wait(None)
        assert loop.time() == began + 20

    run_virtual(main())


def test_rings_that_nobody_waited_for_are_one_and_a_moment_that_has_passed_wakes_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bell = Bell()
        bell.ring()
        bell.ring()
        began = loop.time()
        await bell.wait(None)
        assert loop.time() == began
        await bell.wait(began + 1)
        assert loop.time() == began + 1, "the second ring was the first one's"
        await bell.wait(began)
        assert loop.time() == began + 1

    run_virtual(main())


def test_whoever_gives_up_waiting_finds_the_next_ring() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bell = Bell()
        waiting = asyncio.create_task(bell.wait(None))
        await asyncio.sleep(0)
        bell.ring()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        began = loop.time()
        await bell.wait(began + 1)
        assert loop.time() == began
        waiting = asyncio.create_task(bell.wait(began + 1))
        await asyncio.sleep(0.5)
        bell.rest()
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()

    run_virtual(main())
