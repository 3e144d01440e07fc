from pipeline.events import AgentTurn, CallEnded, CallerTurn, TurnTimes
from pipeline.line import LineInfo
from telephony.simulator.report import ServerTurn
from telephony.simulator.witness import Witness, server_turns

EVENTS = [
    AgentTurn(2.0, 0, "Hello.", "Hello.", False, TurnTimes(0)),
    CallerTurn(3.0, 1, "I want"),
    CallerTurn(5.0, 1, "I want a date."),
    AgentTurn(8.0, 1, "Which day?", "Which", True, TurnTimes(1, speech_end_s=4.5)),
    CallerTurn(9.0, 2, "Monday."),
    CallEnded(10.0, "caller hung up", "completed"),
]


def test_turns_are_joined_by_their_number_and_count_as_they_ended():
    assert server_turns(EVENTS) == (
        ServerTurn("", "Hello.", "Hello.", None),
        ServerTurn("I want a date.", "Which day?", "Which", 4.5),
        ServerTurn("Monday.", "", "", None),
    )


def test_a_witness_keeps_calls_apart():
    witness = Witness()
    for call_id, events in (("one", EVENTS[:1]), ("two", EVENTS)):
        observer = witness.observe(LineInfo(call_id, "simulated", "+1", "+2"))
        for event in events:
            observer.observe(event)
    assert witness("one") == (ServerTurn("", "Hello.", "Hello.", None),)
    assert len(witness("two")) == 3
    assert witness("three") is None
