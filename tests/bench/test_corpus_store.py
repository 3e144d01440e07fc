from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import Corpus, store
from bench.corpus.store import corpus, digest
from tests.bench.corpora import corpus as small


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store._cached.cache_clear()
    yield
    store._cached.cache_clear()


def test_what_is_read_is_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(12)
    asked: list[int] = []

    def build(progress: object) -> Corpus:
        asked.append(1)
        return made

    monkeypatch.setattr(store, "build", build)
    first = corpus()
    store._cached.cache_clear()
    second = corpus("held_out")
    assert asked == [1]
    for read in (first, second):
        assert replace(read, digest="") == made
        for one, other in zip((*read.turns, *read.overlaps), (*made.turns, *made.overlaps), strict=True):
            assert np.array_equal(one.pcm, other.pcm) and one.pcm.dtype == np.int16
            assert not one.pcm.flags.writeable
    assert not corpus("tuning").turns and first.digest == digest()


def test_the_cache_lies_under_the_digest_of_all_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "build", lambda progress: small(2))
    corpus()
    assert [path.name for path in (tmp_path / "maya").iterdir()] == [f"corpus-{digest()}"]
    with_or_without = {digest()}
    for there in (True, False):
        monkeypatch.setattr(store, "has_flite", lambda there=there: there)
        with_or_without.add(digest())
    assert len(with_or_without) == 2
