from pathlib import Path

import numpy as np
import pytest
import torch

from models.base import Samples
from models.csm.checkpoint import open_checkpoint
from models.csm.files import CsmFiles
from models.csm.finetune.features import Extractor, FeatureCache, Features
from models.csm.model import CsmModel
from models.csm.rows import text_rows
from models.csm.shapes import CODEC_FRAME_SAMPLES, CONTEXT_ROWS
from models.mimi.opening import open_codec
from models.scripted import voiced_signal

TOKENS = [128_000, 91, 48, 93, 72, 105, 128_001]


@pytest.fixture(scope="module")
def model(base: CsmFiles) -> CsmModel:
    with open_checkpoint(base.base, hashed=False) as checkpoint:
        return CsmModel(checkpoint.shape, checkpoint)


@pytest.fixture(scope="module")
def extractor(base: CsmFiles, model: CsmModel) -> Extractor:
    assert base.mimi is not None
    return Extractor(model.hidden_states, open_codec("own", base.mimi))


def speech(codec_frames: float) -> Samples:
    return voiced_signal("hello", codec_frames * 0.08, 24_000)


def test_each_codec_frame_has_the_state_that_a_call_would_say_it_from(
    extractor: Extractor, model: CsmModel
) -> None:
    found = extractor(TOKENS, speech(4.5))
    assert found.codes.shape == (6, 32) and not found.codes[-1].any() and found.codes[:-1].any()
    cache = model.cache(1, 20)
    hidden = model.prefill(cache, 0, torch.from_numpy(text_rows(TOKENS)), 0)[None]
    for number, codes in enumerate(found.codes.long()):
        torch.testing.assert_close(hidden[0].to(torch.bfloat16), found.hidden[number], rtol=2e-2, atol=2e-2)
        one = torch.ones(1, dtype=torch.int64)
        hidden = model.step(cache, codes[None], one * (len(TOKENS) + number), one * 0, one > 0)


def test_a_clip_longer_than_the_context_loses_its_rest_and_its_end(extractor: Extractor) -> None:
    room = 12
    tokens = [128_000, *[65] * (CONTEXT_ROWS - room - 2), 128_001]
    long = extractor(tokens, speech(room + 2))
    assert long.codes.shape == (room, 32) and long.hidden.shape[0] == room and long.codes[-1].any()
    assert torch.equal(long.codes[:4], extractor(TOKENS, speech(room + 2)).codes[:4])
    fits = extractor(tokens, speech(room + 2)[: room * CODEC_FRAME_SAMPLES])
    assert len(fits.codes) == room + 1 and not fits.codes[-1].any()
    assert torch.equal(fits.hidden[:room], long.hidden)


def test_features_come_back_from_the_cache_by_all_that_they_depend_on(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ["base", "mimi"])
    features = Features(torch.ones(2, 32, dtype=torch.int16), torch.ones(2, 8, dtype=torch.bfloat16))
    path = cache.path([1, 2], b"audio")
    assert cache.load(path) is None
    cache.save(path, features)
    found = cache.load(path)
    assert found is not None and torch.equal(found.hidden, features.hidden)
    others = {
        cache.path([1, 3], b"audio"),
        cache.path([1, 2], b"other audio"),
        FeatureCache(tmp_path, ["other base", "mimi"]).path([1, 2], b"audio"),
    }
    assert len(others | {path}) == 4
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_damaged_file_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path, [])
    path = cache.path([1], b"")
    path.write_bytes(b"half a file")
    assert cache.load(path) is None
    assert "damaged" in caplog.text


def test_codes_are_those_of_the_codec(extractor: Extractor) -> None:
    codes = extractor.codes(np.zeros(CODEC_FRAME_SAMPLES * 2 + 1, np.float32))
    assert codes.shape == (3, 32) and codes.dtype == torch.int32
