"""Whole calls that are passed on to somebody else, and those that come back."""

from collections.abc import Callable

import pytest

from models.base import Message
from pipeline.events import CallTransferred, ToolRan
from pipeline.line import HangUpReason
from pipeline.service import CallOutcome, CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.tool_calls import ToolLine, asks, call, events, house_of, persona, transfer_to
from tests.pipeline.virtual_calls import PERSONA, tone

RECEPTION = "+15550100100"
SENTENCE = "I will put you through to the reception."


def waits(seconds: float) -> Callable[..., object]:
    async def caller(line: HandLine, service: CallService) -> None:
        await asks(line, then_silent_s=seconds)

    return caller


def test_the_caller_hears_the_sentence_and_is_then_passed_on() -> None:
    house = house_of(persona(), [f"{SENTENCE} {transfer_to('reception')}"], "the reception please")
    line = call(house, waits(20), lambda: ToolLine(""))
    assert isinstance(line, ToolLine)
    assert line.dialled == [RECEPTION]
    assert line.silent_when_dialled == [True]
    assert house.observed.agent[-1].heard == SENTENCE
    assert not house.observed.agent[-1].interrupted
    [passed_on] = events(house, CallTransferred)
    assert (passed_on.turn, passed_on.name, passed_on.target) == (1, "reception", RECEPTION)
    assert house.outcomes == [CallOutcome(True, "transferred")]
    assert house.observed.ended[0].reason == "transferred"
    assert line.hung_up is None, "the caller is somebody else's now"


def test_an_agent_that_says_nothing_says_the_personas_sentence() -> None:
    house = house_of(persona(), [transfer_to("reception")])
    call(house, waits(20), lambda: ToolLine(""))
    assert house.observed.agent[-1].heard == house.persona.transfer.announce


def test_a_busy_number_comes_back_to_the_agent_with_the_caller_on_the_line() -> None:
    house = house_of(
        persona(),
        [
            f"{SENTENCE} {transfer_to('reception')}",
            "They are busy. Shall I take a message?",
            "You are welcome.",
        ],
        "the reception please",
        "no thank you",
    )

    async def goes_on(line: HandLine, service: CallService) -> None:
        await asks(line, then_silent_s=15)
        await line.say(tone("no thank you", 1.0))
        await line.silent(6)

    call(house, goes_on, lambda: ToolLine("busy", ringing_s=6.0))
    assert house.chat.requests[1][-1] == Message("tool", "reception: busy. The caller is still here.")
    assert house.observed.agent[1].heard == f"{SENTENCE} They are busy. Shall I take a message?"
    assert house.observed.agent[-1].heard == "You are welcome."
    assert [ran.outcome for ran in events(house, ToolRan)] == ["failed"]
    assert events(house, CallTransferred) == []
    assert house.outcomes == [CallOutcome(True, "caller hung up")]


def test_a_line_that_cannot_transfer_says_so() -> None:
    house = house_of(persona(), [transfer_to("reception"), "I cannot do that here."])
    call(house, waits(10), HandLine)
    assert "cannot be transferred" in house.chat.requests[-1][-1].content
    assert house.observed.agent[-1].heard.endswith("I cannot do that here.")


def test_nothing_disturbs_the_ringing() -> None:
    """It rings for longer than silence and patience last; somebody speaks, and presses keys."""
    house = house_of(persona(), [transfer_to("reception"), "No answer."])

    async def talks_over_it(line: HandLine, service: CallService) -> None:
        assert isinstance(line, ToolLine)
        await asks(line, then_silent_s=8)
        await line.say(tone("hello is there anybody", 2.0))
        line.press("0")
        await line.silent(28)
        assert house.observed.agent[1:] == [], "nothing more was said"
        await line.silent(6)

    line = call(house, talks_over_it, lambda: ToolLine("no answer", ringing_s=35.0))
    assert isinstance(line, ToolLine)
    assert line.dialled == [RECEPTION]
    assert house.observed.caller == ["please"]
    assert house.observed.agent[-1].heard == f"{house.persona.transfer.announce} No answer."


def test_the_calls_limit_waits_for_the_end_of_the_ringing() -> None:
    house = house_of(persona(limits={"call_s": 20.0}), [transfer_to("reception")])
    line = call(house, waits(40), lambda: ToolLine("no answer", ringing_s=30.0))
    assert house.observed.agent[-1].heard == PERSONA.goodbye
    assert line.hung_up == "limit"
    assert house.observed.ended[0].at_s > 35.0


def test_a_caller_who_hangs_up_while_it_rings_has_hung_up() -> None:
    house = house_of(persona(), [transfer_to("reception")])
    call(house, waits(8), lambda: ToolLine("", ringing_s=60.0))
    assert house.outcomes == [CallOutcome(True, "caller hung up")]
    assert [ran.outcome for ran in events(house, ToolRan)] == ["cancelled"]
    assert house.observed.ended[0].at_s < 20.0, "nobody waits for the ringing"


class ClosesFirst(ToolLine):
    """Reports that it is closed before `transfer` has returned."""

    async def transfer(self, target: str) -> None:
        self.dialled.append(target)
        self.close("transferred")
        await self.silent(5)


def test_a_line_that_closes_before_it_says_so_has_transferred() -> None:
    house = house_of(persona(), [transfer_to("reception")])
    call(house, waits(20), ClosesFirst)
    assert [event.target for event in events(house, CallTransferred)] == [RECEPTION]
    assert house.outcomes == [CallOutcome(True, "transferred")]


class StaysOpen(ToolLine):
    async def transfer(self, target: str) -> None:
        self.dialled.append(target)


def test_a_line_that_stays_open_is_closed_in_the_end() -> None:
    house = house_of(persona(), [transfer_to("reception")])
    line = call(house, waits(60), StaysOpen)
    reason: HangUpReason | None = line.hung_up
    assert reason == "goodbye"
    assert house.outcomes == [CallOutcome(True, "transferred")]
    assert [turn.text for turn in house.observed.agent][2:] == [], "nobody asks whether anybody is there"


@pytest.mark.parametrize("words", ["please", "please wait no stop"])
def test_the_sentence_may_be_interrupted_and_then_nobody_is_called(words: str) -> None:
    sentence = "I will put you through to the reception, one moment please, it may take a little while."
    script = [f"{sentence} {transfer_to('reception')}", "All right."]
    house = house_of(persona(), script, "the reception please", "no wait")

    async def interrupts(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("please", 1.0))
        await line.silent(2.0)
        await line.say(tone(words, 1.5))
        await line.silent(6)

    line = call(house, interrupts, lambda: ToolLine(""))
    assert isinstance(line, ToolLine)
    assert line.dialled == []
    assert house.observed.agent[-1].heard == "All right."
    assert events(house, ToolRan) == []
