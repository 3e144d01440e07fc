"""What every pump does between a socket and a core, with a core that does as it is told; in virtual time."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line import LineClosed
from telephony.pump import Patience, PeerFault, Pump
from telephony.simulator.virtual_loop import MemorySocket, run_virtual
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


# Messages that are told at once


class Told:
    """A pump on one end of a pair, with a reader in `next`: what was told directly and what was read, both
    also in their common order."""

    def __init__(self, core: Words | None = None) -> None:
        self.near, self.far = MemorySocket.pair()
        self.pump = Pump[MemorySocket, Words, str](
            self.near, core or Words(), lambda word: "caller hung up" if word == "bye" else None
        )
        self.direct: list[str] = []
        self.read: list[str] = []
        self.both: list[str] = []
        self.failure: Exception | None = None
        self.mistakes: list[object] = []
        """What was raised where nobody catches it."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.mistakes.append(context))

    def listen(self) -> None:
        self.pump.listen(self._hear)

    def _hear(self, word: str) -> None:
        if word == "boom":
            raise ZeroDivisionError(word)
        self.direct.append(word)
        self.both.append(word)

    async def reader(self) -> None:
        try:
            while True:
                word = await self.pump.next()
                self.read.append(word)
                self.both.append(word)
        except (LineClosed, ZeroDivisionError) as ended:
            self.failure = ended

    @property
    def reason(self) -> str:
        assert isinstance(self.failure, LineClosed)
        return self.failure.reason


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_comes_while_the_reader_waits_is_told_at_once_and_the_rest_is_read() -> None:
    async def main() -> None:
        told = Told()
        told.listen()
        await told.far.send("one two")
        await told.far.send("three")
        await turns()
        assert told.both == [], "nobody reads yet"
        reading = asyncio.create_task(told.reader())
        await turns()
        assert (told.read, told.direct) == (["one", "two", "three"], [])
        await told.far.send("four five")
        await told.far.send("")
        await told.far.send("six")
        await turns()
        assert (told.both[3:], told.direct) == (["four", "five", "six"], ["four", "five", "six"])
        await told.far.send("seven bye")
        await reading
        assert told.both[6:] == ["seven"]
        assert told.reason == "caller hung up"

    run_virtual(main())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "send now", "two", "nobody listens", "listen", "reader busy"]),
            st.integers(0, 4),
        ),
        max_size=40,
    )
)
def test_told_or_read_all_events_keep_their_order_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    expected: list[str] = []

    async def main() -> list[str]:
        told = Told()
        told.listen()

        async def reader() -> None:
            while True:
                told.both.append(await told.pump.next())
                for _ in range(busy):
                    await asyncio.sleep(0)

        busy = 0
        reading = asyncio.create_task(reader())
        for step, pause in steps:
            if step == "nobody listens":
                told.near.deliver_to(None)
            elif step == "listen":
                told.listen()
            elif step == "reader busy":
                busy = pause
            else:
                words = [str(len(expected)), str(len(expected) + 1)][: 2 if step == "two" else 1]
                expected.extend(words)
                if step == "send now":
                    assert told.far.send_now(" ".join(words))
                else:
                    await told.far.send(" ".join(words))
            await turns(pause)
        await turns(10 * len(expected) + 10)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert told.mistakes == []
        return told.both

    assert run_virtual(main()) == expected


def test_nothing_is_lost_when_whoever_waits_in_next_is_cancelled_and_comes_again() -> None:
    async def main() -> None:
        told = Told()
        told.listen()
        for number in range(30):
            reading = asyncio.create_task(told.reader())
            await turns(number % 3)
            await told.far.send(str(number))
            await turns(number % 4)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        reading = asyncio.create_task(told.reader())
        await turns()
        assert told.both == [str(number) for number in range(30)]
        assert told.direct
        assert told.read
        assert told.mistakes == []
        told.pump.end("done")
        await reading

    run_virtual(main())


def test_a_peers_fault_that_comes_at_once_ends_the_call_with_its_reason() -> None:
    async def main() -> None:
        told = Told()
        told.listen()
        reading = asyncio.create_task(told.reader())
        await turns()
        for message in ("one", "bad"):
            await told.far.send(message)
        await reading
        await told.far.send("two")
        await turns()
        assert told.both == ["one"]
        assert told.reason == told.pump.over == "protocol error: that is no message"
        assert (told.pump.close_code, told.pump.fault and told.pump.fault.reason) == (
            1008,
            "that is no message",
        )
        await told.pump.wait_over()

    run_virtual(main())


def test_what_the_listener_raises_comes_out_of_next_and_again() -> None:
    async def main() -> None:
        told = Told()
        told.listen()
        reading = asyncio.create_task(told.reader())
        await turns()
        await told.far.send("one")
        await told.far.send("boom two")
        await reading
        assert isinstance(told.failure, ZeroDivisionError)
        assert str(told.failure) == "boom"
        with pytest.raises(ZeroDivisionError):
            await told.pump.next()
        assert told.both == ["one"]

    run_virtual(main())


def test_behind_what_the_listener_raised_nothing_is_told() -> None:
    async def main() -> None:
        told = Told()
        told.listen()
        reading = asyncio.create_task(told.reader())
        await turns()
        for message in ("one", "boom", "two"):
            await told.far.send(message)
        await reading
        assert isinstance(told.failure, ZeroDivisionError)
        assert told.both == ["one"]

    run_virtual(main())


class Media(Words):
    """Silent for a second after the last "media", and the call is over."""

    def receive_message(self, message: str | bytes, now: float) -> list[str]:
        if message == "media":
            self.deadline = now + 1.0
        if message == "soon":
            self.deadline = now + 0.1
        return super().receive_message(message, now)


def test_silence_ends_the_call_while_other_messages_are_told_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = Told(Media(began + 1.0))
        told.listen()
        reading = asyncio.create_task(told.reader())
        for _ in range(250):
            await asyncio.sleep(0.02)
            await told.far.send("media")
        assert not reading.done(), "each one puts it off"
        last = loop.time()
        while not reading.done():
            await asyncio.sleep(0.02)
            await told.far.send("mark")
        assert told.reason == "no media for 1 s"
        assert told.pump.close_code == 1008
        assert told.pump.fault is not None
        assert loop.time() == pytest.approx(last + 1.0, abs=0.03)
        assert told.both[:250] == ["media"] * 250
        assert 45 <= told.both.count("mark") <= 51
        assert len(told.read) <= 7, "one each time that the reader's patience ends"

    run_virtual(main())


@pytest.mark.parametrize("deadline", [None, 5.0])
def test_a_message_told_at_once_may_bring_an_earlier_deadline(deadline: float | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = Told(Media(deadline))
        told.listen()
        reading = asyncio.create_task(told.reader())
        await turns()
        await told.far.send("soon")
        await reading
        assert told.direct == ["soon"]
        assert loop.time() == pytest.approx(0.1)
        assert told.reason == "no media for 1 s"

    run_virtual(main())


@pytest.mark.parametrize("by", ["us", "the listener"])
def test_nothing_is_told_after_the_end(by: str) -> None:
    async def main() -> None:
        told = Told()
        heard: list[str] = []

        def hear(word: str) -> None:
            heard.append(word)
            if by == "the listener" and word == "two":
                told.pump.end("we hung up")

        told.pump.listen(hear)
        reading = asyncio.create_task(told.reader())
        await turns()
        await told.far.send("one")
        await told.far.send("two")
        if by == "us":
            await turns()
            told.pump.end("we hung up")
        await reading
        await told.far.send("four")
        await turns()
        told.pump.listen(hear)
        await told.far.send("five")
        await turns()
        assert heard == ["one", "two"]
        assert told.read == []
        assert told.reason == "we hung up"
        assert not told.pump.send_at_once("too late")

    run_virtual(main())


@pytest.mark.parametrize(
    ("at_once", "messages"),
    [
        (True, ["one bye two"]),
        (True, ["one bye", "two"]),
        (True, ["one stop two"]),
        (True, ["one", "stop", "two"]),
        (True, ["one bad", "bad", "two"]),
        (False, ["one bye two"]),
        (False, ["one bye", "two"]),
        (False, ["one", "stop", "two"]),
        (False, ["one bad", "bad", "two"]),
    ],
)
def test_nothing_comes_behind_what_ended_the_call(at_once: bool, messages: list[str]) -> None:
    """`stop` is where whoever hears it ends the call."""

    async def main() -> None:
        told = Told()
        heard: list[str] = []

        def hear(word: str) -> None:
            heard.append(word)
            if word == "stop":
                told.pump.end("we hung up")

        async def reader() -> None:
            while True:
                hear(await told.pump.next())

        if at_once:
            told.pump.listen(hear)
        reading = asyncio.create_task(reader())
        await turns()
        for message in messages:
            await told.far.send(message)
        with pytest.raises(LineClosed):
            await reading
        assert "two" not in heard

    run_virtual(main())


def test_a_goodbye_and_a_closed_socket_end_a_call_that_is_told_at_once() -> None:
    async def main() -> None:
        for message, reason in (("bye", "caller hung up"), ("", "connection lost")):
            told = Told()
            told.listen()
            reading = asyncio.create_task(told.reader())
            await turns()
            await told.far.send(f"last {message}")
            told.far.abort()
            await reading
            assert told.both == ["last"]
            assert told.reason == reason

    run_virtual(main())


def test_nothing_is_left_on_the_loop_by_a_call_that_was_told_at_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = Told(Media(1.0))
        told.listen()
        reading = asyncio.create_task(told.reader())
        for _ in range(10):
            await asyncio.sleep(0.02)
            await told.far.send("media")
            await told.pump.send("back")
        told.pump.end("we hung up")
        await reading
        await turns()
        assert told.near._take is None
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]

    run_virtual(main())


def test_what_is_sent_at_once_waits_for_nobody_and_overtakes_nothing() -> None:
    async def main() -> None:
        wire = WireAtOnce()
        pump = Pump[Wire, Words, str](wire, Words(), lambda word: None)
        assert pump.send_at_once("a")
        wire.sending = asyncio.Event()
        wire.room = 0
        assert not pump.send_at_once("never sent")
        waiting = asyncio.create_task(pump.send("b"))
        await asyncio.sleep(0.1)
        wire.room = 5
        assert not pump.send_at_once("never sent either"), "b waits"
        wire.sending.set()
        await waiting
        assert pump.send_at_once("c")
        assert wire.sent == ["a", "b", "c"]
        pump.end("done")
        assert not pump.send_at_once("d")
        assert wire.sent == ["a", "b", "c"]

    run_virtual(main())


def test_a_socket_that_cannot_send_or_deliver_at_once_is_only_read_and_sent_to() -> None:
    async def main() -> None:
        wire = Wire()
        pump = pump_of(wire)
        heard: list[str] = []
        pump.listen(heard.append)
        assert not pump.send_at_once("a")
        await pump.send("b")
        wire.arriving.put_nowait("one two")
        assert [await pump.next(), await pump.next()] == ["one", "two"]
        assert (wire.sent, heard) == (["b"], [])

    run_virtual(main())
