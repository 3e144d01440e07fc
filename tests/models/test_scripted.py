import asyncio

import numpy as np
import pytest

from models.base import CallerSpeech, Message, ModelBusy, ModelError, ModelFailed, ModelLate, Models
from models.scripted import (
    BreaksOff,
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedSpeech,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    voiced_signal,
)


class VirtualClock:
    """Sleeps jump the clock: `elapsed` counts what the stand-ins declared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elapsed = 0.0
        real = asyncio.sleep

        async def sleep(delay: float, result: object = None) -> object:
            self.elapsed += delay
            await real(0)
            return result

        monkeypatch.setattr(asyncio, "sleep", sleep)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    return VirtualClock(monkeypatch)


def user(text: str) -> Message:
    return Message("user", text)


def audio(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(16_000 * seconds)).astype(np.float32) * 0.1


def test_stand_ins_satisfy_the_protocols() -> None:
    Models(ScriptedTranscriber(), ScriptedChat(), ScriptedSynthesizer(), EnergyVoiceActivity())


async def test_transcriber_follows_its_script_after_the_declared_latency(clock: VirtualClock) -> None:
    transcriber = ScriptedTranscriber(["one", "two"], latency_s=0.3, latency_per_audio_s=0.1)
    first = await transcriber.transcribe(audio(2.0), hot_words="Maya")
    assert (first.text, first.duration_s) == ("one", 2.0)
    assert clock.elapsed == pytest.approx(0.5)
    assert (await transcriber.transcribe(audio(1.0))).text == "two"
    with pytest.raises(ModelFailed, match="used up"):
        await transcriber.transcribe(audio(1.0))
    assert transcriber.durations_s == [2.0, 1.0, 1.0]
    assert transcriber.hot_words[0] == "Maya"


async def test_transcriber_raises_what_the_script_holds_and_lives_on() -> None:
    transcriber = ScriptedTranscriber([ModelFailed("gone"), "back"])
    with pytest.raises(ModelFailed, match="gone"):
        await transcriber.transcribe(audio(1.0))
    assert (await transcriber.transcribe(audio(1.0))).text == "back"


async def test_transcriber_that_is_slower_than_its_deadline_says_so_in_time(clock: VirtualClock) -> None:
    transcriber = ScriptedTranscriber(lambda audio: "Hello.", latency_s=0.5)
    with pytest.raises(ModelLate):
        await transcriber.transcribe(audio(1.0), deadline_s=0.2)
    assert clock.elapsed == pytest.approx(0.2)
    assert (await transcriber.transcribe(audio(1.0), deadline_s=0.5)).text == "Hello."
    assert transcriber.deadlines_s == [0.2, 0.5]


async def test_transcriber_script_may_be_a_callable() -> None:
    transcriber = ScriptedTranscriber(lambda samples: f"{len(samples)} samples")
    assert (await transcriber.transcribe(audio(0.5))).text == "8000 samples"


async def test_a_grown_turn_hears_the_same_words_again() -> None:
    transcriber = ScriptedTranscriber(["one", "two"], once_per_turn=True)
    turn = audio(2.0)
    assert (await transcriber.transcribe(turn[:16_000])).text == "one"
    assert (await transcriber.transcribe(turn)).text == "one"
    assert (await transcriber.transcribe(audio(2.0, seed=1))).text == "two"


async def test_a_cancelled_transcription_is_counted() -> None:
    transcriber = ScriptedTranscriber(["one"], latency_s=60)
    task = asyncio.create_task(transcriber.transcribe(audio(1.0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transcriber.cancelled == 1


async def test_chat_streams_words_at_the_declared_speed_and_keeps_the_history(clock: VirtualClock) -> None:
    chat = ScriptedChat(["We close at six."], prefill_s=1.0, first_token_s=0.5, tokens_per_s=10)
    session = await chat.open([Message("system", "Be brief.")])
    await session.prefill([user("When do you")])
    assert clock.elapsed == pytest.approx(1.0)
    pieces = [piece async for piece in session.reply([user("When do you close?")])]
    assert pieces == ["We", " close", " at", " six."]
    assert clock.elapsed == pytest.approx(1.0 + 0.5 + 3 * 0.1)
    assert chat.prefixes == [(Message("system", "Be brief."),)]
    assert chat.prefills == [(user("When do you"),)]
    assert chat.requests == [(user("When do you close?"),)]
    assert (chat.overlaps, chat.closed_early) == (0, 0)


async def test_chat_goes_on_after_the_words_that_were_said_already() -> None:
    chat = ScriptedChat(lambda messages: "We are open until noon.")
    session = await chat.open([])
    said = [piece async for piece in session.reply([Message("user", "Hello?")], begun="We are open")]
    assert said == [" until", " noon."]
    assert [piece async for piece in session.reply([], begun="We are ")] == ["open", " until", " noon."]
    assert "".join([piece async for piece in session.reply([], begun="Well,")]) == "We are open until noon."
    assert chat.begun == ["We are open", "We are ", "Well,"]


async def test_chat_default_answers_the_last_user_message() -> None:
    session = await ScriptedChat().open([])
    reply = session.reply([user("first"), Message("assistant", "x"), user("second")])
    assert "".join([piece async for piece in reply]) == "You said: second"


async def test_closing_a_reply_stops_it() -> None:
    chat = ScriptedChat(["one two three"])
    session = await chat.open([])
    reply = session.reply([user("go")])
    assert await anext(reply) == "one"
    await reply.aclose()
    assert chat.closed_early == 1
    with pytest.raises(StopAsyncIteration):
        await anext(reply)


async def test_chat_can_break_off_fail_and_answer_nothing_or_very_much() -> None:
    long = " ".join(["word"] * 2000)
    chat = ScriptedChat([BreaksOff("half a"), ModelFailed("no"), "", long, long])
    session = await chat.open([])
    heard: list[str] = []
    with pytest.raises(ModelFailed, match="breaks off"):
        async for piece in session.reply([]):
            heard.append(piece)  # noqa: PERF401
    assert heard == ["half", " a"]
    with pytest.raises(ModelFailed, match="no"):
        await anext(session.reply([]))
    assert [piece async for piece in session.reply([])] == []
    assert len([piece async for piece in session.reply([], max_tokens=50)]) == 50
    chat.keep_to_limit = False
    assert "".join([piece async for piece in session.reply([], max_tokens=50)]) == long
    assert chat.closed_early == 0


async def test_chat_sequences_are_limited_and_given_back() -> None:
    chat = ScriptedChat(sequences=1)
    session = await chat.open([])
    with pytest.raises(ModelBusy):
        await chat.open([])
    await session.aclose()
    await session.aclose()
    await chat.open([])
    with pytest.raises(ModelFailed, match="closed"):
        await session.prefill([])


async def test_voice_is_deterministic_loud_and_as_long_as_its_text(clock: VirtualClock) -> None:
    synthesizer = ScriptedSynthesizer(latency_s=0.2, realtime_factor=0.5)
    voice = await synthesizer.open()
    chunks = [chunk async for chunk in voice.speak("Twenty characters ok")]
    spoken = np.concatenate(chunks)
    assert len(spoken) == round(20 * 0.06 * 24_000) and spoken.dtype == np.float32
    assert clock.elapsed == pytest.approx(0.2 + 0.5 * 0.1 * (len(chunks) - 1))
    again = np.concatenate([chunk async for chunk in voice.speak("Twenty characters ok")])
    np.testing.assert_array_equal(spoken, again)
    assert 10 * np.log10(np.mean(spoken**2)) == pytest.approx(-20, abs=0.2)
    assert np.abs(spoken).max() < 0.7
    tens = spoken[: len(spoken) // 240 * 240].reshape(-1, 240)
    assert (10 * np.log10(np.mean(tens[1:-1] ** 2, axis=1)) > -30).all(), "a hole inside the speech"
    assert synthesizer.said == ["Twenty characters ok"] * 2


async def test_voice_speed_failure_and_names() -> None:
    synthesizer = ScriptedSynthesizer(fail=lambda text: ModelFailed("hoarse") if "!" in text else None)
    voice = await synthesizer.open(speed=2.0)
    assert sum([len(chunk) async for chunk in voice.speak("abcd")]) == 4 * 0.03 * 24_000
    assert [chunk async for chunk in voice.speak("  ")] == []
    got = 0
    with pytest.raises(ModelFailed, match="hoarse"):
        async for chunk in voice.speak("abc!"):
            got += len(chunk)
    assert got == 4 * 0.03 * 24_000 / 2
    with pytest.raises(ModelError, match="'scripted'"):
        await synthesizer.open("nobody")
    with pytest.raises(ModelError, match="speed"):
        await synthesizer.open(speed=0)


async def test_voice_keeps_what_it_was_shown(clock: VirtualClock) -> None:
    before = (CallerSpeech("caller/1", "Hello."),)
    synthesizer = ScriptedSynthesizer(realtime_factor=1.0, takes_context="audio")
    voice = await synthesizer.open()
    assert (voice.takes_context, (await ScriptedSynthesizer().open()).takes_context) == ("audio", "nothing")
    voice.prepare(before)
    async for _ in voice.speak("Good morning.", utterance="reply/1/1", context=before):
        voice.prepare(())
    assert synthesizer.prepared[:2] == [before, ()]
    assert synthesizer.spoken == [ScriptedSpeech("Good morning.", "reply/1/1", before)]
    assert synthesizer.overlaps == len(synthesizer.prepared) - 1, "asked while it spoke"


def test_energy_detector_hears_speech_and_not_silence() -> None:
    detector = EnergyVoiceActivity()
    streams = [detector.open() for _ in range(4)]
    windows = np.zeros((4, 256), np.float32)
    windows[1] = voiced_signal("hello", 0.1, 8_000)[64:320]
    windows[2] = 10 ** (-40 / 20)
    windows[3] = np.nan
    batched = detector.probabilities(streams, windows)
    assert batched == pytest.approx([0.0, 1.0, 0.5, 0.0], abs=0.15)
    for index, stream in enumerate(streams):
        alone = detector.probabilities([stream], windows[index : index + 1])
        assert alone[0] == batched[index]


def test_energy_detector_refuses_wrong_batches() -> None:
    detector = EnergyVoiceActivity()
    stream = detector.open()
    with pytest.raises(ValueError, match="twice"):
        detector.probabilities([stream, stream], np.zeros((2, 256), np.float32))
    with pytest.raises(ValueError, match="shape"):
        detector.probabilities([stream], np.zeros((1, 160), np.float32))
