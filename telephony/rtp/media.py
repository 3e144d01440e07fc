"""The UDP shell around `RtpSession`: a call's audio, marks and keys as a `pipeline.line.Line` has them.

    clock, ports = RtpClock(), RtpPorts("0.0.0.0", 10_000, 19_998)
    media = await RtpMedia.open(clock, ports, local_ip="192.0.2.1")     # raises NoPortFree
    media.configure(("198.51.100.7", 4000), "PCMU", 0, 101, sending=True, receiving=True)
    async for event in media.events(): ...                              # raises LineClosed
    media.close("caller hung up")

Signalling owns it: it configures again at each offer, adds keys that come by INFO, and closes.
"""

import asyncio
import ipaddress
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from pipeline.line import LineClosed, LineEvent, Pcm
from telephony import g711
from telephony.rtp.clock import RtpClock
from telephony.rtp.latch import Address
from telephony.rtp.packet import MAX_DATAGRAM_BYTES
from telephony.rtp.ports import Lease, RtpPorts
from telephony.rtp.rtcp import INTERVAL_S
from telephony.rtp.session import MediaTerms, RtpSession

DEFAULT_TIMEOUT_S: Final = 20.0

_MOST_READ: Final = 200
"""Datagrams that one call reads at one tick: a flood of them must not hold up the other calls."""
_MOST_UNREAD_EVENTS: Final = 3_000
"""A minute. Whoever takes no events for so long has died."""
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(16) if hasattr(socket, "CMSG_SPACE") else 0
_TIMESPEC: Final = struct.Struct("@qq")
_OLDEST_S: Final = 10.0
"""A stamp that is older was made before the wall clock was set."""


class RtpMedia:
    """One call's media. Everything but `events` and `send_keys` takes effect at once and does not wait.

    `lead_s` for the line: its queue leaves at 20 ms per tick, nothing plays it ahead.
    """

    lead_s = 0.06

    def __init__(
        self,
        clock: RtpClock,
        lease: Lease,
        *,
        rtp_timeout_s: float,
        on_timeout: Callable[[str], None] | None,
    ) -> None:
        self.session = RtpSession(clock.now())
        self.over: str | None = None
        """Why it ended; None while it lives."""
        self._clock = clock
        self._lease = lease
        self._timeout_s = rtp_timeout_s
        self._on_timeout = on_timeout
        self._started = False
        self._waiter: asyncio.Future[None] | None = None
        self._keys_sent: list[asyncio.Future[None]] = []
        self._send_errors = 0
        self._next_report_s = clock.now() + INTERVAL_S
        clock.add(self)

    @classmethod
    async def open(
        cls,
        clock: RtpClock,
        ports: RtpPorts,
        *,
        local_ip: str | None = None,
        rtp_timeout_s: float = DEFAULT_TIMEOUT_S,
        on_timeout: Callable[[str], None] | None = None,
    ) -> "RtpMedia":
        """Take a port and join the clock; nothing is sent before `configure`.

        `on_timeout(reason)` is called once when no packet of the caller's has come for `rtp_timeout_s` while
        receiving; the media has closed itself then, and signalling says BYE. Raises `NoPortFree`,
        `ValueError` for a `local_ip` that is no literal, `OSError` for one that is not this machine's."""
        return cls(clock, ports.lease(local_ip), rtp_timeout_s=rtp_timeout_s, on_timeout=on_timeout)

    # For signalling

    @property
    def port(self) -> int:
        """The RTP port, for our SDP; RTCP is at the next."""
        return self._lease.port

    @property
    def counters(self) -> dict[str, int]:
        """What was odd about this call's media, by name."""
        counters = self.session.all_counters
        if self._send_errors:
            counters["send_errors"] = self._send_errors
        return counters

    def configure(
        self,
        remote: Address | None,
        codec: g711.CodecName,
        payload_type: int,
        dtmf_payload_type: int | None,
        sending: bool,
        receiving: bool,
    ) -> None:
        """What the SDP says, at first and after each re-offer. `remote` None or port 0: nowhere to send yet.
        A `remote` of 0.0.0.0 (RFC 2543's hold) is nowhere too. Where `remote` is another than before, or has
        been silent, the latch opens again. Raises `ValueError` for an address that is no literal: names are
        never looked up."""
        if remote is not None:
            address = ipaddress.ip_address(remote[0])
            if not 0 <= remote[1] <= 65_535:
                raise ValueError(f"{remote[1]} is no port")
            remote = None if address.is_unspecified or not remote[1] else (str(address), remote[1])
        terms = MediaTerms(
            remote, g711.CODECS[codec], payload_type, dtmf_payload_type, sending=sending, receiving=receiving
        )
        self.session.configure(terms, self._clock.now())

    def key_pressed(self, digit: str) -> None:
        """A key that came by SIP INFO, in order with what else the caller does."""
        self.session.key_pressed(digit)
        self._wake()

    def close(self, reason: str) -> None:
        """Give the port back; whoever reads or sends gets `LineClosed(reason)`. Again: nothing."""
        if self.over is not None:
            return
        self.over = reason
        self._clock.remove(self)
        self._lease.close()
        self._wake()
        self._settle_keys()

    # For the line

    async def events(self) -> AsyncIterator[LineEvent]:
        """What the caller says and presses, and marks, until the end; then `LineClosed`. Iterate once: the
        caller's timeline begins here."""
        if not self._started:
            self._started = True
            self.session.start(self._clock.now())
        events = self.session.events
        while True:
            while events:
                yield events.popleft()
            if self.over is not None:
                raise LineClosed(self.over)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def send_audio(self, pcm: Pcm) -> None:
        """Queue (n,) int16 at 8 kHz. Raises `LineClosed`."""
        self._must_live()
        self.session.send_audio(pcm, self._clock.now())

    async def send_mark(self, name: str) -> None:
        """Comes back as `MarkReached` when the audio before it has gone out, or was cleared."""
        self._must_live()
        self.session.sender.send_mark(name)

    async def clear(self) -> None:
        """Discard what is queued and not due yet."""
        self._must_live()
        self.session.clear(self._clock.now())
        self._wake()

    async def send_keys(self, digits: str) -> None:
        """Press keys behind the audio that is queued: as RTP events where the peer takes them, else as tones.
        Returns when the last one is on its way. Raises `LineClosed`, and `ValueError` for what is no key."""
        self._must_live()
        self.session.sender.press(digits, self._clock.now())
        while self.over is None and self.session.sender.keys_pending:
            sent = asyncio.get_running_loop().create_future()
            self._keys_sent.append(sent)
            await sent
        self._must_live()

    # For the clock

    def send(self, packets: int, skipped: int, now: float) -> None:
        """See `telephony.rtp.clock.Ticked`."""
        session = self.session
        target = session.latch.target
        for datagram in session.datagrams(packets, skipped):
            if target is not None:
                try:
                    self._lease.rtp.sendto(datagram, target)
                except OSError:
                    # A full buffer, no route for now, a port that refuses: the next packet may get through.
                    self._send_errors += 1
        if self._keys_sent and not session.sender.keys_pending:
            self._settle_keys()

    def hear(self, now: float) -> None:
        """See `telephony.rtp.clock.Ticked`."""
        session = self.session
        self._read(now)
        # Before silence is filled in: a process that was suspended would fill in all that time.
        if session.silent_s(now) > self._timeout_s:
            self._end(f"no media for {self._timeout_s:g} s")
            return
        session.hear(now)
        if now >= self._next_report_s:
            self._report(now)
        if session.events:
            if len(session.events) > _MOST_UNREAD_EVENTS and self._started:
                self._end("nobody took the caller's audio")
            self._wake()

    def failed(self, error: Exception) -> None:
        """See `telephony.rtp.clock.Ticked`."""
        self._end(f"media failed: {type(error).__name__}")

    def _read(self, now: float) -> None:
        receive, sock = self.session.receive, self._lease.rtp
        if not self._lease.stamped:
            for _ in range(_MOST_READ):
                try:
                    datagram, source = sock.recvfrom(MAX_DATAGRAM_BYTES)
                except OSError:
                    return
                receive(datagram, source[:2], now)
        wall_to_now_s = now - time.time()
        for _ in range(_MOST_READ):
            try:
                datagram, ancillary, _flags, source = sock.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except OSError:
                # Nothing more; or an ICMP error, which concerns what we sent.
                return
            receive(datagram, source[:2], _arrival(ancillary, wall_to_now_s, now))

    def _report(self, now: float) -> None:
        """Read the peer's reports, send ours."""
        self._next_report_s = now + INTERVAL_S
        session, rtcp = self.session, self._lease.rtcp
        for _ in range(_MOST_READ):
            try:
                datagram, source = rtcp.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                break
            session.receive_rtcp(datagram, source[:2], now)
        target = session.latch.target
        if target is not None and target[1] < 65_535:
            try:
                rtcp.sendto(session.report(now, time.time()), (target[0], target[1] + 1))
            except OSError:
                self._send_errors += 1

    def _end(self, reason: str) -> None:
        """It ended by itself: signalling must know."""
        if self.over is None:
            self.close(reason)
            if self._on_timeout is not None:
                self._on_timeout(reason)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _settle_keys(self) -> None:
        for sent in self._keys_sent:
            if not sent.done():
                sent.set_result(None)
        self._keys_sent.clear()

    def _must_live(self) -> None:
        if self.over is not None:
            raise LineClosed(self.over)


def _arrival(ancillary: list[tuple[int, int, bytes]], wall_to_now_s: float, now: float) -> float:
    """When the kernel took the datagram in, on the clock of `now`."""
    if not ancillary or len(ancillary[0][2]) < _TIMESPEC.size:
        return now
    # We asked for nothing else, so the first is the stamp.
    seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
    arrived: float = seconds + nanoseconds * 1e-9 + wall_to_now_s
    return arrived if now - _OLDEST_S < arrived <= now else now
