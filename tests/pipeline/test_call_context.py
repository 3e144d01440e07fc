"""Whole calls in virtual time: the context that the voice is given, and when."""

import itertools

import numpy as np
import pytest

from models.base import SHARED, AgentSpeech, CallerSpeech, Speech
from models.scripted import ScriptedChat, ScriptedSpeech, ScriptedSynthesizer, ScriptedTranscriber
from pipeline.events import AgentAudio
from pipeline.line import LINE_RATE_HZ
from pipeline.resample import from_pcm
from pipeline.service import STOCK_PHRASES, CallService
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import LONG, PERSONA, House, hears, tone

GREETING = AgentSpeech(SHARED + "greeting", PERSONA.greeting)


def listening(**timing: float) -> ScriptedSynthesizer:
    """A voice that wants the conversation, as fast as it is heard."""
    return ScriptedSynthesizer(
        latency_s=timing.get("latency_s", 0.05), realtime_factor=0.5, takes_context="audio"
    )


def in_the_call(house: House) -> list[ScriptedSpeech]:
    """What the voice was asked for after the stock phrases."""
    return house.synthesizer.spoken[len(STOCK_PHRASES) :]


def words(context: tuple[Speech, ...]) -> list[str]:
    return [speech.text for speech in context]


def keys(context: tuple[Speech, ...]) -> list[str]:
    return [speech.key if isinstance(speech, CallerSpeech) else speech.utterance for speech in context]


def test_the_stock_phrases_are_voiced_once_for_all_calls_after_the_greeting() -> None:
    house = House(synthesizer=listening())
    house.play(["listen", "hang_up"])
    assert [s.utterance for s in house.synthesizer.spoken] == [SHARED + phrase for phrase in STOCK_PHRASES]
    assert [s.context for s in house.synthesizer.spoken] == [(), *[(GREETING,)] * (len(STOCK_PHRASES) - 1)]
    assert house.synthesizer.prepared == [(GREETING,)], "the greeting is the call's beginning"


def test_each_clause_is_voiced_after_all_that_was_said_before() -> None:
    house = House(
        synthesizer=listening(),
        transcriber=hears("when", "thanks"),
        chat=ScriptedChat(["We open at 8 in the morning. You may come in at any time.", "Goodbye then."]),
    )
    house.play(["listen", {"say": "when do you open"}, "listen", {"say": "thank you"}, "listen"])
    first, second, third = in_the_call(house)
    opening = [PERSONA.greeting, "when"]
    assert words(first.context) == opening
    assert first.text == "We open at eight in the morning."
    assert words(second.context) == [*opening, first.text]
    assert words(third.context) == [*opening, first.text, second.text, "thanks"]
    assert keys(third.context)[2:4] == [first.utterance, second.utterance]
    assert len({*keys(third.context), third.utterance}) == 6, "every key names one thing"
    assert all(s.heard_s is None for s in third.context if isinstance(s, AgentSpeech))
    assert house.synthesizer.overlaps == 0


def test_the_callers_sound_is_what_the_line_brought() -> None:
    house = House(synthesizer=listening(), transcriber=hears("when"))
    said = tone("when do you open")

    async def asks(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(said)
        await line.silent(4)

    house.by_hand(asks)
    (reply,) = in_the_call(house)
    turn = reply.context[-1]
    assert isinstance(turn, CallerSpeech)
    assert turn.sample_rate_hz == LINE_RATE_HZ
    assert turn.audio is not None
    match = np.correlate(turn.audio, from_pcm(said), "valid")
    at = int(match.argmax())
    np.testing.assert_array_equal(turn.audio[at : at + said.size], from_pcm(said))
    assert turn.audio.size - said.size < LINE_RATE_HZ * 0.7, "and little silence around it"


def test_the_context_is_prepared_before_the_reply_has_words_and_after_it_was_heard() -> None:
    house = House(
        synthesizer=listening(),
        transcriber=hears("when"),
        chat=ScriptedChat(["At eight."], first_token_s=2.0),
    )
    house.play(["listen", {"say": "when do you open"}, "listen", {"wait": 1.0}, "hang_up"])
    (reply,) = in_the_call(house)
    said = AgentSpeech(reply.utterance, "At eight.")
    assert house.synthesizer.prepared == [(GREETING,), reply.context, (*reply.context, said)]


def test_a_barge_in_cuts_the_clause_to_the_words_and_seconds_that_were_heard() -> None:
    house = House(
        synthesizer=listening(),
        transcriber=hears("tell me", "stop it"),
        chat=ScriptedChat([LONG, "All right."]),
    )
    house.play(
        [
            "listen",
            {"say": "tell me please"},
            {"interrupt": {"after_s": 1.5, "say": "stop it now please"}},
            "listen",
        ]
    )
    asked = in_the_call(house)
    whole, part = asked[-1].context[2:-1]
    assert isinstance(whole, AgentSpeech)
    assert isinstance(part, AgentSpeech)
    assert keys((whole, part)) == [asked[0].utterance, asked[1].utterance]
    assert (whole.text, whole.heard_s) == (asked[0].text, None)
    assert part.text
    assert asked[1].text.startswith(part.text)
    assert words(asked[-1].context) == [PERSONA.greeting, "tell me", whole.text, part.text, "stop it"]
    assert house.observed.agent[1].heard == f"{whole.text} {part.text}", "as in the language model's history"
    # The record places what was played sample by sample: of this turn, what the others leave.
    others_s = 0.06 * sum(len(text) for text in (PERSONA.greeting, whole.text, "All right."))
    played_s = sum(e.pcm.size for e in house.observed.events if isinstance(e, AgentAudio)) / LINE_RATE_HZ
    assert part.heard_s == pytest.approx(played_s - others_s, abs=0.1)
    assert (*asked[0].context, whole, part) in house.synthesizer.prepared, "while the caller still speaks"
    assert house.synthesizer.overlaps == 0, "and after the cancelled reply had let go of the voice"
    assert house.synthesizer.closed_early == 1


def test_an_interrupted_greeting_is_cut_too() -> None:
    house = House(synthesizer=listening(), transcriber=hears("wait a moment"))
    house.play([{"interrupt": {"after_s": 0.4, "say": "wait a moment please"}}, "listen"])
    greeting = in_the_call(house)[0].context[0]
    assert isinstance(greeting, AgentSpeech)
    assert greeting.utterance == GREETING.utterance
    assert PERSONA.greeting.startswith(greeting.text)
    assert greeting.text != PERSONA.greeting
    assert greeting.heard_s == pytest.approx(0.7, abs=0.2)


def test_a_dropped_speculation_stands_in_its_own_context_only() -> None:
    house = House(
        synthesizer=listening(),
        transcriber=ScriptedTranscriber(lambda audio: f"{len(audio) / 16000:.0f} seconds", latency_s=0.1),
        chat=ScriptedChat(first_token_s=0.0),
    )
    house.play(
        ["listen", {"say": "my number is four seven"}, {"wait": 0.4}, {"say": "two nine three one"}, "listen"]
    )
    dropped, answered = in_the_call(house)
    assert words(dropped.context) == [PERSONA.greeting, "2 seconds"]
    assert words(answered.context) == [PERSONA.greeting, "4 seconds"]
    assert keys(dropped.context)[1] != keys(answered.context)[1]
    assert dropped.utterance != answered.utterance


def test_a_retracted_turn_comes_again_as_one() -> None:
    """Committed, the reply being voiced but not heard, then the caller goes on."""
    house = House(
        synthesizer=listening(latency_s=3.0),
        transcriber=ScriptedTranscriber(lambda audio: "short" if len(audio) < 2 * 16000 else "long"),
    )

    async def second_thoughts(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        await line.say(tone("I would like", 1.0))
        await line.silent(2.0)
        await line.say(tone("an appointment", 1.0))
        await line.silent(8.0)

    house.by_hand(second_thoughts)
    assert house.observed.caller == ["short", "long"], "the first words were committed, then taken back"
    taken_back, answered = in_the_call(house)
    assert words(taken_back.context) == [PERSONA.greeting, "short"]
    assert words(answered.context) == [PERSONA.greeting, "long"]
    assert words(house.synthesizer.prepared[-1]) == [PERSONA.greeting, "long", "You said: long"]


def test_a_long_turn_is_shown_in_the_pieces_that_were_heard() -> None:
    house = House(
        synthesizer=listening(), transcriber=ScriptedTranscriber(lambda audio: "words", latency_s=0.2)
    )

    async def three_paragraphs(line: HandLine, service: CallService) -> None:
        await line.silent(4)
        for _ in range(3):
            await line.say(tone("a paragraph", 16))
            await line.silent(0.5)
        await line.silent(3)

    house.by_hand(three_paragraphs)
    pieces = in_the_call(house)[-1].context[1:]
    assert words(pieces) == ["words"] * 3
    sound = [piece.audio for piece in pieces if isinstance(piece, CallerSpeech) and piece.audio is not None]
    assert [audio.size / LINE_RATE_HZ for audio in sound] == [pytest.approx(16.5, abs=0.6)] * 3


@pytest.mark.parametrize("takes", ["text", "nothing"])
def test_a_voice_is_given_no_more_than_it_takes(takes: str) -> None:
    synthesizer = ScriptedSynthesizer(takes_context=takes)  # type: ignore[arg-type]
    house = House(synthesizer=synthesizer, transcriber=hears("one", "two"))
    house.play(["listen", {"say": "one one one"}, "listen", {"say": "two two two"}, "listen"])
    last = in_the_call(house)[-1].context
    if takes == "nothing":
        assert last == ()
        assert synthesizer.prepared == []
    else:
        assert words(last) == [PERSONA.greeting, "one", "You said: one", "two"]
        assert all(s.audio is None for s in last if isinstance(s, CallerSpeech))


def test_over_a_whole_call_contexts_only_grow() -> None:
    """Replies heard, cut and dropped, noise and second thoughts: each reply's context begins with all of the
    one before, a key stands for the same words and sound everywhere, and the language model's history has the
    same words."""
    turns = ["one", "two", "three", "", "four", "five", "six", "seven"]
    house = House(
        synthesizer=listening(),
        transcriber=hears(*turns),
        chat=ScriptedChat(lambda messages: f"You said {messages[-1].content}. {LONG}", first_token_s=0.3),
    )
    house.play(
        [
            "listen",
            {"say": "the first question"},
            {"interrupt": {"after_s": 3.0, "say": "the second question"}},
            {"wait": 0.3},
            {"say": "goes on after a while"},
            "listen",
            {"say": "a third one, please"},
            {"interrupt": {"after_s": 0.5, "say": "ah"}},
            "listen",
            {"say": "noise"},
            "listen",
            {"say": "the fourth one"},
            {"interrupt": {"after_s": 2.0, "say": "the fifth one"}},
            "listen",
            {"say": "the sixth, thank you"},
            "listen",
        ]
    )
    firsts = [said for said in in_the_call(house) if said.utterance.endswith("/1")]
    answered = [said.context for said in firsts if words(said.context)[-1] in house.observed.caller]
    assert len(answered) >= 5
    sounds: dict[str, CallerSpeech] = {}
    for context in answered + house.synthesizer.prepared:
        own = [key for key in keys(context) if not key.startswith(SHARED)]
        assert len(set(own)) == len(own), "only a stock phrase is ever said twice"
        for speech in context:
            if isinstance(speech, CallerSpeech):
                known = sounds.setdefault(speech.key, speech)
                assert known.text == speech.text
                assert known.audio is speech.audio
    for earlier, later in itertools.pairwise(answered):
        assert later[: len(earlier)] == earlier
        assert len(later) > len(earlier)
    history = " ".join(message.content.removesuffix(" ...") for message in house.chat.requests[-1])
    assert history == " ".join(words(answered[-1])[1:]), "the greeting stands in the prefix"
    assert house.synthesizer.overlaps == 0
