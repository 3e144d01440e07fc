"""Whole calls: what is said and heard, in virtual time."""

import numpy as np
import pytest

from models.base import Message
from models.scripted import ScriptedChat, ScriptedTranscriber
from pipeline.call import Call
from pipeline.events import AgentAudio, CallerAudio, CallerTurn
from pipeline.line import LINE_RATE_HZ
from pipeline.service import CallOutcome, CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, interrupted, tone, with_limits


def test_a_caller_is_greeted_understood_and_answered() -> None:
    house = House(transcriber=hears("are you open", "thank you"))
    report = house.play(["listen", {"say": "are you open"}, "listen", {"say": "thank you"}, "listen"])
    assert house.observed.caller == ["are you open", "thank you"]
    assert [a.text for a in house.observed.agent] == [
        PERSONA.greeting,
        "You said: are you open",
        "You said: thank you",
    ]
    assert all(a.heard == a.text and not a.interrupted for a in house.observed.agent)
    assert report.violations == ()
    assert house.outcomes[0].completed
    assert not house.observed.faults


def test_the_reply_is_made_ready_during_the_pause() -> None:
    """Transcription (0.2 s), first token (0.1 s) and voice (0.05 s) run inside the 0.7 s of silence."""
    house = House(transcriber=hears("are you open"))
    report = house.play(["listen", {"say": "are you open"}, "listen"])
    (gap,) = [t.edge_gap_ms for t in report.turns]
    assert gap is not None
    assert 650 <= gap <= 850


def test_stage_times_are_in_order_and_add_up_to_the_gap() -> None:
    house = House(transcriber=hears("are you open"))
    report = house.play(["listen", {"say": "are you open"}, "listen"])
    times = house.observed.agent[1].times
    assert times.speech_end_s is not None
    assert times.transcribe_started_s is not None
    assert times.transcribed_s is not None
    assert times.first_token_s is not None
    assert times.first_clause_s is not None
    assert times.first_audio_s is not None
    assert times.committed_s is not None
    assert times.first_played_s is not None
    assert (
        times.speech_end_s
        < times.transcribe_started_s
        < times.transcribed_s
        < times.first_token_s
        <= times.first_clause_s
        < times.first_audio_s
        <= times.first_played_s
    )
    assert times.committed_s <= times.first_played_s
    gap_ms = report.turns[0].edge_gap_ms
    assert gap_ms is not None
    # The detector's windows are 32 ms long.
    assert (times.first_played_s - times.speech_end_s) * 1000 == pytest.approx(gap_ms, abs=60)


def test_hanging_up_while_the_agent_thinks() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat(first_token_s=5.0))
    house.play(["listen", {"say": "hello there"}, {"wait": 1.5}, "hang_up"])
    assert house.outcomes[0].completed
    assert house.observed.ended[0].outcome == "completed"
    assert house.chat.sessions == 0
    assert house.chat.closed_early >= 1


@pytest.mark.parametrize("ending", ["hang_up", "drop"])
def test_leaving_while_the_agent_speaks(ending: str) -> None:
    house = House(transcriber=hears("tell me"), chat=ScriptedChat([LONG]))
    house.play(["listen", {"say": "tell me please"}, {"wait": 2.5}, ending])
    assert len(house.outcomes) == 1
    last = house.observed.agent[-1]
    assert last.interrupted
    assert len(last.heard) < len(LONG)
    assert len(house.observed.ended) == 1
    assert house.chat.sessions == 0


def test_a_call_of_no_time_at_all() -> None:
    house = House()
    house.play(["hang_up"])
    assert len(house.observed.ended) == 1
    assert house.chat.sessions == 0


def test_thirty_seconds_of_silence_ask_nothing_of_the_models() -> None:
    house = House()
    house.play(["listen", {"wait": 30}, "hang_up"])
    assert house.transcriber.durations_s == []
    assert house.chat.requests == []


def test_noise_that_the_transcriber_does_not_trust_is_nobodys_turn() -> None:
    house = House(transcriber=hears("", "hello"))
    rng = np.random.default_rng(5)
    noise = (rng.normal(size=LINE_RATE_HZ * 2) * 3000).astype(np.int16)
    house.play(["listen", {"say": "noise"}, {"wait": 2}, {"say": "hello there"}, "listen"], {1: noise})
    assert house.observed.caller == ["hello"]
    assert [turn.text for turn in house.observed.agent][1] == PERSONA.pardon, "so much voice was a question"


def test_clipped_audio_is_only_loud() -> None:
    house = House(transcriber=hears("hello"))
    loud = np.where(np.arange(LINE_RATE_HZ) % 80 < 40, 32767, -32768).astype(np.int16)
    house.play(["listen", {"say": "hello"}, "listen"], {1: loud})
    assert house.observed.caller == ["hello"]


@pytest.mark.parametrize("empty", ["", "   ", "**"])
def test_an_empty_reply_is_not_silence(empty: str) -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([empty]))
    house.play(["listen", {"say": "hello there"}, "listen"])
    assert house.observed.agent[-1].heard == PERSONA.pardon


def test_a_reply_of_two_thousand_words_can_be_cut_off() -> None:
    chat = ScriptedChat(["word, " * 2000, "Fine."], keep_to_limit=False)
    house = House(transcriber=hears("talk", "stop"), chat=chat)
    house.play(
        ["listen", {"say": "talk please"}, {"interrupt": {"after_s": 6.0, "say": "stop it now"}}, "listen"]
    )
    assert house.observed.agent[1].interrupted
    assert house.observed.agent[2].text == "Fine."


def test_the_longest_call_ends_with_a_goodbye() -> None:
    house = House(persona=with_limits(call_s=8.0))
    report = house.play(["listen", {"wait": 30}])
    assert report.ending == "agent hung up"
    assert house.observed.agent[-1].text == PERSONA.goodbye
    assert house.observed.agent[-1].heard == PERSONA.goodbye


def test_the_recording_places_what_was_played() -> None:
    house, report = interrupted()
    caller = [e for e in house.observed.events if isinstance(e, CallerAudio)]
    agent = [e for e in house.observed.events if isinstance(e, AgentAudio)]
    position = 0
    for event in caller:
        assert event.start_sample == position
        position += event.pcm.size
    position = 0
    for event in agent:
        assert event.start_sample >= position - 1
        position = event.start_sample + event.pcm.size
    assert report.violations == ()


def test_the_transcriber_is_told_the_personas_vocabulary() -> None:
    persona = PERSONA.model_copy(update={"vocabulary": ("Riverside", "Dr. Okafor")})
    house = House(transcriber=hears("is doctor okafor in"), persona=persona)
    house.play(["listen", {"say": "is doctor okafor in"}, "listen"])
    assert house.transcriber.hot_words
    assert set(house.transcriber.hot_words) == {"Riverside, Dr. Okafor"}


def test_a_turn_of_a_minute_is_heard_in_pieces_and_answered_as_one() -> None:
    """Whisper hears 30 s at once; every sample of speech is in one of the pieces."""
    house = House(transcriber=ScriptedTranscriber(lambda audio: f"{len(audio) / 16000:.2f}", latency_s=0.6))

    async def monologue(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        for _ in range(5):
            await line.say(tone("a long story", 11))
            await line.silent(0.3)
        await line.silent(8)

    house.by_hand(monologue)
    (turn,) = house.observed.caller
    pieces_s = [float(word) for word in turn.split()]
    assert max(house.transcriber.durations_s) <= 30
    assert len(pieces_s) >= 3
    assert sum(pieces_s) >= 5 * 11 + 4 * 0.3
    assert house.observed.agent[-1].heard


def test_pieces_end_in_pauses_where_there_are_any() -> None:
    house = House(transcriber=ScriptedTranscriber(lambda audio: "words", latency_s=0.2))

    async def three_paragraphs(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        for _ in range(3):
            await line.say(tone("a paragraph", 16))
            await line.silent(0.5)
        await line.silent(8)

    house.by_hand(three_paragraphs)
    assert sorted(house.transcriber.durations_s)[-3:] == [pytest.approx(16, abs=1.5)] * 3
    assert max(house.transcriber.durations_s) < 18, "no piece is heard together with the next one"
    assert house.observed.caller == ["words words words"]


def test_a_caller_who_goes_on_while_the_agent_thinks_has_said_one_turn() -> None:
    house = House(
        transcriber=ScriptedTranscriber(lambda audio: "short" if len(audio) < 2 * 16000 else "long"),
        chat=ScriptedChat(first_token_s=3.0),
    )

    async def second_thoughts(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("I would like", 1.0))
        await line.silent(2.0)
        await line.say(tone("an appointment", 1.0))
        await line.silent(8.0)

    house.by_hand(second_thoughts)
    assert house.observed.caller == ["short", "long"], "the first words were committed, then taken back"
    turns = [event.turn for event in house.observed.events if isinstance(event, CallerTurn)]
    assert turns == [1, 1]
    assert house.chat.requests[-1] == (Message("user", "long"),)
    assert [a.text for a in house.observed.agent[1:]] == ["You said: long"]
    assert house.chat.overlaps == 0


def test_speech_while_the_history_is_being_read_asks_one_thing_at_a_time() -> None:
    """A slow prefill, and two turns in its time: the sequence takes one request at a time."""
    house = House(chat=ScriptedChat(prefill_s=5.0, first_token_s=0.1))

    async def impatient(line: HandLine, service: CallService) -> None:
        await line.silent(3.0)
        await line.say(tone("one", 0.6))
        await line.silent(0.45)
        await line.say(tone("two", 0.6))
        await line.silent(8)

    house.by_hand(impatient)
    assert house.chat.overlaps == 0
    assert house.observed.agent[-1].text.startswith("You said")


def test_a_noise_that_cut_the_agent_off_is_answered_with_pardon() -> None:
    house = House(transcriber=hears("tell me", ""), chat=ScriptedChat([LONG]))

    async def cough(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("tell me", 1.0))
        await line.silent(1.5)
        await line.say(tone("cough", 0.3))
        await line.silent(10)

    house.by_hand(cough)
    _, cut, pardon = house.observed.agent
    assert cut.interrupted
    assert (pardon.text, pardon.heard, pardon.interrupted) == (PERSONA.pardon, PERSONA.pardon, False)
    assert house.observed.caller == ["tell me"]


def test_nobody_interrupts_the_goodbye() -> None:
    house = House()

    async def talks_over_it(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        service.end_politely()
        await line.say(tone("wait wait wait", 3.0))

    line = house.by_hand(talks_over_it)
    last = house.observed.agent[-1]
    assert (last.text, last.heard, last.interrupted) == (PERSONA.goodbye, PERSONA.goodbye, False)
    assert line.hung_up == "shutdown"
    assert house.outcomes == [CallOutcome(True, "shutdown")]
    assert house.transcriber.durations_s == []


def test_our_reason_to_hang_up_survives_a_line_that_is_slow_to_close() -> None:
    house = House(persona=with_limits(call_s=8.0))

    async def waits(line: HandLine, service: CallService) -> None:
        await line.silent(30)

    house.by_hand(waits, lambda: HandLine(closing_s=0.05))
    assert house.outcomes == [CallOutcome(True, "limit")]
    assert [end.reason for end in house.observed.ended] == ["limit"]
    assert not house.observed.agent[-1].interrupted


def test_a_call_thinks_only_when_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conductor that spins costs the other calls their time."""
    rounds = 0
    play = Call._play

    async def counted(call: Call) -> None:
        nonlocal rounds
        rounds += 1
        await play(call)

    monkeypatch.setattr(Call, "_play", counted)

    async def speaks(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("hello", 1.0))
        await line.silent(10)

    House().by_hand(speaks, lambda: HandLine(marks=False))
    assert rounds < 15 * 200
