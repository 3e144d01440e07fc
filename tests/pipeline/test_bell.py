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


class Minder:
    """What a bell asks at its moment: answers as told, and keeps when it was asked."""

    def __init__(self, *answers: float | None) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []
        self.bell = Bell(self.ask)
        self.rings = False

    def ask(self) -> float | None:
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.rings:
            self.bell.ring()
        return self.answers.pop(0) if self.answers else None


def test_what_is_asked_at_the_moment_may_put_it_off_and_nobody_wakes() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        minder = Minder(2.0, 2.5, 6.0)
        wakes = 0

        async def sleeper() -> None:
            nonlocal wakes
            await minder.bell.wait(1.0)
            wakes += 1

        sleeping = asyncio.create_task(sleeper())
        await asyncio.sleep(5.9)
        assert (wakes, minder.asked_at) == (0, [1.0, 2.0, 2.5])
        await sleeping
        assert loop.time() == 6.0
        assert minder.asked_at == [1.0, 2.0, 2.5, 6.0]
        assert not minder.bell.waiting

    run_virtual(main())


def test_a_moment_put_off_into_the_past_is_asked_for_again_at_once() -> None:
    async def main() -> None:
        minder = Minder(0.5, 1.0, None)
        await minder.bell.wait(1.0)
        assert minder.asked_at == [1.0] * 3
        await minder.bell.wait(1.0)
        assert minder.asked_at == [1.0] * 4, "and so it is by whoever sleeps until then again"

    run_virtual(main())


def test_a_ring_ends_a_sleep_that_was_put_off_and_the_moment_stays_set() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        minder = Minder(5.0)
        loop.call_at(3.0, minder.bell.ring)
        await minder.bell.wait(1.0)
        assert (loop.time(), minder.asked_at) == (3.0, [1.0])
        await minder.bell.wait(5.0)
        assert (loop.time(), minder.asked_at) == (5.0, [1.0, 5.0])
        await minder.bell.wait(7.0)
        assert (loop.time(), minder.asked_at) == (7.0, [1.0, 5.0, 7.0])

    run_virtual(main())


def test_another_moment_takes_the_place_of_one_that_was_put_off() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        minder = Minder(9.0)
        loop.call_at(3.0, minder.bell.ring)
        await minder.bell.wait(1.0)
        await minder.bell.wait(4.0)
        assert loop.time() == 4.0
        loop.call_at(20.0, minder.bell.ring)
        await minder.bell.wait(None)
        assert loop.time() == 20.0
        assert minder.asked_at == [1.0, 4.0], "the one at 9 is no more"

    run_virtual(main())


def test_whoever_rings_while_it_is_asked_wakes_the_sleeper_whatever_the_answer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        minder = Minder(8.0)
        minder.rings = True
        await minder.bell.wait(1.0)
        assert loop.time() == 1.0
        minder.rings = False
        minder.answers.clear()
        await asyncio.sleep(9)
        await minder.bell.wait(12.0)
        assert loop.time() == 12.0, "that ring was one, and nothing was set for 8"
        assert minder.asked_at == [1.0, 12.0]

    run_virtual(main())


def test_nobody_is_asked_at_a_moment_at_which_nobody_sleeps() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        minder = Minder(9.0)
        loop.call_at(0.5, minder.bell.ring)
        await minder.bell.wait(1.0)
        await asyncio.sleep(2)
        assert minder.asked_at == []
        await minder.bell.wait(4.0)
        assert loop.time() == 2.5, "its moment came while nobody slept, which is a ring that is kept"

    run_virtual(main())


def test_nothing_is_asked_of_a_bell_at_rest() -> None:
    async def main() -> None:
        minder = Minder(3.0)
        sleeping = asyncio.create_task(minder.bell.wait(1.0))
        await asyncio.sleep(2.0)
        assert minder.asked_at == [1.0]
        minder.bell.rest()
        await asyncio.sleep(10)
        assert minder.asked_at == [1.0]
        minder.bell.ring()
        await sleeping

    run_virtual(main())


def test_somebody_waits_until_it_rings() -> None:
    async def main() -> None:
        bell = Bell()
        assert not bell.waiting
        sleeping = asyncio.create_task(bell.wait(None))
        assert not bell.waiting, "not before its first step"
        await asyncio.sleep(0)
        assert bell.waiting
        bell.ring()
        assert not bell.waiting, "it has rung, although nobody has woken yet"
        await sleeping
        assert not bell.waiting
        bell.ring()
        await bell.wait(None)
        assert not bell.waiting
        sleeping = asyncio.create_task(bell.wait(1.0))
        await asyncio.sleep(0)
        assert bell.waiting
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        assert not bell.waiting
        bell.rest()

    run_virtual(main())


def test_a_sleep_goes_beyond_a_moment_only_where_it_is_set_for_a_later_one_or_none() -> None:
    async def main() -> None:
        minder = Minder(4.0)
        bell = minder.bell
        assert not bell.sleeps_beyond(0.5), "nobody sleeps"
        sleeping = asyncio.create_task(bell.wait(2.0))
        await asyncio.sleep(0)
        moments = (None, 0.5, 1.999, 2.0, 3.0)
        assert [bell.sleeps_beyond(moment) for moment in moments] == [False, True, True, False, False]
        await asyncio.sleep(2.5)
        moments = (None, 3.0, 4.0, 5.0)
        assert [bell.sleeps_beyond(moment) for moment in moments] == [False, True, False, False], "put off"
        bell.ring()
        assert not bell.sleeps_beyond(3.0), "it has rung"
        await sleeping
        assert not bell.sleeps_beyond(3.0), "its moment is still set, and nobody sleeps"
        sleeping = asyncio.create_task(bell.wait(None))
        await asyncio.sleep(0)
        assert bell.sleeps_beyond(1_000.0)
        assert not bell.sleeps_beyond(None)
        bell.ring()
        await sleeping

    run_virtual(main())
