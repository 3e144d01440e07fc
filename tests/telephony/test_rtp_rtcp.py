import random
import struct

from telephony.rtp.jitter import Reception
from telephony.rtp.rtcp import Reporter, Sent

NOTHING_SENT = Sent(ssrc=7, packets=0, octets=0, timestamp=0)
SENT = Sent(ssrc=7, packets=250, octets=40_000, timestamp=123_456)


def sections(datagram: bytes) -> list[tuple[int, int, bytes]]:
    """(count, kind, body) of each packet of a compound."""
    found = []
    while datagram:
        first, kind, words = struct.unpack_from("!BBH", datagram)
        assert first >> 6 == 2
        found.append((first & 0x1F, kind, datagram[4 : 4 + 4 * words]))
        datagram = datagram[4 + 4 * words :]
    return found


def block(datagram: bytes) -> tuple[int, ...]:
    """Source, fraction lost, lost, highest, jitter, last report, delay."""
    _, kind, body = sections(datagram)[0]
    fields = struct.unpack("!IIIIII", body[4 if kind == 201 else 24 :])
    return (fields[0], fields[1] >> 24, fields[1] & 0xFFFFFF, *fields[2:])


def test_a_report_is_a_compound_with_our_name() -> None:
    report = Reporter("maya").report(NOTHING_SENT, None, None, 10.0, 0.0)
    (count, kind, body), (named, description, item) = sections(report)
    assert (count, kind, body) == (0, 201, struct.pack("!I", 7))
    assert (named, description) == (1, 202)
    assert item == struct.pack("!I", 7) + b"\x01\x04maya\0\0"
    assert len(report) % 4 == 0


def test_a_sender_report_says_when_and_how_much() -> None:
    report = Reporter("maya").report(SENT, None, None, 10.0, 1_000_000_000.5)
    _, kind, body = sections(report)[0]
    assert kind == 200
    ntp_s, ntp_fraction, timestamp, packets, octets = struct.unpack("!IIIII", body[4:24])
    assert (ntp_s, ntp_fraction) == (1_000_000_000 + 2_208_988_800, 1 << 31)
    assert (timestamp, packets, octets) == (123_456, 250, 40_000)


def test_loss_is_told_since_the_last_report_and_altogether() -> None:
    reporter = Reporter("maya")
    first = block(
        reporter.report(SENT, 99, Reception(highest=65_700, expected=200, received=150, jitter=12.9), 0, 0)
    )
    assert first[:5] == (99, 64, 50, 65_700, 12)
    second = block(reporter.report(SENT, 99, Reception(65_800, 300, 250, 3.0), 5, 5))
    assert second[1:3] == (0, 50)


def test_duplicates_make_the_loss_negative_and_the_fraction_none() -> None:
    report = Reporter("maya").report(NOTHING_SENT, 99, Reception(100, 100, 103, 0.0), 0, 0)
    assert block(report)[1:3] == (0, 0xFFFFFF - 2)


def test_the_round_trip_can_be_measured() -> None:
    reporter = Reporter("maya")
    reporter.receive(struct.pack("!BBHIIIIII", 0x80, 200, 6, 99, 0xAAAA1234, 0x5678BBBB, 0, 0, 0), 100.0)
    fields = block(reporter.report(SENT, 99, Reception(100, 100, 100, 0.0), 102.5, 0))
    assert fields[5:] == (0x12345678, int(2.5 * 65_536))
    reporter.restart()
    assert block(reporter.report(SENT, 98, Reception(1, 1, 1, 0.0), 103, 0))[5:] == (0, 0)


def test_noise_changes_nothing_that_matters() -> None:
    reporter = Reporter("maya")
    noise = random.Random(1)
    for _ in range(5_000):
        reporter.receive(noise.randbytes(noise.randrange(0, 100)), 1.0)
    assert block(reporter.report(SENT, 99, Reception(100, 100, 100, 0.0), 2.0, 0))[:4] == (99, 0, 0, 100)
