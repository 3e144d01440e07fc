"""Lines and desk over in-memory sockets in virtual time: how calls begin, live, and end."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from pipeline.line import AudioReceived, Line, LineClosed, MarkReached
from telephony.asterisk.book import CallBook, Ending
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.desk import CallDesk
from telephony.simulator.virtual import MemorySocket, run_virtual
from telephony.socket import SocketClosed
from tests.telephony.asterisk_double import AudioSocketCall, MediaChannel, MemoryPipe
from tests.telephony.test_asterisk_audiosocket import AUDIO, UUID, message
from tests.telephony.test_asterisk_control import JSON_START, PLAIN_START
from tests.telephony.twilio_support import Echo, Outcome

TONE = (8000 * np.sin(np.arange(800) / 5)).astype(np.int16)


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs the test in virtual time, from a plain function of the same name."""

    def run() -> None:
        run_virtual(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


class House:
    """A desk whose sockets are in memory, and an agent behind it."""

    def __init__(self, agent: Any = None, config: AsteriskConfig | None = None, **options: Any) -> None:
        self.agent = agent or Echo()
        self.desk = CallDesk(config or AsteriskConfig(), self.agent, **options)
        self.tasks: list[asyncio.Task[Any]] = []

    def websocket(self, **parameters: str) -> MemorySocket:
        ours, theirs = MemorySocket.pair()
        place = self.desk.admit()
        assert place is not None
        self.tasks.append(asyncio.create_task(self.desk.serve_websocket(ours, place, parameters)))
        return theirs

    def audiosocket(self) -> tuple[MemoryPipe, MemoryPipe]:
        ours, theirs = MemoryPipe.pair()
        assert isinstance(ours, MemoryPipe) and isinstance(theirs, MemoryPipe)
        place = self.desk.admit()
        assert place is not None
        self.tasks.append(asyncio.create_task(self.desk.serve_audiosocket(ours, place)))
        return ours, theirs

    async def done(self) -> None:
        await asyncio.gather(*self.tasks)
        assert self.desk.pending == 0
        assert self.desk.live == {}


class Cushioned(Echo):
    """Echoes 40 ms late: what comes and what goes are on two clocks."""

    async def __call__(self, line: Line) -> Outcome:
        await line.send_audio(np.zeros(320, np.int16))
        return await super().__call__(line)


async def closing(socket: MemorySocket) -> SocketClosed:
    """Read until the server closes."""
    while True:
        try:
            await socket.receive()
        except SocketClosed as closed:
            return closed


# Who calls


@pytest.mark.parametrize("as_json", [False, True])
def test_who_calls_over_chan_websocket(as_json: bool) -> None:
    async def play() -> None:
        house = House()
        socket = house.websocket(caller="+15550100", called="+15550199", N="1")
        channel = MediaChannel(socket, as_json=as_json, variables={"DEPT": "sales", "n": "0"})
        running = asyncio.create_task(channel.run())
        await channel.say(TONE)
        await channel.hang_up()
        await running
        await house.done()
        info = house.agent.lines[0].info
        assert (info.kind, info.caller, info.called) == ("asterisk", "+15550100", "+15550199")
        assert info.call_id.startswith("1795333949-4-")
        assert info.call_id.replace("-", "").isalnum()
        assert info.parameters == {
            "n": "1",
            "channel": "WebSocket/conn1/0x7f3c5800f5d0",
            "channel_id": "1795333949.4",
            "connection_id": "conn1",
        } | ({"dept": "sales"} if as_json else {})
        assert house.agent.ends == ["caller hung up"]

    run_virtual(play())


@virtual
async def test_who_calls_over_audiosocket() -> None:
    book = CallBook(60.0, asyncio.get_running_loop().time)
    house = House(book=book)
    name = uuid.UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
    book.announce(name, {"caller": "+15550100", "called": "+15550199", "n": "1"})
    _, theirs = house.audiosocket()
    phone = AudioSocketCall(theirs, name)
    running = asyncio.create_task(phone.run())
    await phone.say(TONE)
    await phone.hang_up()
    await running
    await house.done()
    info = house.agent.lines[0].info
    assert (info.kind, info.caller, info.called) == ("audiosocket", "+15550100", "+15550199")
    assert info.call_id.startswith(str(name))
    assert info.parameters == {"n": "1", "uuid": str(name)}


@virtual
async def test_two_calls_of_one_name_are_two_calls() -> None:
    house = House()
    sockets = [house.websocket() for _ in range(2)]
    for socket in sockets:
        await socket.send(PLAIN_START)
    await asyncio.sleep(0.1)
    assert len(house.desk.live) == 2
    for socket in sockets:
        await socket.close()
    await house.done()


@virtual
async def test_unknown_uuids_are_refused_when_calls_must_be_announced() -> None:
    loop = asyncio.get_running_loop()
    config = AsteriskConfig(announced_only=True)
    house = House(config=config, book=CallBook(60.0, loop.time))
    _, theirs = house.audiosocket()
    await theirs.send(UUID)
    await closing(theirs)
    await house.done()
    assert house.agent.lines == []


# Endings


@pytest.mark.parametrize(
    ("way", "end", "reason"),
    [
        ("websocket", "close", "caller hung up"),
        ("websocket", "abort", "connection lost"),
        ("audiosocket", "close", "caller hung up"),
        ("audiosocket", "abort", "connection lost"),
        ("audiosocket", "torn", "connection lost in the middle of a message"),
        ("audiosocket", "0x00", "caller hung up"),
        ("audiosocket", "0xff", "Asterisk reported error 0x02"),
        ("websocket", "second start", "protocol error: a second MEDIA_START"),
        ("audiosocket", "65535", "protocol error: a message of kind 0x10 with 65535 bytes"),
    ],
)
def test_ways_to_leave(way: str, end: str, reason: str) -> None:
    async def play() -> None:
        house = House()
        if way == "websocket":
            socket = house.websocket()
            await socket.send(PLAIN_START)
            await socket.send(b"\xff" * 160)
        else:
            _, socket = house.audiosocket()
            await socket.send(UUID + AUDIO)
        await asyncio.sleep(0.1)
        if end == "abort":
            socket.abort()
        elif end == "second start":
            await socket.send(JSON_START)
        else:
            last = {"torn": AUDIO[:7], "0x00": message(0), "0xff": message(0xFF, b"\x02")}
            await socket.send(last.get(end, b"\x10\xff\xff") if end != "close" else b"")
            if end in ("torn", "close"):
                await socket.close()
        await house.done()
        assert house.agent.ends == [reason]

    run_virtual(play())


@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_nothing_more_comes(way: str) -> None:
    async def play() -> None:
        house = House(config=AsteriskConfig(media_timeout_s=4.0))
        socket: MemorySocket = house.websocket() if way == "websocket" else house.audiosocket()[1]
        await socket.send(PLAIN_START if way == "websocket" else UUID)
        await socket.send(b"\xff" * 160 if way == "websocket" else AUDIO)
        await closing(socket)
        assert asyncio.get_running_loop().time() == pytest.approx(4.0)
        await house.done()
        assert house.agent.ends == ["no media for 4 s"]

    run_virtual(play())


@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_nobody_says_who_they_are(way: str) -> None:
    async def play() -> None:
        house = House()
        socket: MemorySocket = house.websocket() if way == "websocket" else house.audiosocket()[1]
        await closing(socket)
        assert asyncio.get_running_loop().time() == pytest.approx(5.0)
        await house.done()
        assert house.agent.lines == []

    run_virtual(play())


@pytest.mark.parametrize("key", ["#", "0"])
@pytest.mark.parametrize("way", ["plain", "json", "audiosocket"])
def test_we_hang_up(way: str, key: str) -> None:
    async def play() -> None:
        house = House()
        phone: MediaChannel | AudioSocketCall
        if way == "audiosocket":
            phone = AudioSocketCall(house.audiosocket()[1])
        else:
            phone = MediaChannel(house.websocket(), as_json=way == "json")
        running = asyncio.create_task(phone.run())
        await phone.say(TONE)
        await phone.press(key)
        await running
        await house.done()
        assert phone.hung_up_by_us
        assert phone.complaints == []
        assert house.agent.ends == [f"we hung up: {'goodbye' if key == '#' else 'apology'}"]

    run_virtual(play())


@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_no_line_is_free(way: str) -> None:
    async def play() -> None:
        house = House(accepting=lambda: False)
        phone: MediaChannel | AudioSocketCall
        phone = (
            MediaChannel(house.websocket()) if way == "websocket" else AudioSocketCall(house.audiosocket()[1])
        )
        await phone.run()
        await house.done()
        assert phone.hung_up_by_us
        assert house.agent.lines == []

    run_virtual(play())


def test_places_for_those_who_have_not_begun_are_counted() -> None:
    async def play() -> None:
        house = House(config=AsteriskConfig(max_pending_sockets=2))
        one, other = house.websocket(), house.audiosocket()[1]
        assert house.desk.admit() is None
        await one.send(PLAIN_START)
        await asyncio.sleep(0.1)
        place = house.desk.admit()
        assert place is not None
        place.release()
        place.release()
        for socket in (one, other):
            await socket.close()
        await house.done()

    run_virtual(play())


@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_one_call_that_fails_hurts_no_other(way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        house = House()

        def phone() -> MediaChannel | AudioSocketCall:
            if way == "websocket":
                return MediaChannel(house.websocket())
            return AudioSocketCall(house.audiosocket()[1])

        good, bad = phone(), phone()
        running = [asyncio.create_task(each.run()) for each in (good, bad)]
        await asyncio.sleep(0.1)
        await bad.press("9")
        await running[1]
        await good.say(TONE)
        await asyncio.sleep(0.2)
        assert len(good.audio) and np.abs(good.audio).max() > 7000
        await good.hang_up()
        await house.done()
        assert house.agent.ends == ["caller hung up"]

    run_virtual(play())
    failures = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(failures) == 1
    assert "failed" in failures[0].getMessage()


@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_the_server_shuts_down(way: str) -> None:
    async def play() -> None:
        house = House()
        socket: MemorySocket = house.websocket() if way == "websocket" else house.audiosocket()[1]
        waiting = house.websocket()
        await socket.send(PLAIN_START if way == "websocket" else UUID)
        await asyncio.sleep(0.1)
        house.desk.shut_down()
        await closing(socket)
        await closing(waiting)
        await house.done()
        assert house.agent.ends == ["server shut down"]

    run_virtual(play())


def test_the_operator_is_told_of_the_wrong_format(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        house = House()
        socket = house.websocket()
        await socket.send(PLAIN_START.replace("ulaw", "opus"))
        assert (await closing(socket)).code == 1003
        _, pipe = house.audiosocket()
        await pipe.send(UUID + message(0x12, bytes(640)))
        await closing(pipe)
        await house.done()

    run_virtual(play())
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 2
    assert "c(ulaw)" in told[0] and "c(slin)" in told[1]


# Living


def test_what_is_said_comes_back_whole() -> None:
    for way in ("ulaw", "slin", "audiosocket"):

        async def play(way: str = way) -> None:
            house = House(Cushioned())
            phone: MediaChannel | AudioSocketCall
            if way == "audiosocket":
                phone = AudioSocketCall(house.audiosocket()[1])
            else:
                phone = MediaChannel(house.websocket(), format=way)
            running = asyncio.create_task(phone.run())
            await phone.say(TONE)
            await asyncio.sleep(0.3)
            await phone.hang_up()
            await running
            await house.done()
            assert phone.complaints == []
            heard = phone.audio.astype(float)
            begin = int(np.flatnonzero(np.abs(heard) > 500)[0]) // 160 * 160
            error = heard[begin : begin + 800] - TONE
            assert np.sqrt(np.mean(error**2)) < 0.03 * 8000
            assert {mark.heard for mark in house.agent.marks} == {True}

        run_virtual(play())


@virtual
async def test_audiosocket_gets_one_audioframe_every_20_ms_from_the_beginning_to_the_end() -> None:
    house = House()
    ours, theirs = house.audiosocket()
    phone = AudioSocketCall(theirs)
    running = asyncio.create_task(phone.run())
    for _ in range(3):
        await phone.say(TONE)
        await asyncio.sleep(1.0)
    await phone.hang_up()
    await running
    await house.done()
    times = np.array([at for at, _ in ours.written])
    assert len(times) == pytest.approx(3.3 / 0.02, abs=2)
    assert np.allclose(np.diff(times), 0.02)
    assert all(len(data) == 323 for _, data in ours.written)


@virtual
async def test_a_peer_that_takes_nothing_more_is_gone() -> None:
    house = House()
    ours, theirs = house.audiosocket()
    await theirs.send(UUID)
    await asyncio.sleep(0.1)
    ours.unsent = 200_000
    await closing(theirs)
    await house.done()
    assert house.agent.ends == ["connection lost: the peer takes nothing more"]


class Speaker:
    """Sends a second at once with marks, clears after `after_s`, and tells when each mark came."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.marks: list[tuple[float, MarkReached]] = []

    async def __call__(self, line: Line) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for n in range(10):
            await line.send_audio(TONE)
            await line.send_mark(f"mark {n}")
        loop.call_later(self.after_s, lambda: asyncio.ensure_future(line.clear()))
        try:
            async for event in line.events():
                if isinstance(event, MarkReached):
                    self.marks.append((loop.time() - began, event))
                else:
                    assert isinstance(event, AudioReceived)
        except LineClosed as closed:
            return Outcome(completed=True, reason=closed.reason)
        raise AssertionError("events() must end by LineClosed")


@pytest.mark.parametrize("way", ["plain", "json", "audiosocket"])
def test_marks_tell_what_was_heard_and_clear_takes_back_the_rest(way: str) -> None:
    async def play() -> None:
        speaker = Speaker(after_s=0.45)
        house = House(speaker)
        phone: MediaChannel | AudioSocketCall
        if way == "audiosocket":
            phone = AudioSocketCall(house.audiosocket()[1])
        else:
            phone = MediaChannel(house.websocket(), as_json=way == "json")
        running = asyncio.create_task(phone.run())
        await asyncio.sleep(1.5)
        await phone.hang_up()
        await running
        await house.done()
        assert [mark.name for _, mark in speaker.marks] == [f"mark {n}" for n in range(10)]
        assert [mark.heard for _, mark in speaker.marks] == [True] * 4 + [False] * 6
        for n, (at, _) in enumerate(speaker.marks[:4]):
            assert at == pytest.approx(0.1 * (n + 1), abs=0.041)
        # What sounded ends with the clear, within the AudioFrame that was under way.
        sounding = [at for at, piece in zip(phone.heard_at, phone.heard, strict=True) if piece.any()]
        assert sounding[-1] + 0.02 - sounding[0] == pytest.approx(0.45, abs=0.021)
        assert phone.complaints == []

    run_virtual(play())


@virtual
async def test_a_full_queue_at_asterisk_is_respected() -> None:
    async def flood(line: Line) -> None:
        for _ in range(1200):  # 24 s
            await line.send_audio(TONE[:160])
            await asyncio.sleep(0)
        await line.send_mark("end")

    class Flood:
        async def __call__(self, line: Line) -> Outcome:
            flooding = asyncio.create_task(flood(line))
            async for event in line.events():
                if isinstance(event, MarkReached):
                    break
            await flooding
            await line.hang_up("goodbye")
            return Outcome(completed=True, reason="")

    house = House(Flood())
    channel = MediaChannel(house.websocket())
    await channel.run()
    await house.done()
    assert channel.complaints == []
    loud = [piece for piece in channel.heard if piece.any()]
    assert len(loud) == 1200


def test_a_loaded_desk_keeps_its_calls_apart() -> None:
    async def play() -> None:
        house = House(Cushioned())
        phones = [AudioSocketCall(house.audiosocket()[1], uuid.UUID(int=n)) for n in range(20)]
        running = [asyncio.create_task(phone.run()) for phone in phones]
        tones = [(8000 * np.sin(np.arange(800) * (n + 1) / 40)).astype(np.int16) for n in range(20)]
        await asyncio.gather(*(phone.say(tone) for phone, tone in zip(phones, tones, strict=True)))
        await asyncio.sleep(0.3)
        for phone, tone in zip(phones, tones, strict=True):
            heard = phone.audio
            begin = int(np.flatnonzero(heard)[0]) // 160 * 160
            assert heard[begin : begin + 800].tolist() == tone.tolist()
            await phone.hang_up()
        await asyncio.gather(*running)
        await house.done()

    run_virtual(play())


@pytest.mark.parametrize(
    ("key", "ending"), [("#", Ending.FINE), ("0", Ending.FAILED), ("9", Ending.FAILED), ("", Ending.BUSY)]
)
@pytest.mark.parametrize("way", ["websocket", "audiosocket"])
def test_the_dialplan_is_told_how_the_call_ended(way: str, key: str, ending: Ending) -> None:
    async def play() -> None:
        book = CallBook(60.0, asyncio.get_running_loop().time)
        house = House(book=book, accepting=lambda: bool(key))
        phone: MediaChannel | AudioSocketCall
        if way == "websocket":
            phone, name = MediaChannel(house.websocket(uniq="1795333949.3")), "1795333949.3"
        else:
            phone = AudioSocketCall(house.audiosocket()[1])
            name = str(phone.uuid)
        running = asyncio.create_task(phone.run())
        await asyncio.sleep(0.1)
        if key:
            await phone.press(key)
        await running
        # Known already when the channel learns that it is over.
        assert book.ending(name) is ending
        await house.done()

    run_virtual(play())
