"""Calls in virtual time: the server's own stream shell and the simulated caller in one loop without waiting.

The two are joined by a pair of in-memory sockets. A call plays many times faster than it lasts and comes
out bit for bit the same. Models must be stand-ins whose latency is `asyncio.sleep` (`models.scripted`), and
voice activity must run on the loop (`CallService(..., inline=True)`).
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from telephony.answer import Answer
from telephony.simulator.caller import Caller
from telephony.simulator.outcome import Transcripts, conclude
from telephony.simulator.report import Report
from telephony.simulator.scenario import Scenario
from telephony.simulator.shell import converse
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide
from telephony.simulator.virtual_loop import MemorySocket, run_virtual
from telephony.simulator.voices import Speeches, render
from telephony.twilio.config import TwilioConfig
from telephony.twilio.desk import CALLED_PARAMETER, CALLER_PARAMETER, StreamDesk

AnswerFactory = Callable[[], AbstractAsyncContextManager[Answer]]
"""Called inside virtual time. Sets up whatever answers the phone, yields `answer(line)`, and takes it down:

    @asynccontextmanager
    async def clinic() -> AsyncIterator[Answer]:
        service = CallService(models, persona, observe=lambda info: Unobserved(), inline=True)
        await service.start()
        try:
            yield service.answer
        finally:
            await service.aclose()
"""

_HANG_UP_PATIENCE_S = 60.0


def simulate_virtual(
    scenario: Scenario,
    answer_factory: AnswerFactory,
    *,
    recording_dir: Path | str | None = None,
    transcripts: Transcripts | None = None,
    speeches: Speeches | None = None,
) -> Report:
    """Play `scenario` against what `answer_factory` sets up, in virtual time. Blocks; not from a coroutine.

    `transcripts(call_id)` may tell the server's account of the turns. `speeches` are those of the caller's
    lines, by number of the step, that are not to be synthesised. Raises `VirtualTimeError` if something needs
    a thread or real I/O, or if the server still holds the call 60 s after the caller has left.
    """
    spoken = render(scenario, speeches)
    seed = hashlib.sha256(f"{scenario.name} {scenario.network.seed}".encode()).hexdigest()
    identity = StreamIdentity(
        account_sid="AC" + "0" * 32,
        call_sid="CA" + seed[:32],
        stream_sid="MZ" + seed[32:],
        parameters={CALLER_PARAMETER: scenario.caller, CALLED_PARAMETER: scenario.called},
    )
    caller = Caller(scenario, spoken, TwilioSide(identity))
    run_virtual(_call(caller, answer_factory))
    return conclude(caller, recording_dir=recording_dir, transcripts=transcripts)


async def _call(caller: Caller, answer_factory: AnswerFactory) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = MemorySocket.pair()
    async with answer_factory() as answer:
        desk = StreamDesk(TwilioConfig("http://127.0.0.1:8080", insecure=True), answer, wall=loop.time)
        place = desk.admit()
        if place is None:
            raise RuntimeError("a new desk has no place for one socket")
        server = asyncio.create_task(desk.serve(theirs, place), name="media stream")
        await converse(caller, ours)
        if caller.ending != "agent hung up":
            ours.abort()
        async with asyncio.timeout(_HANG_UP_PATIENCE_S):
            await server
