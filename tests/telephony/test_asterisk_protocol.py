"""chan_websocket's core: recorded messages in, events and messages out; whole, odd, and at random."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line import AudioReceived, KeyPressed, MarkReached, Pcm
from telephony import g711
from telephony.asterisk.codecs import CODECS
from telephony.asterisk.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    StreamTimeout,
    WrongAudio,
)
from telephony.asterisk.events import MediaStarted
from telephony.asterisk.protocol import Limits, MediaWebSocketProtocol, State
from tests.telephony.test_asterisk_control import JSON_START, PLAIN_START

SILENCE = b"\xff" * 160


def pcm(samples: int, level: int = 1000) -> Pcm:
    return (level * np.sin(np.arange(samples))).astype(np.int16)


def started(start: str = PLAIN_START, limits: Limits | None = None) -> MediaWebSocketProtocol:
    protocol = MediaWebSocketProtocol(0.0, limits)
    (event,) = protocol.receive_message(start, 0.0)
    assert isinstance(event, MediaStarted)
    return protocol


def sent(protocol: MediaWebSocketProtocol) -> list[str | bytes]:
    messages = list(protocol.to_send())
    protocol.to_send().clear()
    return messages


def audio(messages: list[str | bytes]) -> bytes:
    return b"".join(message for message in messages if isinstance(message, bytes))


# What arrives


@pytest.mark.parametrize("start", [PLAIN_START, JSON_START])
def test_a_call(start: str) -> None:
    protocol = MediaWebSocketProtocol(0.0)
    (event,) = protocol.receive_message(start, 0.1)
    assert event == MediaStarted("conn1", "WebSocket/conn1/0x7f3c5800f5d0", "1795333949.4", "ulaw")
    mulaw = bytes(range(160))
    (heard,) = protocol.receive_message(mulaw, 0.12)
    assert isinstance(heard, AudioReceived)
    assert heard.pcm.tolist() == g711.decode(mulaw).tolist()
    assert protocol.counters == {}


def test_the_channels_variables() -> None:
    fields = json.loads(JSON_START) | {
        "channel_variables": {"caller": "+15550100", "n": 1, "list": [1], "long": "x" * 2000}
    }
    (event,) = MediaWebSocketProtocol(0.0).receive_message(json.dumps(fields), 0.0)
    assert isinstance(event, MediaStarted)
    assert event.variables == {"caller": "+15550100", "n": "1"}


@pytest.mark.parametrize(
    "text",
    ["DTMF_END digit:5 channel_id:1.2", '{"event":"DTMF_END","channel_id":"1.2","digit":"5"}'],
)
def test_keys(text: str) -> None:
    assert started().receive_message(text, 0.1) == [KeyPressed("5")]


def test_all_five_keys_that_were_recorded() -> None:
    protocol = started()
    events = [protocol.receive_message(f"DTMF_END digit:{digit} channel_id:1.2", 1.0) for digit in "1234#"]
    assert events == [[KeyPressed(digit)] for digit in "1234#"]


def test_unknown_events_are_counted_and_skipped() -> None:
    protocol = started()
    for text in ("MEDIA_NOVELTY x", '{"event":"MEDIA_NOVELTY"}'):
        assert protocol.receive_message(text, 0.1) == []
    assert protocol.counters == {"unknown event": 2}


def test_events_that_nobody_asked_for_are_no_news() -> None:
    protocol = started()
    for text in ("QUEUE_DRAINED", "MEDIA_BUFFERING_COMPLETED 1", "STATUS queue_length:0"):
        assert protocol.receive_message(text, 0.1) == []
    assert protocol.counters == {}


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        ("x" * 2**20, "text too long"),
        ('{"event":"' + "x" * 2**20, "text too long"),
        ("{", "bad JSON"),
        ("junk", "no event name"),
        (b"", "empty audio message"),
        (b"\xff" * 70_000, "audio message too long"),
        ("DTMF_END digit:x channel_id:1", "bad digit"),
        ("DTMF_END", "bad digit"),
    ],
)
def test_what_is_malformed_is_skipped_and_the_call_goes_on(message: str | bytes, counter: str) -> None:
    protocol = started()
    assert protocol.receive_message(message, 0.1) == []
    assert protocol.counters == {counter: 1}
    assert len(protocol.receive_message(SILENCE, 0.2)) == 1


def test_a_megabyte_of_text_before_the_start_costs_nothing() -> None:
    protocol = MediaWebSocketProtocol(0.0)
    assert protocol.receive_message("x" * 2**20, 0.0) == []
    assert protocol.receive_message(PLAIN_START, 0.0)


def test_half_a_sample_of_linear_audio() -> None:
    protocol = started(PLAIN_START.replace("ulaw", "slin").replace(":160", ":320"))
    assert protocol.receive_message(bytes(319), 0.1) == []
    assert protocol.counters == {"half a sample": 1}


def test_a_flood_of_malformed_messages_ends_the_call() -> None:
    protocol = started()
    with pytest.raises(RemoteProtocolError, match="too many malformed"):
        for _ in range(60):
            protocol.receive_message("junk", 0.1)
    assert protocol.state is State.FAILED
    assert protocol.receive_message(SILENCE, 0.2) == []


def test_a_flood_of_messages_ends_the_call() -> None:
    protocol = started()
    with pytest.raises(RemoteProtocolError, match="messages per second"):
        for _ in range(700):
            protocol.receive_message("MEDIA_XON", 0.1)


def test_more_audio_than_time_is_refused() -> None:
    protocol = started()
    taken = sum(len(protocol.receive_message(bytes(16_000), 1.0)) for _ in range(8))
    assert taken == 5  # of 2 s each: 10 s in advance, and no more
    assert protocol.counters["more audio than time"] == 3


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (SILENCE, "audio before MEDIA_START"),
        ("DTMF_END digit:1 channel_id:1", "DTMF_END before MEDIA_START"),
        ("MEDIA_START", "without channel_id or format"),
        (PLAIN_START.replace("optimal_frame_size:160", ""), "optimal_frame_size"),
        (PLAIN_START.replace(":160", ":99999"), "optimal_frame_size"),
        (JSON_START.replace(":160", ":-160"), "optimal_frame_size"),
    ],
)
def test_what_may_not_come_first(message: str | bytes, reason: str) -> None:
    protocol = MediaWebSocketProtocol(0.0)
    with pytest.raises(RemoteProtocolError, match=reason):
        protocol.receive_message(message, 0.0)


def test_a_second_start() -> None:
    with pytest.raises(RemoteProtocolError, match="second MEDIA_START"):
        started().receive_message(PLAIN_START, 0.1)


@pytest.mark.parametrize(
    ("start", "advice"),
    [
        (PLAIN_START.replace("ulaw", "opus"), r"c\(ulaw\)"),
        (PLAIN_START.replace("ulaw", "slin16"), r"c\(ulaw\)"),
        (PLAIN_START.replace(":160", ":0"), "option p"),
    ],
)
def test_formats_that_we_would_play_as_noise(start: str, advice: str) -> None:
    with pytest.raises(WrongAudio) as caught:
        MediaWebSocketProtocol(0.0).receive_message(start, 0.0)
    assert caught.value.close_code == 1003
    assert re.search(advice, caught.value.advice)


def test_what_asterisk_complains_about_is_kept() -> None:
    protocol = started()
    protocol.receive_message(
        "ERROR channel_id:1.2 error_text:MARK_MEDIA not supported in passthrough mode", 0.1
    )
    assert protocol.last_error == "MARK_MEDIA not supported in passthrough mode"


# Time


def test_no_start_in_time() -> None:
    protocol = MediaWebSocketProtocol(100.0)
    assert protocol.next_deadline() == 105.0
    protocol.handle_timer(104.9)
    with pytest.raises(StreamTimeout, match="no start within 5 s"):
        protocol.handle_timer(105.0)
    assert protocol.next_deadline() is None


def test_no_more_media() -> None:
    protocol = started(limits=Limits(media_timeout_s=2.0))
    protocol.receive_message(SILENCE, 1.0)
    assert protocol.handle_timer(1.4) == []
    with pytest.raises(StreamTimeout, match="no media for 2 s"):
        protocol.handle_timer(3.0)


def test_audio_that_stays_away_is_silence() -> None:
    protocol = started()
    protocol.receive_message(SILENCE, 1.0)
    assert protocol.next_deadline() == pytest.approx(1.5)
    (filled,) = protocol.handle_timer(1.5)
    assert isinstance(filled, AudioReceived)
    assert filled.pcm.tolist() == [0] * 4000
    (filled, heard) = protocol.receive_message(SILENCE, 1.6)
    assert isinstance(filled, AudioReceived) and isinstance(heard, AudioReceived)
    assert len(filled.pcm) == 800


# What we send


@pytest.mark.parametrize(("start", "as_json"), [(PLAIN_START, False), (JSON_START, True)])
def test_commands_are_in_the_channels_form(start: str, as_json: bool) -> None:
    protocol = started(start)
    protocol.send_audio(pcm(160), 0.0)
    protocol.send_mark("m")
    protocol.clear(0.0)
    protocol.hang_up()
    media, *commands = sent(protocol)
    assert media == g711.encode(pcm(160))
    names = [json.loads(c)["command"] if as_json else str(c).split()[0] for c in commands]
    assert names == ["MARK_MEDIA", "FLUSH_MEDIA", "HANGUP"]
    assert all(len(str(command).encode()) <= 128 for command in commands)


@pytest.mark.parametrize(
    "answer", ["MEDIA_MARK_PROCESSED {}", '{{"event":"MEDIA_MARK_PROCESSED","correlation_id":"{}"}}']
)
def test_a_mark_comes_back(answer: str) -> None:
    protocol = started()
    protocol.send_mark("a name, much longer than Asterisk would take: " + "x" * 200)
    (command,) = sent(protocol)
    serial = str(command).split()[1]
    (reached,) = protocol.receive_message(answer.format(serial), 0.1)
    assert isinstance(reached, MarkReached) and reached.heard
    assert protocol.receive_message(answer.format(serial), 0.1) == []
    assert protocol.counters == {"unknown mark": 1}


def test_clear_returns_every_mark_unheard() -> None:
    protocol = started()
    protocol.send_mark("a")
    protocol.send_mark("b")
    assert protocol.clear(0.0) == [MarkReached("a", heard=False), MarkReached("b", heard=False)]
    assert sent(protocol)[-1] == "FLUSH_MEDIA"
    # What Asterisk had just played comes too late to count.
    assert protocol.receive_message("MEDIA_MARK_PROCESSED 1", 0.1) == []


def test_only_whole_pieces_leave_and_a_tail_waits_for_what_continues_it() -> None:
    protocol = started()
    whole = pcm(1000)
    for at in range(0, 1000, 70):
        protocol.send_audio(whole[at : at + 70], 0.0)
    messages = sent(protocol)
    assert all(len(message) % 160 == 0 for message in messages)
    assert audio(messages) == g711.encode(whole[:960])
    # 120 ms are queued at Asterisk; the tail is due 30 ms before they end.
    assert protocol.next_deadline() == pytest.approx(0.09)
    assert protocol.handle_timer(protocol.next_deadline() or 0.0) == []
    assert audio(sent(protocol)) == g711.encode(np.concatenate([whole[960:], np.zeros(120, np.int16)]))


def test_a_mark_stands_behind_its_tail() -> None:
    protocol = started()
    protocol.send_audio(pcm(200), 0.0)
    protocol.send_mark("m")
    assert [type(message) for message in sent(protocol)] == [bytes]
    protocol.send_audio(pcm(120), 0.0)
    assert [type(message) for message in sent(protocol)] == [bytes, str]


def test_clear_takes_the_tail_along() -> None:
    protocol = started()
    protocol.send_audio(pcm(100), 0.0)
    protocol.clear(0.0)
    assert sent(protocol) == ["FLUSH_MEDIA"]
    protocol.handle_timer(0.2)
    assert sent(protocol) == []


def test_nothing_is_sent_into_a_full_queue() -> None:
    protocol = started()
    protocol.receive_message("MEDIA_XOFF", 0.0)
    protocol.send_audio(pcm(320), 0.0)
    protocol.send_mark("m")
    assert sent(protocol) == []
    protocol.receive_message("MEDIA_XON", 0.1)
    media, mark = sent(protocol)
    assert (media, mark) == (g711.encode(pcm(320)), "MARK_MEDIA 1")
    # A flush goes out at once, and takes what waits here along.
    protocol.receive_message("MEDIA_XOFF", 0.2)
    protocol.send_audio(pcm(320), 0.2)
    protocol.clear(0.2)
    assert sent(protocol) == ["FLUSH_MEDIA"]
    protocol.receive_message("MEDIA_XON", 0.3)
    assert sent(protocol) == []


def test_what_waits_for_a_full_queue_is_bounded() -> None:
    protocol = started(limits=Limits(max_held_s=1.0))
    protocol.receive_message("MEDIA_XOFF", 0.0)
    for _ in range(100):
        protocol.send_audio(pcm(160), 0.0)
    protocol.receive_message("MEDIA_XON", 0.1)
    assert len(audio(sent(protocol))) == 8000
    assert protocol.counters["audio dropped: Asterisk's queue stayed full"] == 50


def test_long_audio_is_cut_into_messages_that_asterisk_reads_and_has_room_for() -> None:
    protocol = started(limits=Limits(media_timeout_s=100.0))
    protocol.send_audio(pcm(320_000), 0.0)  # 40 s
    protocol.send_mark("end")
    arrived, played_s = bytearray(), 0.0
    while True:
        messages = sent(protocol)
        assert all(len(message) <= 16_000 for message in messages)
        arrived += audio(messages)
        if "MARK_MEDIA 1" in messages:
            break
        assert len(arrived) / 8000 - played_s <= 13.0
        played_s = protocol.next_deadline() or 0.0
        protocol.handle_timer(played_s)
    assert bytes(arrived) == g711.encode(pcm(320_000))


def test_marks_that_never_return_do_not_fill_the_memory() -> None:
    protocol = started(limits=Limits(max_pending_marks=3))
    for n in range(5):
        protocol.send_mark(str(n))
    assert protocol.clear(0.0) == [MarkReached(str(n), heard=False) for n in (2, 3, 4)]


def test_sending_outside_a_call_is_our_mistake() -> None:
    protocol = MediaWebSocketProtocol(0.0)
    with pytest.raises(LocalProtocolError):
        protocol.send_audio(pcm(160), 0.0)
    protocol.hang_up()
    assert sent(protocol) == []
    with pytest.raises(LocalProtocolError):
        protocol.send_mark("m")


# At random


@given(st.lists(st.integers(0, 700), max_size=30), st.sampled_from(["ulaw", "alaw", "slin"]))
def test_whatever_the_sizes_every_sample_leaves_once_and_in_order(sizes: list[int], form: str) -> None:
    size = 320 if form == "slin" else 160
    protocol = started(PLAIN_START.replace("ulaw", form).replace(":160", f":{size}"))
    whole = pcm(sum(sizes))
    for start, end in pairwise(np.cumsum([0, *sizes]).tolist()):
        protocol.send_audio(whole[start:end], 0.0)
    now = 0.0
    while protocol._tail:
        now = protocol.next_deadline() or now
        protocol.handle_timer(now)
    messages = sent(protocol)
    assert all(len(message) % size == 0 for message in messages)
    expected = CODECS[form].encode(whole)
    assert audio(messages)[: len(expected)] == expected
    assert len(audio(messages)) - len(expected) < size


messages = st.one_of(
    st.binary(max_size=500),
    st.text(max_size=100),
    st.sampled_from(
        [
            PLAIN_START,
            JSON_START,
            "MEDIA_XOFF",
            "MEDIA_XON",
            "MEDIA_MARK_PROCESSED 1",
            '{"event":"DTMF_END","digit":null}',
            "ERROR error_text:",
        ]
    ),
)


@settings(max_examples=300)
@given(st.lists(messages, max_size=40))
def test_any_messages_in_any_order(sequence: list[str | bytes]) -> None:
    protocol = MediaWebSocketProtocol(0.0)
    for number, message in enumerate(sequence):
        now = number * 0.01
        try:
            protocol.receive_message(message, now)
            protocol.handle_timer(now)
        except RemoteProtocolError as fault:
            assert len(fault.reason) <= 123
            assert protocol.state is State.FAILED
        if protocol.state is State.STREAMING:
            protocol.send_audio(pcm(100), now)
            protocol.send_mark("m")
