import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from models import load
from models.base import STT_RATE_HZ, Message, ModelError, ModelMissing
from models.catalogue import Entry, UnknownModel, WindowPolicy
from models.load import PackageMissing, load_models, load_synthesizer, model_names
from models.placement import CPU, Device, PlacementError
from models.profiles import Profile
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from models.store import Store
from models.voices import VoiceChoice
from pipeline.resample import resample
from tests.models import store_kit as kit

WINDOW = WindowPolicy(floor_s=9.0)


def small(name: str, kind: Any, main_file: str | None, window: WindowPolicy | None = None) -> Entry:
    file = main_file or "model.bin"
    made = kit.make_entry(name, {file: [("p", "m", name.encode())]}, kind=kind, main_file=main_file)
    return Entry(made.name, made.kind, made.title, made.files, made.licence, 1, main_file, None, window)


ENTRIES = {
    entry.name: entry
    for entry in (
        small("ear", "stt", None, WINDOW),
        small("mouthpiece", "llm", "m.gguf"),
        small("other", "llm", "o.gguf"),
        small("gate", "vad", "gate.onnx"),
    )
}
PROFILE = Profile("small", "small", stt="ear", llm="mouthpiece", vad="gate", sequences=3, context_tokens=999)
GPU = Profile("gpu", "gpu", stt="ear", llm="mouthpiece", vad="gate", gpu=True)


class Recorder:
    """Stands in for a model class and keeps what it was made with."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options = args, options


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """All small models, installed."""
    root = tmp_path / "models"
    for entry in ENTRIES.values():
        (root / entry.name).mkdir(parents=True)
        (root / entry.name / entry.files[0].name).write_bytes(entry.name.encode())
    return Store(root, catalogue=ENTRIES)


@pytest.fixture(autouse=True)
def stand_in_classes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("models"):
        return
    classes = {
        "silero": "SileroVoiceActivity",
        "hibari": "HibariSynthesizer",
        "whisper": "WhisperTranscriber",
        "llama": "LlamaChat",
    }
    for module, name in classes.items():
        made = ModuleType(f"models.{module}")
        setattr(made, name, type(name, (Recorder,), {}))
        monkeypatch.setitem(sys.modules, f"models.{module}", made)
    monkeypatch.setattr("models.profiles.PROFILES", {"small": PROFILE, "gpu": GPU})


def made(model: Any) -> Recorder:
    assert isinstance(model, Recorder)
    return model


def test_a_profile_is_loaded_from_the_store(store: Store) -> None:
    models = load_models("small", store, threads=5)
    ear, chat = made(models.transcriber), made(models.chat)
    assert ear.args == (store.root / "ear", WINDOW)
    options = {"threads": 5, "compute_type": "int8", "device": "cpu", "device_index": 0}
    assert ear.options == {**options, "glimpse_folder": None}
    assert chat.args == (store.root / "mouthpiece" / "m.gguf",)
    assert chat.options == {
        "threads": 5,
        "context_tokens": 999,
        "sequences": 3,
        "gpu_layers": 0,
        "main_gpu": 0,
    }
    assert made(models.voice_activity).args == (store.root / "gate" / "gate.onnx",)


def test_threads_default_to_the_usable_cores(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "usable_cores", lambda: 3)
    assert made(load_models("small", store).chat).options["threads"] == 3
    monkeypatch.setattr(load, "usable_cores", lambda: 64)
    assert made(load_models("small", store).chat).options["threads"] == 8


@pytest.mark.parametrize(
    ("cuda", "device", "compute", "layers"), [(True, "cuda", "float16", -1), (False, "cpu", "int8", 0)]
)
def test_a_gpu_profile_takes_the_gpu_if_there_is_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, cuda: bool, device: str, compute: str, layers: int
) -> None:
    monkeypatch.setattr(load, "cuda_devices", lambda: int(cuda))
    models = load_models("gpu", store)
    assert made(models.transcriber).options["device"] == device
    assert made(models.transcriber).options["compute_type"] == compute
    assert made(models.chat).options["gpu_layers"] == layers


def test_each_model_goes_where_it_was_put(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "cuda_devices", lambda: 3)
    models = load_models("small", store, devices="stt=cuda:1,llm=cuda:2")
    assert made(models.transcriber).options["device_index"] == 1
    assert made(models.transcriber).options["device"] == "cuda"
    assert made(models.chat).options["main_gpu"] == 2
    assert made(models.chat).options["gpu_layers"] == -1


def test_a_device_that_is_not_there_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "cuda_devices", lambda: 0)
    with pytest.raises(PlacementError, match=r"llm=cuda:0.*--profile embedded"):
        load_models("small", store, devices="llm=cuda:0")


@pytest.fixture
def own_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that could hold CSM, and a `load_csm` that only says what it was given."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("model_merged.pt", "mimi.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"")
    assembly = ModuleType("models.csm.assembly")
    assembly.load_csm = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models.csm.assembly", assembly)
    return folder


@pytest.mark.parametrize(("profile", "slots"), [("small", 3), ("scripted", 6)])
def test_a_voice_of_csm_is_loaded_where_it_was_put(
    store: Store, own_voice: Path, profile: str, slots: int
) -> None:
    choice = VoiceChoice(tts=str(own_voice), weights="w8a8")
    voice = made(load_models(profile, store, threads=5, voice=choice, devices="tts=cpu").synthesizer)
    plan, chosen, devices = voice.args
    assert plan.files.base == own_voice / "model_merged.pt"
    assert (chosen, devices) == (choice, (CPU,))
    assert voice.options == {"slots": slots, "threads": 5}


def test_slots_are_the_operators_or_the_profiles_shared_by_the_devices(
    store: Store, own_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "torch_cuda_devices", lambda: 2)
    monkeypatch.setattr(load, "cuda_devices", lambda: 2)
    devices = "tts=cuda:0,tts=cuda:1"
    for asked, slots in ((None, 2), (16, 16)):
        choice = VoiceChoice(tts=str(own_voice), slots=asked)
        voice = made(load_synthesizer("small", store, voice=choice, devices=devices))
        assert voice.options["slots"] == slots
        assert voice.args[2] == (Device("cuda", 0), Device("cuda", 1))


def test_more_calls_than_a_device_can_speak_for_are_refused_in_plain_words(
    store: Store, own_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "torch_cuda_devices", lambda: 2)
    monkeypatch.setattr(load, "cuda_devices", lambda: 2)
    voice = VoiceChoice(tts=str(own_voice))
    with pytest.raises(ModelError, match=r"at most 64 calls on each device, not for 100: lower \[capacity\]"):
        load_models("small", store, voice=voice, devices="tts=cpu", calls=100)
    assert load.voice_slots("small", voice, 2, 128) == 64
    with pytest.raises(ModelError, match="tts_slots"):
        load.voice_slots("small", VoiceChoice(tts=str(own_voice), slots=65), 2)


def test_the_voice_alone_needs_no_other_model(tmp_path: Path, own_voice: Path) -> None:
    empty = Store(tmp_path / "nothing", catalogue=ENTRIES)
    choice = VoiceChoice(tts=str(own_voice))
    assert made(load_synthesizer("small", empty, voice=choice, devices="tts=cpu"))
    with pytest.raises(ModelMissing, match="maya models pull ear"):
        load_models("small", empty, voice=choice, devices="tts=cpu")


def test_a_voice_of_csm_without_a_gpu_says_what_works(
    store: Store, own_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "torch_cuda_devices", lambda: 0)
    with pytest.raises(PlacementError, match=r"--profile embedded.*tts=cpu"):
        load_models("small", store, voice=VoiceChoice(tts=str(own_voice)))


def test_weights_that_the_device_cannot_multiply(store: Store, own_voice: Path) -> None:
    choice = VoiceChoice(tts=str(own_voice), weights="int8")
    with pytest.raises(PlacementError, match="int8 does not run on cpu"):
        load_synthesizer("small", store, voice=choice, devices="tts=cpu")


def test_the_bundled_voice_can_be_asked_for(store: Store) -> None:
    hibari = type(load_models("small", store).synthesizer)
    assert type(load_models("scripted", store, voice=VoiceChoice(tts="hibari")).synthesizer) is hibari


def test_another_language_model_by_name_or_path(store: Store, tmp_path: Path) -> None:
    assert made(load_models("small", store, llm="other").chat).args == (store.root / "other" / "o.gguf",)
    own = tmp_path / "own.gguf"
    with pytest.raises(ModelMissing, match=r"own\.gguf is not a file"):
        load_models("small", store, llm=str(own))
    own.write_bytes(b"GGUF")
    assert made(load_models("small", store, llm=str(own)).chat).args == (own,)


def test_a_licence_that_wants_to_be_seen_is_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    load_models("small", store)
    assert "Built with" not in caplog.text
    monkeypatch.setitem(ENTRIES, "other", replace(ENTRIES["other"], licence=kit.CLOSED_LICENCE))
    load_models("small", store, llm="other")
    assert "Built with Strict" in caplog.text


def test_a_model_of_the_wrong_kind(store: Store) -> None:
    with pytest.raises(ModelError, match=r"ear is no llm model. Of that kind are: mouthpiece, other"):
        load_models("small", store, llm="ear")
    with pytest.raises(UnknownModel, match="'eer'"):
        load_models("small", store, stt="eer")


def test_all_missing_models_are_named_before_anything_is_loaded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ear", "gate"):
        file = store.root / name / ENTRIES[name].files[0].name
        file.unlink()
    monkeypatch.setattr(load, "_import_models", lambda *names: pytest.fail("loaded too early"))
    with pytest.raises(ModelMissing, match=r"maya models pull ear.*maya models pull gate"):
        load_models("small", store)


def test_a_missing_package_is_one_sentence_with_the_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "models.whisper")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)

    def import_module(name: str) -> ModuleType:
        if name == "models.whisper":
            raise ModuleNotFoundError("No module named 'faster_whisper'", name="faster_whisper")
        return sys.modules[name]

    monkeypatch.setattr(load.importlib, "import_module", import_module)
    with pytest.raises(
        PackageMissing, match=r"The profile small needs the package faster_whisper.*pip install"
    ) as caught:
        load_models("small", store)
    assert "\n" not in str(caught.value)


def test_a_profile_may_glimpse_with_another_transcriber(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(PROFILE, glimpser="ear")
    monkeypatch.setattr("models.profiles.PROFILES", {"small": small})
    assert model_names("small") == ("ear", "mouthpiece", "gate", "ear")
    ear = made(load_models("small", store).transcriber)
    assert ear.options["glimpse_folder"] == store.root / "ear"


def test_an_unknown_profile(store: Store) -> None:
    with pytest.raises(ModelError, match=r"'big'.*small, gpu, scripted"):
        load_models("big", store)


def test_stand_ins_need_no_models(tmp_path: Path) -> None:
    models = load_models("scripted", Store(tmp_path / "none"))
    assert isinstance(models.transcriber, ScriptedTranscriber)
    assert isinstance(models.chat, ScriptedChat)
    assert isinstance(models.synthesizer, ScriptedSynthesizer)
    assert isinstance(models.voice_activity, EnergyVoiceActivity)


def test_names_to_pull() -> None:
    assert model_names("small") == ("ear", "mouthpiece", "gate")
    assert model_names("small", llm="/x/own.gguf", stt="other-ear") == ("other-ear", "gate")
    assert model_names("scripted") == ()


@pytest.mark.models
async def test_the_tiny_profile_really_loads_and_works() -> None:
    models = await asyncio.to_thread(load_models, "tiny", Store(), threads=1)
    try:
        voice = await models.synthesizer.open()
        speech = [chunk async for chunk in voice.speak("Good morning.")]
        audio = resample(np.concatenate(speech), voice.sample_rate_hz, STT_RATE_HZ)
        heard = await models.transcriber.transcribe(audio)
        assert "good morning" in heard.text.lower()
        session = await models.chat.open([Message("system", "Answer in one word.")])
        pieces = [piece async for piece in session.reply([Message("user", heard.text)], max_tokens=8)]
        assert "".join(pieces).strip()
        await session.aclose()
    finally:
        await models.aclose()
