"""AudioSocket's core: recorded bytes in, whole, torn and wrong; audio and marks out, beat by beat."""

import struct
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line import AudioReceived, KeyPressed, MarkReached, Pcm
from telephony import g711
from telephony.asterisk.audiosocket import (
    OTHER_RATES_HZ,
    AudioSocketLimits,
    AudioSocketProtocol,
    MuLawTrap,
    State,
)
from telephony.asterisk.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    StreamTimeout,
    WrongAudio,
)
from telephony.asterisk.events import CallEvent, PeerEnded, UuidReceived

NAME = uuid.UUID("40325ec2-5efd-4bd3-805f-53576e581d13")


def message(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BH", kind, len(payload)) + payload


UUID = message(0x01, NAME.bytes)
RAMP = np.arange(-160 * 100, 160 * 100, 200).astype(np.int16)
AUDIO = message(0x10, RAMP.astype("<i2").tobytes())
SILENCE = message(0x10, bytes(320))


def started(limits: AudioSocketLimits | None = None) -> AudioSocketProtocol:
    protocol = AudioSocketProtocol(0.0, limits)
    assert protocol.receive_message(UUID, 0.0) == [UuidReceived(NAME)]
    return protocol


def shown(events: list[CallEvent]) -> list[object]:
    """Comparable: audio as lists."""
    return [event.pcm.tolist() if isinstance(event, AudioReceived) else event for event in events]


# What arrives


def test_a_call_as_asterisk_sends_it() -> None:
    protocol = started()
    assert shown(protocol.receive_message(AUDIO, 0.02)) == [RAMP.tolist()]
    keys = [protocol.receive_message(message(0x03, digit.encode()), 0.1) for digit in "1234#"]
    assert keys == [[KeyPressed(digit)] for digit in "1234#"]
    assert protocol.counters == {}
    assert not protocol.incomplete


@pytest.mark.parametrize("at", range(1, len(UUID + AUDIO)))
def test_torn_anywhere(at: int) -> None:
    stream = UUID + AUDIO
    protocol = AudioSocketProtocol(0.0)
    events = [*protocol.receive_message(stream[:at], 0.0), *protocol.receive_message(stream[at:], 0.0)]
    assert shown(events) == [UuidReceived(NAME), RAMP.tolist()]
    assert not protocol.incomplete


def test_a_message_without_its_rest_is_incomplete() -> None:
    protocol = started()
    protocol.receive_message(AUDIO[:-1], 0.0)
    assert protocol.incomplete


@pytest.mark.parametrize(
    ("bad", "counter"),
    [
        (message(0x10), "empty audio message"),
        (message(0x10, bytes(319)), "half a sample"),
        (message(0x03), "bad digit"),
        (message(0x03, b"12"), "bad digit"),
        (message(0x03, b"\xff"), "bad digit"),
        (message(0x42), "unknown kind"),
        (message(0x42, bytes(1024)), "unknown kind"),
    ],
)
def test_what_is_malformed_or_unknown_is_skipped_and_the_call_goes_on(bad: bytes, counter: str) -> None:
    protocol = started()
    assert protocol.receive_message(bad + AUDIO, 0.02)[-1:] != []
    assert protocol.counters == {counter: 1}


@pytest.mark.parametrize("kind", [0x10, 0x03, 0x42, 0xFF, 0x01])
def test_a_length_of_65535_is_refused_before_its_payload_comes(kind: int) -> None:
    protocol = started()
    with pytest.raises(RemoteProtocolError, match="65535 bytes"):
        protocol.receive_message(struct.pack(">BH", kind, 65_535), 0.02)
    assert protocol.state is State.FAILED
    assert protocol.receive_message(AUDIO, 0.03) == []
    assert protocol.next_deadline() is None


def test_a_length_of_0_for_every_kind_leaves_the_rest_readable() -> None:
    for kind in set(range(256)) - set(OTHER_RATES_HZ) - {0x00, 0x01, 0xFF}:
        protocol = started()
        events = protocol.receive_message(message(kind) + AUDIO, 0.02)
        assert shown(events) == [RAMP.tolist()], hex(kind)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (AUDIO, "kind 0x10 before the UUID"),
        (message(0x00), "kind 0x00 before the UUID"),
        (b"GET / HTTP/1.1\r\n", "kind 0x47 before the UUID"),
        (b"\x16\x03\x01\x02\x00", "kind 0x16 before the UUID"),
        (message(0x01), "a UUID of 0 bytes"),
        (message(0x01, bytes(15)), "a UUID of 15 bytes"),
    ],
)
def test_what_may_not_come_first(first: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        AudioSocketProtocol(0.0).receive_message(first, 0.0)


def test_a_second_uuid() -> None:
    with pytest.raises(RemoteProtocolError, match="a second UUID"):
        started().receive_message(UUID, 0.1)


@pytest.mark.parametrize("kind", OTHER_RATES_HZ)
def test_other_rates_are_refused_with_advice(kind: int) -> None:
    protocol = started()
    with pytest.raises(WrongAudio, match=str(OTHER_RATES_HZ[kind])) as caught:
        protocol.receive_message(message(kind, bytes(640)), 0.02)
    assert "c(slin)" in caught.value.advice


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (message(0x00), "caller hung up"),
        (message(0xFF, b"\x01"), "caller hung up"),
        (message(0xFF, b"\x04"), "Asterisk reported error 0x04"),
        (message(0xFF), "Asterisk reported error 0x00"),
    ],
)
def test_endings(last: bytes, reason: str) -> None:
    protocol = started()
    assert protocol.receive_message(last + AUDIO, 0.02) == [PeerEnded(reason)]
    assert protocol.state is State.OVER
    assert protocol.beat() == (b"", [])


def test_floods_end_the_call() -> None:
    with pytest.raises(RemoteProtocolError, match="messages per second"):
        started().receive_message(message(0x03, b"1") * 700, 0.1)
    with pytest.raises(RemoteProtocolError, match="too many malformed"):
        started().receive_message(message(0x10) * 60, 0.1)


def test_more_audio_than_time_is_refused() -> None:
    protocol = started()
    second = message(0x10, bytes(16_000))
    taken = sum(len(protocol.receive_message(second, 1.0)) for _ in range(15))
    assert taken == 10
    assert protocol.counters["more audio than time"] == 5


# Mu-law that is labelled as linear audio


def voice(samples: int, level: float) -> Pcm:
    rng = np.random.default_rng(7)
    envelope = 0.5 + 0.5 * np.sin(np.arange(samples) / 900)
    return (np.convolve(rng.normal(0, level, samples), [0.25] * 4, "same") * envelope).astype(np.int16)


@pytest.mark.parametrize("level", [500, 2000, 8000])
def test_mulaw_in_linear_messages_is_noticed(level: float) -> None:
    protocol = started()
    mulaw = g711.encode(voice(16_000, level))
    with pytest.raises(WrongAudio) as caught:
        for n in range(100):
            protocol.receive_message(message(0x10, mulaw[160 * n : 160 * n + 160]), 0.02 * n)
    assert "c(ulaw)" in caught.value.advice and "c(slin)" in caught.value.advice


@pytest.mark.parametrize("level", [0, 500, 8000, 30_000])
def test_a_phone_that_sends_10_ms_at_a_time_is_none(level: float) -> None:
    protocol = started()
    linear = voice(16_000, level).astype("<i2").tobytes()
    for n in range(200):
        assert protocol.receive_message(message(0x10, linear[160 * n : 160 * n + 160]), 0.01 * n)


def test_silence_is_no_evidence_and_whole_messages_clear() -> None:
    trap = MuLawTrap()
    assert not any(trap.sprung_by(b"\xff" * 160) for _ in range(100))
    loud = g711.encode(voice(160, 8000))
    assert not any(trap.sprung_by(loud) for _ in range(9))
    assert not trap.sprung_by(bytes(320))
    assert not any(trap.sprung_by(loud) for _ in range(9))
    assert trap.sprung_by(loud)


# Time


def test_no_uuid_in_time() -> None:
    protocol = AudioSocketProtocol(100.0)
    assert protocol.next_deadline() == 105.0
    protocol.receive_message(UUID[:10], 101.0)
    with pytest.raises(StreamTimeout, match="no UUID within 5 s"):
        protocol.handle_timer(105.0)
    assert protocol.next_deadline() is None


def test_no_more_media() -> None:
    protocol = started(AudioSocketLimits(media_timeout_s=2.0))
    protocol.receive_message(AUDIO, 1.0)
    protocol.receive_message(message(0x03, b"1"), 2.9)
    with pytest.raises(StreamTimeout, match="no media for 2 s"):
        protocol.handle_timer(3.0)


def test_audio_that_stays_away_is_silence() -> None:
    protocol = started()
    protocol.receive_message(AUDIO, 1.0)
    (filled,) = protocol.handle_timer(1.5)
    assert isinstance(filled, AudioReceived) and filled.pcm.tolist() == [0] * 4000


# What we send


def test_one_audioframe_a_beat_silence_where_there_is_nothing() -> None:
    protocol = started()
    assert protocol.beat() == (SILENCE, [])
    pcm = np.arange(400, dtype=np.int16)
    protocol.send_audio(pcm, 0.0)
    beats = [protocol.beat()[0] for _ in range(4)]
    assert all(len(beat) == 323 and beat[:3] == b"\x10\x01\x40" for beat in beats)
    heard = np.frombuffer(b"".join(beat[3:] for beat in beats), "<i2")
    assert heard.tolist() == pcm.tolist() + [0] * 240


def test_a_mark_comes_back_when_its_audio_has_sounded() -> None:
    protocol = started()
    protocol.send_mark("before")
    protocol.send_audio(RAMP, 0.0)
    protocol.send_mark("after")
    assert protocol.beat()[1] == [MarkReached("before", heard=True)]
    assert protocol.beat()[1] == [MarkReached("after", heard=True)]
    assert protocol.beat()[1] == []


def test_clear_takes_back_what_has_not_left() -> None:
    protocol = started()
    for name in "abc":
        protocol.send_audio(RAMP, 0.0)
        protocol.send_mark(name)
    protocol.beat()
    assert protocol.clear(0.0) == [
        MarkReached("a", heard=True),
        MarkReached("b", heard=False),
        MarkReached("c", heard=False),
    ]
    assert protocol.beat() == (SILENCE, [])
    # Positions go on from there.
    protocol.send_audio(RAMP, 0.0)
    protocol.send_mark("d")
    assert protocol.beat() == (AUDIO, [])
    assert protocol.beat() == (SILENCE, [MarkReached("d", heard=True)])


def test_hanging_up_sends_0x00_once_and_nothing_after_it() -> None:
    protocol = started()
    protocol.hang_up()
    protocol.hang_up()
    assert list(protocol.to_send()) == [b"\x00\x00\x00"]
    assert protocol.beat() == (b"", [])
    with pytest.raises(LocalProtocolError):
        protocol.send_audio(RAMP, 0.0)


def test_the_queue_and_the_marks_are_bounded() -> None:
    protocol = started(AudioSocketLimits(max_queued_s=1.0, max_pending_marks=2))
    for n in range(100):
        protocol.send_audio(RAMP, 0.0)
        protocol.send_mark(str(n))
    assert len(protocol.clear(0.0)) == 2
    assert protocol.counters["audio dropped: the queue is full"] == 49


# At random


@given(st.lists(st.integers(1, 60), max_size=40), st.data())
def test_however_the_stream_is_torn_the_events_are_the_same(keys: list[int], data: st.DataObject) -> None:
    stream = UUID
    for key in keys:
        stream += AUDIO if key % 3 else message(0x03, b"%d" % (key % 10))
    whole = shown(AudioSocketProtocol(0.0).receive_message(stream, 0.0))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    protocol = AudioSocketProtocol(0.0)
    torn: list[CallEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        torn += protocol.receive_message(stream[start:end], 0.0)
    assert shown(torn) == whole
    assert not protocol.incomplete


@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.binary(max_size=400), st.sampled_from([AUDIO, UUID, message(0x10)])), max_size=30)
)
def test_any_bytes_end_in_events_or_a_remote_error(pieces: list[bytes]) -> None:
    protocol = AudioSocketProtocol(0.0)
    for number, piece in enumerate([UUID, *pieces]):
        try:
            protocol.receive_message(piece, number * 0.02)
            protocol.handle_timer(number * 0.02)
        except RemoteProtocolError as fault:
            assert len(fault.reason) <= 123
        # Never more than one message waits for its rest.
        assert len(protocol._buffer) < 16_003
        protocol.beat()
