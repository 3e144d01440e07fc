"""How late the event loop was, and what held it up."""

import asyncio
import logging
import time

import pytest

from infra.observe.loop_lag import LoopLag, WorstOf


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_worst_is_forgotten_in_time() -> None:
    worst = WorstOf(60)
    worst.note(0.5, 0)
    worst.note(0.1, 10)
    assert worst.largest(10) == 0.5
    worst.note(0.2, 31)
    assert worst.largest(31) == 0.5
    worst.note(0.1, 62)
    assert worst.largest(62) == 0.2
    assert worst.largest(200) == 0.0


def test_a_late_loop_is_warned_of_and_not_over_and_over(caplog: pytest.LogCaptureFixture) -> None:
    clock, noted = Clock(), list[float]()
    lag = LoopLag(noted.append, 0.1, clock)
    with caplog.at_level(logging.WARNING):
        lag.seen(0.05, "")
        lag.seen(0.25, "at infra/x.py:3 work")
        for _ in range(4):
            clock.now += 1
            lag.seen(0.3, "at infra/x.py:3 work")
        clock.now += 10
        lag.seen(0.2, "the garbage collector ran for 190 ms")
    assert noted == [0.05, 0.25, 0.3, 0.3, 0.3, 0.3, 0.2]
    assert [record.getMessage() for record in caplog.records] == [
        "the event loop stood still for 250 ms: at infra/x.py:3 work",
        "the event loop stood still for 200 ms: the garbage collector ran for 190 ms"
        " (4 more since the last warning)",
    ]
    assert lag.worst_s == 0.3


def hold_the_loop_up(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def _looked_at(block: float | None) -> tuple[list[float], LoopLag]:
    noted: list[float] = []
    lag = LoopLag(noted.append, 0.1)
    running = asyncio.create_task(lag.run())
    await asyncio.sleep(0.05)
    if block is not None:
        hold_the_loop_up(block)
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return noted, lag


async def test_what_holds_the_loop_up_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="infra.observe.loop_lag"):
        noted, lag = await _looked_at(0.6)
    assert max(noted) > 0.4
    assert lag.worst_s == max(noted)
    assert any("hold_the_loop_up" in record.getMessage() for record in caplog.records)


async def test_who_waits_is_told_from_who_works(caplog: pytest.LogCaptureFixture) -> None:
    noted: list[float] = []
    lag = LoopLag(noted.append, 0.1)
    running = asyncio.create_task(lag.run())
    await asyncio.sleep(0.05)
    with caplog.at_level(logging.WARNING, logger="infra.observe.loop_lag"):
        time.sleep(0.6)  # noqa: ASYNC251  that is what must not be done
        await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert any("waited for the rest" in record.getMessage() for record in caplog.records)
