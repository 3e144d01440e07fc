"""Whole calls: what the language model and the transcript keep of what was said and heard."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.records.folder import TRANSCRIPT
from infra.records.recorder import CallRecords
from models.base import Message
from models.scripted import BreaksOff, ScriptedChat, ScriptedTranscriber
from pipeline.line import LineInfo
from pipeline.service import CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import LONG, PERSONA, House, Observed, hears, interrupted, tone


def test_the_history_is_what_was_said() -> None:
    house = House(transcriber=hears("one", "two"))
    house.play(["listen", {"say": "one one one"}, "listen", {"say": "two two two"}, "listen"])
    assert list(house.chat.requests[-1]) == [
        Message("user", "one"),
        Message("assistant", "You said: one"),
        Message("user", "two"),
    ]
    assert house.chat.overlaps == 0


def test_an_interruption_stops_the_agent_and_cuts_the_history_to_what_was_heard() -> None:
    house, _ = interrupted()
    cut = house.observed.agent[1]
    assert cut.interrupted
    assert cut.heard
    assert LONG.startswith(cut.heard)
    assert len(cut.heard) < len(cut.text)
    assert house.chat.requests[-1][-2:] == (
        Message("assistant", f"{cut.heard} ..."),
        Message("user", "stop it"),
    )
    assert house.observed.agent[2].text == "All right."


def test_an_interrupted_greeting_is_heard_history_too() -> None:
    house = House(transcriber=hears("wait a moment"))
    house.play([{"interrupt": {"after_s": 0.5, "say": "wait a moment please"}}, "listen"])
    greeting = house.observed.agent[0]
    assert greeting.interrupted
    assert PERSONA.greeting.startswith(greeting.heard)
    assert house.chat.requests[0][0].content.endswith("...")


def test_a_pause_inside_a_turn_leaves_one_turn() -> None:
    house = House(
        transcriber=ScriptedTranscriber(lambda audio: f"{len(audio) / 16000:.0f} seconds", latency_s=0.1)
    )
    house.play(
        ["listen", {"say": "my number is four seven"}, {"wait": 0.4}, {"say": "two nine three one"}, "listen"]
    )
    assert len(house.observed.caller) == 1
    assert len(house.chat.requests) == 2, "one speculation was dropped, one was answered"
    assert house.chat.requests[0][:-1] == house.chat.requests[1][:-1], "the dropped one left no trace"


def test_what_is_known_of_the_next_prompt_is_read_before_the_caller_has_spoken() -> None:
    """A whole reply and a reply cut off: only the caller's words are left to be read."""
    read_ahead: list[bool] = []

    def answer(messages: Sequence[Message]) -> str:
        read_ahead.append(tuple(messages[:-1]) in house.chat.prefills)
        return LONG if len(read_ahead) == 2 else "All right."

    house = House(transcriber=hears("one", "two", "three"), chat=ScriptedChat(answer, prefill_s=0.05))
    house.play(
        [
            "listen",
            {"say": "one one one"},
            "listen",
            {"say": "two two two"},
            {"interrupt": {"after_s": 1.5, "say": "three three three"}},
            "listen",
        ]
    )
    assert house.chat.prefills[0] == (), "the greeting stands in the prefix: the turn's opening is left"
    assert [len(request) for request in house.chat.requests] == [1, 3, 5]
    assert house.chat.requests[2][1] == Message("assistant", "All right.")
    assert house.chat.requests[2][3].content.endswith("...")
    assert read_ahead == [True, True, True]


def test_a_greeting_cut_off_is_read_anew() -> None:
    house = House(transcriber=hears("wait a moment"))
    house.play([{"interrupt": {"after_s": 0.5, "say": "wait a moment please"}}, "listen"])
    cut = house.chat.requests[0][:-1]
    assert cut[0].content.endswith("...")
    assert house.chat.prefills[0] == cut


def test_a_reply_heard_to_its_end_was_not_interrupted() -> None:
    """Its marks are lost, and the caller answers before we have given them up."""
    house = House(transcriber=hears("one", "two"))

    async def quick_answer(line: HandLine, service: CallService) -> None:
        await line.silent(4.5)
        await line.say(tone("one", 1.0))
        await line.silent(0.75)
        await line.end_of_reply()
        await line.silent(0.4)
        await line.say(tone("two", 1.0))
        await line.silent(6)

    house.by_hand(quick_answer, lambda: HandLine(marks=False))
    first = house.observed.agent[1]
    assert (first.heard, first.interrupted) == (first.text, False)
    assert house.chat.requests[-1][-2] == Message("assistant", "You said: one")
    assert house.observed.caller == ["one", "two"]


def transcript(observed: Observed, folder: Path) -> dict[str, Any]:
    """transcript.json as it is written of these events."""
    recorder = CallRecords(folder, inline=True).observer(LineInfo("call", "hand"))
    for event in observed.events:
        recorder.observe(event)
    document: dict[str, Any] = json.loads((folder / "call" / TRANSCRIPT).read_text())
    return document


async def one_turn_then_goodbye(line: HandLine, service: CallService) -> None:
    await line.silent(4)
    await line.say(tone("hello", 1.0))
    await line.silent(5)
    service.end_politely()
    await line.silent(5)


async def one_turn(line: HandLine, service: CallService) -> None:
    await line.silent(4)
    await line.say(tone("hello", 1.0))
    await line.silent(15)


def test_the_transcript_keeps_the_last_answer_before_the_goodbye(tmp_path: Path) -> None:
    house = House(transcriber=hears("hello"))
    house.by_hand(one_turn_then_goodbye)
    written = transcript(house.observed, tmp_path)
    assert [(turn["caller"], turn["agent"], turn["heard"]) for turn in written["turns"]] == [
        ("", PERSONA.greeting, PERSONA.greeting),
        ("hello", "You said: hello", "You said: hello"),
        ("", PERSONA.goodbye, PERSONA.goodbye),
    ]
    assert (written["outcome"]["reason"], written["outcome"]["outcome"]) == ("shutdown", "completed")


def test_the_transcript_keeps_a_reply_that_broke_off_before_the_apology(tmp_path: Path) -> None:
    said = "I was about to say, that you can come in on Monday, and then"
    house = House(transcriber=hears("hello"), chat=ScriptedChat([BreaksOff(said)], tokens_per_s=4))
    house.by_hand(one_turn)
    written = transcript(house.observed, tmp_path)
    _, answer, apology = written["turns"]
    assert (answer["caller"], answer["interrupted"]) == ("hello", True)
    assert answer["heard"]
    assert said.startswith(answer["heard"])
    assert (apology["caller"], apology["heard"]) == ("", PERSONA.apology)
    assert written["outcome"]["outcome"] == "failed"
    assert [fault["where"] for fault in written["faults"]] == ["reply"]
