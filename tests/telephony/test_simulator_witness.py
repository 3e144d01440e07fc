from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from models.base import Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer
from pipeline.events import AgentTurn, CallEnded, CallerTurn, TurnTimes
from pipeline.line import LineInfo
from pipeline.service import CallService
from telephony.answer import Answer
from telephony.simulator import Scenario, simulate_virtual
from telephony.simulator.caller import Speech
from telephony.simulator.report import ServerTurn
from telephony.simulator.witness import Witness, server_turns
from tests.pipeline.virtual_calls import PERSONA, hears, tone

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


def test_words_are_expected_of_a_whole_call_in_virtual_time():
    """The real pipeline on scripted models, as README tells users to test theirs."""
    witness = Witness()

    @asynccontextmanager
    async def clinic() -> AsyncIterator[Answer]:
        models = Models(
            hears("when are you open"),
            ScriptedChat(["From nine until noon."]),
            ScriptedSynthesizer(latency_s=0.05),
            EnergyVoiceActivity(),
        )
        service = CallService(models, PERSONA, observe=witness.observe, inline=True)
        await service.start()
        try:
            yield service.answer
        finally:
            await service.aclose()

    expect = {"transcript": "open", "reply": "noon", "heard": "until noon", "gap": "< 1.5"}
    steps = ["listen", {"say": "when are you open"}, {"expect": expect}, "listen"]
    scenario = Scenario.model_validate({"name": "hours", "steps": steps})
    speeches = {1: Speech.of("when are you open", tone("when are you open"))}
    report = simulate_virtual(scenario, clinic, speeches=speeches, transcripts=witness)
    assert [verdict.passed for verdict in report.check().verdicts] == [True] * 4
