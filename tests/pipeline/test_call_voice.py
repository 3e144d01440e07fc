"""One call's voice is asked for one thing at a time."""

from contextlib import aclosing

from models.base import AgentSpeech
from models.scripted import ScriptedSynthesizer
from pipeline.call_voice import CallVoice
from telephony.simulator.virtual_loop import run_virtual

BEFORE = (AgentSpeech("one", "Hello."),)
AFTER = (AgentSpeech("one", "Hello.", 0.3),)


def test_a_context_is_prepared_at_once_while_nothing_is_spoken() -> None:
    synthesizer = ScriptedSynthesizer(takes_context="audio")

    async def script() -> None:
        voice = CallVoice(await synthesizer.open())
        voice.prepare(BEFORE)
        assert synthesizer.prepared == [BEFORE]
        chunks = [chunk async for chunk in voice.speak("Good.", utterance="two", context=BEFORE)]
        assert sum(chunk.size for chunk in chunks) == 5 * 0.06 * voice.sample_rate_hz
        voice.prepare(AFTER)

    run_virtual(script())
    assert synthesizer.prepared == [BEFORE, AFTER]
    assert [(s.text, s.utterance, s.context) for s in synthesizer.spoken] == [("Good.", "two", BEFORE)]


def test_a_context_waits_for_the_utterance_to_be_let_go() -> None:
    """Only the last one asked for."""
    synthesizer = ScriptedSynthesizer(takes_context="audio")

    async def script() -> None:
        voice = CallVoice(await synthesizer.open())
        async with aclosing(voice.speak("Good morning, this is the desk.")) as chunks:
            async for _ in chunks:
                voice.prepare(BEFORE)
                voice.prepare(AFTER)
                assert synthesizer.prepared == []
                break
        assert synthesizer.prepared == [AFTER]

    run_virtual(script())
    assert synthesizer.closed_early == 1
    assert synthesizer.overlaps == 0


def test_a_voice_that_takes_no_context_is_asked_to_prepare_none() -> None:
    synthesizer = ScriptedSynthesizer()

    async def script() -> None:
        CallVoice(await synthesizer.open()).prepare(BEFORE)

    run_virtual(script())
    assert synthesizer.prepared == []
