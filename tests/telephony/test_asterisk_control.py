"""Text messages of chan_websocket, as they were recorded and as nobody should send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony.asterisk.control import MalformedControl, command, parse

PLAIN_START = (
    "MEDIA_START connection_id:conn1 channel:WebSocket/conn1/0x7f3c5800f5d0 channel_id:1795333949.4 "
    "format:ulaw optimal_frame_size:160 ptime:20"
)
JSON_START = (
    '{"event":"MEDIA_START","connection_id":"conn1","channel":"WebSocket/conn1/0x7f3c5800f5d0",'
    '"channel_id":"1795333949.4","format":"ulaw","optimal_frame_size":160,"ptime":20,"channel_variables":{}}'
)


def test_both_forms_say_the_same() -> None:
    plain, as_json = parse(PLAIN_START), parse(JSON_START)
    assert (plain.is_json, as_json.is_json) == (False, True)
    for control in (plain, as_json):
        assert control.event == "MEDIA_START"
        assert control.text("connection_id") == "conn1"
        assert control.text("channel") == "WebSocket/conn1/0x7f3c5800f5d0"
        assert control.text("channel_id") == "1795333949.4"
        assert control.text("format") == "ulaw"
        assert control.number("optimal_frame_size") == 160


@pytest.mark.parametrize(
    ("text", "event", "fields"),
    [
        ("MEDIA_XOFF", "MEDIA_XOFF", {}),
        ("MEDIA_MARK_PROCESSED 17", "MEDIA_MARK_PROCESSED", {"correlation_id": "17"}),
        ("DTMF_END digit:1 channel_id:1.2", "DTMF_END", {"digit": "1", "channel_id": "1.2"}),
        ("DTMF_END digit:# channel_id:1.2", "DTMF_END", {"digit": "#", "channel_id": "1.2"}),
        (
            "ERROR channel_id:1.2 error_text:START not supported in mode: x",
            "ERROR",
            {"channel_id": "1.2", "error_text": "START not supported in mode: x"},
        ),
        ("STATUS queue_length:3 queue_full:false\n", "STATUS", {"queue_length": "3", "queue_full": "false"}),
    ],
)
def test_plain(text: str, event: str, fields: dict[str, str]) -> None:
    control = parse(text)
    assert control.event == event
    assert dict(control.fields) == fields


@pytest.mark.parametrize(
    "text", ["", " ", "media_start", "ÄÖ", "{", "{}", '{"event":1}', '{"event":"a b"}', "[1]"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(MalformedControl):
        parse(text)


def test_deep_json_is_malformed() -> None:
    with pytest.raises(MalformedControl):
        parse('{"event":' * 200_000)


@given(st.text())
def test_any_text_is_an_event_or_malformed(text: str) -> None:
    try:
        control = parse(text)
    except MalformedControl:
        return
    assert control.event.isascii()
    for name in control.fields:
        assert isinstance(control.text(name), str)


@pytest.mark.parametrize("value", [True, None, [1], "", "-1", "1.5", "²", "9" * 5000])
def test_what_is_no_number(value: object) -> None:
    assert parse(json.dumps({"event": "STATUS", "n": value})).number("n") is None


def test_commands() -> None:
    assert command("FLUSH_MEDIA", as_json=False) == "FLUSH_MEDIA"
    assert command("MARK_MEDIA", "17", as_json=False) == "MARK_MEDIA 17"
    assert command("FLUSH_MEDIA", as_json=True) == '{"command":"FLUSH_MEDIA"}'
    assert command("MARK_MEDIA", "17", as_json=True) == '{"command":"MARK_MEDIA","correlation_id":"17"}'
