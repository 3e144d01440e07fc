"""RTCP reports (RFC 3550 section 6.4): ours out, the peer's sender reports in. No clock, no I/O.

They tell the peer's operator how its packets reach us, and let it measure the round trip. Nothing here
depends on what the peer reports: a malformed or forged report changes one number in ours.
"""

import struct
from dataclasses import dataclass
from typing import Final

from telephony.rtp.jitter import Reception

INTERVAL_S: Final = 5.0

_HEADER: Final = struct.Struct("!BBHI")
_SENDER: Final = struct.Struct("!IIIII")
_BLOCK: Final = struct.Struct("!IIIIII")
_SENDER_REPORT, _RECEIVER_REPORT, _DESCRIPTION = 200, 201, 202
_CNAME: Final = 1
_NTP_EPOCH_S: Final = 2_208_988_800
_MOST_LOST: Final = 0x7FFFFF


@dataclass(frozen=True, slots=True)
class Sent:
    """Our own stream so far. `timestamp` is the RTP time of the moment of the report."""

    ssrc: int
    packets: int
    octets: int
    timestamp: int


class Reporter:
    """`report(...)` every `INTERVAL_S`; `receive` what the peer sends."""

    def __init__(self, cname: str) -> None:
        self._cname = cname.encode()[:255]
        self._expected = 0
        self._received = 0
        self._sender_report: tuple[int, float] | None = None

    def receive(self, datagram: bytes, now: float) -> None:
        """Remember when the peer's last sender report came. Anything else, malformed or not, is ignored."""
        if len(datagram) < _HEADER.size + _SENDER.size or datagram[0] >> 6 != 2:
            return
        if datagram[1] == _SENDER_REPORT:
            # The middle 32 bits of the NTP timestamp.
            self._sender_report = (int.from_bytes(datagram[10:14], "big"), now)

    def report(
        self, sent: Sent, source: int | None, reception: Reception | None, now: float, wall_s: float
    ) -> bytes:
        """A compound packet: a sender report (a receiver report where nothing was sent) and our CNAME.
        `source` is the peer's SSRC, `now` monotonic, `wall_s` seconds since 1970."""
        blocks = b""
        if source is not None and reception is not None:
            blocks = self._block(source, reception, now)
        count, kind, body = len(blocks) // _BLOCK.size, _RECEIVER_REPORT, b""
        if sent.packets:
            kind = _SENDER_REPORT
            seconds = int(wall_s)
            fraction = int((wall_s - seconds) * 2**32)
            body = _SENDER.pack(
                (seconds + _NTP_EPOCH_S) & 0xFFFFFFFF,
                fraction,
                sent.timestamp,
                sent.packets & 0xFFFFFFFF,
                sent.octets & 0xFFFFFFFF,
            )
        return _packet(count, kind, sent.ssrc, body + blocks) + self._description(sent.ssrc)

    def restart(self) -> None:
        """Another source."""
        self._expected = self._received = 0
        self._sender_report = None

    def _block(self, source: int, reception: Reception, now: float) -> bytes:
        """RFC 3550 appendix A.3."""
        lost = max(-_MOST_LOST - 1, min(_MOST_LOST, reception.expected - reception.received))
        expected = reception.expected - self._expected
        missing = expected - (reception.received - self._received)
        self._expected, self._received = reception.expected, reception.received
        fraction = min(255, (missing << 8) // expected) if expected > 0 and missing > 0 else 0
        last, delay = 0, 0
        if self._sender_report is not None:
            last, at = self._sender_report
            delay = min(0xFFFFFFFF, max(0, int((now - at) * 65_536)))
        return _BLOCK.pack(
            source,
            (fraction << 24) | (lost & 0xFFFFFF),
            reception.highest & 0xFFFFFFFF,
            int(reception.jitter) & 0xFFFFFFFF,
            last,
            delay,
        )

    def _description(self, ssrc: int) -> bytes:
        item = bytes((_CNAME, len(self._cname))) + self._cname + b"\0"
        return _packet(1, _DESCRIPTION, ssrc, item + bytes(-len(item) % 4))


def _packet(count: int, kind: int, ssrc: int, body: bytes) -> bytes:
    return _HEADER.pack(2 << 6 | count, kind, 1 + len(body) // 4, ssrc) + body
