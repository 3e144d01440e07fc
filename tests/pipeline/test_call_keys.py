"""Whole calls in which keys are pressed, by the caller and by the agent."""

import numpy as np
import pytest

from models.base import Message
from models.scripted import ScriptedChat
from pipeline.events import AgentAudio, CallTransferred, KeysEntered, ToolRan
from pipeline.key_tones import key_tones
from pipeline.line import LINE_RATE_HZ
from pipeline.service import CallOutcome, CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.tool_calls import ToolLine, asks, call, events, house_of, persona
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, tone

NUMBER = "The caller pressed the keys 4 7 1 1."


def greeted(house: House, *then: object, line: type[ToolLine] = ToolLine) -> ToolLine:
    """The caller hears the greeting, then does `then`: text is pressed, a number is silence, a pair said."""

    async def caller(line: HandLine, service: CallService) -> None:
        assert isinstance(line, ToolLine)
        await line.silent(4)
        for step in then:
            if isinstance(step, str):
                line.press(step)
                await line.silent(0.2)
            elif isinstance(step, tuple):
                await line.say(tone(*step))
            else:
                await line.silent(step)  # type: ignore[arg-type]

    return call(house, caller, line)  # type: ignore[return-value]


def test_a_number_is_the_callers_turn() -> None:
    house = House()
    greeted(house, "4", "7", "1", "1", 6.0)
    assert house.observed.caller == [NUMBER]
    assert house.chat.requests == [(Message("user", NUMBER),)]
    assert house.observed.agent[-1].heard.startswith("You said: The caller pressed the keys")
    [entered] = events(house, KeysEntered)
    assert (entered.digits, entered.by) == ("4711", "silence")
    assert house.transcriber.durations_s == [], "there was nothing to transcribe"
    assert not house.observed.faults


def test_the_terminator_is_answered_at_once() -> None:
    house = House()
    greeted(house, "4711#", 1.0)
    assert house.observed.caller == [NUMBER]
    assert events(house, KeysEntered)[0].by == "terminator"


def test_keys_stop_the_agent() -> None:
    house = House(transcriber=hears("tell me"), chat=ScriptedChat([LONG, "Thank you."]))
    greeted(house, ("tell me", 1.0), 2.5, "4711#", 5.0)
    _, cut, answer = house.observed.agent
    assert cut.interrupted
    assert LONG.startswith(cut.heard)
    assert house.observed.caller == ["tell me", NUMBER]
    assert answer.heard == "Thank you."


def test_keys_do_not_stop_a_protected_greeting_and_count_behind_it() -> None:
    turns = PERSONA.turns.model_copy(update={"protect_greeting": True})
    house = House(persona=PERSONA.model_copy(update={"turns": turns, "greeting": LONG}))

    async def early(line: HandLine, service: CallService) -> None:
        assert isinstance(line, ToolLine)
        await line.silent(1)
        line.press("4711#")
        await line.silent(12)

    call(house, early)
    assert house.observed.agent[0].heard == LONG
    assert not house.observed.agent[0].interrupted
    assert house.observed.caller == [NUMBER]


def test_words_and_keys_are_one_turn() -> None:
    """The caller says what the number is, and presses it while the agent already thinks."""
    house = House(transcriber=hears("my number is"))
    greeted(house, ("my number is", 1.0), 0.5, "4711#", 5.0)
    assert house.observed.caller == [f"my number is ({NUMBER})"]
    assert [request[-1].content for request in house.chat.requests][-1] == f"my number is ({NUMBER})"
    assert len(house.observed.agent) == 2


def test_keys_that_come_when_the_turn_seemed_over_still_belong_to_it() -> None:
    house = House(transcriber=hears("my number is"), chat=ScriptedChat(first_token_s=3.0), persona=PERSONA)
    greeted(house, ("my number is", 1.0), 1.5, "4711#", 8.0)
    assert house.observed.caller == ["my number is", f"my number is ({NUMBER})"]
    assert [turn.times.turn for turn in house.observed.agent] == [0, 1]
    assert house.chat.requests[-1] == (Message("user", f"my number is ({NUMBER})"),)


def test_keys_are_taken_over_speech() -> None:
    house = House(transcriber=hears("I type it now"))

    async def types_and_talks(line: HandLine, service: CallService) -> None:
        assert isinstance(line, ToolLine)
        await line.silent(4)
        for digit in "4711":
            line.press(digit)
            await line.say(tone("I type it now", 0.5))
        await line.silent(8)

    call(house, types_and_talks)
    assert house.observed.caller == [f"I type it now ({NUMBER})"]


def test_nobody_is_asked_whether_they_are_there_while_they_type() -> None:
    house = House()
    typing = [step for digit in "123456" for step in (digit, 2.6)]
    greeted(house, 2.0, *typing, 4.0)
    assert house.observed.caller == ["The caller pressed the keys 1 2 3 4 5 6."]
    assert PERSONA.still_there not in [turn.text for turn in house.observed.agent]


def test_noise_behind_the_keys_takes_nothing_from_them() -> None:
    house = House(transcriber=hears(""))
    greeted(house, "4", ("cough", 0.4), "7", "1", "1", 6.0)
    assert house.observed.caller == [NUMBER]


# The menu


def test_a_key_of_the_menu_passes_the_caller_on_without_the_model() -> None:
    house = house_of(persona(), [])
    line = greeted(house, "0", 20.0, line=Connects)
    assert line.dialled == ["+15550100100"]
    assert house.chat.requests == []
    assert house.observed.agent[-1].heard == house.persona.transfer.announce
    assert house.observed.caller == ["The caller pressed the key 0."]
    assert events(house, KeysEntered)[0].by == "menu"
    assert events(house, CallTransferred)[0].name == "reception"
    assert house.outcomes == [CallOutcome(True, "transferred")]


class Connects(ToolLine):
    def __init__(self) -> None:
        super().__init__("")


class Busy(ToolLine):
    def __init__(self) -> None:
        super().__init__("busy")


def test_a_choice_that_fails_is_the_models_to_explain() -> None:
    house = house_of(persona(), ["They are busy."])
    greeted(house, "0", 14.0, line=Busy)
    [request] = house.chat.requests
    assert [message.role for message in request] == ["user", "assistant", "tool"]
    assert request[-1].content == "reception: busy. The caller is still here."
    assert house.observed.agent[1].heard.endswith("They are busy.")


def test_a_choice_is_made_in_the_middle_of_the_callers_words() -> None:
    house = house_of(persona(), [], "never heard")

    async def impatient(line: HandLine, service: CallService) -> None:
        assert isinstance(line, ToolLine)
        await line.silent(4)
        await line.say(tone("get me a human", 0.6))
        line.press("0")
        await line.say(tone("get me a human please", 3.0))
        await line.silent(20)

    line = call(house, impatient, Connects)
    assert isinstance(line, ToolLine)
    assert line.dialled == ["+15550100100"]
    assert house.outcomes == [CallOutcome(True, "transferred")]


def test_a_menu_can_end_the_call() -> None:
    desk = persona(tools={}, keys={"menu": {"9": "hang_up"}, "longest": 1})
    house = house_of(desk, [])
    line = greeted(house, "9", 6.0)
    assert line.hung_up == "goodbye"
    assert house.observed.agent[-1].heard == desk.goodbye
    assert desk.prefix()[0].content == PERSONA.prefix()[0].content, "the model is not told of it"


# Keys that the agent presses


PRESS = '{"tool": "press_keys", "arguments": {"keys": "extension"}}'


def test_the_agent_presses_keys_as_tones_behind_its_words() -> None:
    house = house_of(persona(), [f"One moment. {PRESS}", "Done."])
    call(house)
    agent = np.concatenate([event.pcm for event in events(house, AgentAudio)])
    tones = key_tones("4711#")
    assert _find(agent, tones) > 0
    assert house.observed.agent[1].heard == "One moment. Done."
    assert [ran.outcome for ran in events(house, ToolRan)] == ["done"]
    assert house.chat.requests[-1][-1] == Message("tool", "The keys were pressed.")


class Presses(ToolLine):
    """A line with a better way to press keys."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed: list[str] = []

    async def send_keys(self, digits: str) -> None:
        self.pressed.append(digits)


def test_a_line_with_a_way_of_its_own_presses_them() -> None:
    house = house_of(persona(), [PRESS, "Done."])
    line = call(house, line=Presses)
    assert isinstance(line, Presses)
    assert line.pressed == ["4711#"]
    agent = np.concatenate([event.pcm for event in events(house, AgentAudio)])
    assert _find(agent, key_tones("4")) < 0


def test_voices_over_the_tones_do_not_cut_them_off() -> None:
    """At the far end a machine talks on."""
    house = house_of(persona(), [PRESS, "Done."])

    async def machine(line: HandLine, service: CallService) -> None:
        await asks(line, then_silent_s=1.2)
        await line.say(tone("press one for sales press two", 2.0))
        await line.silent(6)

    call(house, machine)
    agent = np.concatenate([event.pcm for event in events(house, AgentAudio)])
    assert _find(agent, key_tones("4711#")) > 0


def _find(audio: np.ndarray, part: np.ndarray) -> int:  # type: ignore[type-arg]
    """Where `part` stands in `audio`, to the sample; -1: nowhere."""
    step = LINE_RATE_HZ // 100
    head = part[: 4 * step]
    for at in range(audio.size - part.size):
        if audio[at + step] == head[step] and np.array_equal(audio[at : at + part.size], part):
            return at
    return -1


@pytest.mark.parametrize("marks", [True, False])
def test_tones_are_waited_for_whether_or_not_marks_come_back(marks: bool) -> None:
    house = house_of(persona(), [PRESS, "Done."])
    call(house, line=lambda: ToolLine(marks=marks))
    assert [ran.outcome for ran in events(house, ToolRan)] == ["done"]
    assert events(house, ToolRan)[0].seconds == pytest.approx(5 * 0.18, abs=0.3)
