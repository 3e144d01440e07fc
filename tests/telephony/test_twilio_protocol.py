"""Captured messages in, events out: whole, in odd forms, out of order, and at random."""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line import AudioReceived, KeyPressed, MarkReached
from telephony import g711
from telephony.twilio.errors import LocalProtocolError, RemoteProtocolError, StreamTimeout
from telephony.twilio.protocol import (
    TRANSITIONS,
    Limits,
    MediaStreamProtocol,
    State,
    StreamEvent,
    StreamStarted,
    StreamStopped,
)

STREAM = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL = "CA5d0d0d8047bf685c3f0ff980fe62c123"
ACCOUNT = "AC5d0d0d8047bf685c3f0ff980fe62c456"
MULAW = bytes(range(160))
PAYLOAD = base64.b64encode(MULAW).decode()

# As Twilio's documentation prints them: numbers that count are strings, numbers of the format are numbers.
CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
START = (
    f'{{"event":"start","sequenceNumber":"1","start":{{"accountSid":"{ACCOUNT}","streamSid":"{STREAM}",'
    f'"callSid":"{CALL}","tracks":["inbound"],"mediaFormat":{{"encoding":"audio/x-mulaw","sampleRate":8000,'
    f'"channels":1}},"customParameters":{{"token":"t","n":"1"}}}},"streamSid":"{STREAM}"}}'
)
MEDIA = (
    f'{{"event":"media","sequenceNumber":"3","media":{{"track":"inbound","chunk":"1","timestamp":"5",'
    f'"payload":"{PAYLOAD}"}},"streamSid":"{STREAM}"}}'
)
DTMF = (
    f'{{"event":"dtmf","streamSid":"{STREAM}","sequenceNumber":"5",'
    f'"dtmf":{{"track":"inbound_track","digit":"1"}}}}'
)
STOP = (
    f'{{"event":"stop","sequenceNumber":"5","stop":{{"accountSid":"{ACCOUNT}","callSid":"{CALL}"}},'
    f'"streamSid":"{STREAM}"}}'
)
MARK_OF_NOBODY = (
    f'{{"event":"mark","sequenceNumber":"4","streamSid":"{STREAM}","mark":{{"name":"my label"}}}}'
)
CAPTURED = {
    "connected": CONNECTED,
    "start": START,
    "media": MEDIA,
    "dtmf": DTMF,
    "mark": MARK_OF_NOBODY,
    "stop": STOP,
}


def changed(message: str, path: str, value: Any) -> str:
    """The message with one field replaced ("start.mediaFormat.channels"), or removed (...)."""
    fields = json.loads(message)
    *way, last = path.split(".")
    at = fields
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(fields)


def in_state(state: State, now: float = 0.0, limits: Limits | None = None) -> MediaStreamProtocol:
    protocol = MediaStreamProtocol(now, limits)
    ways: dict[State, list[str]] = {
        State.EXPECT_CONNECTED: [],
        State.EXPECT_START: [CONNECTED],
        State.STREAMING: [CONNECTED, START],
        State.STOPPED: [CONNECTED, START, STOP],
    }
    for message in ways[state]:
        protocol.receive_message(message, now)
    assert protocol.state is state
    return protocol


def streaming(now: float = 0.0, limits: Limits | None = None) -> MediaStreamProtocol:
    return in_state(State.STREAMING, now, limits)


def audio(events: list[StreamEvent]) -> bytes:
    return b"".join(g711.encode(event.pcm) for event in events if isinstance(event, AudioReceived))


def media_at(ms: int, size: int = 160) -> str:
    return changed(
        changed(MEDIA, "media.timestamp", str(ms)), "media.payload", base64.b64encode(bytes(size)).decode()
    )


def sent(message: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(message)
    return fields


# A whole call


def test_a_call_as_twilio_sends_it() -> None:
    protocol = MediaStreamProtocol(100.0)
    assert protocol.receive_message(CONNECTED, 100.0) == []
    assert protocol.receive_message(START, 100.1) == [
        StreamStarted(STREAM, CALL, ACCOUNT, {"token": "t", "n": "1"})
    ]
    (heard,) = protocol.receive_message(MEDIA, 100.2)
    assert isinstance(heard, AudioReceived)
    assert heard.pcm.tolist() == g711.decode(MULAW).tolist()
    assert protocol.receive_message(DTMF, 100.3) == [KeyPressed("1")]
    assert protocol.receive_message(STOP, 100.4) == [StreamStopped()]
    assert protocol.state is State.STOPPED
    assert protocol.next_deadline() is None
    assert not protocol.counters


# Odd forms that mean the same


@pytest.mark.parametrize(
    "message",
    [
        changed(MEDIA, "sequenceNumber", 3),
        changed(MEDIA, "sequenceNumber", ...),
        changed(MEDIA, "media.timestamp", 5),
        changed(MEDIA, "media.timestamp", 5.0),
        changed(MEDIA, "media.chunk", 1),
        changed(MEDIA, "media.track", ...),
        changed(MEDIA, "streamSid", ...),
        changed(MEDIA, "extra", {"deep": [1, 2]}),
        changed(MEDIA, "media.extra", None),
        json.dumps(json.loads(MEDIA), indent=4),
        " \n" + MEDIA + "\t ",
        MEDIA.replace('"media"', '"\\u006dedia"'),
    ],
)
def test_media_in_other_forms(message: str) -> None:
    protocol = streaming()
    assert audio(protocol.receive_message(message, 0.0)) == MULAW.replace(b"\x7f", b"\xff")
    assert not protocol.counters


@pytest.mark.parametrize("size", [0, 1, 2, 80, 159, 160, 161, 320, 1000, 8000, 40_000])
def test_payloads_of_any_size(size: int) -> None:
    protocol = streaming()
    payload = bytes(n % 251 | 0x80 for n in range(size))
    message = changed(MEDIA, "media.payload", base64.b64encode(payload).decode())
    assert audio(protocol.receive_message(message, 0.0)) == payload
    assert not protocol.counters


@pytest.mark.parametrize(
    "message",
    [
        changed(START, "sequenceNumber", 1),
        changed(START, "start.mediaFormat.sampleRate", "8000"),
        changed(START, "start.mediaFormat.channels", "1"),
        changed(START, "start.mediaFormat.channels", ...),
        changed(START, "start.mediaFormat", ...),
        changed(START, "streamSid", ...),
        changed(START, "start.streamSid", ...),
        changed(START, "start.accountSid", ...),
        changed(START, "start.tracks", ...),
        changed(START, "start.customParameters", ...),
        changed(START, "start.customParameters", [1]),
        changed(START, "start.more", 1),
    ],
)
def test_start_in_other_forms(message: str) -> None:
    protocol = in_state(State.EXPECT_START)
    (started,) = protocol.receive_message(message, 0.0)
    assert isinstance(started, StreamStarted)
    assert (started.stream_sid, started.call_sid) == (STREAM, CALL)


def test_parameters_are_strings_of_reasonable_length_and_number() -> None:
    odd = {"a": "x", "n": 5, "half": 0.5, "no": None, "list": [1], "flag": True, "long": "y" * 5000}
    (started,) = in_state(State.EXPECT_START).receive_message(
        changed(START, "start.customParameters", odd), 0.0
    )
    assert isinstance(started, StreamStarted)
    assert started.parameters == {"a": "x", "n": "5", "half": "0.5"}
    many = changed(START, "start.customParameters", {str(n): "" for n in range(500)})
    (started,) = in_state(State.EXPECT_START).receive_message(many, 0.0)
    assert isinstance(started, StreamStarted)
    assert len(started.parameters) == 64


@pytest.mark.parametrize(
    ("digit", "key"), [("0", "0"), ("9", "9"), ("*", "*"), ("#", "#"), ("a", "A"), ("D", "D"), (7, "7")]
)
def test_keys(digit: Any, key: str) -> None:
    assert streaming().receive_message(changed(DTMF, "dtmf.digit", digit), 0.0) == [KeyPressed(key)]


def test_start_without_connected() -> None:
    protocol = MediaStreamProtocol(0.0)
    assert len(protocol.receive_message(START, 0.0)) == 1
    assert protocol.state is State.STREAMING


# Wrong by itself: counted and skipped


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        (b"\x00\x01", "binary message"),
        (MEDIA.encode(), "binary message"),
        ("", "bad JSON"),
        ("{", "bad JSON"),
        (MEDIA[:-1], "bad JSON"),
        (MEDIA + MEDIA, "bad JSON"),
        ("[" * 50_000, "bad JSON"),
        ("[" * 30_000 + "]" * 30_000, "bad JSON"),
        ("9" * 5_000, "bad JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"media"', "not a JSON object"),
        ("{}", "no event name"),
        ('{"event":7}', "no event name"),
        ('{"event":["media"]}', "no event name"),
        ('{"event":"media","pad":"' + "x" * 1_000_000 + '"}', "message too long"),
        (changed(MEDIA, "media.payload", PAYLOAD * 5_000), "message too long"),
        (changed(MEDIA, "streamSid", "MZother"), "wrong streamSid"),
        (changed(MEDIA, "streamSid", 7), "wrong streamSid"),
        (changed(MEDIA, "streamSid", None), "wrong streamSid"),
        (changed(STOP, "streamSid", "MZother"), "wrong streamSid"),
        (changed(DTMF, "streamSid", [STREAM]), "wrong streamSid"),
        (changed(MEDIA, "media", ...), "media without its fields"),
        (changed(MEDIA, "media", PAYLOAD), "media without its fields"),
        (changed(MEDIA, "media.payload", ...), "media without payload"),
        (changed(MEDIA, "media.payload", 5), "media without payload"),
        (changed(MEDIA, "media.payload", PAYLOAD[:-1]), "bad base64"),
        (changed(MEDIA, "media.payload", "A"), "bad base64"),
        (changed(MEDIA, "media.payload", "AAA"), "bad base64"),
        (changed(MEDIA, "media.payload", "AA==AA=="), "bad base64"),
        (changed(MEDIA, "media.payload", "!" + PAYLOAD), "bad base64"),
        (changed(MEDIA, "media.payload", PAYLOAD + "\n"), "bad base64"),
        (changed(MEDIA, "media.payload", "ÄÄÄÄ"), "bad base64"),
        (changed(MEDIA, "media.payload", "\ud800AAA"), "bad base64"),
        (changed(DTMF, "dtmf", ...), "dtmf without its fields"),
        (changed(DTMF, "dtmf.digit", "12"), "bad digit"),
        (changed(DTMF, "dtmf.digit", ""), "bad digit"),
        (changed(DTMF, "dtmf.digit", "\u0661"), "bad digit"),
        (changed(DTMF, "dtmf.digit", True), "bad digit"),
        (changed(MARK_OF_NOBODY, "mark", []), "mark without its fields"),
        (changed(MARK_OF_NOBODY, "mark.name", 5), "mark without name"),
    ],
)
def test_a_malformed_message_is_counted_and_the_call_goes_on(message: str | bytes, counter: str) -> None:
    protocol = streaming()
    assert protocol.receive_message(message, 0.0) == []
    assert protocol.counters == {counter: 1}
    assert audio(protocol.receive_message(MEDIA, 0.0))
    assert protocol.receive_message(STOP, 0.0) == [StreamStopped()]


@pytest.mark.parametrize("event", ["ping", "", "Media", "media ", "speech", "x" * 1000])
@pytest.mark.parametrize("state", [State.EXPECT_CONNECTED, State.EXPECT_START, State.STREAMING])
def test_unknown_events_are_counted_and_ignored(event: str, state: State) -> None:
    protocol = in_state(state)
    for _ in range(200):
        assert protocol.receive_message(json.dumps({"event": event, "streamSid": "MZother"}), 0.0) == []
    assert protocol.counters == {"unknown event": 200}
    assert protocol.state is state


@pytest.mark.parametrize(
    "timestamp",
    ["-5", -5, "", "abc", "1e3", None, 0.5, float("nan"), float("inf"), 10**30, "9" * 40, True, []],
)
def test_timestamps_beyond_sense_cost_no_audio(timestamp: Any) -> None:
    protocol = streaming()
    protocol.receive_message(MEDIA, 0.0)
    message = changed(MEDIA, "media.timestamp", timestamp)
    assert len(audio(protocol.receive_message(message, 0.02))) == 160
    assert protocol.counters == {"bad timestamp": 1}


def test_media_of_another_track_is_not_the_caller() -> None:
    protocol = streaming()
    assert protocol.receive_message(changed(MEDIA, "media.track", "outbound"), 0.0) == []
    assert protocol.counters == {"media of another track": 1}


def test_gaps_become_silence_before_the_audio_that_shows_them() -> None:
    protocol = streaming()
    protocol.receive_message(media_at(5), 0.0)
    silence, after = protocol.receive_message(media_at(85), 0.08)
    assert isinstance(silence, AudioReceived)
    assert isinstance(after, AudioReceived)
    assert silence.pcm.tolist() == [0] * 480
    assert len(after.pcm) == 160
    assert protocol.counters == {"samples filled with silence": 480}


def test_more_audio_than_time_is_malformed() -> None:
    protocol = streaming()
    for _ in range(10):
        assert protocol.receive_message(media_at(0, 8_000), 0.0)
    assert protocol.receive_message(media_at(0, 8_000), 0.0) == []
    assert protocol.counters["more audio than time"] == 1


# Out of order: the stream ends


@pytest.mark.parametrize("event", sorted(CAPTURED))
@pytest.mark.parametrize("state", [State.EXPECT_CONNECTED, State.EXPECT_START, State.STREAMING])
def test_every_pair_of_state_and_event(state: State, event: str) -> None:
    protocol = in_state(state)
    if (state, event) in TRANSITIONS:
        protocol.receive_message(CAPTURED[event], 0.0)
        assert protocol.state is TRANSITIONS[state, event]
        return
    with pytest.raises(RemoteProtocolError) as caught:
        protocol.receive_message(CAPTURED[event], 0.0)
    assert caught.value.close_code == 1002
    assert event in caught.value.reason
    assert protocol.state is State.FAILED
    assert protocol.next_deadline() is None
    assert protocol.receive_message(MEDIA, 0.0) == []


@pytest.mark.parametrize("event", sorted(CAPTURED))
def test_nothing_comes_after_stop(event: str) -> None:
    protocol = in_state(State.STOPPED)
    assert protocol.receive_message(CAPTURED[event], 0.0) == []
    assert not protocol.counters


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (changed(START, "start", ...), 1002),
        (changed(START, "start", "x"), 1002),
        (changed(START, "start.callSid", ...), 1002),
        (changed(START, "start.callSid", ""), 1002),
        (changed(START, "start.callSid", 5), 1002),
        (changed(START, "start.callSid", "../../etc/passwd"), 1002),
        (changed(START, "start.callSid", "CA1\n"), 1002),
        (changed(START, "start.callSid", "x" * 65), 1002),
        (changed(START, "streamSid", ""), 1002),
        (changed(START, "streamSid", [1]), 1002),
        (changed(START, "streamSid", "MZother"), 1002),
        (changed(START, "start.streamSid", {}), 1002),
        (changed(START, "streamSid", "x" * 129), 1002),
        (changed(START, "start.mediaFormat", "audio/x-mulaw"), 1002),
        (changed(START, "start.mediaFormat.encoding", "audio/x-l16"), 1003),
        (changed(START, "start.mediaFormat.encoding", ["audio/x-mulaw"]), 1003),
        (changed(START, "start.mediaFormat.sampleRate", 16000), 1003),
        (changed(START, "start.mediaFormat.sampleRate", None), 1003),
        (changed(START, "start.mediaFormat.channels", 2), 1003),
        (changed(START, "start.mediaFormat.channels", "x" * 999), 1003),
    ],
)
def test_a_start_that_cannot_be_served(message: str, code: int) -> None:
    protocol = in_state(State.EXPECT_START)
    with pytest.raises(RemoteProtocolError) as caught:
        protocol.receive_message(message, 0.0)
    assert caught.value.close_code == code
    assert len(caught.value.reason.encode()) <= 123
    assert protocol.state is State.FAILED


# Floods


@pytest.mark.parametrize(
    ("flood", "reason"),
    [
        (lambda n: media_at(n, 8), "more than 200 messages per second"),
        (lambda n: media_at(20 * n), "more audio than time"),
        (lambda n: '{"event":"noise"}', "more than 200 messages per second"),
        (lambda n: changed(MEDIA, "streamSid", "MZother"), "too many malformed messages"),
        (lambda n: b"noise", "too many malformed messages"),
    ],
)
def test_a_flood_of_a_thousand_a_second_ends_the_stream(
    flood: Callable[[int], str | bytes], reason: str
) -> None:
    protocol = streaming()
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        for n in range(1_000):
            protocol.receive_message(flood(n), n / 1000)
    assert caught.value.close_code == 1008
    assert protocol.state is State.FAILED


def test_a_stall_of_almost_ten_seconds_is_no_flood() -> None:
    protocol = streaming()
    protocol.receive_message(media_at(0), 0.0)
    for n in range(1, 496):
        protocol.receive_message(media_at(20 * n), 9.9)
    for n in range(496, 3_000):
        protocol.receive_message(media_at(20 * n), 20 * n / 1000)
    assert not protocol.counters


def test_twice_the_usual_rate_for_ever_is_no_flood() -> None:
    protocol = streaming()
    for n in range(5_000):
        protocol.receive_message(media_at(10 * n, 80), n / 100)
    assert not protocol.counters


def test_malformed_messages_now_and_then_are_borne_but_not_a_flood() -> None:
    protocol = streaming()
    for n in range(1_000):
        protocol.receive_message("{", n / 4)
    assert protocol.counters["bad JSON"] == 1_000
    with pytest.raises(RemoteProtocolError, match="malformed messages, the last one: bad JSON"):
        for _ in range(100):
            protocol.receive_message("{", 250.0)


def test_a_clock_that_steps_back_gives_no_allowance() -> None:
    protocol = streaming(now=10.0)
    with pytest.raises(RemoteProtocolError):
        for n in range(2_000):
            protocol.receive_message(MARK_OF_NOBODY, 10.0 - (n % 2))


# Deadlines


@pytest.mark.parametrize("state", [State.EXPECT_CONNECTED, State.EXPECT_START])
def test_no_start_within_five_seconds(state: State) -> None:
    protocol = in_state(state, now=7.0)
    assert protocol.next_deadline() == 12.0
    protocol.handle_timer(11.999)
    assert protocol.state is state
    with pytest.raises(StreamTimeout, match="no start within 5 s"):
        protocol.handle_timer(12.0)
    assert protocol.state is State.FAILED
    protocol.handle_timer(13.0)


def test_ten_seconds_without_media() -> None:
    protocol = streaming(now=1.0)
    assert protocol.next_deadline() == 11.0
    protocol.receive_message(MEDIA, 3.0)
    assert protocol.next_deadline() == 13.0
    protocol.receive_message(MARK_OF_NOBODY, 5.0)
    protocol.receive_message(DTMF, 6.0)
    protocol.receive_message("{", 7.0)
    assert protocol.next_deadline() == 13.0
    protocol.handle_timer(12.99)
    with pytest.raises(StreamTimeout, match=r"^no media for 10 s$"):
        protocol.handle_timer(13.0)


# What we send


def test_outbound_messages_have_exactly_the_documented_keys() -> None:
    protocol = streaming()
    pcm = np.arange(160, dtype=np.int16) * 100
    assert sent(protocol.media(pcm)) == {
        "event": "media",
        "streamSid": STREAM,
        "media": {"payload": base64.b64encode(g711.encode(pcm)).decode()},
    }
    assert sent(protocol.mark("reply-1")) == {
        "event": "mark",
        "streamSid": STREAM,
        "mark": {"name": "1:reply-1"},
    }
    assert sent(protocol.clear()) == {"event": "clear", "streamSid": STREAM}


@pytest.mark.parametrize("sid", ['MZ"}', "MZ\\", "MZ\n", "MZ{0}%s", "MZ\u00e4\ud800"])
def test_names_with_anything_in_them_do_not_break_the_json(sid: str) -> None:
    protocol = in_state(State.EXPECT_START)
    protocol.receive_message(changed(changed(START, "streamSid", sid), "start.streamSid", sid), 0.0)
    for message in (protocol.media(np.zeros(1, np.int16)), protocol.clear(), protocol.mark('a"b\\\n\u00e4')):
        assert sent(message)["streamSid"] == sid
        assert message.isascii()


@pytest.mark.parametrize("state", [State.EXPECT_CONNECTED, State.EXPECT_START, State.STOPPED])
def test_sending_outside_a_stream_is_our_own_fault(state: State) -> None:
    protocol = in_state(state)
    for send in (lambda: protocol.media(np.zeros(1, np.int16)), lambda: protocol.mark("a"), protocol.clear):
        with pytest.raises(LocalProtocolError):
            send()


# Marks


def echo(message: str) -> str:
    return changed(MARK_OF_NOBODY, "mark.name", sent(message)["mark"]["name"])


def test_a_mark_that_returns_was_heard() -> None:
    protocol = streaming()
    first, second = protocol.mark("a"), protocol.mark("b")
    assert protocol.receive_message(echo(first), 0.0) == [MarkReached("a", heard=True)]
    assert protocol.receive_message(echo(second), 0.0) == [MarkReached("b", heard=True)]


def test_marks_sent_before_a_clear_are_never_heard() -> None:
    protocol = streaming()
    heard, cut, also_cut = (protocol.mark(name) for name in "abc")
    assert protocol.receive_message(echo(heard), 0.0) == [MarkReached("a", heard=True)]
    protocol.clear()
    after = protocol.mark("d")
    # In whatever order they come: Twilio's own, or one that was on its way already.
    assert protocol.receive_message(echo(cut), 0.0) == [MarkReached("b", heard=False)]
    assert protocol.receive_message(echo(after), 0.0) == [MarkReached("d", heard=True)]
    assert protocol.receive_message(echo(also_cut), 0.0) == [MarkReached("c", heard=False)]


def test_a_name_used_again_after_a_clear_is_not_mistaken_for_the_first() -> None:
    protocol = streaming()
    before = protocol.mark("same")
    protocol.clear()
    after = protocol.mark("same")
    assert sent(before)["mark"] != sent(after)["mark"]
    assert protocol.receive_message(echo(before), 0.0) == [MarkReached("same", heard=False)]
    assert protocol.receive_message(echo(after), 0.0) == [MarkReached("same", heard=True)]


def test_marks_that_are_not_ours_or_return_twice_are_counted() -> None:
    protocol = streaming()
    mark = protocol.mark("a")
    protocol.receive_message(echo(mark), 0.0)
    assert protocol.receive_message(echo(mark), 0.0) == []
    assert protocol.receive_message(MARK_OF_NOBODY, 0.0) == []
    assert protocol.counters == {"unknown mark": 2}


def test_marks_that_never_return_do_not_pile_up() -> None:
    protocol = streaming(limits=Limits(max_pending_marks=3))
    marks = [protocol.mark(str(n)) for n in range(5)]
    assert [protocol.receive_message(echo(mark), 0.0) for mark in marks] == [
        [],
        [],
        [MarkReached("2", heard=True)],
        [MarkReached("3", heard=True)],
        [MarkReached("4", heard=True)],
    ]
    assert protocol.counters == {"mark never returned": 2, "unknown mark": 2}


# At random

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_fields = st.dictionaries(
    st.sampled_from(
        [
            *("event", "streamSid", "start", "media", "mark", "dtmf", "stop", "callSid", "mediaFormat"),
            *("payload", "timestamp", "name", "digit", "track", "customParameters", "encoding", "sampleRate"),
        ]
    ),
    st.one_of(
        _json_values, st.sampled_from([STREAM, CALL, PAYLOAD, "media", "start", "stop", "mark", "dtmf", "1"])
    ),
    max_size=6,
)
_bodies = st.builds(
    lambda event, body, more: json.dumps({"event": event, event: body, "streamSid": STREAM} | more),
    st.sampled_from(sorted(CAPTURED)),
    _fields,
    st.one_of(st.just({}), _fields),
)
_anything = st.one_of(
    st.sampled_from(sorted(CAPTURED.values())),
    _bodies,
    _json_values.map(json.dumps),
    st.text(),
    st.binary(),
    st.builds(
        lambda message, cut: message[:cut], st.sampled_from(sorted(CAPTURED.values())), st.integers(0, 80)
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([State.EXPECT_CONNECTED, State.EXPECT_START, State.STREAMING]),
    st.lists(st.tuples(_anything, st.floats(0, 3)), max_size=30),
)
def test_whatever_comes_it_raises_only_what_it_declares(
    state: State, messages: list[tuple[str | bytes, float]]
) -> None:
    protocol = in_state(state)
    now = 0.0
    over = False
    for message, wait in messages:
        now += wait
        try:
            protocol.handle_timer(now)
            events = protocol.receive_message(message, now)
        except RemoteProtocolError as fault:
            assert not over
            assert fault.reason
            assert len(fault.reason.encode()) <= 123
            assert protocol.state is State.FAILED
            over = True
            continue
        if over:
            assert events == []
        for event in events:
            if isinstance(event, AudioReceived):
                assert event.pcm.dtype == np.int16
                assert len(event.pcm)
        if protocol.state is State.STREAMING:
            json.loads(protocol.clear())
            json.loads(protocol.mark("m"))
        over = over or protocol.state in (State.STOPPED, State.FAILED)


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["mark", "clear", "echo", "echo again"]), max_size=40), st.randoms())
def test_a_mark_is_heard_at_most_once_and_never_across_a_clear(script: list[str], random: Any) -> None:
    protocol = streaming()
    pending: list[tuple[str, int]] = []
    returned: list[str] = []
    clears = 0
    for step in script:
        if step == "mark":
            pending.append((echo(protocol.mark("same name")), clears))
        elif step == "clear":
            protocol.clear()
            clears += 1
        elif step == "echo" and pending:
            message, clears_then = pending.pop(random.randrange(len(pending)))
            returned.append(message)
            assert protocol.receive_message(message, 0.0) == [
                MarkReached("same name", heard=clears_then == clears)
            ]
        elif step == "echo again" and returned:
            assert protocol.receive_message(random.choice(returned), 0.0) == []


_AS_TWILIO_WRITES_IT = (
    '{{"event":"media","sequenceNumber":"{number}","media":{{"track":"{track}","chunk":"{number}",'
    '"timestamp":"{timestamp}","payload":"{payload}"}},"streamSid":"{sid}"}}'
)
_PAYLOADS = st.one_of(
    st.binary(max_size=400).map(lambda mulaw: base64.b64encode(mulaw).decode()),
    st.text("AZaz09+/= -_\u00e9\u0660", max_size=12),
    st.sampled_from(
        ["", "=", "====", "QQ=", "QQ==", "QQ==QQ==", "Q===", "\\u0041AAA", "AAA\\/", 'A","track":"x']
    ),
)
_NUMBERS = st.one_of(
    st.integers(0, 10_000).map(str),
    st.text("0123456789+-.\u0663 e", max_size=17),
    st.sampled_from(["9" * 15, "9" * 16, "0" * 15, "-5", "1.5", "", "\\u0031"]),
)


@settings(max_examples=400)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "number": _NUMBERS,
                "timestamp": _NUMBERS,
                "payload": _PAYLOADS,
                "track": st.sampled_from(["inbound", "inbound", "outbound"]),
                "sid": st.sampled_from(["own", "own", "own", "MZother", "", 'x"']),
            }
        ),
        max_size=8,
    ),
    st.sampled_from([State.STREAMING, State.STREAMING, State.EXPECT_START]),
)
def test_twilios_own_spelling_means_what_any_other_does(fields: list[dict[str, str]], state: State) -> None:
    short, long = in_state(state), in_state(state)
    for at, each in enumerate(fields):
        own = short._stream_sid if each["sid"] == "own" else each["sid"]
        message = _AS_TWILIO_WRITES_IT.format(**{**each, "sid": own})
        results: list[Any] = []
        for protocol, text in ((short, message), (long, message.replace("{", "{ ", 1))):
            try:
                events = protocol.receive_message(text, at / 50)
                results.append([event.pcm.tobytes() for event in events if isinstance(event, AudioReceived)])
                assert len(results[-1]) == len(events)
            except RemoteProtocolError as error:
                results.append((str(error), error.close_code))
        assert results[0] == results[1]
        assert (short.state, short.counters) == (long.state, long.counters)
        assert short.next_deadline() == long.next_deadline()


def test_what_twilio_sends_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = streaming()
    expected = audio(streaming().receive_message(MEDIA.replace("{", "{ ", 1), 0.02))

    def never(text: str) -> None:
        raise AssertionError(text)

    monkeypatch.setattr("telephony.twilio.protocol.json.loads", never)
    assert audio(protocol.receive_message(MEDIA, 0.02)) == expected


# The short way and the long one


_NEVER = re.compile(r"(?!)")


class BothWays:
    """Two protocols that are told the same; the second one parses all of it as JSON."""

    def __init__(self, start: str = START, limits: Limits | None = None) -> None:
        self.short, self.long = MediaStreamProtocol(0.0, limits), MediaStreamProtocol(0.0, limits)
        for message in (CONNECTED, start):
            self.tell(message, 0.0)
        self.tell(MEDIA_SHORT, 0.0)

    def tell(self, message: str | bytes, now: float) -> Any:
        outcome = _outcome(self.short, message, now)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("telephony.twilio.protocol._TWILIOS_MEDIA", _NEVER)
            expected = _outcome(self.long, message, now)
        assert outcome == expected, message
        assert _all_of(self.short) == _all_of(self.long), message
        return outcome


def _outcome(protocol: MediaStreamProtocol, message: str | bytes, now: float) -> Any:
    try:
        events = protocol.receive_message(message, now)
    except RemoteProtocolError as fault:
        return str(fault), fault.close_code
    return [(type(event), _content(event)) for event in events]


def _content(event: StreamEvent) -> Any:
    return (event.pcm.dtype.str, event.pcm.tobytes()) if isinstance(event, AudioReceived) else event


def _all_of(protocol: MediaStreamProtocol) -> Any:
    """What decides on all that it will ever do."""
    return {
        name: dict(vars(value)) if hasattr(value, "__dict__") and not isinstance(value, Counter) else value
        for name, value in vars(protocol).items()
        if name != "_handlers"
    }


MEDIA_SHORT = MEDIA.replace(PAYLOAD, base64.b64encode(MULAW[:17]).decode())
"""Short enough to be spoiled in every place; its payload ends in "="."""
_ODD: list[str] = [
    *'0"{}[]:,\\/=+-A9.eE_ \n\t\x00\x7f\u00e9\u0663\ud800\u2028\ufeff',
    "\\u0041",
    "true",
    "null",
]


@pytest.mark.parametrize("odd", ["", *_ODD])
def test_a_message_spoiled_in_any_one_place_means_what_its_json_does(odd: str) -> None:
    """Something put in, or put in the place of one character or two, or of as many as the payload has, or one
    more; or those left out."""
    both = BothWays(limits=Limits(messages_per_s=1e9, message_burst=10**9, malformed_burst=10**9))
    for at in range(len(MEDIA_SHORT) + 1):
        for gone in (0, 1, 2, 24, 25):
            both.tell(MEDIA_SHORT[:at] + odd + MEDIA_SHORT[at + gone :], at / 50)
    assert both.short.state is State.STREAMING


_PARTS = [
    *('{"event":"media",', '"sequenceNumber":"3",', '"media":{', '"track":"inbound",', '"chunk":"1",'),
    *('"timestamp":"25",', '"payload":"', base64.b64encode(MULAW[:17]).decode(), '"},'),
    *(f'"streamSid":"{STREAM}"', "}", '"track":"outbound",', '"event":"stop",', '"timestamp":25,'),
    *('"payload":"AAAA"', '"streamSid":"MZother"', '"media":null,', f'"}},"streamSid":"{STREAM}"}}', "AAAA"),
]
_CHANGES = st.lists(
    st.tuples(
        st.integers(0, len(MEDIA_SHORT)),
        st.integers(0, 40),
        st.one_of(st.just(""), st.sampled_from([*_ODD, *_PARTS]), st.text(max_size=3)),
    ),
    max_size=4,
)


def _spoiled(changes: list[tuple[int, int, str]]) -> str:
    message = MEDIA_SHORT
    for at, gone, put_in in changes:
        message = message[:at] + put_in + message[at + gone :]
    return message


_SPOILED = st.one_of(
    st.just(MEDIA_SHORT),
    _CHANGES.map(_spoiled),
    st.lists(st.sampled_from(_PARTS), max_size=14).map("".join),
    st.permutations(_PARTS[:11]).map("".join),
    st.integers(0, 10**16).map(lambda ms: MEDIA_SHORT.replace('"timestamp":"5"', f'"timestamp":"{ms}"')),
    st.integers(0, 2_000).map(lambda size: media_at(20, size).replace(" ", "")),
)
_STREAMS = st.sampled_from([STREAM, "MZ", "MZ\u00e9", 'x"', "a\\b", '"},"streamSid":"', "\u2028", "A" * 128])


@settings(max_examples=600, deadline=None)
@given(_STREAMS, st.lists(st.tuples(_SPOILED, st.floats(0, 4)), max_size=12), st.booleans())
def test_whatever_becomes_of_a_media_message_it_means_what_its_json_does(
    sid: str, messages: list[tuple[str, float]], whole_sid: bool
) -> None:
    """Also the stream's name, which may have to be written otherwise than it is."""
    both = BothWays(START.replace(STREAM, json.dumps(sid)[1:-1]), Limits(malformed_burst=6))
    now = 0.0
    for message, wait in messages:
        now += wait
        spelled = sid if whole_sid else json.dumps(sid)[1:-1]
        both.tell(message.replace(STREAM, spelled), now)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(MEDIA_SHORT)), st.integers(0, 3), st.binary(max_size=4)), max_size=4
    )
)
def test_bytes_changed_on_the_way_mean_what_their_json_does(changes: list[tuple[int, int, bytes]]) -> None:
    data = MEDIA_SHORT.encode()
    for at, gone, put_in in changes:
        data = data[:at] + put_in + data[at + gone :]
    both = BothWays()
    both.tell(data.decode(errors="replace"), 0.02)
    both.tell(data.decode(errors="surrogateescape"), 0.04)
    both.tell(MEDIA_SHORT, 0.06)


def test_the_two_ways_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would compare one with itself."""
    parsed: list[str] = []
    both = BothWays()

    def loads(text: str) -> Any:
        parsed.append(text)
        return json_loads(text)

    json_loads = json.loads
    monkeypatch.setattr("telephony.twilio.protocol.json.loads", loads)
    ((kind, content),) = both.tell(MEDIA_SHORT, 0.02)
    assert kind is AudioReceived
    assert content[1] == g711.decode(MULAW[:17]).tobytes()
    assert parsed == [MEDIA_SHORT]
