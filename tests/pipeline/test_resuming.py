"""Calls that go on after their process, or their line, was lost: what is known of them, and what is said."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from models.base import Message, Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentClauseHeard,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LINE_RATE_HZ, LineInfo
from pipeline.persona import Persona
from pipeline.resuming import CallMemory, CallSoFar, LaterOn, PastTurn, clauses_within, line_was_lost
from pipeline.service import CallService
from telephony.simulator.virtual_loop import run_virtual
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import PERSONA, Observed, hears, tone

INFO = LineInfo("CA1", "twilio")
CLAUSES = ("We open at nine.", "Then we have our lunch.", "And at noon we close.")
REPLY = " ".join(CLAUSES)
SORRY = PERSONA.resumed


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process runs on."""


@dataclass
class Front:
    """One front-end of several: it answers a call on a line that the test holds, and may be killed."""

    chat: ScriptedChat
    heard: tuple[str, ...] = ()
    persona: Persona = PERSONA
    synthesizer: ScriptedSynthesizer = field(default_factory=lambda: ScriptedSynthesizer(latency_s=0.05))
    observed: Observed = field(default_factory=Observed)

    async def hold(
        self,
        caller: Callable[[HandLine], Awaitable[None]],
        memory: CallMemory,
        so_far: CallSoFar | None = None,
        close: str = "",
    ) -> None:
        """The call until `caller` returns; then the process is killed, or the line closes with `close`."""
        killed = False

        class Both:
            def observe(_, event: CallEvent) -> None:
                if not killed:
                    memory.observe(event)
                    self.observed.observe(event)

        models = Models(hears(*self.heard), self.chat, self.synthesizer, EnergyVoiceActivity())
        service = CallService(models, self.persona, observe=lambda info: Both(), inline=True)
        await service.start()
        line = HandLine("CA1")
        answering = asyncio.create_task(service.answer(line, so_far=so_far))
        await caller(line)
        if close:
            line.close(close)
            await answering
        else:
            killed = True
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        await service.aclose()

    @property
    def said(self) -> list[str]:
        return [event.text for event in self.observed.events if isinstance(event, AgentClause)]


def chat(*replies: str) -> ScriptedChat:
    return ScriptedChat(replies, first_token_s=0.1, tokens_per_s=50)


async def ask(line: HandLine) -> None:
    await line.end_of_reply()
    await line.silent(0.3)
    await line.say(tone("when are you open"))


async def until_within(line: HandLine, memory: CallMemory, heard: int) -> None:
    """So many clauses were heard to their end, and something of the next one."""
    await ask(line)
    while (lost := memory.so_far(0).under_way) is None or lost.clauses_heard < heard:
        await line.silent(0.02)
    await line.silent(0.3)


def killed_in_reply(heard: int, *, go_on: Front, close: str = "") -> tuple[CallMemory, Front]:
    """The first front-end dies when so many clauses were heard; the second one goes on until it has spoken
    and the caller has asked again."""
    memory = CallMemory()
    first = Front(chat(REPLY), ("when are you open",))

    async def meet() -> None:
        await first.hold(lambda line: until_within(line, memory, heard), memory, close=close)

        async def listen(line: HandLine) -> None:
            await line.end_of_reply()
            await line.silent(0.3)
            await line.say(tone("and on sunday please"))
            await line.end_of_reply()
            await line.silent(0.5)

        await go_on.hold(listen, memory, memory.so_far(60.0))

    run_virtual(meet())
    return memory, go_on


def test_a_reply_goes_on_from_the_first_clause_that_was_not_heard() -> None:
    second = Front(chat(REPLY, "Closed."), ("and on sunday",))
    killed_in_reply(1, go_on=second)
    assert second.said[:3] == [SORRY, *CLAUSES[1:]]
    assert second.said[3:] == ["Closed."]
    assert second.chat.requests[0] == (Message("user", "when are you open"),)
    assert second.chat.begun[0] == REPLY, "the model wrote all of it before: nothing is left to write"
    # The history has the reply once, whole, and no word of the line's drop.
    assert second.chat.requests[1] == (
        Message("user", "when are you open"),
        Message("assistant", REPLY),
        Message("user", "and on sunday"),
    )


def test_what_the_model_had_not_written_yet_it_writes_now() -> None:
    """Of a long reply only what was voiced is known; the model goes on behind it."""
    whole = f"{REPLY} On Saturdays we are closed. Anything else?"
    memory = CallMemory()
    for event in (
        CallStarted(0.0, INFO, "Test Desk"),
        CallerTurn(3.0, 1, "when are you open"),
        AgentClause(4.0, 1, CLAUSES[0]),
        AgentClause(4.1, 1, CLAUSES[1]),
        AgentClauseHeard(6.0, 1),
    ):
        memory.observe(event)
    second = Front(chat(whole), ())

    async def go_on() -> None:
        async def listen(line: HandLine) -> None:
            await line.end_of_reply()
            await line.silent(1.5)

        await second.hold(listen, memory, memory.so_far(7.0))

    run_virtual(go_on())
    assert second.chat.begun == [f"{CLAUSES[0]} {CLAUSES[1]}"]
    assert " ".join(second.said) == f"{SORRY} {CLAUSES[1]} {whole.removeprefix(second.chat.begun[0]).strip()}"
    (turn,) = second.observed.agent
    assert turn.heard == f"{CLAUSES[0]} {' '.join(second.said)}"
    assert not turn.interrupted


def test_turns_and_clock_go_on() -> None:
    second = Front(chat(REPLY, "Closed."), ("and on sunday",))
    _, second = killed_in_reply(0, go_on=second)
    events = second.observed.events
    assert events[0] == CallStarted(60.0, HandLine("CA1").info, "Test Desk", resumed=True)
    assert [(event.turn, event.text) for event in events if isinstance(event, CallerTurn)] == [
        (1, "when are you open"),
        (2, "and on sunday"),
    ]
    assert [turn.turn for turn in second.observed.agent] == [1, 2]
    audio = [event.start_sample for event in events if isinstance(event, CallerAudio | AgentAudio)]
    assert min(audio) == 60 * LINE_RATE_HZ
    times = second.observed.agent[1].times
    assert times.speech_end_s is not None
    assert times.committed_s is not None
    assert 60 < times.speech_end_s < times.committed_s < 75


def test_a_line_that_broke_is_gone_on_with_like_a_process_that_died() -> None:
    second = Front(chat(REPLY, "Closed."), ("and on sunday",))
    memory, second = killed_in_reply(1, go_on=second, close="connection lost")
    assert second.said[:3] == [SORRY, *CLAUSES[1:]]
    assert memory.ended is None


def test_killed_again_while_it_goes_on() -> None:
    """The word of the line's drop is not said again, and clauses that the second one said are heard."""
    memory = CallMemory()
    third = Front(chat(REPLY))

    async def meet() -> None:
        first = Front(chat(REPLY), ("when are you open",))
        await first.hold(lambda line: until_within(line, memory, 1), memory)

        async def until_second_clause(line: HandLine) -> None:
            while (lost := memory.so_far(0).under_way) is None or lost.clauses_heard < 2:
                await line.silent(0.02)

        await Front(chat(REPLY)).hold(until_second_clause, memory, memory.so_far(20.0))

        async def listen(line: HandLine) -> None:
            await line.end_of_reply()
            await line.silent(0.5)

        await third.hold(listen, memory, memory.so_far(30.0))

    run_virtual(meet())
    assert third.said == [SORRY, CLAUSES[2]]
    assert third.observed.agent[0].heard == f"{CLAUSES[0]} {CLAUSES[1]} {SORRY} {CLAUSES[2]}"


def test_nobody_is_greeted_twice_and_who_held_the_floor_is_asked_to_go_on() -> None:
    memory = CallMemory()

    async def meet() -> tuple[Front, Front]:
        async def half_a_turn(line: HandLine) -> None:
            await line.end_of_reply()
            await line.silent(0.3)
            await line.say(tone("when are you"))

        first, second = Front(chat()), Front(chat("From nine."), ("when are you open",))
        await first.hold(half_a_turn, memory)

        async def listen(line: HandLine) -> None:
            await ask(line)
            await line.end_of_reply()
            await line.silent(0.5)

        await second.hold(listen, memory, memory.so_far(9.0))
        return first, second

    _, second = run_virtual(meet())
    assert second.said == [SORRY, PERSONA.go_on, "From nine."]
    assert [turn.turn for turn in second.observed.agent] == [1, 2]


def lost_where(*events: CallEvent, persona: Persona = PERSONA, seconds: float = 4.0) -> Front:
    """What a front-end says that goes on behind these events."""
    memory = CallMemory()
    for event in (CallStarted(0.0, INFO, "Test Desk"), *events):
        memory.observe(event)
    front = Front(chat("Made anew."), persona=persona)

    async def go_on() -> None:
        await front.hold(lambda line: line.silent(seconds), memory, memory.so_far(30.0))

    run_virtual(go_on())
    return front


def agent(turn: int, text: str, *, heard: str | None = None, at_s: float = 5.0) -> AgentTurn:
    return AgentTurn(at_s, turn, text, text if heard is None else heard, heard is not None, TurnTimes(turn))


def test_a_greeting_that_was_cut_off_is_said_again_and_one_that_never_began_is_said() -> None:
    assert lost_where(AgentClause(0.1, 0, PERSONA.greeting)).said == [SORRY, PERSONA.greeting]
    assert lost_where().said == [PERSONA.greeting]


def test_an_answer_that_nobody_heard_a_word_of_is_made_anew() -> None:
    front = lost_where(agent(0, PERSONA.greeting), CallerTurn(3.0, 1, "hello"))
    assert front.said == [SORRY, "Made anew."]
    assert front.chat.begun == [""]


def test_a_persona_may_go_on_without_a_word_of_the_drop() -> None:
    silent = PERSONA.model_copy(update={"resumed": "", "go_on": ""})
    assert lost_where(CallerTurn(3.0, 1, "hello"), persona=silent).said == ["Made anew."]
    front = lost_where(agent(0, PERSONA.greeting), persona=silent, seconds=10.0)
    assert front.said == [PERSONA.still_there], "the caller's silence is broken as ever"


def test_with_tools_nothing_is_done_twice_and_nothing_made_up() -> None:
    with_tools = Persona.model_validate(PERSONA.model_dump() | {"tools": {"built_in": ["take_message"]}})
    front = lost_where(CallerTurn(3.0, 1, "tell him that I called"), persona=with_tools)
    assert front.said == [SORRY, PERSONA.go_on]
    assert front.chat.requests == []
    said = lost_where(
        CallerTurn(3.0, 1, "tell him"), AgentClause(4.0, 1, "I have told him."), persona=with_tools
    )
    assert said.said == [SORRY, "I have told him."]


def test_who_talks_at_once_is_listened_to() -> None:
    """Before the agent has made a sound: the turn that was lost stands, and the new one comes behind it."""
    memory = CallMemory()
    memory.observe(CallStarted(0.0, INFO, "Test Desk"))
    memory.observe(CallerTurn(3.0, 1, "hello"))
    front = Front(
        chat("never heard", "Yes."),
        ("are you there",),
        synthesizer=ScriptedSynthesizer(latency_s=3.0),
    )

    async def go_on() -> None:
        async def talk(line: HandLine) -> None:
            await line.say(tone("are you still there"))
            front.synthesizer.latency_s = 0.05
            await line.end_of_reply()
            await line.silent(0.5)

        await front.hold(talk, memory, memory.so_far(30.0))

    run_virtual(go_on())
    assert front.said == ["Yes."]
    assert front.chat.requests[-1] == (
        Message("user", "hello"),
        Message("assistant", "..."),
        Message("user", "are you there"),
    )


def test_the_calls_limit_counts_from_its_first_answer() -> None:
    short = PERSONA.model_copy(update={"limits": PERSONA.limits.model_copy(update={"call_s": 31.0})})
    front = lost_where(agent(0, PERSONA.greeting), persona=short, seconds=5.0)
    assert front.said[-1] == PERSONA.goodbye


# What is known


def test_the_history_is_what_was_heard() -> None:
    memory = CallMemory()
    for event in (
        CallStarted(0.0, INFO, "Test Desk"),
        AgentClause(0.1, 0, "Hello."),
        agent(0, "Hello."),
        CallerTurn(3.0, 1, "my number is"),
        AgentClause(3.5, 1, "never heard"),
        CallerTurn(4.0, 1, "my number is four"),
        AgentClause(4.5, 1, "Four,"),
        ToolRan(4.6, 1, "note", {"number": "4"}, "ok", 0.1, "noted"),
        agent(1, "Four, and then?", heard="Four,"),
        CallerSpoke(5.0, 6.0),
        CallerTurn(6.0, 2, "five"),
        agent(2, "Thank you."),
        agent(3, "Are you still there?"),
    ):
        memory.observe(event)
    so_far = memory.so_far(9.0)
    assert so_far.messages == (
        Message("user", "my number is four"),
        Message("assistant", '{"tool": "note", "arguments": {"number": "4"}}'),
        Message("tool", "noted"),
        Message("assistant", "Four, ..."),
        Message("user", "five"),
        Message("assistant", "Thank you."),
        Message("assistant", "Are you still there?"),
    )
    assert (so_far.last_turn, so_far.under_way) == (3, None)


def test_a_caller_who_cut_in_before_the_line_was_lost_has_cut_in() -> None:
    memory = CallMemory()
    memory.observe(CallerTurn(3.0, 1, "hello"))
    memory.observe(AgentClause(3.5, 1, REPLY))
    memory.observe(agent(1, REPLY, heard="We open", at_s=5.0))
    memory.observe(CallEnded(6.5, "connection lost", "completed"))
    assert memory.so_far(9.0).under_way is None


@pytest.mark.parametrize(
    ("reason", "lost"),
    [
        ("connection lost (code 1011)", True),
        ("no media for 10 s", True),
        ("server shut down", True),
        ("caller hung up", False),
        ("goodbye", False),
        ("protocol error: two starts", False),
        ("failed", False),
    ],
)
def test_which_ends_nobody_wanted(reason: str, lost: bool) -> None:
    assert line_was_lost(reason) is lost


@pytest.mark.parametrize(
    ("heard", "count"),
    [("", 0), ("We open", 0), (CLAUSES[0], 1), (f"{CLAUSES[0]} Then we", 1), (REPLY, 3), ("other", 0)],
)
def test_clauses_that_lie_wholly_in_what_was_heard(heard: str, count: int) -> None:
    assert clauses_within(CLAUSES, heard) == count


def test_everything_is_told_later_on() -> None:
    told = Observed()
    later = LaterOn(told, 10.0)
    times = TurnTimes(3, speech_end_s=1.0, first_played_s=2.5)
    for event in (
        CallerAudio(160, np.zeros(160, np.int16)),
        CallerSpoke(1.0, 2.0),
        AgentTurn(3.0, 3, "a", "a", False, times),
        CallEnded(4.0, "goodbye", "completed"),
    ):
        later.observe(event)
    audio, spoke, turn, ended = told.events
    assert isinstance(audio, CallerAudio)
    assert audio.start_sample == 80_160
    assert spoke == CallerSpoke(11.0, 12.0)
    assert turn == AgentTurn(13.0, 3, "a", "a", False, TurnTimes(3, speech_end_s=11.0, first_played_s=12.5))
    assert ended == CallEnded(14.0, "goodbye", "completed")


def test_what_is_left_of_a_turn() -> None:
    turn = PastTurn(1, "hello", over=False, clauses=CLAUSES, clauses_heard=2)
    assert turn.heard_clauses == f"{CLAUSES[0]} {CLAUSES[1]}"
    assert turn.unheard == CLAUSES[2:]
