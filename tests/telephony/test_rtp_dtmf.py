import struct

import pytest

from telephony.rtp.dtmf import DIGITS, EventPacket, KeyReceiver, KeySender
from telephony.rtp.errors import MalformedPacket


def event(digit: str, duration: int, end: bool = False) -> bytes:
    return struct.pack("!BBH", DIGITS.index(digit), 0x8A if end else 0x0A, duration)


def press(digit: str, timestamp: int, n_packets: int = 5) -> list[tuple[int, bool, bytes]]:
    """The packets of one press: (timestamp, marker, payload), three ends included."""
    going = [(timestamp, n == 0, event(digit, 160 * (n + 1))) for n in range(n_packets)]
    return going + [(timestamp, False, event(digit, 160 * n_packets, end=True))] * 3


def heard(packets: list[tuple[int, bool, bytes]]) -> str:
    receiver = KeyReceiver()
    return "".join(digit for packet in packets if (digit := receiver.receive(*packet)) is not None)


def test_each_press_is_told_once_and_at_once() -> None:
    packets = [packet for n, digit in enumerate(DIGITS) for packet in press(digit, 1000 + 2000 * n)]
    assert heard(packets) == DIGITS
    assert KeyReceiver().receive(*press("5", 0)[0]) == "5"


@pytest.mark.parametrize("kept", [range(1), range(7, 8), range(3, 6), range(0, 8, 2)])
def test_any_one_packet_of_a_press_is_enough(kept: range) -> None:
    packets = [press(digit, 1000 + 2000 * n)[k] for n, digit in enumerate("1144*") for k in kept]
    assert heard(packets) == "1144*"


def test_the_end_that_is_lost_does_not_swallow_the_same_key_pressed_again() -> None:
    assert heard(press("7", 1000)[:5] + press("7", 3000)[:5]) == "77"


def test_stragglers_of_an_earlier_press_are_no_press() -> None:
    first, second = press("1", 1000), press("2", 3000)
    assert heard([*first[:3], *second, *first[3:]]) == "12"
    # Even one whose first packet comes last: a key pressed in the past is not pressed now.
    assert heard([*second, *first]) == "2"


def test_a_key_held_for_ten_seconds_is_one_press() -> None:
    first = [(500, n == 0, event("9", 160 * n)) for n in range(410)]
    further = [(500 + 0xFFFF, False, event("9", 160 * n)) for n in range(90)]
    assert heard([*first, *further, (500 + 0xFFFF, False, event("9", 14_400, end=True))]) == "9"


def test_a_peer_that_moves_the_timestamp_with_every_packet_presses_once() -> None:
    packets = [(1000 + 160 * n, n == 0, event("3", 160)) for n in range(6)]
    again = [(9000 + 160 * n, n == 0, event("3", 160)) for n in range(6)]
    assert heard([*packets, *again]) == "33"


def test_timestamps_wrap() -> None:
    assert heard(press("4", 0xFFFFFF00) + press("5", 0x500)) == "45"


def test_hook_flash_and_modem_tones_are_no_keys() -> None:
    assert KeyReceiver().receive(1, True, bytes((16, 10, 0, 160))) is None
    assert KeyReceiver().receive(1, True, bytes((255, 10, 0, 160))) is None


@pytest.mark.parametrize("payload", [b"", b"\1", b"\1\2\3"])
def test_less_than_an_event_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedPacket):
        KeyReceiver().receive(1, True, payload)


def test_what_another_source_pressed_is_forgotten() -> None:
    receiver = KeyReceiver()
    assert receiver.receive(*press("1", 90_000)[0]) == "1"
    receiver.restart()
    assert receiver.receive(*press("1", 100)[0]) == "1"


def sent(digits: str) -> list[EventPacket | None]:
    sender = KeySender()
    for digit in digits:
        sender.press(digit)
    packets = []
    while sender.busy:
        packets.append(sender.next_packet())
    return packets


def test_a_press_counts_its_duration_up_and_ends_three_times() -> None:
    packets = [packet for packet in sent("#") if packet is not None]
    fields = [struct.unpack("!BBH", packet.payload) for packet in packets]
    assert {code for code, _, _ in fields} == {11}
    assert [duration for _, _, duration in fields] == [160, 320, 480, 640, 800, 960, 960, 960]
    assert [bool(flags & 0x80) for _, flags, _ in fields] == [False] * 5 + [True] * 3
    assert {flags & 0x3F for _, flags, _ in fields} == {10}
    assert [packet.first for packet in packets] == [True] + [False] * 7
    assert [packet.back_samples for packet in packets] == [160 * n for n in range(8)]


def test_keys_are_told_apart_by_a_pause() -> None:
    packets = sent("11")
    starts = [n for n, packet in enumerate(packets) if packet is not None and packet.first]
    assert starts == [0, 12]
    assert packets[8:12] == [None] * 4
    timeline = [
        (160 * n - packet.back_samples, packet.first, packet.payload)
        for n, packet in enumerate(packets)
        if packet is not None
    ]
    assert heard(timeline) == "11"


@pytest.mark.parametrize("digit", ["", "E", "12", "é", " "])
def test_what_is_no_key_is_refused(digit: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        KeySender().press(digit)
