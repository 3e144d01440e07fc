"""Greetings with their truth, and whole ones heard by the bundled models."""

import re

import numpy as np
import pytest

from bench import amd
from bench.greetings import building, greetings
from bench.greetings.building import Greeting, Source
from bench.greetings.held_out import HELD_OUT
from bench.greetings.texts import TUNING, TUNING_TOO, Texts
from models.profiles import find_profile
from models.silero import SileroVoiceActivity
from models.store import Store
from models.whisper import WhisperTranscriber
from pipeline.answer_judge import Verdict
from pipeline.line import LINE_RATE_HZ

KINDS = ("people", "shops", "own_machines", "network_machines", "shop_machines")


def sentences(texts: Texts) -> set[str]:
    """Of three words and more: everybody says hello."""
    said = (
        re.sub(r"\W+", " ", sentence.lower()).strip() for kind in KINDS for sentence in getattr(texts, kind)
    )
    return {sentence for sentence in said if sentence.count(" ") >= 2}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Greeting]:
    """One round of one sentence of each kind."""
    texts = Texts(
        people=("Hello?",),
        shops=("Good morning, {shop}, how can I help you?",),
        own_machines=("Hi, you've reached {name}. Please leave a message after the tone.",),
        network_machines=("The person you are calling is not available.",),
        shop_machines=("You have reached {shop}. Our office is closed.",),
        fillings={"shop": ("Baker and Sons",), "name": ("Robert",)},
    )
    old = building.PARTS["tuning"][0]
    source = Source("few", texts, old.voices, old.noises, old.beeps_hz)
    monkeypatch.setattr(building, "PARTS", {"tuning": (source,)})
    monkeypatch.setattr(building, "ROUNDS", 1)
    return greetings("tuning")


def test_the_parts_share_no_sentence() -> None:
    shared = len((sentences(TUNING) | sentences(TUNING_TOO)) & sentences(HELD_OUT))
    assert shared == 0  # a count: whoever tunes does not read the held-out part in a failure


def test_greetings_are_the_same_each_time_and_begin_where_they_say(few: list[Greeting]) -> None:
    again = greetings("tuning")
    assert [greeting.kind for greeting in few] == list(KINDS)
    for greeting, other in zip(few, again, strict=True):
        np.testing.assert_array_equal(greeting.line, other.line)
        before = greeting.line[: greeting.begins].astype(float)
        voice = greeting.line[greeting.begins : greeting.ends].astype(float)
        assert np.sqrt(np.mean(voice**2)) > 3 * np.sqrt(np.mean(before**2))
        assert greeting.machine == greeting.kind.endswith("machines")
        assert "{" not in greeting.text
        assert "|" not in greeting.text


@pytest.mark.models
async def test_who_answers_is_heard_by_the_bundled_models(few: list[Greeting]) -> None:
    store, profile = Store(None), find_profile("embedded")
    window = store.entry(profile.stt).window
    assert window is not None
    transcriber = WhisperTranscriber(store.path(profile.stt), window, threads=2)
    detector = SileroVoiceActivity(store.path(profile.vad))
    try:
        for greeting in few:
            verdict, at_s = await amd.judged(greeting, detector, transcriber)
            assert verdict.answerer == ("machine" if greeting.machine else "somebody"), greeting.text
            assert at_s > greeting.begins / LINE_RATE_HZ
            if greeting.machine:
                assert amd.listened_at(greeting, detector) >= greeting.ends
    finally:
        await transcriber.aclose()


def test_the_report_counts_a_wrong_verdict_and_names_it(few: list[Greeting]) -> None:
    class Deaf:
        def open(self) -> object:
            return object()

        def probabilities(self, streams: object, windows: np.ndarray) -> list[float]:
            return [0.0] * len(windows)

    outcomes = [
        (greeting, Verdict("somebody", greeting.ends, "waits for us"), greeting.begins / LINE_RATE_HZ + 2.0)
        for greeting in few
    ]
    report = amd._report("tuning", "embedded", outcomes, Deaf())  # type: ignore[arg-type]
    assert report.figures["amd_accuracy"] == pytest.approx(0.4)
    assert report.figures["amd_p95_ms"] == 2000
    assert [wrong["kind"] for wrong in report.details["wrong"]] == list(KINDS[2:])
