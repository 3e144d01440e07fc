import random
import struct

import pytest

from telephony.rtp.errors import MalformedPacket
from telephony.rtp.packet import RtpPacket, build, is_rtcp, parse

PACKET = RtpPacket(0, 65_535, 0xFFFFFFFF, 0x1234ABCD, True, b"\x55" * 160)


def test_a_packet_reads_back() -> None:
    assert parse(build(PACKET)) == PACKET
    assert parse(build(PACKET._replace(marker=False, payload_type=127))) == PACKET._replace(
        marker=False, payload_type=127
    )


def test_the_bytes_are_those_of_the_rfc() -> None:
    # RFC 3550 section 5.1, by hand: V=2, M=1 PT=0, sequence, timestamp, SSRC.
    assert build(PACKET)[:12].hex() == "8080ffffffffffff1234abcd"


def header(first: int, rest: bytes) -> bytes:
    return struct.pack("!BBHII", first, 0, 1, 160, 7) + rest


def test_sources_extension_and_padding_are_no_audio() -> None:
    csrc = b"\1\2\3\4" * 2
    extension = b"\xbe\xde\0\2" + b"x" * 8
    datagram = header(0x80 | 0x20 | 0x10 | 2, csrc + extension + b"audio" + b"\0\0\3")
    assert parse(datagram).payload == b"audio"


def test_nothing_but_a_header_is_an_empty_packet() -> None:
    assert parse(header(0x80, b"")).payload == b""
    assert parse(header(0xA0, b"\0\0\0\4")).payload == b""


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b"", "shorter"),
        (b"\x80" * 11, "shorter"),
        (header(0x00, b"audio"), "version 0"),
        (header(0x40, b"audio"), "version 1"),
        (header(0xC0, b"audio"), "version 3"),
        (header(0x8F, b"four"), "header is cut off"),
        (header(0x90, b"\0\0"), "extension is cut off"),
        (header(0x90, b"\0\0\xff\xff" + b"x" * 40), "header is cut off"),
        (header(0xA0, b"audio\0"), "0 bytes of padding"),
        (header(0xA0, b"audio\x07"), "7 bytes of padding in 6"),
        (header(0xA0, b""), "bytes of padding in 0"),
    ],
)
def test_what_is_malformed_says_why(datagram: bytes, why: str) -> None:
    with pytest.raises(MalformedPacket, match=why):
        parse(datagram)


def test_noise_is_a_packet_or_malformed() -> None:
    noise = random.Random(5)
    parsed = 0
    for _ in range(20_000):
        datagram = noise.randbytes(noise.randrange(0, 80))
        try:
            packet = parse(datagram)
        except MalformedPacket:
            continue
        parsed += 1
        assert len(packet.payload) <= len(datagram) - 12
    assert parsed > 500


def test_rtcp_on_the_same_port_is_told_apart() -> None:
    assert is_rtcp(bytes((0x80, 200, 0, 6)))
    assert is_rtcp(bytes((0x81, 201, 0, 7)))
    assert not is_rtcp(build(PACKET))
    assert not is_rtcp(build(PACKET._replace(payload_type=101)))
    assert not is_rtcp(b"\x80")
