"""A simulated call whose server closes one stream and connects it again by another one."""

import json

import numpy as np

from pipeline.line import LINE_RATE_HZ
from telephony import g711
from telephony.simulator.caller import Caller, Speech, StreamDrop
from telephony.simulator.scenario import Scenario
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide

FIRST = StreamIdentity("AC1", "CA1", "MZ1", {"token": "one"})
SECOND = StreamIdentity("AC1", "CA1", "MZ2", {"token": "two", "resumed": "1"})
LOUD = (8000 * np.sin(np.arange(8000) / 5)).astype(np.int16)


def caller(*steps: object, outlives: bool = True) -> Caller:
    scenario = Scenario.model_validate({"name": "test", "steps": list(steps)})
    speeches = {
        number: Speech.of("words", LOUD) for number, step in enumerate(scenario.steps) if step.kind == "say"
    }
    return Caller(scenario, speeches, TwilioSide(FIRST), outlives_streams=outlives)


def audio(sid: str, pcm: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> str:
    import base64

    payload = base64.b64encode(g711.encode(pcm)).decode()
    return json.dumps({"event": "media", "streamSid": sid, "media": {"payload": payload}})


def test_a_new_stream_has_its_own_numbers_and_the_same_call() -> None:
    talk = caller({"wait": 10})
    talk.begin()
    before = [json.loads(message) for message in talk.advance(1.0)]
    assert before[-1]["media"]["timestamp"] == "900", "the network takes its time"
    talk.closed(1.01, 1006)
    assert talk.waits
    assert not talk.finished
    connected, start = (json.loads(message) for message in talk.reopen(SECOND, 3.0))
    assert connected["event"] == "connected"
    assert start["sequenceNumber"] == "1"
    assert start["start"]["callSid"] == "CA1"
    assert start["start"]["streamSid"] == "MZ2"
    assert start["start"]["customParameters"] == dict(SECOND.parameters)
    first, *_ = (json.loads(message) for message in talk.advance(3.1))
    assert first["streamSid"] == "MZ2"
    assert first["sequenceNumber"] == "2"
    assert (first["media"]["chunk"], first["media"]["timestamp"]) == ("1", "0")
    assert talk.drops == [StreamDrop(1.01, 3.0)]


def test_what_the_caller_says_while_no_stream_is_open_reaches_nobody_and_is_on_record() -> None:
    talk = caller({"say": "words"}, {"wait": 5})
    talk.begin()
    talk.advance(0.2)
    talk.closed(0.21, 1006)
    talk.reopen(SECOND, 0.7)
    later = [json.loads(message) for message in talk.advance(1.0)]
    assert len(later) <= 16, "the half second in between is not sent anew"
    talk.advance(10.0)
    assert talk.hearing().caller[:LINE_RATE_HZ].any()
    assert len(talk.hearing().turns) == 1


def test_the_agent_is_heard_on_both_streams_and_what_was_buffered_is_lost() -> None:
    talk = caller({"wait": 10})
    talk.begin()
    talk.receive(audio("MZ1", LOUD), 0.0)
    talk.advance(0.5)
    talk.closed(0.5, 1006)
    talk.reopen(SECOND, 2.0)
    assert talk.receive(audio("MZ1", LOUD), 2.0) == [], "of the old stream nothing counts any more"
    talk.receive(audio("MZ2", LOUD), 2.5)
    talk.advance(10.5)
    agent = talk.hearing().agent
    sounding = [bool(agent[round(8000 * at) : round(8000 * at) + 400].any()) for at in (0.2, 0.8, 2.1, 2.8)]
    assert sounding == [True, False, False, True]


def test_a_call_that_is_not_connected_again_was_over_when_its_stream_closed() -> None:
    talk = caller({"wait": 10})
    talk.begin()
    talk.advance(1.0)
    talk.closed(1.0)
    talk.hung_up_on()
    assert (talk.ending, talk.finished) == ("agent hung up", True)
    assert talk.hearing().duration_s < 1.2


def test_who_hangs_up_while_no_stream_is_open_has_hung_up() -> None:
    talk = caller({"wait": 1}, "hang_up")
    talk.begin()
    talk.advance(0.5)
    talk.closed(0.5, 1006)
    talk.reopen(SECOND, 3.0)
    assert talk.finished
    assert talk.ending == "caller hung up"


def test_a_stream_that_was_called_directly_is_all_there_is() -> None:
    talk = caller({"wait": 10}, outlives=False)
    talk.begin()
    talk.closed(1.0)
    assert (talk.finished, talk.ending) == (True, "agent hung up")
