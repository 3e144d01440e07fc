"""The store's daily work."""

import threading
from pathlib import Path

import pytest

from infra.store.engine import open_engine
from infra.store.retention import tidy_daily
from infra.store.settings import StoreSettings
from tests.infra.store_kit import began, hold, info, opened


class Waits(threading.Event):
    """Does not wait, but says how long it should have; the `most`-th time it is over."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.asked: list[float | None] = []
        self.over = threading.Event()
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        if len(self.asked) < self._most:
            return False
        self.over.set()
        return True


def test_while_the_database_is_away_it_is_tried_every_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/missing/maya.db"
    engine = open_engine(StoreSettings(url=url).database(tmp_path), writing=True)
    tries: list[int] = []

    def again() -> tuple[int, dict[str, str]]:
        tries.append(1)
        return 0, {"/calls/CA1": "Permission denied"}

    waits = Waits(3)
    tidy_daily(engine, 30.0, lambda: 0.0, again, waits)
    assert waits.over.wait(10)
    assert waits.asked[:3] == [3600.0, 3600.0, 3600.0]
    assert len(tries) == 3, "the one does not wait for the other"
    assert "old calls cannot be deleted" in caplog.text
    assert "/calls/CA1 still holds recordings of a caller who was forgotten: Permission denied" in caplog.text


def test_when_all_is_done_it_is_done_again_the_next_day(tmp_path: Path) -> None:
    store = opened(tmp_path)
    hold(store, info(), began(info()))
    assert store.flush()
    waits = Waits(2)
    tidy_daily(store._writing, 30.0, lambda: 1e11, lambda: (0, {}), waits)
    assert waits.over.wait(10)
    assert waits.asked[:2] == [86_400.0, 86_400.0]
    assert store.calls() == []
    store.close()


def test_where_nothing_is_old_calls_stay(tmp_path: Path) -> None:
    store = opened(tmp_path)
    hold(store, info(), began(info()))
    assert store.flush()
    waits = Waits(1)
    tidy_daily(store._writing, None, lambda: 1e11, lambda: (0, {}), waits)
    assert waits.over.wait(10)
    assert len(store.calls()) == 1
    store.close()
