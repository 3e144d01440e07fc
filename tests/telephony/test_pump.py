"""What every pump does between a socket and a core, with a core that does as it is told; in virtual time."""

import asyncio

import pytest

from pipeline.line import LineClosed
from telephony.pump import Patience, PeerFault, Pump
from telephony.simulator.virtual_loop import run_virtual
from telephony.socket import SocketClosed


class Wire:
    """A socket whose messages and end the test decides."""

    def __init__(self) -> None:
        self.arriving: asyncio.Queue[str | SocketClosed] = asyncio.Queue()
        self.sent: list[str | bytes] = []
        self.sending: asyncio.Event | None = None
        """Nothing is taken before it is set."""
        self.broken = False

    async def receive(self) -> str | bytes:
        message = await self.arriving.get()
        if isinstance(message, SocketClosed):
            raise message
        return message

    async def send(self, message: str | bytes) -> None:
        if self.broken:
            raise SocketClosed
        if self.sending is not None:
            await self.sending.wait()
        self.sent.append(message)

    async def close(self, code: int = 1000, reason: str = "") -> None: ...


class Words:
    """A core whose events are the words of its messages."""

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline

    def receive_message(self, message: str | bytes, now: float) -> list[str]:
        if message == "bad":
            raise PeerFault("that is no message", 1008)
        return str(message).split()

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timer(self, now: float) -> list[str] | None:
        if self.deadline is not None and now >= self.deadline:
            raise PeerFault("no media for 1 s", 1008)
        return None


def pump_of(wire: Wire, core: Words | None = None) -> Pump[Wire, Words, str]:
    return Pump(wire, core or Words(), lambda word: "caller hung up" if word == "bye" else None)


async def closed(pump: Pump[Wire, Words, str]) -> str:
    with pytest.raises(LineClosed) as ended:
        while True:
            await pump.next()
    return ended.value.reason


def test_events_come_in_order_and_the_one_that_ends_the_call_is_kept_back() -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        wire.arriving.put_nowait("one two")
        wire.arriving.put_nowait("three bye")
        assert [await pump.next() for _ in range(3)] == ["one", "two", "three"]
        assert await closed(pump) == "caller hung up"
        await pump.wait_over()
        with pytest.raises(LineClosed, match="caller hung up"):
            await pump.send("too late")
        assert wire.sent == []

    run_virtual(main())


def test_a_fault_of_the_peer_ends_the_call_and_is_kept() -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        wire.arriving.put_nowait("bad")
        assert await closed(pump) == "protocol error: that is no message"
        assert (pump.close_code, pump.fault and pump.fault.reason) == (1008, "that is no message")

    run_virtual(main())


def test_silence_ends_the_call_by_the_cores_deadline_and_junk_does_not_put_it_off() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        silent = pump_of(Wire(), Words(loop.time() + 1.0))
        began = loop.time()
        assert await closed(silent) == "no media for 1 s"
        assert loop.time() - began == pytest.approx(1.0)
        wire = Wire()
        chatty = pump_of(wire, Words(loop.time() - 1.0))
        wire.arriving.put_nowait("")
        assert await closed(chatty) == "no media for 1 s"

    run_virtual(main())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "caller hung up"),
        (1001, "caller hung up"),
        (1005, "caller hung up"),
        (1012, "server shut down"),
        (1006, "connection lost"),
        (4000, "connection lost (code 4000)"),
    ],
)
def test_what_a_closed_socket_means(code: int, reason: str) -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        wire.arriving.put_nowait(SocketClosed(code))
        assert await closed(pump) == reason

    run_virtual(main())


def test_ending_it_from_our_side_wakes_the_reader() -> None:
    async def main() -> None:
        pump = pump_of(Wire())
        reading = asyncio.create_task(closed(pump))
        await asyncio.sleep(0.5)
        pump.end("we hung up", 1000)
        pump.end("said twice", 1011)
        assert await reading == "we hung up"
        assert pump.close_code == 1000

    run_virtual(main())


def test_a_peer_that_takes_nothing_is_gone() -> None:
    async def main() -> None:
        wire = Wire()
        wire.sending = asyncio.Event()
        with pytest.raises(LineClosed, match="the peer takes nothing more"):
            await pump_of(wire).send("hello")
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)

    run_virtual(main())


@pytest.mark.parametrize(("goodbye", "reason"), [(True, "caller hung up"), (False, "connection lost")])
def test_a_goodbye_that_waits_to_be_read_says_more_than_the_lost_socket(goodbye: bool, reason: str) -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        reading = asyncio.create_task(closed(pump))
        wire.broken = True
        sending = asyncio.create_task(pump.send("hello"))
        await asyncio.sleep(0.1)
        if goodbye:
            wire.arriving.put_nowait("bye")
        with pytest.raises(LineClosed, match=reason):
            await sending
        assert await reading == reason

    run_virtual(main())


def test_a_burst_of_messages_leaves_others_their_turn() -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        for number in range(40):
            wire.arriving.put_nowait(str(number))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        for _ in range(40):
            await pump.next()
        beside.cancel()
        assert 2 <= turns <= 10

    run_virtual(main())


def test_patience_keeps_one_timer_for_all_its_uses_and_ends_each_at_its_own_limit() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        patience = Patience(loop)
        for _ in range(100):
            with patience.until(loop.time() + 10):
                await asyncio.sleep(0.1)
        began = loop.time()
        with pytest.raises(TimeoutError), patience.until(began + 5):
            await asyncio.sleep(60)
        assert loop.time() == pytest.approx(began + 5)
        with patience.until(None):
            await asyncio.sleep(60)
        began = loop.time()
        with pytest.raises(TimeoutError), patience.until(began + 5):
            patience.reschedule(began + 1)
            await asyncio.sleep(60)
        assert loop.time() == pytest.approx(began + 1)
        patience.rest()

    run_virtual(main())


class WireAtOnce(Wire):
    """Takes so many messages without a wait."""

    room = 2

    def send_now(self, message: str | bytes) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.sent.append(message)
        return True


def test_what_cannot_be_sent_at_once_is_sent_behind_what_was() -> None:
    async def main() -> None:
        wire = WireAtOnce()
        pump = Pump[Wire, Words, str](wire, Words(), lambda word: None)
        await pump.send("a", "b", "c", "d")
        assert wire.sent == ["a", "b", "c", "d"]
        wire.sending = asyncio.Event()
        waiting = asyncio.create_task(pump.send("e"))
        await asyncio.sleep(0.1)
        wire.room = 5
        also_waiting = asyncio.create_task(pump.send("f"))
        await asyncio.sleep(0.1)
        wire.sending.set()
        await asyncio.gather(waiting, also_waiting)
        assert wire.sent == ["a", "b", "c", "d", "e", "f"], "nothing overtakes a message that waits"

    run_virtual(main())
