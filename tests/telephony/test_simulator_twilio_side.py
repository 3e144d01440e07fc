"""Twilio's side of a stream, held against the messages of Twilio's documentation."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.simulator.twilio_side import StreamIdentity, TwilioSide
from telephony.twilio.protocol import MediaStreamProtocol

SID = "MZ18ad3ab5a668481ce02b83e7395059f0"


def twilio(**parameters: str) -> TwilioSide:
    return TwilioSide(StreamIdentity("AC1", "CA1", SID, parameters))


def media(mulaw: bytes, sid: str = SID) -> str:
    return json.dumps(
        {"event": "media", "streamSid": sid, "media": {"payload": base64.b64encode(mulaw).decode()}}
    )


def mark(name: str) -> str:
    return json.dumps({"event": "mark", "streamSid": SID, "mark": {"name": name}})


CLEAR = json.dumps({"event": "clear", "streamSid": SID})


def names(messages: list[str]) -> list[str]:
    return [json.loads(message)["mark"]["name"] for message in messages]


def test_messages_are_those_of_the_documentation():
    side = twilio(token="secret")
    connected, start = map(json.loads, side.open())
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC1",
            "streamSid": SID,
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"token": "secret"},
        },
        "streamSid": SID,
    }
    assert json.loads(side.media(b"\xff\x00", 5)) == {
        "event": "media",
        "sequenceNumber": "2",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "/wA="},
        "streamSid": SID,
    }
    assert json.loads(side.dtmf("#")) == {
        "event": "dtmf",
        "streamSid": SID,
        "sequenceNumber": "3",
        "dtmf": {"track": "inbound_track", "digit": "#"},
    }
    (echo,) = side.receive(mark("here"), 0.0)
    assert json.loads(echo) == {
        "event": "mark",
        "sequenceNumber": "4",
        "streamSid": SID,
        "mark": {"name": "here"},
    }
    assert json.loads(side.stop()) == {
        "event": "stop",
        "sequenceNumber": "5",
        "stop": {"accountSid": "AC1", "callSid": "CA1"},
        "streamSid": SID,
    }


def test_our_own_server_understands_them():
    side, server = twilio(), MediaStreamProtocol(0.0)
    events = [
        event
        for message in [*side.open(), side.media(bytes(160), 0), side.dtmf("1"), side.stop()]
        for event in server.receive_message(message, 0.0)
    ]
    assert [type(event).__name__ for event in events] == [
        "StreamStarted",
        "AudioReceived",
        "KeyPressed",
        "StreamStopped",
    ]
    assert not any(server.counters.values())


def test_a_mark_returns_when_its_audio_has_been_played():
    side = twilio()
    assert side.receive(media(bytes(800)), 1.0) == []
    assert side.receive(mark("a"), 1.0) == []
    assert side.receive(media(bytes(1600)), 1.05) == []
    assert side.receive(mark("b"), 1.05) == []
    assert side.next_deadline() == 1.1
    assert side.advance(1.09) == []
    assert names(side.advance(1.1)) == ["a"]
    assert side.next_deadline() == 1.3
    assert names(side.advance(9.0)) == ["b"]
    assert side.next_deadline() is None


def test_a_mark_returns_at_once_when_nothing_is_buffered():
    side = twilio()
    assert names(side.receive(mark("early"), 0.0)) == ["early"]
    side.receive(media(bytes(160)), 1.0)
    assert names(side.receive(mark("late"), 1.02)) == ["late"]


def test_marks_keep_their_order_even_when_the_buffer_has_just_run_out():
    side = twilio()
    side.receive(media(bytes(160)), 0.0)
    side.receive(mark("first"), 0.0)
    assert side.receive(mark("second"), 0.5) == []
    assert names(side.advance(0.5)) == ["first", "second"]


def test_clear_empties_the_buffer_and_returns_every_pending_mark_at_once():
    side = twilio()
    side.receive(media(b"\x10" * 8000), 0.0)
    side.receive(mark("a"), 0.0)
    side.receive(media(b"\x20" * 8000), 0.0)
    side.receive(mark("b"), 0.0)
    assert names(side.receive(CLEAR, 0.25)) == ["a", "b"]
    assert side.advance(5.0) == []
    side.receive(media(b"\x30" * 160), 1.0)
    played = side.playback.window(0, 8160)
    assert played == b"\x10" * 2000 + b"\xff" * 6000 + b"\x30" * 160


def test_audio_is_played_in_order_and_pauses_when_the_buffer_is_empty():
    side = twilio()
    side.receive(media(b"\x01" * 80), 0.0)
    side.receive(media(b"\x02" * 80), 0.0)
    side.receive(media(b"\x03" * 80), 0.1)
    assert side.playback.window(-40, 900) == (
        b"\xff" * 40 + b"\x01" * 80 + b"\x02" * 80 + b"\xff" * 640 + b"\x03" * 80 + b"\xff" * 20
    )


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"binary", "31950"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"event":"hello","streamSid":"MZ"}', "unknown event 'hello'"),
        ('{"event":["media"]}', "unknown event"),
        (f'{{"event":"clear","streamSid":"{SID}","x":1}}', "unexpected key 'x'"),
        ('{"event":"clear"}', "without 'streamSid'"),
        ('{"event":"clear","stream_sid":"MZ"}', "unexpected key 'stream_sid'"),
        ('{"event":"clear","streamSid":"MZother"}', "another streamSid"),
        (f'{{"event":"media","streamSid":"{SID}","media":"x"}}', "not an object"),
        (
            f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"AA==","track":"outbound"}}}}',
            "'track'",
        ),
        (
            f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"AA=="}},"sequenceNumber":"1"}}',
            "31951",
        ),
        (f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"A"}}}}', "not base64"),
        (f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"AA==\\n"}}}}', "not base64"),
        (f'{{"event":"media","streamSid":"{SID}","media":{{"payload":7}}}}', "not a string"),
        (f'{{"event":"media","streamSid":"{SID}","media":{{"payload":"é"}}}}', "not base64"),
        (f'{{"event":"mark","streamSid":"{SID}","mark":{{"name":""}}}}', "non-empty"),
        (f'{{"event":"mark","streamSid":"{SID}","mark":{{"name":5}}}}', "non-empty"),
        (media(b"RIFF....WAVE"), "WAV header"),
    ],
)
def test_what_twilio_would_refuse_is_noted_and_ignored(message, complaint):
    side = twilio()
    assert side.receive(message, 1.5) == []
    assert len(side.violations) == 1
    assert complaint in side.violations[0]
    assert side.violations[0].startswith("at 1.500 s: ")
    assert side.playback.end_s == 0


def test_violations_do_not_pile_up_without_end():
    side = twilio()
    for _ in range(1000):
        side.receive("junk", 0.0)
    assert len(side.violations) == 50


def test_after_stop_nothing_is_taken():
    side = twilio()
    side.stop()
    assert side.receive(mark("late"), 1.0) == []
    assert side.receive("junk", 1.0) == []
    assert side.violations == []


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_nothing_that_a_server_sends_breaks_it(message):
    side = twilio()
    side.receive(message, 0.0)
    assert len(side.violations) == 1
