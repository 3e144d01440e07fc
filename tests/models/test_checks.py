import shutil
from pathlib import Path

import pytest

from models import checks
from models.checks import Check, check_models
from models.profiles import Profile
from models.store import Store
from tests.models import store_kit as kit

ENTRIES = {
    name: kit.make_entry(name, {"model.bin": [("p", "m", name.encode() * 100)]}, kind="stt")
    for name in ("ear", "mind", "gate")
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    table = {"small": Profile("small", "small", stt="ear", llm="mind", vad="gate")}
    monkeypatch.setattr("models.profiles.PROFILES", table)
    store = Store(tmp_path / "models", catalogue=ENTRIES)
    for name in ENTRIES:
        store.folder(name).mkdir(parents=True)
        (store.folder(name) / "model.bin").write_bytes(name.encode() * 100)
    return store


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_all_is_well(store: Store) -> None:
    found = check_models("small", store)
    assert [check.name for check in found if check.state == "failed"] == []
    assert {"model ear", "model mind", "model gate", "memory of cpu", "devices", "llama-cpp-python"} <= set(
        by_name(found)
    )


def test_a_damaged_model_has_a_mending_command(store: Store) -> None:
    (store.folder("mind") / "model.bin").write_bytes(b"short")
    found = by_name(check_models("small", store))
    assert found["model mind"].state == "failed"
    assert "5 bytes (expected 400 bytes" in found["model mind"].message
    assert found["model mind"].mend == "maya models pull mind"
    assert found["disk for models"].state == "ok"


def test_full_finds_damage_of_the_same_size(store: Store) -> None:
    (store.folder("ear") / "model.bin").write_bytes(b"x" * 300)
    assert by_name(check_models("small", store))["model ear"].state == "ok"
    assert by_name(check_models("small", store, full=True))["model ear"].state == "failed"


def test_too_little_disk_for_what_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(store.folder("ear"))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 3))
    found = by_name(check_models("small", store))
    assert found["model ear"].state == "failed"
    assert found["disk for models"].state == "failed"
    assert "MAYA_MODELS" in found["disk for models"].mend


def test_little_memory_is_a_warning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "free_bytes", lambda device: 1000)
    assert by_name(check_models("small", store))["memory of cpu"].state == "warning"


def test_a_missing_package(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checks.importlib.util.find_spec
    monkeypatch.setattr(
        checks.importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else real(name)
    )
    missing = by_name(check_models("small", store))["llama-cpp-python"]
    assert missing.state == "failed"
    assert missing.mend.startswith("pip install")


def test_stand_ins_need_nothing(store: Store) -> None:
    assert [check.state for check in check_models("scripted", store)] == ["ok"]
