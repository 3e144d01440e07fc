"""The page's protocol, message by message, without I/O."""

import json
import random

import numpy as np
import pytest

from pipeline.line import AudioReceived, KeyPressed, MarkReached
from telephony import g711
from telephony.browser.errors import LocalProtocolError, PageSilent, RemoteProtocolError
from telephony.browser.protocol import CallLeft, CallPlaced, Limits, PageProtocol, State
from tests.telephony.browser_support import START, STOP, key, mark_return, media


def talking(limits: Limits | None = None) -> PageProtocol:
    protocol = PageProtocol(0.0, limits)
    assert protocol.receive_message(START, 0.0) == [CallPlaced()]
    return protocol


def heard(protocol: PageProtocol, message: bytes, now: float) -> list[int]:
    """How many samples each AudioReceived of one message has."""
    events = protocol.receive_message(message, now)
    assert all(isinstance(event, AudioReceived) for event in events)
    return [event.pcm.size for event in events if isinstance(event, AudioReceived)]


# A call


def test_audio_keys_and_marks_of_a_call() -> None:
    protocol = talking()
    mulaw = bytes(range(160))
    (audio,) = protocol.receive_message(media(0, mulaw), 0.02)
    assert isinstance(audio, AudioReceived)
    assert np.array_equal(audio.pcm, g711.decode(mulaw))
    assert protocol.receive_message(key("5"), 0.03) == [KeyPressed("5")]
    assert protocol.receive_message(key("a"), 0.03) == [KeyPressed("A")]
    mark = protocol.mark("p1-1")
    assert protocol.receive_message(mark_return(mark), 0.04) == [MarkReached("p1-1", heard=True)]
    assert protocol.receive_message(STOP, 0.05) == [CallLeft()]
    assert protocol.receive_message(media(1), 0.06) == []
    assert not protocol.counters


def test_audio_goes_out_as_bare_mu_law() -> None:
    protocol = talking()
    pcm = np.array([0, 1000, -1000, 32767], np.int16)
    assert protocol.media(pcm) == g711.encode(pcm)
    assert json.loads(protocol.clear()) == {"event": "clear"}


def test_the_page_says_what_of_a_clear_was_heard() -> None:
    protocol = talking()
    first, second = protocol.mark("a"), protocol.mark("b")
    protocol.clear()
    assert protocol.receive_message(mark_return(first, heard=True), 0.1) == [MarkReached("a", heard=True)]
    assert protocol.receive_message(mark_return(second, heard=False), 0.1) == [MarkReached("b", heard=False)]


def test_a_name_that_is_used_again_is_another_mark() -> None:
    protocol = talking()
    first, second = protocol.mark("same"), protocol.mark("same")
    assert first != second
    assert protocol.receive_message(mark_return(second), 0.1) == [MarkReached("same", heard=True)]
    assert protocol.receive_message(mark_return(second), 0.1) == []
    assert protocol.receive_message(mark_return(first), 0.1) == [MarkReached("same", heard=True)]
    assert protocol.counters == {"unknown mark": 1}


def test_a_page_that_returns_no_marks_does_not_fill_the_memory() -> None:
    protocol = talking(Limits(max_pending_marks=2))
    messages = [protocol.mark(name) for name in "abc"]
    assert [protocol.receive_message(mark_return(message), 0.1) for message in messages] == [
        [],
        [MarkReached("b", heard=True)],
        [MarkReached("c", heard=True)],
    ]
    assert protocol.counters == {"mark never returned": 1, "unknown mark": 1}


# The page's timeline


def test_what_the_page_left_out_is_silence() -> None:
    protocol = talking()
    assert heard(protocol, media(0), 0.02) == [160]
    assert heard(protocol, media(3), 0.08) == [320, 160]
    assert heard(protocol, media(4), 0.10) == [160]
    assert protocol.counters == {"samples filled with silence": 320}


def test_a_number_that_cannot_be_true_moves_nothing() -> None:
    protocol = talking()
    assert heard(protocol, media(0), 0.02) == [160]
    assert heard(protocol, media(0, first=2**32 - 1), 0.04) == [160]
    assert protocol.counters == {"sample number jump": 1}


def test_more_audio_than_time_is_refused() -> None:
    protocol = talking(Limits(max_lead_s=0.5))
    sizes = [heard(protocol, media(n), 0.0) for n in range(40)]
    assert sum(map(sum, sizes)) == 4000
    assert protocol.counters["more audio than time"] == 15


# Out of order


@pytest.mark.parametrize(
    ("messages", "reason", "code"),
    [
        ([media(0)], "media in state 'expect start'", 1002),
        ([key("1")], "key in state 'expect start'", 1002),
        (['{"event":"mark","id":1,"heard":true}'], "mark in state 'expect start'", 1002),
        ([START, START], "start in state 'talking'", 1002),
        (['{"event":"start","version":2}'], "an old copy of the page: load it again", 1003),
        (['{"event":"start"}'], "an old copy of the page: load it again", 1003),
    ],
)
def test_out_of_order(messages: list[str | bytes], reason: str, code: int) -> None:
    protocol = PageProtocol(0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        for message in messages:
            protocol.receive_message(message, 0.0)
    assert (caught.value.reason, caught.value.close_code) == (reason, code)
    assert protocol.state is State.FAILED
    assert protocol.next_deadline() is None
    assert protocol.receive_message(START, 0.0) == []


def test_a_caller_who_leaves_before_the_call() -> None:
    assert PageProtocol(0.0).receive_message(STOP, 0.0) == [CallLeft()]


def test_nothing_is_sent_outside_a_call() -> None:
    protocol = PageProtocol(0.0)
    for send in (lambda: protocol.media(np.zeros(1, np.int16)), lambda: protocol.mark("a"), protocol.clear):
        with pytest.raises(LocalProtocolError, match="expect start"):
            send()


# Malformed


@pytest.mark.parametrize(
    ("message", "counter"),
    [
        (b"", "media without samples"),
        (b"\x00\x00\x00\x00", "media without samples"),
        (media(0, b"\xff" * 8001), "message too long"),
        ("x" * 2000, "message too long"),
        ("{", "bad JSON"),
        ("[" * 1000, "bad JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no event name"),
        ('{"event":7}', "no event name"),
        ('{"event":"media"}', "unknown event"),
        ('{"event":"chatter"}', "unknown event"),
        ('{"event":"key"}', "bad digit"),
        ('{"event":"key","digit":5}', "bad digit"),
        ('{"event":"key","digit":"55"}', "bad digit"),
        ('{"event":"mark"}', "mark without id and heard"),
        ('{"event":"mark","id":true,"heard":true}', "mark without id and heard"),
        ('{"event":"mark","id":1,"heard":"yes"}', "mark without id and heard"),
        ('{"event":"mark","id":99,"heard":true}', "unknown mark"),
    ],
)
def test_malformed_messages_are_counted_and_skipped(message: str | bytes, counter: str) -> None:
    protocol = talking()
    assert protocol.receive_message(message, 0.0) == []
    assert protocol.counters == {counter: 1}
    assert heard(protocol, media(0), 0.02) == [160]


def test_a_flood_of_malformed_messages_ends_the_call() -> None:
    protocol = talking()
    with pytest.raises(RemoteProtocolError, match="too many malformed messages, the last one: bad JSON"):
        for _ in range(100):
            protocol.receive_message("{", 0.0)


def test_a_flood_of_messages_ends_the_call() -> None:
    protocol = talking(Limits(max_lead_s=100))
    with pytest.raises(RemoteProtocolError, match="more than 120 messages per second"):
        for n in range(700):
            protocol.receive_message(media(n), 1.0)


def test_a_network_that_stalled_for_nine_seconds_is_no_flood() -> None:
    protocol = talking()
    assert sum(sum(heard(protocol, media(n), 9.0)) for n in range(450)) == 450 * 160
    assert not protocol.counters


# Time


def test_a_start_within_ten_seconds() -> None:
    protocol = PageProtocol(5.0)
    assert protocol.next_deadline() == 15.0
    protocol.handle_timer(14.9)
    with pytest.raises(PageSilent, match="no start within 10 s"):
        protocol.handle_timer(15.0)


def test_no_media_for_ten_seconds() -> None:
    protocol = talking()
    protocol.receive_message(media(0), 1.0)
    protocol.receive_message(key("1"), 9.0)
    assert protocol.next_deadline() == 11.0
    with pytest.raises(PageSilent, match="no media for 10 s"):
        protocol.handle_timer(11.0)
    assert protocol.next_deadline() is None


def test_noise_of_any_kind_raises_nothing_but_remote_errors() -> None:
    rng = random.Random(7)
    for _ in range(2_000):
        protocol = talking()
        for _ in range(rng.randint(1, 5)):
            message: str | bytes = rng.choice([START, STOP, key("1"), media(rng.randint(0, 9)), "{}"])
            cut = rng.randint(0, len(message))
            mutated = message[:cut] + message[cut + rng.randint(0, 3) :]
            try:
                protocol.receive_message(mutated, 0.1)
            except RemoteProtocolError:
                break
