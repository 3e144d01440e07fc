import struct

import numpy as np
import pytest

from pipeline.line import MarkReached, Pcm
from pipeline.playout import Playout, SendAudio, SendMark
from telephony import g711
from telephony.rtp.packet import RtpPacket, parse
from telephony.rtp.sender import Sender

TICK_S = 0.020


def sender(key_payload_type: int | None = 101, **start: int) -> Sender:
    made = Sender(start.get("ssrc", 7), start.get("sequence", 100), start.get("timestamp", 5_000))
    made.configure(g711.PCMU, 0, key_payload_type, sending=True)
    return made


def ramp(n_samples: int, first: int = 1) -> Pcm:
    """Samples that mu-law tells apart at a distance: a counter in steps."""
    return (first * 100 + np.arange(n_samples) // 20 * 64).astype(np.int16)


def going(made: Sender, ticks: int) -> list[RtpPacket]:
    packets = []
    for _ in range(ticks):
        datagram = made.next_datagram()
        if datagram is not None:
            packets.append(parse(datagram))
    return packets


def heard(packets: list[RtpPacket]) -> Pcm:
    return np.concatenate([g711.decode(packet.payload) for packet in packets])


def test_silence_is_sent_too_and_everything_counts_on() -> None:
    made = sender()
    made.send_audio(ramp(400), 0.0)
    packets = going(made, 6)
    assert [packet.sequence for packet in packets] == list(range(100, 106))
    assert [packet.timestamp for packet in packets] == [5_000 + 160 * n for n in range(6)]
    assert {packet.ssrc for packet in packets} == {7}
    assert [packet.marker for packet in packets] == [True] + [False] * 5
    assert np.array_equal(heard(packets)[:400], g711.decode(g711.encode(ramp(400))))
    assert not heard(packets)[400:].any()


def test_numbers_wrap() -> None:
    packets = going(sender(sequence=65_535, timestamp=2**32 - 160), 2)
    assert [(packet.sequence, packet.timestamp) for packet in packets] == [(65_535, 2**32 - 160), (0, 0)]


def test_the_other_law_and_its_number() -> None:
    made = sender()
    made.configure(g711.PCMA, 8, None, sending=True)
    made.send_audio(ramp(160), 0.0)
    first, second = going(made, 2)
    assert (first.payload_type, first.payload) == (8, g711.encode_alaw(ramp(160)))
    assert second.payload == bytes([g711.ALAW_SILENCE]) * 160


def test_marks_come_back_when_their_audio_has_sounded() -> None:
    made = sender()
    made.send_mark("before")
    made.send_audio(ramp(160), 0.0)
    made.send_mark("one")
    made.send_audio(ramp(200), 0.0)
    made.send_mark("two")
    seen = []
    for _ in range(5):
        seen.append([mark.name for mark in made.marks_reached()])
        made.next_datagram()
    assert seen == [["before"], ["one"], [], ["two"], []]


def test_clear_keeps_what_is_due_and_sends_the_other_marks_back() -> None:
    made = sender()
    # The queue is filled at 0.000; ticks come at 0.015, 0.035, ...: 15 ms behind a buffer of the caller's.
    made.send_audio(ramp(160 * 4), 0.0)
    made.send_mark("near")
    made.send_audio(ramp(160), 0.0)
    made.send_mark("far")
    going(made, 1)
    assert made.clear(0.030) == [MarkReached("near", heard=False), MarkReached("far", heard=False)]
    rest = heard(going(made, 2))
    # 20 ms have gone, 30 are due.
    assert np.array_equal(rest[:80], g711.decode(g711.encode(ramp(640)))[160:240])
    assert not rest[80:].any()


def test_what_went_early_is_left_out_of_what_goes_on() -> None:
    made = sender()
    made.send_audio(ramp(640), 0.0)
    going(made, 1)
    made.clear(0.005)
    # 15 ms more have gone than were due; the same words again, from the sample that was due.
    made.send_audio(ramp(640)[40:], 0.005)
    assert np.array_equal(heard(going(made, 3)), g711.decode(g711.encode(ramp(640)))[160:])


def test_what_comes_later_than_a_clear_is_something_new_and_whole() -> None:
    made = sender()
    made.send_audio(ramp(640), 0.0)
    going(made, 1)
    made.clear(0.005)
    going(made, 10)
    made.send_audio(ramp(160, 5), 0.2)
    assert np.array_equal(heard(going(made, 1)), g711.decode(g711.encode(ramp(160, 5))))


@pytest.mark.parametrize("phase_s", [0.0, 0.003, 0.010, 0.0185])
@pytest.mark.parametrize("duck_s", [0.0012, 0.061, 0.1337, 0.2])
def test_a_voice_turned_down_and_up_again_loses_and_repeats_nothing(phase_s: float, duck_s: float) -> None:
    """The real playout over the queue, at any phase of the clock and at any moment."""
    made, playout = sender(), Playout(lead_s=0.06)
    pcm = ramp(8_000)
    playout.begin_clause("words")
    playout.append(pcm)
    playout.finish()

    def play(now: float) -> None:
        for action in playout.due(now):
            if isinstance(action, SendAudio):
                made.send_audio(action.pcm, now)
            elif isinstance(action, SendMark):
                made.send_mark(action.name)

    played: list[Pcm] = []
    events = [(0.0005 * n, "play") for n in range(2_200)]
    events += [(phase_s + TICK_S * n, "tick") for n in range(54)]
    events += [(duck_s, "down"), (duck_s + 0.3031, "up")]
    for now, what in sorted(events):
        if what == "tick":
            datagram = made.next_datagram()
            assert datagram is not None
            played.append(g711.decode(parse(datagram).payload))
        else:
            if what == "down" and playout.duck(now):
                made.clear(now)
            if what == "up" and playout.restore(now):
                made.clear(now)
            play(now)
    out = np.concatenate(played)
    start = int(np.flatnonzero(out)[0])
    truth = g711.decode(g711.encode(pcm))
    # At full level before and after, in place; between, the same samples more quietly.
    before = int(duck_s * 8000) - 1
    after = int((duck_s + 0.32) * 8000)
    assert np.array_equal(out[start : start + before], truth[:before])
    assert np.array_equal(out[start + after : start + 8_000], truth[after:])
    ratio = out[start + before + 200 : start + after - 400] / truth[before + 200 : after - 400]
    assert np.median(ratio) == pytest.approx(10 ** (-15 / 20), rel=0.05)


def events_of(packets: list[RtpPacket]) -> list[tuple[int, bool, bool, int]]:
    """(event, marker, end, duration) of packets of keys."""
    fields = [(*struct.unpack("!BBH", packet.payload), packet.marker) for packet in packets]
    return [(code, marker, bool(flags & 0x80), duration) for code, flags, duration, marker in fields]


def test_keys_follow_the_audio_that_is_queued_and_audio_follows_them() -> None:
    made = sender()
    made.send_audio(ramp(240), 0.0)
    made.press("5", 0.0)
    made.send_audio(ramp(160, 5), 0.0)
    assert made.keys_pending
    packets = going(made, 16)
    assert [packet.payload_type for packet in packets] == [0, 0] + [101] * 8 + [0] * 6
    assert np.array_equal(heard(packets[:2])[:240], g711.decode(g711.encode(ramp(240))))
    keys = packets[2:10]
    assert {packet.timestamp for packet in keys} == {5_000 + 320}
    assert [packet.sequence for packet in packets] == list(range(100, 116))
    assert events_of(keys) == [(5, n == 0, n >= 5, min(960, 160 * (n + 1))) for n in range(8)]
    # Audio goes on in time, as a new talkspurt, behind the pause.
    assert packets[10].marker and packets[10].timestamp == 5_000 + 160 * 10
    assert not any(packet.marker for packet in packets[11:])
    assert np.array_equal(heard(packets[13:14]), g711.decode(g711.encode(ramp(160, 5))))
    assert not made.keys_pending


def test_keys_outlive_a_clear() -> None:
    made = sender()
    made.send_audio(ramp(1600), 0.0)
    made.press("12", 0.0)
    made.clear(0.0)
    packets = [packet for packet in going(made, 30) if packet.payload_type == 101]
    assert [code for code, marker, _, _ in events_of(packets) if marker] == [1, 2]


def test_a_peer_without_events_hears_tones() -> None:
    made = sender(key_payload_type=None)
    made.press("1d", 0.0)
    packets = going(made, 20)
    assert {packet.payload_type for packet in packets} == {0}
    tone = heard(packets)[:800].astype(float)
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(800)))
    assert {int(np.argmax(spectrum[:105])) * 10, 1050 + 10 * int(np.argmax(spectrum[105:]))} == {700, 1210}
    assert not made.keys_pending


def test_what_is_no_key_presses_none() -> None:
    for made in (sender(), sender(key_payload_type=None)):
        with pytest.raises(ValueError, match="is no key"):
            made.press("12x", 0.0)
        packets = going(made, 5)
        assert {packet.payload_type for packet in packets} == {0}
        assert not heard(packets).any()


def test_events_that_a_new_offer_takes_away_stop() -> None:
    made = sender()
    made.press("1", 0.0)
    going(made, 3)
    made.configure(g711.PCMU, 0, None, sending=True)
    assert {packet.payload_type for packet in going(made, 20)} == {0}


def test_a_hold_sends_nothing_and_the_stream_goes_on_in_time_behind_it() -> None:
    made = sender()
    first = going(made, 2)
    made.configure(g711.PCMU, 0, 101, sending=False)
    made.send_audio(ramp(320), 0.04)
    made.send_mark("unheard")
    assert going(made, 10) == []
    assert made.marks_reached() == [MarkReached("unheard", heard=False)]
    made.configure(g711.PCMU, 0, 101, sending=True)
    behind = going(made, 2)
    assert [packet.sequence for packet in first + behind] == [100, 101, 102, 103]
    assert behind[0].timestamp == 5_000 + 12 * 160
    assert [packet.marker for packet in behind] == [True, False]


def test_time_that_the_process_slept_through_is_left_out_of_the_timestamps() -> None:
    made = sender()
    going(made, 1)
    made.skip(5)
    packet = going(made, 1)[0]
    assert (packet.sequence, packet.timestamp, packet.marker) == (101, 5_000 + 6 * 160, True)


def test_what_was_sent_is_counted_for_reports() -> None:
    made = sender()
    going(made, 3)
    made.press("1", 0.0)
    going(made, 1)
    assert (made.packets, made.octets, made.timestamp) == (4, 3 * 160 + 4, 5_000 + 4 * 160)
