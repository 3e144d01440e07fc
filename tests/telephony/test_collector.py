import gc
from collections.abc import Iterator

import pytest

from telephony.collector import spare_what_is_loaded


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    yield
    gc.unfreeze()


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
