import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import whisper
from models.base import STT_RATE_HZ, ModelError, ModelFailed, ModelLate, ModelMissing, Transcript
from models.catalogue import WHISPER_TINY_EN, WindowPolicy
from models.hibari import HibariSynthesizer
from models.store import Store
from models.whisper import TooLong, WhisperTranscriber
from pipeline.resample import from_pcm, resample, to_pcm
from telephony import g711

pytestmark = pytest.mark.models


def over_the_phone(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    """Through 8 kHz mu-law and up to 16 kHz, as the pipeline hands it to the transcriber."""
    return resample(
        from_pcm(g711.decode(g711.encode(to_pcm(resample(audio, rate_hz, 8_000))))), 8_000, 16_000
    )


def say(*texts: str) -> list[np.ndarray]:
    async def speak() -> list[np.ndarray]:
        synthesizer = HibariSynthesizer()
        voice = await synthesizer.open()
        spoken = []
        for text in texts:
            chunks = [chunk async for chunk in voice.speak(text)]
            spoken.append(over_the_phone(np.concatenate(chunks), voice.sample_rate_hz))
        await synthesizer.aclose()
        return spoken

    return asyncio.run(speak())


@pytest.fixture(scope="module")
def folder() -> Path:
    return Store().path("whisper-tiny.en")


@pytest.fixture(scope="module")
def transcriber(folder: Path) -> Iterator[WhisperTranscriber]:
    assert WHISPER_TINY_EN.window is not None
    made = WhisperTranscriber(folder, WHISPER_TINY_EN.window, threads=1)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    return say(
        "I would like to book an appointment for Tuesday.",
        "What time do you close today?",
        "Yes.",
        "Good morning, may I speak to Doctor Okafor, please?",
    )


async def test_a_sentence_from_the_phone_is_understood(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    heard = await transcriber.transcribe(sentences[0])
    assert heard.text == "I would like to book an appointment for Tuesday."
    assert heard.duration_s == pytest.approx(len(sentences[0]) / STT_RATE_HZ)
    assert heard.mean_log_probability > -0.5 and heard.no_speech_probability < 0.3


@pytest.mark.parametrize("gain_db", [-36, -24, -12, 6, 20])
async def test_quiet_and_clipped_speech_is_understood(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], gain_db: float
) -> None:
    audio = np.clip(sentences[1] * 10 ** (gain_db / 20), -1, 1)
    heard = await transcriber.transcribe(over_the_phone(audio, STT_RATE_HZ))
    assert heard.text == "What time do you close today?"


async def test_a_single_word_and_leading_silence(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    assert (await transcriber.transcribe(sentences[2])).text.strip(".!") == "Yes"
    late = np.concatenate([np.zeros(STT_RATE_HZ, np.float32), sentences[1]])
    assert (await transcriber.transcribe(late)).text == "What time do you close today?"


def noise_named(kind: str, seconds: float) -> np.ndarray:
    count = round(seconds * STT_RATE_HZ)
    time = np.arange(count) / STT_RATE_HZ
    white = np.random.default_rng(5).standard_normal(count)
    spectrum = np.fft.rfft(white)
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / STT_RATE_HZ), 20)
    tones = {
        "silence": np.zeros(count),
        "white": white,
        "pink": np.fft.irfft(spectrum / np.sqrt(hertz), count),
        "hum": sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3)),
        "dtmf": ((time * 4) % 1 < 0.5) * (np.sin(2 * np.pi * 770 * time) + np.sin(2 * np.pi * 1336 * time)),
        "beeps": ((time % 2) < 1) * np.sin(2 * np.pi * 440 * time),
        "square": np.sign(np.sin(2 * np.pi * 170 * time)),
        "click": (np.arange(count) == count // 2).astype(float),
        "offset": np.full(count, 0.9),
    }
    sound = tones[kind] / max(1e-9, np.abs(tones[kind]).max())
    return over_the_phone(sound.astype(np.float32) * 0.3, STT_RATE_HZ)


@pytest.mark.parametrize("seconds", [0.6, 3.0])
@pytest.mark.parametrize(
    "kind", ["silence", "white", "pink", "hum", "dtmf", "beeps", "square", "click", "offset"]
)
async def test_noise_has_no_words(transcriber: WhisperTranscriber, kind: str, seconds: float) -> None:
    heard = await transcriber.transcribe(noise_named(kind, seconds))
    assert heard.text == ""


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.full(200, 0.5, np.float32),
        np.full(16_000, np.nan, np.float32),
        np.full(16_000, np.inf, np.float32),
        np.full(16_000, 1e30, np.float32),
        np.zeros(30 * STT_RATE_HZ, np.float32),
    ],
)
async def test_broken_audio_has_no_words(transcriber: WhisperTranscriber, audio: np.ndarray) -> None:
    heard = await transcriber.transcribe(audio)
    assert heard.text == "" and heard.duration_s == len(audio) / STT_RATE_HZ


async def test_broken_samples_inside_speech_cost_little(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    audio = sentences[1].copy()
    audio[5_000:5_040] = np.nan
    assert (await transcriber.transcribe(audio)).text == "What time do you close today?"


async def test_more_than_thirty_seconds_are_refused(transcriber: WhisperTranscriber) -> None:
    with pytest.raises(TooLong, match=r"31\.0 s"):
        await transcriber.transcribe(np.zeros(31 * STT_RATE_HZ, np.float32))


async def test_an_unknown_language_is_refused(transcriber: WhisperTranscriber) -> None:
    with pytest.raises(ModelError, match="'de'"):
        await transcriber.transcribe(np.zeros(STT_RATE_HZ, np.float32), language="de")


async def test_hot_words_decide_a_spelling_and_are_not_recited(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    hot_words = "Dr. Okafor, Riverside"
    heard = await transcriber.transcribe(sentences[3], hot_words=hot_words)
    assert "Okafor" in heard.text
    assert (await transcriber.transcribe(sentences[1], hot_words=hot_words)).text.startswith("What time")
    for kind in ("white", "hum"):
        assert (await transcriber.transcribe(noise_named(kind, 2.0), hot_words=hot_words)).text == ""
    endless = await transcriber.transcribe(sentences[1], hot_words="word " * 5_000)
    assert isinstance(endless.text, str)


async def test_many_requests_come_back_in_order_each_with_its_own_words(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    finished: list[int] = []

    async def ask(number: int) -> str:
        text = (await transcriber.transcribe(sentences[number % 3])).text
        finished.append(number)
        return text

    texts = await asyncio.gather(*(ask(number) for number in range(9)))
    assert finished == list(range(9))
    assert texts[:3] * 3 == texts
    assert len(set(texts[:3])) == 3


@pytest.fixture(scope="module")
def in_batches(folder: Path) -> Iterator[WhisperTranscriber]:
    assert WHISPER_TINY_EN.window is not None
    made = WhisperTranscriber(folder, WHISPER_TINY_EN.window, threads=1, batch=4)
    asyncio.run(made.transcribe(np.zeros(STT_RATE_HZ, np.float32)))  # comes after the worker's first job
    yield made
    asyncio.run(made.aclose())


async def hear_all(transcriber: WhisperTranscriber, clips: list[np.ndarray]) -> list[Transcript]:
    return await asyncio.gather(*(transcriber.transcribe(clip, hot_words="Okafor") for clip in clips))


async def test_a_batch_hears_what_each_clip_says_alone(
    transcriber: WhisperTranscriber,
    in_batches: WhisperTranscriber,
    sentences: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same words with the same evidence: speech of other levels, noise, silence, and another window."""
    clips = [
        *sentences,
        sentences[0] * np.float32(0.02),
        noise_named("white", 3.0),
        np.zeros(STT_RATE_HZ, np.float32),
        np.concatenate([sentences[3], sentences[0], sentences[1], sentences[3]]),
        sentences[2] * np.float32(3.0),
    ]
    sizes: list[int] = []
    real = in_batches._decode

    def decode(*given: Any) -> list[tuple[whisper.Decoded, int]]:
        sizes.append(given[-1])
        return real(*given)

    monkeypatch.setattr(in_batches, "_decode", decode)
    together, alone = await hear_all(in_batches, clips), await hear_all(transcriber, clips)
    assert max(sizes) > 1
    assert [heard.text for heard in together] == [heard.text for heard in alone]
    assert [heard.mean_log_probability for heard in together] == pytest.approx(
        [heard.mean_log_probability for heard in alone], abs=1e-3
    )


async def test_a_loop_in_a_batch_is_looked_at_again_and_its_neighbours_do_not_wait(
    in_batches: WhisperTranscriber, sentences: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = in_batches._decode
    finished: list[int] = []

    def stuck(*given: Any) -> list[tuple[whisper.Decoded, int]]:
        decoded = real(*given)
        if len(decoded) > 1:
            decoded[0] = (("so I said so I said so I said so I said", -0.1, 0.0, False), 16)
        return decoded

    async def ask(number: int) -> str:
        text = (await in_batches.transcribe(sentences[number])).text
        finished.append(number)
        return text

    held = asyncio.create_task(in_batches.transcribe(sentences[1]))
    await asyncio.sleep(0.02)  # it runs, so the next ones wait together
    monkeypatch.setattr(in_batches, "_decode", stuck)
    texts = await asyncio.gather(*(ask(number) for number in (0, 1, 3)))
    await held
    assert texts[0] == "I would like to book an appointment for Tuesday."
    assert texts[1] == "What time do you close today?"
    assert finished[-1] == 0


async def test_a_request_that_is_cancelled_in_a_batch_takes_nobody_with_it(
    in_batches: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    tasks = [asyncio.create_task(in_batches.transcribe(sentences[number % 2])) for number in range(6)]
    await asyncio.sleep(0.02)
    for task in tasks[1:4]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [False, *[True] * 3, False, False]
    assert not in_batches._requests


async def test_the_earliest_deadline_is_heard_first(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray]
) -> None:
    finished: list[str] = []

    async def ask(name: str, deadline_s: float | None) -> None:
        await transcriber.transcribe(sentences[1], deadline_s=deadline_s)
        finished.append(name)

    running = asyncio.create_task(ask("running", None))
    await asyncio.sleep(0.02)
    await asyncio.gather(ask("none", None), ask("later", 9.0), ask("sooner", 8.0), running)
    assert finished == ["running", "sooner", "later", "none"]


async def test_what_comes_too_late_is_told_in_time_and_costs_nothing(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], counted: list[float]
) -> None:
    long = asyncio.create_task(transcriber.transcribe(np.concatenate(sentences)))
    await asyncio.sleep(0.02)
    with pytest.raises(ModelLate):
        await transcriber.transcribe(sentences[1], deadline_s=0.01)
    assert not long.done()
    await long
    assert (await transcriber.transcribe(sentences[1], deadline_s=60.0)).text
    assert len(counted) == 2


@pytest.fixture
async def counted(
    transcriber: WhisperTranscriber, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[float]]:
    """Windows that were encoded, in seconds."""
    await transcriber.transcribe(np.zeros(STT_RATE_HZ, np.float32))  # comes after the worker's first job
    encoded: list[float] = []
    real = transcriber._encode

    def encode(audio: np.ndarray, window_s: float) -> object:
        encoded.append(window_s)
        return real(audio, window_s)

    monkeypatch.setattr(transcriber, "_encode", encode)
    yield encoded


async def test_cancelled_requests_are_dropped_and_the_loop_is_never_blocked(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], counted: list[float]
) -> None:
    tasks = [asyncio.create_task(transcriber.transcribe(sentences[0])) for _ in range(6)]
    await asyncio.sleep(0)  # all are queued; the first may run already
    for task in tasks[1:5]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [False, *[True] * 4, False]
    assert len(counted) == 2


async def test_the_window_is_speech_and_silence_above_the_floor(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], counted: list[float]
) -> None:
    await transcriber.transcribe(sentences[1])
    await transcriber.transcribe(np.concatenate([sentences[0]] * 5)[: 12 * STT_RATE_HZ])
    assert counted[0] == 10.0
    assert counted[1] == pytest.approx(13.0)


async def test_a_loop_is_looked_at_again_through_thirty_seconds(
    transcriber: WhisperTranscriber,
    sentences: list[np.ndarray],
    counted: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = transcriber._decode
    looks = 0

    def stuck_twice(*given: object) -> list[tuple[whisper.Decoded, int]]:
        nonlocal looks
        looks += 1
        if looks <= 2:
            return [(("so I said so I said so I said so I said", -0.1, 0.0, False), 16)]
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(transcriber, "_decode", stuck_twice)
    assert (await transcriber.transcribe(sentences[1])).text == "What time do you close today?"
    assert counted == [10.0, 30.0] and looks == 3


async def test_a_real_loop_of_a_window_that_is_too_short_is_mended(
    folder: Path, sentences: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    """tiny.en in a window without any silence loops on some of these; the guard must notice."""
    tight = WhisperTranscriber(folder, WindowPolicy(floor_s=1.0, trailing_silence_s=0.0), threads=1)
    voiced = [audio[:-2_000] for audio in sentences[:2]]
    with caplog.at_level("INFO", logger="models.whisper"):
        texts = [(await tight.transcribe(audio)).text for audio in voiced]
    await tight.aclose()
    assert len(caplog.records) >= 1, "no loop: the guard was not tried"
    assert texts[0].lower().startswith("i would like to book") and len(texts[0]) < 60
    assert texts[1].lower().startswith("what time do you close") and len(texts[1]) < 40


async def test_one_failure_does_not_end_the_worker(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def fail(*given: object) -> None:
            raise RuntimeError("out of memory")

        patch.setattr(transcriber, "_encode", fail)
        with pytest.raises(ModelFailed, match="out of memory"):
            await transcriber.transcribe(sentences[1])
    assert (await transcriber.transcribe(sentences[1])).text == "What time do you close today?"


@pytest.fixture(scope="module")
def beginnings() -> dict[str, np.ndarray]:
    """The first 0.4 s, the silence before included, of words over the phone."""
    words = ("Okay.", "Yeah.", "Right.", "Stop.", "What about Sunday?", "Sorry, I meant the other one.")
    return {word: audio[: round(0.4 * STT_RATE_HZ)] for word, audio in zip(words, say(*words), strict=True)}


@pytest.mark.parametrize("word", ["Okay.", "Yeah.", "Right."])
async def test_a_glimpse_takes_a_listeners_word_for_one(
    transcriber: WhisperTranscriber, beginnings: dict[str, np.ndarray], word: str
) -> None:
    seen = await transcriber.glimpse(beginnings[word])
    assert seen.backchannel > 0.7 and seen.text


@pytest.mark.parametrize("word", ["Stop.", "What about Sunday?", "Sorry, I meant the other one."])
async def test_a_glimpse_sees_who_wants_to_speak(
    transcriber: WhisperTranscriber, beginnings: dict[str, np.ndarray], word: str
) -> None:
    seen = await transcriber.glimpse(beginnings[word])
    assert seen.speech > 0.8
    assert seen.backchannel + seen.noise + seen.speech == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["white", "pink", "silence"])
async def test_a_glimpse_at_noise_sees_nobody(transcriber: WhisperTranscriber, kind: str) -> None:
    assert (await transcriber.glimpse(noise_named(kind, 0.4))).noise > 0.6


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(0, np.float32),
        np.full(200, 0.5, np.float32),
        np.full(6_400, np.nan, np.float32),
        np.full(6_400, 1e30, np.float32),
        np.full(31 * STT_RATE_HZ, 0.1, np.float32),
    ],
)
async def test_a_glimpse_at_broken_audio_says_something_sane(
    transcriber: WhisperTranscriber, audio: np.ndarray
) -> None:
    seen = await transcriber.glimpse(audio, language="xx")
    assert seen.backchannel + seen.noise + seen.speech == pytest.approx(1.0)


async def test_a_glimpse_overtakes_transcriptions_that_run_and_wait(
    transcriber: WhisperTranscriber, sentences: list[np.ndarray], beginnings: dict[str, np.ndarray]
) -> None:
    await transcriber.glimpse(beginnings["Okay."])  # comes after the worker's first job
    finished: list[str] = []

    async def hear() -> None:
        text = (await transcriber.transcribe(np.concatenate(sentences))).text
        finished.append(text)

    async def glimpse() -> None:
        await transcriber.glimpse(beginnings["Okay."])
        finished.append("glimpse")

    await asyncio.gather(hear(), hear(), hear(), glimpse())
    assert finished.index("glimpse") < 2
    texts = {text for text in finished if text != "glimpse"}
    assert len(texts) == 1 and "appointment" in texts.pop()


async def test_a_cancelled_glimpse_is_dropped_and_a_failing_one_says_so(
    transcriber: WhisperTranscriber, beginnings: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [asyncio.create_task(transcriber.glimpse(beginnings["Okay."])) for _ in range(4)]
    await asyncio.sleep(0)
    for task in tasks[1:3]:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended] == [False, True, True, False]
    with monkeypatch.context() as patch:
        patch.setattr(whisper, "judge", lambda *given, **named: 1 / 0)
        with pytest.raises(ModelFailed, match="glimpse"):
            await transcriber.glimpse(beginnings["Okay."])
    assert (await transcriber.glimpse(beginnings["Okay."])).backchannel > 0.7


async def test_another_model_may_glimpse(folder: Path, beginnings: dict[str, np.ndarray]) -> None:
    two = WhisperTranscriber(folder, WindowPolicy(floor_s=10.0), threads=1, glimpse_folder=folder)
    assert two._glimpser is not two._model
    assert (await two.glimpse(beginnings["Stop."])).speech > 0.8
    await two.aclose()
    with pytest.raises(ModelFailed):
        await two.glimpse(beginnings["Stop."])
    with pytest.raises(ModelMissing, match="models pull"):
        WhisperTranscriber(folder, WindowPolicy(floor_s=10.0), threads=1, glimpse_folder=folder / "absent")


async def test_after_closing_requests_fail_and_do_not_hang(folder: Path, sentences: list[np.ndarray]) -> None:
    closing = WhisperTranscriber(folder, WindowPolicy(floor_s=10.0), threads=1)
    waiting = [asyncio.create_task(closing.transcribe(sentences[0])) for _ in range(3)]
    await asyncio.sleep(0)
    await closing.aclose()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(ended[2], ModelFailed)
    with pytest.raises(ModelFailed):
        await closing.transcribe(sentences[0])


def test_a_missing_or_damaged_folder_names_the_mending_command(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelMissing, match="models pull"):
        WhisperTranscriber(tmp_path / "whisper-base", WindowPolicy(floor_s=8.0), threads=1)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(ModelMissing, match="cannot be loaded"):
        WhisperTranscriber(tmp_path, WindowPolicy(floor_s=8.0), threads=1)


def test_module_needs_no_pipeline() -> None:
    assert "pipeline" not in Path(whisper.__file__).read_text(encoding="utf-8")
