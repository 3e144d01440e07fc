"""What the page is told of a call."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    RecordingPaused,
    RecordingResumed,
    TurnTimes,
)
from pipeline.line import LineClosed, LineInfo
from telephony.browser.screen import Screen, message_of
from telephony.simulator.virtual_loop import run_virtual

INFO = LineInfo("web-1", "browser", parameters={"secret": "not for the page"})
ANSWERED = TurnTimes(
    1,
    audible_end_s=1.0,
    transcribe_started_s=1.2,
    transcribed_s=1.4,
    first_token_s=1.5,
    first_clause_s=1.7,
    first_audio_s=1.8,
    committed_s=1.6,
    first_audible_s=1.9,
)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (CallStarted(0.0, INFO, "Clinic"), {"event": "ready", "persona": "Clinic"}),
        (CallerSpoke(1.0, 2.3456), {"event": "caller_spoke", "end_s": 2.346}),
        (CallerTurn(3.0, 1, "Hello."), {"event": "caller_turn", "turn": 1, "text": "Hello."}),
        (AgentClause(3.0, 1, "Yes."), {"event": "agent_clause", "turn": 1, "text": "Yes."}),
        (AgentTurnedDown(3.0, True), {"event": "turned_down", "down": True}),
        (KeyReceived(3.0, "#"), {"event": "key", "digit": "#"}),
        (RecordingPaused(3.0, "card number"), {"event": "recording", "paused": True}),
        (RecordingResumed(3.0), {"event": "recording", "paused": False}),
        (Fault(3.0, "reply", "/home/someone/secret.gguf"), {"event": "fault", "where": "reply"}),
        (CallEnded(9.0, "goodbye", "completed"), None),
        (CallerAudio(0, np.zeros(160, np.int16)), None),
        (AgentAudio(0, np.zeros(160, np.int16)), None),
    ],
)
def test_each_event_as_the_page_sees_it(event: CallEvent, message: dict[str, Any] | None) -> None:
    assert message_of(event) == message


def test_a_reply_comes_with_its_stages_which_add_up() -> None:
    told = message_of(AgentTurn(5.0, 1, "Yes. We are.", "Yes.", True, ANSWERED))
    assert told is not None
    assert (told["text"], told["heard"], told["interrupted"]) == ("Yes. We are.", "Yes.", True)
    assert sum(told["stages"].values()) == pytest.approx(900.0)
    assert message_of(AgentTurn(5.0, 0, "Hi.", "Hi.", False, TurnTimes(0)))["stages"] == {}  # type: ignore[index]


def test_telling_waits_for_nobody_and_keeps_the_order() -> None:
    async def play() -> list[str]:
        screen, sent = Screen(), list[str]()

        async def send(message: str) -> None:
            await asyncio.sleep(0.1)
            sent.append(json.loads(message)["event"])

        delivering = asyncio.create_task(screen.deliver(send))
        screen.observe(CallStarted(0.0, INFO, "Clinic"))
        screen.observe(CallerAudio(0, np.zeros(160, np.int16)))
        await asyncio.sleep(0.05)
        screen.observe(KeyReceived(0.1, "1"))
        screen.observe(AgentTurnedDown(0.1, True))
        await asyncio.sleep(1)
        delivering.cancel()
        return sent

    assert run_virtual(play()) == ["ready", "key", "turned_down"]


def test_a_page_that_takes_nothing_keeps_the_newest_messages() -> None:
    async def play() -> list[str]:
        screen, sent = Screen(), list[str]()
        for turn in range(2_000):
            screen.observe(CallerTurn(1.0, turn, "words"))

        async def send(message: str) -> None:
            sent.append(json.loads(message)["turn"])

        await screen.flush(send)
        return sent

    assert run_virtual(play()) == list(range(1_500, 2_000))


def test_delivery_ends_with_the_line() -> None:
    async def play() -> None:
        screen = Screen()

        async def send(message: str) -> None:
            raise LineClosed("caller hung up")

        screen.observe(KeyReceived(0.1, "1"))
        with pytest.raises(LineClosed):
            await screen.deliver(send)

    run_virtual(play())
