"""Callers and lines that nobody would wish for, each as a whole call."""

import numpy as np
import pytest

from models.base import Glimpse, ModelFailed, Samples
from models.scripted import ScriptedChat, ScriptedTranscriber
from pipeline.caller_turn import PIECE_LONGEST_SAMPLES
from pipeline.events import KeyReceived
from pipeline.line import LINE_RATE_HZ, KeyPressed, Pcm
from pipeline.persona import Persona
from pipeline.playout import MARK_PATIENCE_S
from pipeline.service import CallOutcome, CallService
from tests.pipeline.hand_line import HandLine, silence
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, tone, with_limits

LISTENS, NO_VOICE = Glimpse(0.98, 0.0, 0.02), Glimpse(0.0, 0.95, 0.05)
DIGITS_HZ = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477)}


def with_turns(**fields: object) -> Persona:
    return PERSONA.model_copy(update={"turns": PERSONA.turns.model_copy(update=fields)})


def said(house: House) -> list[str]:
    return [turn.text for turn in house.observed.agent]


class Keypad(HandLine):
    """A caller with keys, on a carrier that reports them and lets their sound through."""

    def press(self, digit: str) -> None:
        self._arrived.put_nowait(KeyPressed(digit))


def key_sound(digit: str, seconds: float) -> Pcm:
    """(n,) int16: the two frequencies of a key, at -13 dBFS in all."""
    at = np.arange(round(seconds * LINE_RATE_HZ)) / LINE_RATE_HZ
    waves = [np.sin(2 * np.pi * frequency * at) for frequency in DIGITS_HZ[digit]]
    return np.asarray(np.sum(waves, axis=0) * 0.22 * 32767, np.float64).astype(np.int16)


# The caller


def test_a_caller_who_never_stops_talking_is_heard_to_the_limit_and_bidden_farewell() -> None:
    house = House(
        transcriber=ScriptedTranscriber(lambda audio: "and then", latency_s=0.2),
        persona=with_limits(call_s=50.0),
    )

    async def monologue(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("and then and then", 60.0))

    line = house.by_hand(monologue)
    assert said(house) == [PERSONA.greeting, PERSONA.goodbye], "neither asked for nor answered"
    assert (line.hung_up, house.outcomes) == ("limit", [CallOutcome(True, "limit")])
    assert max(house.transcriber.durations_s) <= PIECE_LONGEST_SAMPLES / LINE_RATE_HZ
    assert house.observed.caller == []
    assert house.observed.faults == []


def test_a_caller_who_never_speaks_is_asked_twice_and_bidden_farewell() -> None:
    house = House()

    async def nothing(line: HandLine, service: CallService) -> None:
        await line.silent(60)

    line = house.by_hand(nothing)
    asked = PERSONA.still_there
    assert said(house) == [PERSONA.greeting, asked, asked, PERSONA.goodbye]
    assert [turn.heard for turn in house.observed.agent] == said(house)
    assert line.hung_up == "silence"
    assert house.transcriber.durations_s == []
    assert house.chat.requests == []


def test_a_caller_who_speaks_only_over_the_agent_is_answered_each_time() -> None:
    words = ["who is there", "say that again", "one more time"]
    house = House(transcriber=hears(*words), chat=ScriptedChat([LONG, LONG, "All right."]))
    report = house.play([*({"interrupt": {"after_s": 0.8, "say": each}} for each in words), "listen"])
    assert house.observed.caller == words
    assert [turn.interrupted for turn in house.observed.agent] == [True, True, True, False]
    assert house.observed.agent[-1].heard == "All right."
    assert len([turn for turn in report.turns if turn.edge_stop_ms is not None]) == 3
    assert not report.violations


@pytest.mark.parametrize("gap_s", [0.06, 0.1, 0.18])
def test_two_interruptions_within_200_ms_stop_the_agent_once_and_are_one_turn(gap_s: float) -> None:
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "tell me" if len(audio) > 1.2 * 16_000 else "no wait", latency_s=0.1
        ),
        chat=ScriptedChat([LONG, "All right."]),
    )

    async def twice(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("tell me", 1.3))
        await line.silent(2.5)
        await line.say(np.concatenate([tone("no", 0.2), silence(gap_s), tone("wait", 0.3)]))
        await line.silent(6)

    house.by_hand(twice)
    assert house.observed.caller == ["tell me", "no wait"]
    greeting, cut, answer = house.observed.agent
    assert (greeting.interrupted, cut.interrupted, answer.interrupted) == (False, True, False)
    assert answer.heard == "All right."
    assert house.transcriber.durations_s[-1] >= 0.2 + gap_s + 0.3, "both, from the first sample"


@pytest.mark.parametrize("after_s", [0.1, 0.5, 0.9])
def test_an_interrupted_greeting_stops_and_the_caller_is_answered(after_s: float) -> None:
    house = House(transcriber=hears("wait a moment"))
    house.play([{"interrupt": {"after_s": after_s, "say": "wait a moment please"}}, "listen"])
    greeting, answer = house.observed.agent
    assert greeting.interrupted
    assert PERSONA.greeting.startswith(greeting.heard)
    assert answer.heard == "You said: wait a moment"


def test_a_protected_greeting_is_heard_to_its_end_and_who_spoke_over_it_is_answered() -> None:
    house = House(transcriber=hears("wait a moment"), persona=with_turns(protect_greeting=True))
    house.play([{"interrupt": {"after_s": 0.5, "say": "wait a moment please, I say"}}, "listen"])
    greeting, answer = house.observed.agent
    assert (greeting.heard, greeting.interrupted) == (PERSONA.greeting, False)
    assert answer.heard == "You said: wait a moment"


@pytest.mark.parametrize("left_s", [0.1, 0.06, 0.02])
def test_an_interruption_in_the_last_100_ms_of_a_reply_is_a_turn(left_s: float) -> None:
    house = House(transcriber=hears("tell me", "and then"), chat=ScriptedChat([LONG, "That is all."]))

    async def at_the_end(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("tell me", 1.0))
        while line.play_end_s <= line.now():
            await line.silent(0.02)
        while line.play_end_s - line.now() > left_s:
            await line.silent(0.02)
        await line.say(tone("and then", 0.7))
        await line.silent(5)

    house.by_hand(at_the_end)
    _, reply, answer = house.observed.agent
    assert reply.heard == LONG
    assert house.observed.caller == ["tell me", "and then"]
    assert answer.heard == "That is all."
    assert house.chat.requests[-1][-2].content.startswith(LONG)


# Keys


def test_keys_over_the_callers_own_speech_belong_to_the_same_turn() -> None:
    house = House(transcriber=hears("my number is"))

    async def types(line: HandLine, service: CallService) -> None:
        assert isinstance(line, Keypad)
        await line.silent(4)
        for digit in DIGITS_HZ:
            await line.say(tone("my number is", 0.4))
            line.press(digit)
            await line.say(tone("my number is", 0.4) // 2 + key_sound(digit, 0.4) // 2)
        await line.silent(5)

    house.by_hand(types, Keypad)
    assert [event.digit for event in house.observed.events if isinstance(event, KeyReceived)] == [*DIGITS_HZ]
    turn = "my number is (The caller pressed the keys 1 5 9.)"
    assert house.observed.caller == [turn]
    assert house.chat.requests[-1][-1].content == turn


def test_the_sound_of_keys_over_the_agents_speech_is_no_words() -> None:
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "" if house.observed.caller else "tell me",
            latency_s=0.1,
            glimpses=lambda audio: NO_VOICE,
            glimpse_s=0.06,
        ),
        chat=ScriptedChat([LONG, "Thank you."]),
    )

    async def types(line: HandLine, service: CallService) -> None:
        assert isinstance(line, Keypad)
        await line.silent(4)
        await line.say(tone("tell me", 1.0))
        await line.silent(2)
        for digit in DIGITS_HZ:
            line.press(digit)
            await line.say(key_sound(digit, 0.25))
            await line.silent(0.5)
        await line.silent(6)

    house.by_hand(types, Keypad)
    assert [event.digit for event in house.observed.events if isinstance(event, KeyReceived)] == [*DIGITS_HZ]
    assert house.observed.agent[1].interrupted
    assert house.observed.caller == ["tell me", "The caller pressed the keys 1 5 9."]
    assert house.observed.agent[-1].heard == "Thank you."


# What is no speech


@pytest.mark.parametrize("bars_s", [0.0, 0.9])
def test_music_on_hold_is_a_silent_line(bars_s: float) -> None:
    """Without a pause, or with rests in it that are long enough for a turn's end."""
    house = House(
        transcriber=ScriptedTranscriber(lambda audio: "", latency_s=0.2, glimpses=lambda audio: NO_VOICE)
    )

    async def music(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        for _ in range(20):
            await line.say(tone("la la", 4.0))
            await line.silent(bars_s)

    line = house.by_hand(music)
    assert said(house)[-1] == PERSONA.goodbye
    assert said(house).count(PERSONA.still_there) == 2
    assert said(house).count(PERSONA.pardon) <= 1, "asked for once at most"
    assert line.hung_up == "silence"
    assert house.observed.caller == []
    assert house.chat.requests == []


@pytest.mark.parametrize("invented", ["Thanks for watching!", "I'm going to go to the next one."])
def test_words_invented_for_a_noise_over_the_agent_stop_nothing(invented: str) -> None:
    """What the transcriber itself distrusts is dropped in `models.whisper`; this is what it would believe."""
    house = House(
        transcriber=ScriptedTranscriber(
            lambda audio: "tell me" if len(audio) > 0.9 * 16_000 else invented,
            latency_s=0.1,
            glimpses=lambda audio: LISTENS,
            glimpse_s=0.06,
        ),
        chat=ScriptedChat([LONG]),
    )

    async def hums(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("tell me", 1.0))
        await line.silent(2.5)
        await line.say(tone("mm", 0.35))
        await line.silent(8)

    house.by_hand(hums)
    assert (house.observed.agent[1].heard, house.observed.agent[1].interrupted) == (LONG, False)
    assert house.observed.caller == ["tell me"]
    assert len(house.chat.requests) == 1


# Speculation


def test_a_speculation_that_fails_once_is_made_again_and_nobody_notices() -> None:
    house = House(transcriber=hears("hello"), chat=ScriptedChat([ModelFailed("out of memory"), "Good day."]))
    report = house.play(["listen", {"say": "hello there"}, "listen"])
    assert [turn.heard for turn in house.observed.agent] == [PERSONA.greeting, "Good day."]
    assert house.observed.caller == ["hello"]
    assert [fault.where for fault in house.observed.faults] == ["reply"]
    assert house.observed.ended[0].outcome == "completed"
    assert report.ending != "agent hung up"


def test_a_speculation_that_hangs_is_dropped_when_the_caller_goes_on() -> None:
    """Not only its words: what it holds in the language model must not delay the next."""

    def hear(audio: Samples) -> str:
        return "I would like" if len(audio) < 2.0 * 16_000 else "I would like a visit"

    house = House(transcriber=ScriptedTranscriber(hear, latency_s=0.05))

    async def goes_on(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        house.chat.first_token_s = 1000.0
        await line.say(tone("I would like, um", 1.2))
        await line.silent(0.45)
        assert len(house.chat.requests) == 1, "begun"
        house.chat.first_token_s = 0.1
        await line.say(tone("a visit", 0.8))
        await line.silent(5)

    house.by_hand(goes_on)
    assert house.observed.caller == ["I would like a visit"]
    assert said(house) == [PERSONA.greeting, "You said: I would like a visit"]
    assert (house.chat.closed_early, house.chat.overlaps) == (1, 0)
    assert house.observed.faults == []


# Idle timers


@pytest.mark.parametrize(("marks", "longest_s"), [(True, 2.5), (False, 2.5 + MARK_PATIENCE_S)])
def test_12_no_idle_timer_fires_while_audio_still_plays(marks: bool, longest_s: float) -> None:
    """pipecat#2741: a reply of three times the patience, and only then the silence begins."""
    house = House(
        transcriber=hears("tell me"), chat=ScriptedChat([LONG]), persona=with_turns(still_there_s=2.0)
    )
    quiet_s: list[float] = []

    async def listens(line: HandLine, service: CallService) -> None:
        await line.silent(3)
        await line.say(tone("tell me", 1.0))
        await line.silent(1.0)
        await line.end_of_reply()
        ended = line.now()
        while line.play_end_s <= line.now():
            await line.silent(0.02)
        quiet_s.append(line.now() - ended)
        await line.silent(3)

    house.by_hand(listens, lambda: HandLine(marks=marks))
    assert said(house)[1:3] == [LONG, PERSONA.still_there]
    assert house.observed.agent[1].heard == LONG
    assert 2.0 <= quiet_s[0] <= longest_s
