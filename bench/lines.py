"""The same call over Twilio's line, SIP and AudioSocket: how long an answer takes to be heard over each.

Three callers talk to one server (`bench.lines_server`) at once and in real time, each over real sockets. The
wait is from the end of the caller's last 20 ms to the arrival of the agent's first packet that sounds, at the
caller's end of the line; Twilio, Asterisk and a telephone begin to play it at once.
"""

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Final

import numpy as np
import websockets

from bench.sip_load import HOST, Load, Phone, options
from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES, Pcm
from telephony import g711
from telephony.simulator.errors import CannotCall
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide

_AUDIBLE_PEAK: Final = 300
_SILENCE: Final = bytes((g711.SILENCE,)) * AUDIO_FRAME_SAMPLES
_QUIET_S: Final = 0.6
"""The agent has finished when nothing has sounded for so long."""
_PATIENCE_S: Final = 20.0
_START_LIMIT_S: Final = 30.0
_CLOSED_BY_SERVER = (asyncio.IncompleteReadError, OSError, websockets.ConnectionClosed)


class Talker:
    """Waits until the agent has finished, speaks, and notes how long the answer took. `next_audio` every
    20 ms, `heard` for what comes."""

    def __init__(self, line: Sequence[bytes], turns: int) -> None:
        self.gaps_s: list[float] = []
        self._line = line
        self._turns = turns
        self._place = len(line)
        self._spoke_until_s: float | None = None
        self._sounded_s: float | None = None

    @property
    def done(self) -> bool:
        return len(self.gaps_s) >= self._turns

    def next_audio(self, now: float) -> bytes:
        """The next AudioFrame in mu-law, which begins to leave at `now` (seconds)."""
        if self._place < len(self._line):
            self._place += 1
            if self._place == len(self._line):
                self._spoke_until_s = now + AUDIO_FRAME_S
            return self._line[self._place - 1]
        waiting = self._spoke_until_s is not None
        if not waiting and self._sounded_s is not None and now - self._sounded_s > _QUIET_S and not self.done:
            self._place = 0
        return _SILENCE

    def heard(self, pcm: Pcm, at_s: float) -> None:
        """The agent's audio, as it arrived."""
        if not pcm.size or int(np.abs(pcm.astype(np.int32)).max()) < _AUDIBLE_PEAK:
            return
        self._sounded_s = at_s + pcm.size / 8_000
        if self._spoke_until_s is not None:
            self.gaps_s.append(at_s - self._spoke_until_s)
            self._spoke_until_s = None


async def over_twilio(talker: Talker, port: int) -> None:
    sid = uuid.uuid4().hex
    side = TwilioSide(StreamIdentity("AC" + "0" * 32, f"CA{sid}", f"MZ{sid}"))
    began = time.monotonic()
    async with websockets.connect(f"ws://{HOST}:{port}/twilio/media", compression=None) as stream:
        for message in side.open():
            await stream.send(message)

        async def listen() -> None:
            async for message in stream:
                now = time.monotonic()
                before = len(side.playback.timeline)
                for echo in side.receive(str(message), now - began):
                    await stream.send(echo)
                played = bytes(side.playback.timeline[before:])
                talker.heard(g711.decode(played.lstrip(_SILENCE[:1])), now)

        listening = asyncio.create_task(listen(), name="twilio ear")
        ticks = 0

        async def tick(now: float) -> None:
            nonlocal ticks
            for mark in side.advance(now - began):
                await stream.send(mark)
            await stream.send(side.media(talker.next_audio(now), ticks * 20))
            ticks += 1

        try:
            await _every_20_ms(talker, tick)
            await stream.send(side.stop())
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def over_audiosocket(talker: Talker, port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(struct.pack(">BH", 0x01, 16) + uuid.uuid4().bytes)

    async def listen() -> None:
        while True:
            kind, length = struct.unpack(">BH", await reader.readexactly(3))
            payload = await reader.readexactly(length)
            if kind == 0x10:
                talker.heard(np.frombuffer(payload, "<i2").astype(np.int16), time.monotonic())

    async def tick(now: float) -> None:
        pcm = g711.decode(talker.next_audio(now))
        writer.write(struct.pack(">BH", 0x10, 2 * pcm.size) + pcm.astype("<i2").tobytes())

    listening = asyncio.create_task(listen(), name="audiosocket ear")
    try:
        await _every_20_ms(talker, tick)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()


async def over_sip(talker: Talker, port: int) -> None:
    load = Load((HOST, port))
    phone = TalkingPhone(0, (), 1, 0)
    phone.talker = talker
    load.call(phone)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while phone.answered_s is None and not phone.over:
                load.read()
                await asyncio.sleep(0.002)

        async def tick(now: float) -> None:
            phone.tick()
            load.read()

        listening = asyncio.create_task(_poll(phone), name="sip ear")
        try:
            await _every_20_ms(talker, tick)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        load.hang_up(phone)
        load.read()
        load.forget(phone)
        load.signalling.close()


class TalkingPhone(Phone):
    """A phone of the load that a `Talker` speaks into."""

    talker: Talker

    def next_payload(self, number: int) -> bytes:
        return self.talker.next_audio(time.monotonic())

    def take_audio(self, datagram: bytes, arrived_s: float) -> None:
        self.talker.heard(g711.decode(datagram[12:]), arrived_s - time.time() + time.monotonic())


async def _poll(phone: Phone) -> None:
    while True:
        phone.listen()
        await asyncio.sleep(0.002)


async def _every_20_ms(talker: Talker, tick: Callable[[float], Coroutine[None, None, None]]) -> None:
    """Tick on a fixed schedule until the talker is done. Raises `CannotCall` when the agent says nothing."""
    began, number = time.monotonic(), 0
    last_turn_s, turns = began, 0
    while not talker.done:
        number += 1
        await asyncio.sleep(max(0.0, began + number * AUDIO_FRAME_S - time.monotonic()))
        now = time.monotonic()
        if len(talker.gaps_s) > turns:
            last_turn_s, turns = now, len(talker.gaps_s)
        if now - last_turn_s > _PATIENCE_S:
            raise CannotCall(f"the agent did not answer the caller within {_PATIENCE_S:.0f} s")
        await tick(now)


LINES: Final = {"twilio": over_twilio, "sip": over_sip, "audiosocket": over_audiosocket}


def gap_figures(core: int, line: Sequence[bytes], turns: int) -> dict[str, object]:
    """`gap_difference_ms`, the largest distance of a line's median wait from that over Twilio's line, and
    each line's median and largest. About five seconds a turn. Raises `CannotCall`."""
    with _server(core) as ports:
        talkers = {name: Talker(line, turns) for name in LINES}

        async def talk() -> None:
            async with asyncio.TaskGroup() as calls:
                for name, over in LINES.items():
                    calls.create_task(over(talkers[name], ports[name]), name=name)

        try:
            asyncio.run(talk())
        except ExceptionGroup as faults:
            raise CannotCall(f"a call of the comparison failed: {faults.exceptions[0]}") from faults
    gaps_ms = {name: [gap * 1000 for gap in talker.gaps_s] for name, talker in talkers.items()}
    return line_figures(gaps_ms)


def line_figures(gaps_ms: dict[str, list[float]]) -> dict[str, object]:
    medians = {name: statistics.median(gaps) for name, gaps in gaps_ms.items()}
    figures: dict[str, object] = {
        "gap_difference_ms": round(max(abs(median - medians["twilio"]) for median in medians.values()), 1),
    }
    for name, gaps in gaps_ms.items():
        figures[f"gap_{name}_p50_ms"] = round(medians[name], 1)
        figures[f"gap_{name}_max_ms"] = round(max(gaps), 1)
    figures["gap_turns"] = min(map(len, gaps_ms.values()))
    return figures


@contextlib.contextmanager
def _server(core: int) -> Iterator[dict[str, int]]:
    """Its ports, by line."""
    with contextlib.ExitStack() as probes:
        kinds = {name: socket.SOCK_DGRAM if name == "sip" else socket.SOCK_STREAM for name in LINES}
        bound = {name: probes.enter_context(socket.socket(type=kind)) for name, kind in kinds.items()}
        for probe in bound.values():
            probe.bind((HOST, 0))
        ports: dict[str, int] = {name: probe.getsockname()[1] for name, probe in bound.items()}
    command = [sys.executable, "-m", "bench.lines_server", "--core", str(core)]
    command += ["--web-port", str(ports["twilio"]), "--sip-port", str(ports["sip"])]
    command += ["--audiosocket-port", str(ports["audiosocket"])]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_LIMIT_S
        while not (options((HOST, ports["sip"]), 0.3) and _listens(ports["twilio"])):
            if process.poll() is not None:
                raise CannotCall("the server under test did not start; its own words stand above")
            if time.monotonic() > deadline:
                raise CannotCall(f"the server under test took more than {_START_LIMIT_S:.0f} s to start")
        yield ports
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 0.3):
        return True
    return False
