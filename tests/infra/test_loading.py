"""How many calls the models are loaded for, by the settings and by the machine."""

from typing import Any

import pytest

import infra.cluster.loading as replicas
from infra.loading import capacity_of
from infra.settings import Settings
from models import load
from models.voices import VoiceChoice

TWO_CORES = 3
"""Calls that the bundled models take on them."""


def settings(**told: object) -> Settings:
    return Settings.model_validate({"profile": "embedded", **told})


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "usable_cores", lambda: 2)


def test_what_is_left_out_follows_from_the_cores() -> None:
    assert capacity_of(settings()).calls == TWO_CORES
    assert capacity_of(settings(capacity={"calls": 9})).calls == 9
    assert capacity_of(settings(capacity={"llm": 5})).llm == 5


def test_a_processor_takes_by_itself_what_its_cores_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {}
    for cores in (1, 2, 3, 4, 64):
        monkeypatch.setattr(load, "usable_cores", lambda cores=cores: cores)
        taken[cores] = load.machine_calls("embedded")
        assert (load.machine_calls("maya"), load.machine_calls("scripted")) == (12, 6)
    assert taken == {1: 1, 2: 3, 3: 4, 4: 6, 64: 6}


def test_replicas_elsewhere_do_not_go_by_the_cores_of_this_machine() -> None:
    two = {f"{role}_replicas": 2 for role in ("stt", "llm", "tts")}
    assert capacity_of(settings(cluster={"address": "head:6379", **two})).calls == 6 * 2
    assert capacity_of(settings(), here=False).calls == 6


def test_stand_ins_take_many_calls_unless_a_real_voice_speaks() -> None:
    assert capacity_of(settings(profile="scripted")).calls == 100
    assert capacity_of(settings(profile="scripted", tts="voices/mine")).calls == 6


@pytest.mark.parametrize(
    ("told", "slots"),
    [({}, 6), ({"capacity": {"tts": 32}}, 32), ({"capacity": {"tts": 32}, "tts_slots": 8}, 8)],
)
def test_a_replica_of_the_voice_has_the_slots_that_it_says(
    told: dict[str, Any], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[VoiceChoice] = []

    def load_synthesizer(*args: object, voice: VoiceChoice, **options: object) -> object:
        loaded.append(voice)
        return object()

    monkeypatch.setattr(replicas, "load_synthesizer", load_synthesizer)
    _, said = replicas.load_role("tts", {"profile": "tiny", "tts": "voices/mine", **told}, on_gpu=False)
    assert loaded[0].slots == slots
    assert said >= slots
