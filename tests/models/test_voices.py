from pathlib import Path

import pytest

from models.base import ModelError
from models.catalogue import CATALOGUE, Entry, ModelFile
from models.csm.files import CheckpointError
from models.profiles import Profile
from models.store import Store
from models.voices import VoiceChoice, find_voice, voice_model_names, voice_name


def small(name: str) -> Entry:
    """An entry of the catalogue with its files cut down to a few bytes."""
    entry = CATALOGUE[name]
    files = tuple(ModelFile(file.name, 4, None) for file in entry.files)
    return Entry(name, entry.kind, name, files, entry.licence, 1, entry.main_file, entry.hub)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Everything installed but the fine-tuned voice."""
    table = {
        "small": Profile("small", "", stt="a", llm="b"),
        "grand": Profile("grand", "", stt="a", llm="b", tts="csm-1b"),
    }
    monkeypatch.setattr("models.profiles.PROFILES", table)
    names = ("csm-1b", "csm-1b-expresso", "mimi", "llama-3-tokenizer", "silero-vad")
    store = Store(tmp_path / "models", catalogue={name: small(name) for name in names})
    for name in ("csm-1b", "mimi", "llama-3-tokenizer"):
        folder = store.folder(name)
        folder.mkdir(parents=True)
        (folder / store.entry(name).files[0].name).write_bytes(b"some")
    return store


def own_folder(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"some")
    return folder


def test_the_profile_chooses_unless_somebody_asks(store: Store) -> None:
    assert voice_name("small", "") == ""
    assert voice_name("grand", "") == "csm-1b"
    assert voice_name("grand", "hibari") == ""
    assert voice_name("small", "csm-1b-expresso") == "csm-1b-expresso"
    assert voice_name("scripted", "") == ""
    assert voice_name("scripted", "/some/folder") == "/some/folder"


def test_a_voice_of_the_catalogue_with_codec_and_tokenizer(store: Store) -> None:
    problems: list[str] = []
    plan = find_voice("grand", VoiceChoice(), store, problems)
    assert plan is not None
    assert not problems
    assert plan.files.base == store.folder("csm-1b") / "model.safetensors"
    assert plan.files.mimi == store.folder("mimi") / "tokenizer-e351c8d8-checkpoint125.safetensors"
    assert plan.files.tokenizer == store.folder("llama-3-tokenizer") / "tokenizer.model"
    assert "Sesame" in plan.notice
    assert voice_model_names("grand", VoiceChoice(), store) == ("csm-1b", "mimi", "llama-3-tokenizer")


def test_all_that_is_missing_is_told_at_once(store: Store, tmp_path: Path) -> None:
    problems: list[str] = []
    (store.folder("mimi") / "tokenizer-e351c8d8-checkpoint125.safetensors").unlink()
    choice = VoiceChoice(tts="csm-1b-expresso", prompt=tmp_path / "no.safetensors")
    find_voice("small", choice, store, problems)
    told = " ".join(problems)
    assert "maya models pull csm-1b-expresso" in told
    assert "maya models pull mimi" in told
    assert "no.safetensors does not exist" in told


def test_a_folder_of_ones_own_needs_nothing_of_the_catalogue(store: Store, tmp_path: Path) -> None:
    folder = own_folder(
        tmp_path, "model_merged.pt", "mimi.safetensors", "tokenizer.json", "prompt.safetensors"
    )
    problems: list[str] = []
    choice = VoiceChoice(tts=str(folder))
    plan = find_voice("small", choice, store, problems)
    assert plan is not None
    assert not problems
    assert plan.files.base == folder / "model_merged.pt"
    assert plan.files.mimi == folder / "mimi.safetensors"
    assert plan.files.tokenizer == folder / "tokenizer.json"
    assert plan.files.prompt == folder / "prompt.safetensors"
    assert plan.notice == ""
    assert voice_model_names("small", choice, store) == ()


def test_what_a_folder_lacks_comes_from_the_catalogue_and_what_is_named_wins(
    store: Store, tmp_path: Path
) -> None:
    folder = own_folder(tmp_path, "model_merged.pt", "prompt.safetensors", "other.safetensors")
    choice = VoiceChoice(tts=str(folder), prompt=folder / "other.safetensors")
    plan = find_voice("small", choice, store, [])
    assert plan is not None
    assert plan.files.mimi == store.folder("mimi") / "tokenizer-e351c8d8-checkpoint125.safetensors"
    assert plan.files.prompt == folder / "other.safetensors"
    assert voice_model_names("small", choice, store) == ("mimi", "llama-3-tokenizer")


def test_a_file_can_be_the_voice(store: Store, tmp_path: Path) -> None:
    folder = own_folder(tmp_path, "mine.pt")
    plan = find_voice("small", VoiceChoice(tts=str(folder / "mine.pt")), store, [])
    assert plan is not None
    assert plan.files.base == folder / "mine.pt"


def test_a_name_that_is_nothing_lists_what_there_is(store: Store) -> None:
    with pytest.raises(ModelError, match=r"'csm-2b' is neither one of hibari, csm-1b, csm-1b-expresso"):
        find_voice("small", VoiceChoice(tts="csm-2b"), store, [])


def test_a_folder_without_a_model_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no CSM model"):
        find_voice("small", VoiceChoice(tts=str(own_folder(tmp_path))), store, [])
