import gc
from collections.abc import Iterator

import pytest

from telephony.collector import YOUNG, spare_what_is_loaded


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_loaded_is_not_looked_through_again() -> None:
    loaded = [{"number": number} for number in range(1_000)]
    spare_what_is_loaded()
    assert gc.get_freeze_count() > 10_000
    seen = {id(thing) for thing in gc.get_objects()}
    assert not any(id(thing) in seen for thing in loaded)


def test_rings_that_calls_leave_behind_are_still_collected() -> None:
    spare_what_is_loaded()
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert gc.collect() >= 1


def test_rings_are_looked_for_once_there_may_be_many() -> None:
    found: list[int] = []

    def watch(phase: str, told: dict[str, int]) -> None:
        if phase == "stop":
            found.append(told["collected"])

    spare_what_is_loaded()
    gc.callbacks.append(watch)
    try:
        for _ in range(2 * YOUNG):
            ring: list[object] = []
            ring.append(ring)
    finally:
        gc.callbacks.remove(watch)
    assert len(found) <= 3
    assert sum(found) >= YOUNG - 1_000
