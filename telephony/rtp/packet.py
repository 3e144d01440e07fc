"""RTP packets (RFC 3550 section 5.1): bytes to fields and back, without I/O."""

import struct
from typing import Final, NamedTuple

from telephony.rtp.errors import MalformedPacket

MAX_DATAGRAM_BYTES: Final = 2048
"""More than an Ethernet frame carries: what is longer is no telephone's."""

_HEADER: Final = struct.Struct("!BBHII")
_VERSION: Final = 2 << 6
_EXTENSION_HEADER_BYTES: Final = 4


class RtpPacket(NamedTuple):
    """`sequence` counts modulo 2^16, `timestamp` in samples modulo 2^32. `payload` has neither CSRC list, nor
    header extension, nor padding."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    marker: bool
    payload: bytes


def parse(datagram: bytes) -> RtpPacket:
    """Raises `MalformedPacket`, whatever the bytes are."""
    if len(datagram) < _HEADER.size:
        raise MalformedPacket("shorter than a header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if first & 0xC0 != _VERSION:
        raise MalformedPacket(f"version {first >> 6}")
    start, end = _HEADER.size, len(datagram)
    if first & 0x3F:
        start, end = _bounds(datagram, first)
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, second >= 0x80, datagram[start:end])


def _bounds(datagram: bytes, first: int) -> tuple[int, int]:
    """Where the payload lies between CSRC list, header extension and padding."""
    start, end = _HEADER.size + 4 * (first & 0x0F), len(datagram)
    if first & 0x10:
        if start + _EXTENSION_HEADER_BYTES > end:
            raise MalformedPacket("the header extension is cut off")
        words = int.from_bytes(datagram[start + 2 : start + 4], "big")
        start += _EXTENSION_HEADER_BYTES + 4 * words
    if start > end:
        raise MalformedPacket("the header is cut off")
    if first & 0x20:
        padding = datagram[-1]
        if not 0 < padding <= end - start:
            raise MalformedPacket(f"{padding} bytes of padding in {end - start}")
        end -= padding
    return start, end


def build(packet: RtpPacket) -> bytes:
    """The datagram: no CSRC list, no extension, no padding. Raises `struct.error` for fields out of range."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    return _HEADER.pack(_VERSION, second, packet.sequence, packet.timestamp, packet.ssrc) + packet.payload


def is_rtcp(datagram: bytes) -> bool:
    """RTCP that came to the RTP port (RFC 5761 section 4): payload types 64 to 95 with the marker are its."""
    return len(datagram) >= 2 and 192 <= datagram[1] <= 223
