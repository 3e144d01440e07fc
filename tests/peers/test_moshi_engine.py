"""Calls through the engine with moshi for a codec: the same codes as with ours, and the same sound."""

from pathlib import Path

import numpy as np
import pytest

from models.csm.stepper import TorchStepper
from models.mimi.checkpoint import open_mimi
from models.mimi.codec import Codec
from models.mimi.config import MIMI_TINY
from tests.models.csm.engine_kit import Bench, Heard
from tests.models.csm.tiny_stepper import some_rows, tiny_model
from tests.peers.moshi_mimi import SizedMoshi, save


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Codec]:
    file: Path = save(tmp_path_factory.mktemp("mimi") / "mimi.safetensors", MIMI_TINY, 3)
    return open_mimi(file), SizedMoshi(file, MIMI_TINY)


def calls(codec: Codec) -> tuple[list[Heard], list[np.ndarray | None]]:
    """Three calls that overlap; the second is interrupted and speaks again, the third's caller is encoded."""
    bench = Bench(TorchStepper(tiny_model(), codec, 3, 128))
    slots = [bench.engine.open() for _ in range(3)]
    got: list[np.ndarray | None] = []
    heard = [bench.say(slots[0], some_rows(0), most=12, seed=0), bench.say(slots[1], some_rows(1), most=30)]
    while len(heard[1].frames) < 3:
        bench.step()
    bench.engine.cancel(slots[1])
    audio = np.random.default_rng(0).normal(0, 0.1, 1920 * 9).astype(np.float32)
    bench.engine.encode(slots[2], audio, got.append)
    heard += [bench.say(slots[2], some_rows(2), most=8), bench.say(slots[1], some_rows(4), most=6)]
    bench.run()
    return heard, got


def test_calls_are_the_same_through_both(codecs: tuple[Codec, Codec]):
    (ours, our_codes), (theirs, their_codes) = calls(codecs[0]), calls(codecs[1])
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.ends == other.ends and mine.codes == other.codes
        for a, b in zip(mine.frames, other.frames, strict=True):
            np.testing.assert_allclose(a.pcm, b.pcm, atol=1e-5)
    assert our_codes[0] is not None and their_codes[0] is not None
    np.testing.assert_array_equal(our_codes[0], their_codes[0])
