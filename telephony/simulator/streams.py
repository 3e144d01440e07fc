"""One simulated call over real sockets: its streams, one after the other, and what Twilio asks in between.

When the server closes a stream, or is gone, Twilio goes on with the TwiML that stands behind `<Connect>`.
Where that connects the call again, a new stream begins in the same call.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from telephony.simulator.caller import Caller
from telephony.simulator.dial import Account, Stream, follow_up, next_stream, report_stream_status
from telephony.simulator.errors import CannotCall, Unreachable
from telephony.simulator.shell import converse
from telephony.simulator.twilio_side import StreamIdentity
from telephony.simulator.websocket import open_socket
from telephony.socket_client import ClientSocket


class SimulatedCall:
    """`hold(stream)` plays the caller's script to the end of the call. `webhook` is None for a stream that
    was called directly: then nobody asks what comes behind it."""

    def __init__(self, caller: Caller, webhook: str | None, account: Account) -> None:
        self.violations: list[str] = []
        self._caller = caller
        self._webhook = webhook
        self._account = account
        self._started: float | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def hold(self, stream: Stream) -> str | None:
        """Returns what the server wanted done in the end, if Twilio asked. Raises `CannotCall` where the
        first stream does not come about."""
        caller = self._caller
        try:
            await self._hold_stream(stream, None)
            while caller.waits and self._webhook is not None:
                twiml = await self._behind(stream, self._webhook)
                following = None if twiml is None else next_stream(twiml, self._webhook)
                if following is None:
                    return twiml
                stream = following
                await self._go_on(stream)
        finally:
            if caller.waits:
                caller.hung_up_on()
            if self._telling:
                await asyncio.wait(self._telling)
        return None

    async def _go_on(self, stream: Stream) -> None:
        sid = "MZ" + secrets.token_hex(16)
        self._account = replace(self._account, stream_sid=sid)
        self.violations += stream.violations
        identity = replace(self._caller.twilio.identity, stream_sid=sid, parameters=stream.parameters)
        try:
            await self._hold_stream(stream, identity)
        except CannotCall as failure:
            # Twilio goes on as if that stream had ended.
            self.violations.append(str(failure))

    async def _hold_stream(self, stream: Stream, reopens: StreamIdentity | None) -> None:
        async with _open(stream.url, self._account) as socket:
            if self._started is None:
                self._started = asyncio.get_running_loop().time()
            self._tell(stream, "stream-started")
            await converse(self._caller, socket, started=self._started, reopens=reopens)
            if self._caller.ending == "connection dropped":
                socket.abort()
        self._tell(stream, "stream-stopped")

    async def _behind(self, stream: Stream, webhook: str) -> str | None:
        """What the server wants done now."""
        try:
            return await follow_up(webhook, stream, self._account)
        except CannotCall as failure:
            self.violations.append(f"behind </Connect>: {failure}")
            return None

    def _tell(self, stream: Stream, event: str) -> None:
        if self._webhook is not None:
            told = self._report(self._webhook, stream, event, self._account)
            self._telling.add(asyncio.create_task(told, name=f"simulated {event}"))

    async def _report(self, webhook: str, stream: Stream, event: str, account: Account) -> None:
        if violation := await report_stream_status(webhook, stream, account, event):
            self.violations.append(violation)


@asynccontextmanager
async def _open(url: str, account: Account) -> AsyncIterator[ClientSocket]:
    """A socket to the first server that takes the connection, signed over the URL. Raises `CannotCall`."""
    headers = account.signature(url, {})
    *others, last = account.balancer.ways(url)
    for way in others:
        opening = open_socket(way, headers)
        try:
            socket = await opening.__aenter__()
        except Unreachable:
            continue
        try:
            yield socket
        finally:
            await opening.__aexit__(None, None, None)
        return
    async with open_socket(last, headers) as socket:
        yield socket
