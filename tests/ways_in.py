"""The smallest honest caller for each way in, over real sockets and in real time: what stands between a voice
and a server is what Twilio, a SIP phone, Asterisk or a browser put there, and nothing else.

    async with over_sip(...) as caller:
        await caller.until(sounding=True)
        await caller.say(pcm)

Each is a `tests.telephony.asterisk_double.Caller` that notes when its own voice ended.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from pipeline.line import LINE_RATE_HZ, AudioReceived, Line, LineClosed, MarkReached, Pcm
from telephony import g711
from telephony.asterisk.joining import ClientSocket
from telephony.asterisk.server import TcpSocket
from telephony.simulator.dial import Account, ask_for_stream, follow_up
from telephony.simulator.realtime import TEST_ACCOUNT_SID
from telephony.simulator.twilio_side import Playback, StreamIdentity, TwilioSide
from telephony.sip.config import SipConfig, sip_config
from telephony.sip.line import SipLine
from telephony.sip.server import SipServer
from telephony.socket import Socket, SocketClosed
from tests.telephony.asterisk_double import SAMPLES, TICK_S, AudioSocketCall, Caller, MediaChannel

AUDIBLE = 300
"""Peak of 20 ms in which something sounds."""


class Visitor(Caller):
    """`spoke_until_s` is when the last sounding sample of ours had been spoken, on the loop's clock."""

    spoke_until_s = 0.0
    over = False
    """The far end has hung up, or the line is lost."""

    def mouth(self) -> Pcm | None:
        pcm = super().mouth()
        if pcm is not None and _sounds(pcm):
            self.spoke_until_s = asyncio.get_running_loop().time() + TICK_S
        return pcm

    def answered_after_s(self) -> float:
        """From the last sample of ours to the first of the answer."""
        for pcm, at_s in zip(self.heard, self.heard_at, strict=True):
            loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > AUDIBLE)
            if len(loud) and at_s + len(pcm) / LINE_RATE_HZ > self.spoke_until_s:
                return float(at_s + loud[0] / LINE_RATE_HZ - self.spoke_until_s)
        raise AssertionError("nothing was answered")

    async def run(self) -> None:
        """Until the far end or we hang up."""
        raise NotImplementedError

    async def hang_up(self) -> None:
        raise NotImplementedError


def _sounds(pcm: Pcm) -> bool:
    return bool(np.abs(pcm.astype(np.int32)).max(initial=0) > AUDIBLE)


@asynccontextmanager
async def on_the_line(caller: Visitor) -> AsyncIterator[Visitor]:
    """`caller.run()` beside whoever uses it, hung up at the end."""

    async def run() -> None:
        try:
            await caller.run()
        finally:
            caller.over = True

    running = asyncio.create_task(run(), name="caller")
    try:
        yield caller
    finally:
        await caller.hang_up()
        async with asyncio.timeout(10):
            await running


async def every_20_ms(tick: Callable[[float], Coroutine[Any, Any, None]]) -> None:
    """`tick(seconds since the start)` on a fixed schedule, for ever: a late one does not delay the next."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in itertools.count():
        await asyncio.sleep(began + number * TICK_S - loop.time())
        await tick(number * TICK_S)


# Twilio


class StreamCaller(Visitor):
    """Twilio's end of a media stream, with somebody on the phone behind it."""

    def __init__(self, socket: Socket, identity: StreamIdentity) -> None:
        super().__init__()
        self.twilio = TwilioSide(identity)
        self._socket = socket

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for message in self.twilio.open():
            await self._socket.send(message)
        began = loop.time()

        async def tick(now_s: float) -> None:
            said = self.mouth()
            assert said is not None
            await self._socket.send(self.twilio.media(g711.encode(said), round(now_s * 1000)))
            for mark in self.twilio.advance(now_s):
                await self._socket.send(mark)
            played = round(now_s * LINE_RATE_HZ)
            self.heard.append(g711.decode(self.twilio.playback.window(played - SAMPLES, played)))
            self.heard_at.append(began + now_s - TICK_S)

        async def listen() -> None:
            while True:
                message = await self._socket.receive()
                for mark in self.twilio.receive(message, loop.time() - began):
                    await self._socket.send(mark)

        await _both(listen(), every_20_ms(tick))

    async def hang_up(self) -> None:
        with contextlib.suppress(SocketClosed):
            await self._socket.send(self.twilio.stop())
        await self._socket.close()


def twilio_account(auth_token: str, *, caller: str = "+12025550123", called: str = "+12025550199") -> Account:
    """Twilio's side of a new call, signed with `auth_token`."""
    return Account(
        account_sid=TEST_ACCOUNT_SID,
        call_sid="CA" + secrets.token_hex(16),
        stream_sid="MZ" + secrets.token_hex(16),
        caller=caller,
        called=called,
        auth_token=auth_token,
    )


@asynccontextmanager
async def over_twilio(webhook: str, account: Account) -> AsyncIterator[StreamCaller]:
    """A call that rings at `webhook`, or was answered by somebody whom `webhook` is told of. Where the server
    ends the stream, what its TwiML wants done then is done."""
    stream = await ask_for_stream(webhook, account)
    identity = StreamIdentity(account.account_sid, account.call_sid, account.stream_sid, stream.parameters)
    async with _websocket(stream.url, account.signature(stream.url, {})) as socket:
        caller = StreamCaller(socket, identity)
        async with on_the_line(caller):
            yield caller
            left_by_server = caller.over
    if left_by_server:
        assert "<Hangup" in (await follow_up(webhook, stream, account) or "")
    assert not caller.twilio.violations
    assert not stream.violations


# SIP


class SipCaller(Visitor):
    """A phone: one line of a `SipServer` of ours. What it says leaves in packets of 20 ms on that server's
    clock, and arrives through its jitter buffer."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line
        self.why = ""
        self._said = asyncio.Event()

    async def say(self, pcm: Pcm) -> None:
        padded = np.concatenate([pcm, np.zeros(-len(pcm) % SAMPLES, np.int16)])
        loud = np.flatnonzero(np.abs(padded.astype(np.int32)) > AUDIBLE)
        self._said.clear()
        await self.line.send_audio(padded)
        await self.line.send_mark("said")
        await self._said.wait()
        self.spoke_until_s -= (len(padded) - int(loud[-1]) - 1) // SAMPLES * TICK_S

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for event in self.line.events():
                if isinstance(event, AudioReceived):
                    self.heard.append(event.pcm)
                    self.heard_at.append(loop.time())
                elif isinstance(event, MarkReached):
                    # It comes when the last packet's 20 ms are over.
                    self.spoke_until_s = loop.time()
                    self._said.set()
        except LineClosed as closed:
            self.why = closed.reason
        finally:
            self._said.set()

    async def hang_up(self) -> None:
        await self.line.hang_up("goodbye")


@dataclass(frozen=True)
class Outcome:
    completed: bool = True
    reason: str = "done"


async def nobody_home(line: Line) -> Outcome:
    await line.hang_up("goodbye")
    return Outcome(False, "nobody answers here")


def phone_config(**settings: object) -> SipConfig:
    """A phone on this machine, with RTP ports away from the server's own."""
    return sip_config(
        **{"port": 0, "insecure": True, "rtp_first_port": 43_000, "rtp_last_port": 43_199, **settings}
    )


@asynccontextmanager
async def over_sip(port: int) -> AsyncIterator[SipCaller]:
    """From a phone of ours to the SIP server on this machine's `port`."""
    async with SipServer(phone_config(), nobody_home) as phone:
        line: SipLine = await phone.dial(f"sip:maya@127.0.0.1:{port}", caller="+12025550123")
        caller = SipCaller(line)
        async with on_the_line(caller):
            yield caller


# Asterisk


class ChannelCaller(Visitor, MediaChannel):
    async def run(self) -> None:
        await MediaChannel.run(self)

    async def hang_up(self) -> None:
        await MediaChannel.hang_up(self)


class AudioSocketCaller(Visitor, AudioSocketCall):
    async def run(self) -> None:
        await AudioSocketCall.run(self)

    async def hang_up(self) -> None:
        await AudioSocketCall.hang_up(self)


@asynccontextmanager
async def over_chan_websocket(base: str, secret: str, *, as_json: bool = False) -> AsyncIterator[Visitor]:
    """`Dial(WebSocket/maya/...)`: `base` is ws://HOST:PORT."""
    async with _websocket(f"{base}/asterisk/media?token={secret}", subprotocol="media") as socket:
        caller = ChannelCaller(socket, as_json=as_json)
        async with on_the_line(caller):
            yield caller
        assert not caller.complaints


@asynccontextmanager
async def over_audiosocket(host: str, port: int) -> AsyncIterator[Visitor]:
    reader, writer = await asyncio.open_connection(host, port)
    caller = AudioSocketCaller(TcpSocket(reader, writer), uuid.uuid4())
    async with on_the_line(caller):
        yield caller
    assert not caller.complaints


# The browser


class PageCaller(Visitor):
    """The page: a microphone, and a buffer that plays what comes after what came before."""

    def __init__(self, socket: Socket) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []
        """What the page would show."""
        self._socket = socket
        self._playback = Playback()
        self._marks: deque[tuple[float, int]] = deque()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._socket.send(json.dumps({"event": "start", "version": 1}))
        began = loop.time()

        async def tick(now_s: float) -> None:
            said = self.mouth()
            assert said is not None
            sample = round(now_s * LINE_RATE_HZ)
            await self._socket.send(sample.to_bytes(4, "big") + g711.encode(said))
            while self._marks and self._marks[0][0] <= now_s:
                await self._return(self._marks.popleft()[1], heard=True)
            self.heard.append(g711.decode(self._playback.window(sample - SAMPLES, sample)))
            self.heard_at.append(began + now_s - TICK_S)

        async def listen() -> None:
            while True:
                message = await self._socket.receive()
                now_s = loop.time() - began
                if isinstance(message, bytes):
                    self._playback.queue(message, now_s)
                    continue
                fields = json.loads(message)
                if fields["event"] == "mark":
                    self._marks.append((self._playback.end_s, fields["id"]))
                elif fields["event"] == "clear":
                    self._playback.clear(now_s)
                    while self._marks:
                        await self._return(self._marks.popleft()[1], heard=False)
                else:
                    self.told.append(fields)

        await _both(listen(), every_20_ms(tick))

    async def hang_up(self) -> None:
        with contextlib.suppress(SocketClosed):
            await self._socket.send('{"event":"stop"}')
        await self._socket.close()

    async def _return(self, number: int, *, heard: bool) -> None:
        await self._socket.send(json.dumps({"event": "mark", "id": number, "heard": heard}))


@asynccontextmanager
async def over_browser(port: int) -> AsyncIterator[PageCaller]:
    origin = f"http://127.0.0.1:{port}"
    async with _websocket(f"ws://127.0.0.1:{port}/talk/media", origin=origin) as socket:
        caller = PageCaller(socket)
        async with on_the_line(caller):
            yield caller


async def _both(listening: Coroutine[Any, Any, None], ticking: Coroutine[Any, Any, None]) -> None:
    """Until either finds the socket closed."""
    tasks = [asyncio.create_task(work) for work in (listening, ticking)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, SocketClosed):
            raise error


@asynccontextmanager
async def _websocket(
    url: str, headers: Mapping[str, str] | None = None, *, origin: str = "", subprotocol: str = ""
) -> AsyncIterator[ClientSocket]:
    async with connect(
        url,
        additional_headers=dict(headers or {}),
        origin=Origin(origin) if origin else None,
        subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
        compression=None,
        ping_interval=None,
        proxy=None,
        close_timeout=2,
    ) as connection:
        yield ClientSocket(connection)
