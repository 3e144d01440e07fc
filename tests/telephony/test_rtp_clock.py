"""The clock in virtual time; a process that stands still is a jump of the loop's time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from telephony.rtp.clock import MAX_BURST, PHASES, RtpClock
from telephony.simulator.virtual_loop import VirtualLoop, run_virtual


@dataclass(eq=False)
class Call:
    fails: bool = False
    sent: list[tuple[float, int, int]] = field(default_factory=list)
    heard: list[float] = field(default_factory=list)
    failure: Exception | None = None

    def send(self, packets: int, skipped: int, now: float) -> None:
        if self.fails:
            raise RuntimeError("a fault of ours")
        self.sent.append((now, packets, skipped))

    def hear(self, now: float) -> None:
        self.heard.append(now)

    def failed(self, error: Exception) -> None:
        self.failure = error


def virtual_clock() -> RtpClock:
    return RtpClock(now=asyncio.get_running_loop().time)


def stand_still(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._selector.now_s += seconds


def test_ten_minutes_of_ticks_do_not_drift() -> None:
    async def minutes() -> None:
        clock, call = virtual_clock(), Call()
        clock.add(call)
        await asyncio.sleep(600.0001)
        clock.remove(call)
        assert len(call.sent) == 30_000
        assert call.sent[-1][0] == pytest.approx(600.0, abs=0.001)
        assert {packets for _, packets, _ in call.sent} == {1}
        assert call.heard == [now for now, _, _ in call.sent]

    run_virtual(minutes())


def test_calls_are_spread_over_the_phases() -> None:
    async def spread() -> None:
        clock, calls = virtual_clock(), [Call() for _ in range(4 * PHASES)]
        for call in calls:
            clock.add(call)
        await asyncio.sleep(0.0401)
        moments = [round(call.sent[0][0], 3) for call in calls]
        assert sorted(set(moments)) == [round(0.02 * (1 + n / PHASES), 3) for n in range(PHASES)]
        assert max(moments.count(moment) for moment in moments) == 4
        for call in calls:
            clock.remove(call)

    run_virtual(spread())


def test_a_short_pause_is_caught_up_with_and_a_long_one_skipped() -> None:
    async def pauses() -> None:
        clock, call = virtual_clock(), Call()
        clock.add(call)
        await asyncio.sleep(0.101)
        assert len(call.sent) == 5
        stand_still(0.050)
        await asyncio.sleep(0.0101)
        assert [packets for _, packets, _ in call.sent[5:]] == [2, 1]
        stand_still(1.0)
        await asyncio.sleep(0.0001)
        _, packets, skipped = call.sent[-1]
        assert (packets, packets + skipped) == (MAX_BURST, 50)
        assert clock.skipped == 47
        assert clock.late_max_s == pytest.approx(0.98, abs=0.021)
        await asyncio.sleep(1.0)
        # The schedule is the first one still.
        assert round(call.sent[-1][0] / 0.02, 3) % 1 == 0
        assert sum(packets + skipped for _, packets, skipped in call.sent) == round(call.sent[-1][0] / 0.02)
        clock.remove(call)

    run_virtual(pauses())


def test_one_calls_fault_stops_nobody_else() -> None:
    async def fault() -> None:
        clock, calls = virtual_clock(), [Call() for _ in range(2 * PHASES)]
        calls[0].fails = True
        for call in calls:
            clock.add(call)
        await asyncio.sleep(1.0)
        assert isinstance(calls[0].failure, RuntimeError)
        assert clock.calls == 2 * PHASES - 1
        assert all(len(call.sent) >= 48 for call in calls[1:])
        for call in calls[1:]:
            clock.remove(call)

    run_virtual(fault())


def test_calls_come_and_go_and_an_idle_clock_stands() -> None:
    async def come_and_go() -> None:
        clock = virtual_clock()
        for _ in range(3):
            call = Call()
            clock.add(call)
            await asyncio.sleep(0.1)
            clock.remove(call)
            clock.remove(call)
            ticks = len(call.sent)
            await asyncio.sleep(1.0)
            assert len(call.sent) == ticks > 0
        assert clock.calls == 0

    run_virtual(come_and_go())


def test_a_call_may_leave_from_within_its_tick_and_take_another_with_it() -> None:
    async def leave() -> None:
        clock = virtual_clock()

        class Leaver(Call):
            def send(self, packets: int, skipped: int, now: float) -> None:
                super().send(packets, skipped, now)
                for call in calls:
                    clock.remove(call)

        calls: list[Call] = [Leaver()]
        calls += [Call() for _ in range(PHASES)]
        for call in calls:
            clock.add(call)
        await asyncio.sleep(1.0)
        assert len(calls[0].sent) == 1 and not calls[0].heard
        assert clock.calls == 0

    run_virtual(leave())
