import asyncio
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models import hibari
from models.base import ModelError, ModelFailed, ModelMissing
from models.hibari import (
    LONGEST_PIECE,
    RATE_HZ,
    REMEMBERED,
    HibariSynthesizer,
    SpokenPiece,
    finish,
    limit,
    pieces,
)


@pytest.fixture(scope="module")
def synthesizer() -> Iterator[HibariSynthesizer]:
    made = HibariSynthesizer()
    yield made
    asyncio.run(made.aclose())


async def speak(synthesizer: HibariSynthesizer, text: str, **options: float) -> np.ndarray:
    voice = await synthesizer.open(**options)
    chunks = [chunk async for chunk in voice.speak(text)]
    return np.concatenate([np.zeros(0, np.float32), *chunks])


def dbfs(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12))


@pytest.mark.models
async def test_voice_starts_at_once_at_telephone_level_without_clicks(synthesizer: HibariSynthesizer) -> None:
    levels = []
    for text in ("We are open until six.", "Yes.", "Your appointment is on Tuesday at half past nine."):
        audio = await speak(synthesizer, text)
        blocks = audio[: len(audio) // 240 * 240].reshape(-1, 240)
        level = 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-12)
        assert np.argmax(level > -40) * 10 <= 80, "the caller waits for silence"
        assert 300 <= np.argmax(level[::-1] > -60) * 10 <= 320, "the pause after a sentence"
        assert np.abs(audio).max() <= 10 ** (-3 / 20)
        assert abs(audio[0]) < 1e-3 and np.abs(np.diff(audio[-hibari.RATE_HZ // 3 :])).max() < 0.1
        levels.append(dbfs(np.concatenate(blocks[level > -45])))
    assert -21.5 <= np.mean(levels) <= -18.5


@pytest.mark.models
async def test_equal_texts_sound_equal_and_speed_changes_length(synthesizer: HibariSynthesizer) -> None:
    first = await speak(synthesizer, "Good morning, how can I help?")
    np.testing.assert_array_equal(first, await speak(synthesizer, "Good morning, how can I help?"))
    fast = await speak(synthesizer, "Good morning, how can I help?", speed=1.5)
    assert len(fast) < 0.8 * len(first)


@pytest.mark.models
@pytest.mark.parametrize("text", ["", "   ", "🙂", "...", "?!", "\n\n", "日本", "\x00"])
async def test_texts_without_words_are_silent(synthesizer: HibariSynthesizer, text: str) -> None:
    assert len(await speak(synthesizer, text)) == 0


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "don't 🙂 worry",
        "a" * 700,
        "[x](/y/) ((( ok",
        "\ud800 hi",
        "<b>1,2.3.4</b>",
        "①£",
        "1" + "0" * 50,
        "²",
    ],
)
async def test_odd_texts_are_survived(synthesizer: HibariSynthesizer, text: str) -> None:
    audio = await speak(synthesizer, text)
    assert np.isfinite(audio).all() and len(audio) > 1_000


@pytest.mark.models
async def test_a_long_text_begins_to_sound_before_it_is_done(synthesizer: HibariSynthesizer) -> None:
    voice = await synthesizer.open()
    asked: list[str] = []
    submit = synthesizer.submit

    def counting(model: object, text: str, speed: float) -> "asyncio.Future[SpokenPiece]":
        asked.append(text)
        return submit(model, text, speed)

    synthesizer.submit = counting  # type: ignore[method-assign]
    try:
        chunks = voice.speak("word " * 2_000)
        first = await anext(chunks)
        await chunks.aclose()
    finally:
        del synthesizer.submit  # type: ignore[method-assign]
    assert len(first) == hibari.RATE_HZ // 5
    assert len(asked) == 1 and len(asked[0]) <= LONGEST_PIECE


@pytest.mark.models
async def test_many_calls_share_the_worker_and_one_may_be_cancelled(synthesizer: HibariSynthesizer) -> None:
    alone = [await speak(synthesizer, f"This is call number {n}.") for n in range(8)]
    tasks = [asyncio.create_task(speak(synthesizer, f"This is call number {n}.")) for n in range(8)]
    tasks[3].cancel()
    spoken = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(spoken[3], asyncio.CancelledError)
    for n in (0, 1, 2, 4, 5, 6, 7):
        np.testing.assert_array_equal(spoken[n], alone[n])


@pytest.mark.models
async def test_other_voices_are_never_downloaded(
    synthesizer: HibariSynthesizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    with pytest.raises(ModelMissing, match=r"emma.*downloads no voices"):
        await synthesizer.open("emma")
    with pytest.raises(ModelError, match="heart, emma"):
        await synthesizer.open("nobody")
    with pytest.raises(ModelError, match="speed"):
        await synthesizer.open(speed=9)


@pytest.fixture
def damaged_voices(tmp_path: Path) -> Path:
    (tmp_path / "bf_emma.int8.onnx").write_bytes(b"not a voice")
    return tmp_path


@pytest.mark.models
async def test_a_damaged_voice_file_is_refused(
    synthesizer: HibariSynthesizer, monkeypatch: pytest.MonkeyPatch, damaged_voices: Path
) -> None:
    monkeypatch.setenv("HIBARI_HOME", str(damaged_voices))
    with pytest.raises(ModelMissing, match="damaged"):
        await synthesizer.open("emma")


@pytest.mark.models
async def test_a_failure_hurts_one_text_only(
    synthesizer: HibariSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hibari.synthesise

    def failing(voice: object, text: str, speed: float) -> SpokenPiece:
        if "fail" in text:
            raise RuntimeError("onnx says no")
        return real(voice, text, speed)

    monkeypatch.setattr(hibari, "synthesise", failing)
    with pytest.raises(ModelFailed, match="onnx says no"):
        await speak(synthesizer, "Please fail.")
    assert len(await speak(synthesizer, "Go on.")) > 0


def test_pieces_keep_every_word_in_order_and_stay_short() -> None:
    text = "One two. Three, four! " + "clause of words, " * 30 + "x" * 500 + " end?\nLast line 🙂"
    split = pieces(text)
    assert max(map(len, split)) <= LONGEST_PIECE
    assert "".join("".join(split).split()) == "".join(text.split())
    assert split[:2] == ["One two.", "Three, four!"]
    assert split[2].endswith(",")
    assert pieces("🙂 ... !") == []
    assert pieces("From nine A.M. to noon. At two P.M. We close.") == [
        "From nine A.M. to noon.",
        "At two P.M.",
        "We close.",
    ]


def test_limit_leaves_quiet_samples_and_keeps_loud_ones_below_the_ceiling() -> None:
    audio = np.linspace(-4, 4, 801, dtype=np.float32)
    limited = limit(audio)
    quiet = np.abs(audio) <= 0.5
    np.testing.assert_array_equal(limited[quiet], audio[quiet])
    assert np.abs(limited).max() <= 10 ** (-3 / 20) + 1e-6
    assert (np.diff(limited) >= 0).all()


def test_finish_gives_nothing_for_silence_and_for_broken_audio() -> None:
    assert len(finish(np.zeros(5_000, np.float32), "hi.")) == 0
    assert len(finish(np.zeros(0, np.float32), "hi.")) == 0
    assert len(finish(np.full(5_000, np.nan, np.float32), "hi.")) == 0


async def spoken_spans(
    synthesizer: HibariSynthesizer, text: str, **options: float
) -> tuple[list[tuple[float, float]], np.ndarray]:
    voice = await synthesizer.open(**options)
    chunks = [chunk async for chunk in voice.speak(text, utterance="one")]
    return list(voice.word_spans("one")), np.concatenate(chunks)


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "We are open from nine A.M. to noon on Saturday.",
        "Yes. No, not today: (perhaps) tomorrow — at 5 p.m., see part . Thank you!",
        'An "odd" text 🙂 with ① and [x](/y/) twenty-two don\'t',
        "word " * 120,
    ],
)
async def test_every_word_has_its_place_in_the_audio(synthesizer: HibariSynthesizer, text: str) -> None:
    spans, audio = await spoken_spans(synthesizer, text)
    assert len(spans) == len(text.split())
    borders = [border for span in spans for border in span]
    assert borders == sorted(borders) and borders[0] >= 0
    assert len(audio) / RATE_HZ - 0.36 <= borders[-1] <= len(audio) / RATE_HZ


@pytest.mark.models
async def test_pauses_belong_to_no_word_and_words_are_voiced(synthesizer: HibariSynthesizer) -> None:
    spans, audio = await spoken_spans(
        synthesizer, "The deposit, twenty; the rest, later. Take the book: it is black."
    )
    pauses = [(end, start) for (_, end), (start, _) in pairwise(spans) if start - end > 0.1]
    assert len(pauses) == 4, "at the first comma, the semicolon, the sentence and the colon"
    for start, end in pauses:
        assert dbfs(audio[round(start * RATE_HZ) : round(end * RATE_HZ) - RATE_HZ // 50]) < -45
    for start, end in spans:
        assert dbfs(audio[round(start * RATE_HZ) : round(end * RATE_HZ)]) > -35


@pytest.mark.models
async def test_faster_speech_moves_the_words_with_it(synthesizer: HibariSynthesizer) -> None:
    text = "Please bring your insurance card and a list of your medicines."
    slow, slow_audio = await spoken_spans(synthesizer, text)
    fast, fast_audio = await spoken_spans(synthesizer, text, speed=1.5)
    shares = [np.asarray([end for _, end in spans]) / spans[-1][1] for spans in (slow, fast)]
    assert len(fast_audio) < 0.8 * len(slow_audio)
    assert np.abs(shares[0] - shares[1]).max() < 0.06


@pytest.mark.models
async def test_words_of_a_long_text_are_known_from_the_first_chunk_on(synthesizer: HibariSynthesizer) -> None:
    text = "The first sentence is short. " + "Another one follows it, and it is longer. " * 8
    voice = await synthesizer.open()
    chunks = voice.speak(text, utterance="long")
    assert list(voice.word_spans("long")) == []
    await anext(chunks)
    early = list(voice.word_spans("long"))
    length = sum([len(chunk) async for chunk in chunks]) / RATE_HZ
    late = list(voice.word_spans("long"))
    assert len(early) == len(late) == len(text.split())
    assert early[:5] == late[:5]
    assert early[-1][1] == pytest.approx(late[-1][1], rel=0.3)
    assert late[-1][1] < length + hibari.RATE_HZ // 5 / RATE_HZ


@pytest.mark.models
async def test_shared_utterances_are_known_to_all_and_old_ones_forgotten(
    synthesizer: HibariSynthesizer,
) -> None:
    one, other = await synthesizer.open(), await synthesizer.open()
    faster = await synthesizer.open(speed=1.3)
    for utterance in ("shared/greeting", "own"):
        assert [chunk async for chunk in one.speak("Good morning.", utterance=utterance)]
    assert len(other.word_spans("shared/greeting")) == 2
    assert list(faster.word_spans("shared/greeting")) == []
    assert list(other.word_spans("own")) == [] and len(one.word_spans("own")) == 2
    for number in range(REMEMBERED):
        assert [chunk async for chunk in one.speak("Yes.", utterance=f"reply/{number}")]
    assert list(one.word_spans("own")) == [] and len(one.word_spans("reply/0")) == 1
    assert len(one.word_spans("shared/greeting")) == 2


@pytest.mark.models
async def test_a_voice_without_step_counts_speaks_and_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hibari, "with_step_counts", lambda network: network)
    silent_about_it = HibariSynthesizer()
    spans, audio = await spoken_spans(silent_about_it, "Good morning to you.")
    await silent_about_it.aclose()
    assert spans == [] and len(audio) > RATE_HZ // 2
