"""Mimi by moshi and by us: one suite for both, and one beside the other."""

import numpy as np
import pytest
import torch

from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_TINY
from models.csm.stepper import TorchStepper
from models.mimi.checkpoint import open_mimi
from models.mimi.config import CODEC_FRAME_SAMPLES, MIMI, MIMI_TINY
from models.mimi.moshi_codec import MoshiCodec
from models.mimi.names import ignorable, mimi_names
from models.mimi.opening import open_codec
from tests.golden import derive_mimi
from tests.golden import mimi_case as case
from tests.models.csm.engine_kit import Bench
from tests.models.csm.tiny_stepper import some_rows
from tests.models.mimi.golden import GOLDEN, LIMITS, answers, differences
from tests.peers.moshi_mimi import SizedMoshi, save

N = 12


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save(tmp_path_factory.mktemp("mimi") / "tiny.safetensors", MIMI_TINY, case.SEED)


@pytest.fixture(scope="module")
def full_file(tmp_path_factory):
    return save(tmp_path_factory.mktemp("mimi") / "full.safetensors", MIMI, case.SEED)


@pytest.fixture(scope="module")
def both(file):
    return {"own": open_mimi(file), "moshi": SizedMoshi(file, MIMI_TINY)}


@pytest.fixture(scope="module", params=["own", "moshi"])
def codec(both, request):
    return both[request.param]


@pytest.fixture(scope="module")
def codes():
    return torch.from_numpy(case.codes())[: 4 * N].view(4, N, 32)


@pytest.fixture(scope="module")
def whole(both, codes):
    return both["moshi"].decode(codes).view(4, N, CODEC_FRAME_SAMPLES)


def slots_of(*numbers):
    return torch.tensor(numbers)


# --- one suite for both ---


def test_the_golden_vectors(codec):
    found = differences(codec)
    assert {what: apart for what, apart in found.items() if not apart <= LIMITS[what]} == {}


def test_slots_join_pause_and_reset_at_any_codec_frame(codec, codes, whole):
    decoder = codec.decoder(3)
    heard = dict.fromkeys(range(4), 0)
    plan = [{0: 0}, {0: 0, 2: 1}, {2: 1}, {1: 2, 0: 0}, {2: 1, 1: 2, 0: 0}, {1: 2}]
    for seats in plan * 2:
        batch = torch.stack([codes[stream, heard[stream]] for stream in seats.values()])
        pcm = decoder.step(batch, slots_of(*seats))
        for row, stream in zip(pcm, seats.values(), strict=True):
            assert (row - whole[stream, heard[stream]]).abs().max() <= 1e-5
            heard[stream] += 1
    decoder.reset(2)
    pcm = decoder.step(torch.stack((codes[3, 0], codes[0, heard[0]])), slots_of(2, 0))
    assert (pcm[0] - whole[3, 0]).abs().max() <= 1e-5
    assert (pcm[1] - whole[0, heard[0]]).abs().max() <= 1e-5


def test_the_encoders_slots(codec, both, whole):
    audio = 3 * whole.flatten(1)
    expected = both["moshi"].encode(audio)
    encoder = codec.encoder(3)
    encoder.step(audio[:1, : 2 * CODEC_FRAME_SAMPLES], slots_of(2))
    encoder.reset(2)
    pieces = audio[1:3].split(4 * CODEC_FRAME_SAMPLES, 1)
    found = torch.cat([encoder.step(piece, slots_of(2, 0)) for piece in pieces], 1)
    assert torch.equal(found, expected[1:3])


def test_a_whole_that_ends_within_a_codec_frame(codec, both, whole):
    audio = 3 * whole.flatten(1)[:, : 5 * CODEC_FRAME_SAMPLES + 300]
    assert codec.encode(audio).shape == (4, 6, 32)
    assert torch.equal(codec.encode(audio), both["moshi"].encode(audio))
    assert codec.decode(torch.zeros(2, 0, 32, dtype=torch.int64)).shape == (2, 0)
    assert codec.encode(torch.zeros(2, 0)).shape == (2, 0, 32)


def test_codes_that_are_none(codec):
    assert codec.decoder(1).step(torch.tensor([[-1, *[2050] * 31]]), slots_of(0)).isfinite().all()


def test_an_utterance_streamed_through_the_engine(codec, both):
    """CSM's tiny size speaks; two slots, one of them cut. What came out is what the codes decode to."""
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3))
    bench = Bench(TorchStepper(model, codec, 2, 128))
    slots = [bench.engine.open() for _ in range(2)]
    heard = [bench.say(slot, some_rows(slot), most=8, seed=slot, temperature=0.9) for slot in slots]
    while len(heard[1].frames) < 3:
        bench.step()
    bench.engine.cancel(slots[1])
    bench.run()
    assert [len(one.frames) >= least for one, least in zip(heard, (8, 3), strict=True)] == [True, True]
    for one in heard:
        said = torch.tensor(np.stack([frame.codes for frame in one.frames])).long()
        expected = both["moshi"].decode(said[None])[0].numpy()
        assert np.abs(np.concatenate([frame.pcm for frame in one.frames]) - expected).max() <= 1e-5


# --- one beside the other ---


def test_moshis_names_and_shapes(both, full_file):
    for name, config in (("tiny", MIMI_TINY), ("full", MIMI)):
        mimi = both["moshi"] if name == "tiny" else MoshiCodec(full_file)
        state = mimi._whole.state_dict()
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if not ignorable(key)}
        assert shapes == mimi_names(config)


def test_mimis_own_size_through_the_adapter(full_file):
    n = 6
    ours = answers(open_codec("own", full_file), LIMITS, n)
    theirs = answers(open_codec("moshi", full_file), LIMITS, n)
    for what, limit in LIMITS.items():
        assert (ours[what] - theirs[what]).abs().max() <= limit, what


def test_the_golden_vectors_are_what_moshi_says(tmp_path):
    assert derive_mimi.derive(tmp_path / "mimi.npz")
    with np.load(GOLDEN) as kept, np.load(tmp_path / "mimi.npz") as fresh:
        assert set(kept) == set(fresh)
        for name in kept:
            assert np.abs(kept[name].astype(float) - fresh[name].astype(float)).max() <= 1e-5, name
