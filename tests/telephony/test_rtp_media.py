"""The shell over real sockets on loopback: two ends of one call, and strangers."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import numpy as np
import pytest

from pipeline.line import AudioReceived, KeyPressed, LineClosed, LineEvent, MarkReached, Pcm
from telephony import g711
from telephony.rtp.clock import RtpClock
from telephony.rtp.errors import NoPortFree
from telephony.rtp.media import RtpMedia
from telephony.rtp.packet import RtpPacket, build, parse
from telephony.rtp.ports import RtpPorts
from tests.telephony.test_rtp_ports import HOST, free_range


class End:
    """One end of a call, with all that it heard."""

    def __init__(self, media: RtpMedia) -> None:
        self.media = media
        self.events: list[LineEvent] = []
        self.over: str | None = None
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            async for event in self.media.events():
                self.events.append(event)
        except LineClosed as closed:
            self.over = closed.reason

    @property
    def heard(self) -> Pcm:
        pieces = [event.pcm for event in self.events if isinstance(event, AudioReceived)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    @property
    def keys(self) -> str:
        return "".join(event.digit for event in self.events if isinstance(event, KeyPressed))

    @property
    def marks(self) -> list[MarkReached]:
        return [event for event in self.events if isinstance(event, MarkReached)]


@pytest.fixture
async def house() -> AsyncIterator[tuple[RtpClock, RtpPorts]]:
    first = free_range(8)
    clock, ports = RtpClock(), RtpPorts(HOST, first, first + 15)
    yield clock, ports
    assert ports.in_use == 0
    assert clock.calls == 0


async def a_call(
    clock: RtpClock, ports: RtpPorts, keys: int | None = 101, codec: g711.CodecName = "PCMU"
) -> tuple[End, End]:
    ours, theirs = await RtpMedia.open(clock, ports), await RtpMedia.open(clock, ports)
    number = g711.CODECS[codec].payload_type
    ours.configure((HOST, theirs.port), codec, number, keys, sending=True, receiving=True)
    theirs.configure((HOST, ours.port), codec, number, keys, sending=True, receiving=True)
    return End(ours), End(theirs)


async def until(condition: object, limit_s: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  what is awaited is another end's state
            await asyncio.sleep(0.005)


def loud(n_samples: int) -> Pcm:
    return np.random.default_rng(4).integers(-8_000, 8_000, n_samples).astype(np.int16)


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_a_call_speaks_and_hears_both_ways(
    house: tuple[RtpClock, RtpPorts], codec: g711.CodecName
) -> None:
    ours, theirs = await a_call(*house, codec=codec)
    pcm = loud(2_400)
    await ours.media.send_audio(pcm)
    await ours.media.send_mark("done")
    await theirs.media.send_audio(pcm[:1600])
    law = g711.CODECS[codec]
    await until(
        lambda: ours.marks and theirs.heard.tobytes().find(law.decode(law.encode(pcm)).tobytes()) >= 0
    )
    await until(lambda: ours.heard.tobytes().find(law.decode(law.encode(pcm[:1600])).tobytes()) >= 0)
    assert ours.marks == [MarkReached("done", heard=True)]
    ours.media.close("caller hung up")
    theirs.media.close("we hung up")
    await asyncio.gather(ours.listening, theirs.listening)
    assert (ours.over, theirs.over) == ("caller hung up", "we hung up")


async def test_keys_go_and_come(house: tuple[RtpClock, RtpPorts]) -> None:
    ours, theirs = await a_call(*house)
    await ours.media.send_audio(loud(800))
    await ours.media.send_keys("1#")
    await until(lambda: theirs.keys == "1#")
    theirs.media.key_pressed("5")
    await until(lambda: theirs.keys == "1#5")
    with pytest.raises(ValueError, match="is no key"):
        await ours.media.send_keys("1x")
    ours.media.close("over")
    theirs.media.close("over")


async def test_closing_ends_whoever_waits(house: tuple[RtpClock, RtpPorts]) -> None:
    ours, theirs = await a_call(*house)
    keys = asyncio.create_task(ours.media.send_keys("1234567890"))
    await asyncio.sleep(0.05)
    ours.media.close("caller hung up")
    ours.media.close("again")
    with pytest.raises(LineClosed, match="caller hung up"):
        await keys
    await ours.listening
    for send in (ours.media.send_audio(loud(160)), ours.media.send_mark("m"), ours.media.clear()):
        with pytest.raises(LineClosed, match="caller hung up"):
            await send
    theirs.media.close("over")


async def test_what_is_cleared_is_not_heard_and_its_mark_says_so(house: tuple[RtpClock, RtpPorts]) -> None:
    ours, theirs = await a_call(*house)
    await ours.media.send_audio(loud(8_000))
    await ours.media.send_mark("end")
    await asyncio.sleep(0.06)
    await ours.media.clear()
    await until(lambda: ours.marks)
    assert ours.marks == [MarkReached("end", heard=False)]
    await asyncio.sleep(0.1)
    assert 0 < np.count_nonzero(theirs.heard) < 4_000
    ours.media.close("over")
    theirs.media.close("over")


async def test_a_caller_who_falls_silent_ends_the_call(house: tuple[RtpClock, RtpPorts]) -> None:
    clock, ports = house
    told: list[str] = []
    media = await RtpMedia.open(clock, ports, rtp_timeout_s=0.2, on_timeout=told.append)
    media.configure((HOST, 9), "PCMU", 0, None, sending=True, receiving=True)
    end = End(media)
    await until(lambda: end.over)
    assert end.over == "no media for 0.2 s"
    assert told == ["no media for 0.2 s"]
    assert ports.in_use == 0


async def test_ports_run_out_and_come_back(house: tuple[RtpClock, RtpPorts]) -> None:
    clock, ports = house
    taken = [await RtpMedia.open(clock, ports) for _ in range(8)]
    with pytest.raises(NoPortFree):
        await RtpMedia.open(clock, ports)
    for media in taken:
        media.close("over")
    again = await RtpMedia.open(clock, ports)
    again.close("over")


async def test_a_phone_behind_nat_is_answered_where_it_is_and_strangers_are_not(
    house: tuple[RtpClock, RtpPorts],
) -> None:
    clock, ports = house
    media = await RtpMedia.open(clock, ports)
    # The SDP names an address that nothing can come from.
    media.configure(("127.0.0.2", 4000), "PCMU", 0, None, sending=True, receiving=True)
    end = End(media)
    with contextlib.ExitStack() as stack:
        phone, stranger = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        for sock in (phone, stranger):
            sock.bind((HOST, 0))
            sock.setblocking(False)
        tone = g711.encode(np.full(160, 1_000, np.int16))
        noise = g711.encode(np.full(160, -9_000, np.int16))
        for n in range(25):
            phone.sendto(build(RtpPacket(0, n, 160 * n, 1, False, tone)), (HOST, media.port))
            if n >= 8:
                for _ in range(3):
                    stranger.sendto(build(RtpPacket(0, n, 160 * n, 2, False, noise)), (HOST, media.port))
                    stranger.sendto(b"\x80" * 2_000, (HOST, media.port))
            await asyncio.sleep(0.02)
        assert parse(phone.recv(2_048)).payload_type == 0
        with pytest.raises(BlockingIOError):
            stranger.recv(2_048)
    assert (end.heard > 900).sum() >= 15 * 160
    assert not (end.heard < -5_000).any()
    assert media.counters["strange_source"] >= 17 * 3
    media.close("over")
    await end.listening


@pytest.mark.parametrize("remote", ["example.com", "localhost", "", "1.2.3", "::g"])
async def test_names_are_never_looked_up(
    house: tuple[RtpClock, RtpPorts], remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*name: object) -> None:
        raise AssertionError(f"{name} was looked up")

    for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "getnameinfo"):
        monkeypatch.setattr(socket, function, asked)
    media = await RtpMedia.open(*house)
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        media.configure((remote, 4000), "PCMU", 0, None, sending=True, receiving=True)
    with pytest.raises(ValueError, match="is no port"):
        media.configure((HOST, 70_000), "PCMU", 0, None, sending=True, receiving=True)
    media.close("over")


async def test_an_old_hold_and_a_refused_stream_are_nowhere_to_send_to(
    house: tuple[RtpClock, RtpPorts],
) -> None:
    media = await RtpMedia.open(*house)
    for remote in (("0.0.0.0", 4000), (HOST, 0), None):
        media.configure(remote, "PCMU", 0, None, sending=True, receiving=True)
        assert media.session.latch.target is None
    await asyncio.sleep(0.05)
    media.close("over")


async def test_reports_go_to_the_odd_port(
    house: tuple[RtpClock, RtpPorts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telephony.rtp.media.INTERVAL_S", 0.1)
    ours, theirs = await a_call(*house)
    odd = theirs.media._lease.rtcp
    reports: list[bytes] = []

    def look() -> bool:
        with contextlib.suppress(BlockingIOError):
            reports.append(odd.recv(2_048))
        return bool(reports)

    monkeypatch.setattr(theirs.media, "_report", lambda now: None)
    await until(look)
    first, kind = struct.unpack_from("!BB", reports[0])
    assert (first >> 6, kind) == (2, 200)
    ours.media.close("over")
    theirs.media.close("over")


async def test_a_call_whose_media_fails_ends_with_that(
    house: tuple[RtpClock, RtpPorts], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = await a_call(*house)

    def fails(now: float) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(ours.media.session, "hear", fails)
    await until(lambda: ours.over)
    assert ours.over == "media failed: RuntimeError"
    theirs.media.close("over")


async def test_a_call_over_ipv6() -> None:
    first = free_range(2)
    try:
        ports = RtpPorts("::1", first, first + 3)
        clock = RtpClock()
        ours = await RtpMedia.open(clock, ports)
    except OSError:
        pytest.skip("this machine has no IPv6")
    theirs = await RtpMedia.open(clock, ports)
    for one, other in ((ours, theirs), (theirs, ours)):
        one.configure(("::1", other.port), "PCMU", 0, None, sending=True, receiving=True)
    end = End(theirs)
    await ours.send_audio(loud(800))
    await until(lambda: (np.abs(end.heard) > 1_000).sum() > 500)
    assert not theirs.counters["lost"]
    ours.close("over")
    theirs.close("over")
    await end.listening
