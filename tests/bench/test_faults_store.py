"""The bench of the store's faults counts what is missing, and says what could not be made."""

from pathlib import Path

import pytest
from sqlalchemy import text

from bench import faults_store
from infra.store.settings import StoreSettings
from infra.store.store import CallStore


def test_a_turn_that_is_missing_is_counted(tmp_path: Path) -> None:
    store = CallStore.open(StoreSettings(), tmp_path)

    def lose_two() -> None:
        with store._writing.begin() as connection:
            connection.execute(text("DELETE FROM turns WHERE call_id = 'bench-1' AND turn = 1"))
            connection.execute(text("UPDATE turns SET caller = 'x' WHERE call_id = 'bench-0' AND turn = 2"))

    found = faults_store._through("none", store, 2, 0.1, lambda: None, lose_two)
    store.close()
    assert found.turns_lost == 2
    assert found.turns >= 4


def test_what_cannot_be_made_is_said_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_store, "_postgres_programs", lambda: None)
    found = faults_store.database_down(1.0, 1)
    assert "PostgreSQL is not installed" in found.skipped
    assert faults_store.as_json([found])["turns_lost"] is None
