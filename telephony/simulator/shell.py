"""Runs a `Caller` over a message socket, in real or in virtual time, on the clock of the running event
loop."""

import asyncio

from telephony.simulator.caller import Caller
from telephony.simulator.twilio_side import StreamIdentity
from telephony.socket import Socket, SocketClosed


class _Alarm:
    """One timer, and a way to ring early."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung: asyncio.Future[bool] | None = None
        self.set_for = float("inf")

    async def wait_until(self, deadline: float) -> bool:
        """True when it rang early, False when the deadline passed."""
        rung: asyncio.Future[bool] = self._loop.create_future()
        self._rung = rung
        self.set_for = deadline
        timer = self._loop.call_at(deadline, self._ring, False)
        try:
            return await rung
        finally:
            timer.cancel()

    def ring(self) -> None:
        self._ring(True)

    def _ring(self, early: bool) -> None:
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(early)


async def converse(
    caller: Caller,
    socket: Socket,
    *,
    started: float | None = None,
    reopens: StreamIdentity | None = None,
) -> None:
    """Play the caller's script over `socket` to its end, then close it (or leave it to be aborted, when the
    script dropped the connection). Pacing follows a fixed schedule: a late AudioFrame does not delay the
    next. `started` is when the call began by the loop's clock, None: now; `reopens` is the stream on
    which a call goes on.

    Returns when the caller has finished, whoever ended the call, or waits for another stream;
    `caller.ending` says who ended it.
    """
    loop = asyncio.get_running_loop()
    started = loop.time() if started is None else started
    alarm = _Alarm()
    outbox = caller.begin() if reopens is None else caller.reopen(reopens, loop.time() - started)

    async def hear() -> None:
        try:
            while True:
                message = await socket.receive()
                outbox.extend(caller.receive(message, loop.time() - started))
                deadline = started + caller.next_deadline()
                if outbox or deadline < alarm.set_for:
                    alarm.ring()
        except SocketClosed as closed:
            caller.closed(loop.time() - started, closed.code, closed.reason)
            alarm.ring()

    listener = asyncio.create_task(hear(), name="simulated caller hears")
    try:
        while True:
            for message in outbox:
                await socket.send(message)
            outbox.clear()
            if caller.finished or caller.waits:
                break
            deadline = caller.next_deadline()
            rung = await alarm.wait_until(started + deadline)
            now = loop.time() - started
            # Sum and difference round differently; a timer that fired has reached its deadline.
            outbox.extend(caller.advance(now if rung else max(now, deadline)))
        if caller.ending == "caller hung up":
            await socket.close()
    except SocketClosed as closed:
        caller.closed(loop.time() - started, closed.code, closed.reason)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
