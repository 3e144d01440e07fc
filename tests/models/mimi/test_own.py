"""Slots of the streaming decoder and encoder: each its own, whatever the others do."""

import pytest
import torch

from models.mimi.config import CODEC_FRAME_SAMPLES
from models.mimi.random_mimi import random_mimi

N = 12


@pytest.fixture(scope="module")
def mimi():
    return random_mimi(2, tiny=True)


@pytest.fixture(scope="module")
def codes():
    return torch.randint(0, 2048, (4, N, 32), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def audio(mimi, codes):
    return 3 * mimi.decode(codes)


@pytest.fixture(scope="module")
def whole(mimi, codes):
    return mimi.decode(codes).view(4, N, CODEC_FRAME_SAMPLES)


def slots_of(*numbers):
    return torch.tensor(numbers)


def test_a_stream_is_the_whole_in_pieces(mimi, codes, whole):
    decoder = mimi.decoder(4)
    for at in range(N):
        pcm = decoder.step(codes[:, at], slots_of(0, 1, 2, 3))
        assert pcm.shape == (4, CODEC_FRAME_SAMPLES)
        assert pcm.dtype == torch.float32
        assert (pcm - whole[:, at]).abs().max() < 1e-5


def test_slots_join_pause_and_reset_at_any_codec_frame(mimi, codes, whole):
    """Each stream is heard as if it were alone, in whatever slot and company it goes on."""
    decoder = mimi.decoder(3)
    heard = dict.fromkeys(range(4), 0)
    plan = [{0: 0}, {0: 0, 2: 1}, {2: 1}, {1: 2, 0: 0}, {2: 1, 1: 2, 0: 0}, {1: 2}]
    for seats in plan * 2:
        slots, streams = list(seats), list(seats.values())
        pcm = decoder.step(torch.stack([codes[s, heard[s]] for s in streams]), slots_of(*slots))
        for row, stream in zip(pcm, streams, strict=True):
            assert (row - whole[stream, heard[stream]]).abs().max() < 1e-5
            heard[stream] += 1
    decoder.reset(2)
    pcm = decoder.step(torch.stack((codes[3, 0], codes[0, heard[0]])), slots_of(2, 0))
    assert (pcm[0] - whole[3, 0]).abs().max() < 1e-5
    assert (pcm[1] - whole[0, heard[0]]).abs().max() < 1e-5


def test_what_others_say_changes_no_bit(mimi, codes):
    def second_of(others):
        decoder, said = mimi.decoder(4), []
        for at in range(N):
            batch = torch.full((4, 32), others)
            batch[1] = codes[1, at]
            said.append(decoder.step(batch, slots_of(0, 1, 2, 3))[1])
        return torch.stack(said)

    assert torch.equal(second_of(0), second_of(2047))


def test_other_slots_past_changes_no_bit(mimi, codes):
    alone, company = mimi.decoder(2), mimi.decoder(2)
    for at in range(3):
        company.step(codes[:1, at], slots_of(0))
    both = torch.stack((codes[0, 5], codes[1, 0]))
    assert torch.equal(alone.step(both, slots_of(0, 1))[1], company.step(both, slots_of(0, 1))[1])


def test_a_slot_that_failed_is_well_after_a_reset(mimi, codes, whole):
    decoder = mimi.decoder(2)
    decoder.step(codes[:2, 0], slots_of(0, 1))
    for tensor in (*decoder._state.upsampling, *decoder._state.coarse, *decoder._state.fine):
        tensor[1] = torch.nan
    decoder._state.ring.keys[:, 1] = decoder._state.ring.values[:, 1] = torch.nan
    pcm = decoder.step(codes[:2, 1], slots_of(0, 1))
    assert (pcm[0] - whole[0, 1]).abs().max() < 1e-5
    assert pcm[1].isnan().any()
    decoder.reset(1)
    assert (decoder.step(codes[1:2, 0], slots_of(1))[0] - whole[1, 0]).abs().max() < 1e-5


def test_codes_that_are_none_do_not_take_the_device_down(mimi):
    """Before the first codebook's entries, and behind the last one's, there is nothing to read."""
    codes = torch.tensor([[-1, *[2050] * 31], [-(2**60), *[2**60] * 31]])
    pcm = mimi.decoder(2).step(codes, slots_of(0, 1))
    assert pcm.isfinite().all()
    assert torch.equal(pcm[0], mimi.decoder(2).step(codes.clamp(0, 2047), slots_of(0, 1))[0])


def test_encoding_in_a_stream_in_slots_and_in_pieces(mimi, audio):
    codes = mimi.encode(audio)
    assert codes.shape == (4, N, 32)
    assert codes.dtype == torch.int64
    assert len(codes.unique()) > 300
    for together in (1, 3, N):
        encoder = mimi.encoder(5)
        encoder.step(audio[:2, : 2 * CODEC_FRAME_SAMPLES], slots_of(4, 2))
        encoder.reset(2)
        found = [
            encoder.step(piece, slots_of(2, 0))
            for piece in audio[2:].split(together * CODEC_FRAME_SAMPLES, 1)
        ]
        assert torch.equal(torch.cat(found, 1), codes[2:])


def test_whole_encoding_fills_the_last_codec_frame_with_zeros(mimi, audio):
    cut = audio[:1, : 5 * CODEC_FRAME_SAMPLES + 700]
    filled = torch.nn.functional.pad(cut, (0, CODEC_FRAME_SAMPLES - 700))
    assert torch.equal(mimi.encode(cut), mimi.encode(filled))
    assert mimi.encode(cut).shape == (1, 6, 32)


def test_nothing_is_nothing(mimi):
    assert mimi.decode(torch.zeros(2, 0, 32, dtype=torch.int64)).shape == (2, 0)
    assert mimi.encode(torch.zeros(2, 0)).shape == (2, 0, 32)


def test_a_long_whole_goes_through_in_chunks(mimi, codes):
    """More steps than a chunk of the convolutions and than a block of the attention's queries."""
    said = codes.reshape(1, -1, 32).repeat(1, 4, 1)
    pcm = mimi.decode(said)
    assert pcm.shape == (1, 4 * 4 * N * CODEC_FRAME_SAMPLES)
    decoder = mimi.decoder(1)
    streamed = torch.cat([decoder.step(said[:, at], slots_of(0)) for at in range(125)], 1)
    assert (streamed - pcm[:, : 125 * CODEC_FRAME_SAMPLES]).abs().max() < 1e-5


def test_nothing_is_asked_of_the_device():
    """On "meta" a tensor has no content: what would wait for the device raises. So a step may be captured."""
    mimi = random_mimi(0, tiny=True, device="meta")
    slots = torch.zeros(2, dtype=torch.int64, device="meta")
    pcm = mimi.decoder(3).step(torch.zeros(2, 32, dtype=torch.int64, device="meta"), slots)
    assert pcm.shape == (2, CODEC_FRAME_SAMPLES)
    codes = mimi.encoder(3).step(torch.zeros(2, 2 * CODEC_FRAME_SAMPLES, device="meta"), slots)
    assert codes.shape == (2, 2, 32)
    mimi.decoder(3).reset(1)


@pytest.mark.gpu
def test_a_captured_step_goes_on_where_the_last_one_ended(mimi, codes, whole):
    cuda = random_mimi(2, tiny=True, device="cuda")
    decoder = cuda.decoder(4)
    given, slots = torch.zeros(4, 32, dtype=torch.int64, device="cuda"), torch.arange(4, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            decoder.step(given, slots)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pcm = decoder.step(given, slots)
    for slot in range(4):
        decoder.reset(slot)
    for at in range(N):
        given.copy_(codes[:, at])
        graph.replay()
        assert (pcm.cpu() - whole[:, at]).abs().max() < 1e-4
