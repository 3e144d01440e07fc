"""The model against itself: in pieces and whole, alone and in company, with a cache and without. What its
numbers should be is told by the golden vectors (test_golden)."""

from functools import cache

import pytest
import torch

from models.csm.cache import attend_whole
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.sampling import Draw
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CSM_TINY, MIMI_BINS

SHAPE = CSM_TINY
WEIGHTS = ("full", "w8a8", "int8")


@cache
def tiny(weights="full"):
    return CsmModel(SHAPE, RandomTensors(SHAPE, 3), weights=weights)


def some_rows(seed, n_text=9, n_audio=14):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((n_text + n_audio, CODEBOOKS + 1), -1, dtype=torch.int32)
    rows[:n_text, CODEBOOKS] = torch.randint(0, 128_000, (n_text,), generator=generator).int()
    rows[n_text:, :CODEBOOKS] = torch.randint(0, MIMI_BINS, (n_audio, CODEBOOKS), generator=generator).int()
    return rows


def begin(model, cache, seeds):
    """Prefill slot i with rows of seeds[i], of different lengths. Returns hidden states and positions."""
    prompts = [some_rows(seed, n_text=5 + seed % 4) for seed in seeds]
    hidden = [model.prefill(cache, slot, prompt, 0) for slot, prompt in enumerate(prompts)]
    return torch.stack(hidden), torch.tensor([len(prompt) for prompt in prompts])


def draw(seeds, index=0, temperature=0.9):
    b = len(seeds)
    return Draw(
        torch.tensor(seeds), torch.full((b,), index), torch.full((b,), temperature), torch.ones(b).bool()
    )


def speak(model, seeds, n=3, temperature=0.9):
    """Codes (n, b, 32) and hidden states (n, b, dim) of `n` ticks of slots 0, 1, ..."""
    cache, b = model.cache(len(seeds), 64), len(seeds)
    hidden, positions = begin(model, cache, seeds)
    found, states = [], []
    for index in range(n):
        codes, finite = model.codec_frame(hidden, draw(seeds, index, temperature))
        assert finite.all()
        hidden = model.step(cache, codes, positions + index, torch.arange(b), torch.ones(b).bool())
        found.append(codes)
        states.append(hidden)
    return torch.stack(found), torch.stack(states)


def test_a_prefill_in_pieces_is_the_prefill_whole():
    model, rows = tiny(), some_rows(1)
    cache = model.cache(3, 32)
    whole = model.hidden_states(rows)
    model.prefill(cache, 2, rows[:4], 0)
    model.prefill(cache, 2, rows[4:5], 4)
    last = model.prefill(cache, 2, rows[5:], 5)
    torch.testing.assert_close(last, whole[-1], rtol=1e-5, atol=1e-5)
    assert not cache.k[:, :2].any(), "other slots are not touched"


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_decode_step_is_a_prefill_of_one_row(weights):
    model, rows = tiny(weights), some_rows(2)
    cache = model.cache(2, 32)
    prefilled = model.prefill(cache, 0, rows, 0)
    model.prefill(cache, 1, rows[:-1], 0)
    position, one = torch.tensor([len(rows) - 1]), torch.tensor([1])
    stepped = model.step(cache, rows[-1:, :CODEBOOKS].long(), position, one, torch.tensor([True]))[0]
    limit = 1e-5 if weights == "full" else 5e-2  # bfloat16 keys of other roundings, then 8 bits
    assert (stepped - prefilled).abs().max() < limit


def test_rows_do_not_fit():
    model, rows = tiny(), some_rows(1)
    cache = model.cache(1, 20)
    with pytest.raises(ValueError, match="rows 0 to 23 do not fit a cache of 20"):
        model.prefill(cache, 0, rows, 0)
    with pytest.raises(ValueError, match="do not fit"):
        model.prefill(cache, 0, rows[:0], 5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_company_changes_no_bit(weights):
    model = tiny(weights)
    codes, hidden = speak(model, [11, 12, 13, 14])
    others, theirs = speak(model, [21, 12, 23, 31])
    assert torch.equal(codes[:, 1], others[:, 1]) and torch.equal(hidden[:, 1], theirs[:, 1])
    assert not torch.equal(codes[:, 0], others[:, 0])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_logits_agree_across_batch_sizes(weights):
    model = tiny(weights)
    hidden, _ = begin(model, model.cache(8, 64), range(8))
    codes = torch.randint(0, MIMI_BINS, (8, CODEBOOKS), generator=torch.Generator().manual_seed(0))
    eight = model.forced_logits(hidden, codes)
    for b in (1, 2, 4):
        fewer = model.forced_logits(hidden[:b], codes[:b])
        assert (fewer - eight[:b]).abs().max() / eight.abs().max() < 1e-4


def test_8_bit_sums_are_the_same_at_every_batch_size():
    model = tiny("w8a8")
    codes, hidden = speak(model, [11, 12, 13])
    alone, mine = speak(model, [11])
    assert torch.equal(codes[:, 0], alone[:, 0])
    torch.testing.assert_close(hidden[:, 0], mine[:, 0], rtol=1e-4, atol=1e-4)


def test_forced_codes_give_the_logits_they_were_chosen_from():
    model = tiny()
    hidden, _ = begin(model, model.cache(3, 64), [1, 2, 3])
    codes, _ = model.codec_frame(hidden, draw([1, 2, 3], temperature=0.0))
    logits = model.forced_logits(hidden, codes)
    assert logits.shape == (3, CODEBOOKS, AUDIO_VOCABULARY) and logits.dtype == torch.float32
    assert torch.equal(logits[..., :MIMI_BINS].argmax(-1), codes)


def test_31_passes_are_one_pass_over_32_positions():
    """The decoder with its cache against the decoder without, its inputs projected one by one."""
    source = RandomTensors(SHAPE, 3)
    model = tiny()
    hidden, _ = begin(model, model.cache(1, 64), [4])
    codes = torch.randint(0, MIMI_BINS, (1, CODEBOOKS), generator=torch.Generator().manual_seed(5))
    places = codes[0, :-1] + torch.arange(CODEBOOKS - 1) * AUDIO_VOCABULARY
    inputs = torch.cat([hidden, source["audio_embeddings.weight"].float()[places]])
    x = inputs @ source["projection.weight"].float().T
    out = model._decoder(x, model._decoder_turns, attend_whole())
    logits = torch.einsum("pd,pdv->pv", out[1:], source["audio_head"].float())
    torch.testing.assert_close(model.forced_logits(hidden, codes)[0, 1:], logits, rtol=1e-4, atol=1e-4)


def test_columns_of_a_row_are_added_where_they_are_valid():
    model, source = tiny(), RandomTensors(SHAPE, 3)
    both = torch.full((2, CODEBOOKS + 1), -1)
    both[0, 3], both[0, CODEBOOKS], both[1, :CODEBOOKS] = 17, 99, 0
    audio, text = source["audio_embeddings.weight"].float(), source["text_embeddings.weight"].float()
    found = model._embed_rows(both)
    torch.testing.assert_close(found[0], audio[3 * AUDIO_VOCABULARY + 17] + text[99])
    zeros = audio[torch.arange(CODEBOOKS) * AUDIO_VOCABULARY].sum(0)
    torch.testing.assert_close(found[1], zeros)
    torch.testing.assert_close(model._embed_codes(both[1:, :CODEBOOKS])[0], zeros)


def test_an_inactive_slot_changes_nothing_and_stays_finite():
    for way in ("rows", "batch"):
        model = CsmModel(SHAPE, RandomTensors(SHAPE, 3))
        model.cache_attention = way
        cache = model.cache(4, 32)
        begin(model, cache, [1, 2, 3])
        before = cache.k.clone()
        active = torch.tensor([True, False, False, False])
        positions = torch.tensor([25, 999, 32, 0])  # A full slot's, and nonsense.
        hidden = model.step(cache, torch.zeros(4, 32).long(), positions, torch.arange(4), active)
        assert hidden.isfinite().all()
        assert torch.equal(cache.k[:, 1:], before[:, 1:]) and not torch.equal(cache.k, before)


def test_both_ways_to_attend_speak_alike():
    at_once = CsmModel(SHAPE, RandomTensors(SHAPE, 3))
    at_once.cache_attention = "batch"
    codes, hidden = speak(tiny(), [1, 2, 3], temperature=0.0)
    same, near = speak(at_once, [1, 2, 3], temperature=0.0)
    assert torch.equal(codes, same)
    torch.testing.assert_close(hidden, near, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_not_a_number_in_one_row_is_told_and_stays_there(weights):
    model = tiny(weights)
    hidden, _ = begin(model, model.cache(4, 64), [1, 2, 3, 4])
    clean, _ = model.codec_frame(hidden, draw([1, 2, 3, 4]))
    hidden[2, 5] = float("nan")
    codes, finite = model.codec_frame(hidden, draw([1, 2, 3, 4]))
    assert finite.tolist() == [True, True, False, True]
    kept = [0, 1, 3]
    assert torch.equal(codes[kept], clean[kept]) and codes.min() >= 0 and codes.max() < MIMI_BINS


@pytest.mark.parametrize("codebook", [0, 1, 17, 31])
def test_not_a_number_among_one_codebooks_logits_is_told(codebook):
    model = CsmModel(SHAPE, RandomTensors(SHAPE, 3))
    hidden, _ = begin(model, model.cache(3, 64), [1, 2, 3])
    right = model._first_head if codebook == 0 else model._heads[codebook - 1]

    def spoilt(x):
        logits = right(x).clone()
        logits[1, 1234] = float("nan")
        return logits

    if codebook == 0:
        model._first_head = spoilt
    else:
        model._heads[codebook - 1] = spoilt
    codes, finite = model.codec_frame(hidden, draw([1, 2, 3]))
    assert finite.tolist() == [True, False, True] and codes.max() < MIMI_BINS


def test_the_last_row_of_the_context():
    model = tiny()
    cache, generator = model.cache(1), torch.Generator().manual_seed(0)
    rows = torch.full((2048, CODEBOOKS + 1), -1)
    rows[:, :CODEBOOKS] = torch.randint(0, MIMI_BINS, (2048, CODEBOOKS), generator=generator)
    model.prefill(cache, 0, rows[:2047], 0)
    last, yes = torch.tensor([2047]), torch.tensor([True])
    hidden = model.step(cache, rows[2047:, :CODEBOOKS], last, last * 0, yes)
    torch.testing.assert_close(hidden[0], model.hidden_states(rows)[-1], rtol=1e-4, atol=1e-4)


def test_parts_are_replaced():
    other, model = RandomTensors(SHAPE, 8), CsmModel(SHAPE, RandomTensors(SHAPE, 3))
    hidden, _ = begin(model, model.cache(2, 64), [1, 2])
    codes = torch.full((2, CODEBOOKS), 5)
    before = model.forced_logits(hidden, codes)
    model.replace_parts(projection=other["projection.weight"])
    projected = model.forced_logits(hidden, codes)
    assert torch.equal(projected[:, 0], before[:, 0]) and not torch.equal(projected[:, 1], before[:, 1])
    model.replace_parts(decoder=other, audio_head=other["audio_head"])

    class Mixed:
        def __contains__(self, name):
            return name in other

        def __getitem__(self, name):
            theirs = name.split(".")[0] in ("decoder", "audio_head", "projection")
            return (other if theirs else RandomTensors(SHAPE, 3))[name]

    torch.testing.assert_close(
        model.forced_logits(hidden, codes), CsmModel(SHAPE, Mixed()).forced_logits(hidden, codes)
    )


@pytest.mark.parametrize(
    ("weights", "dtype"), [("full", torch.float32), ("full", torch.bfloat16), ("int8", torch.bfloat16)]
)
def test_a_tick_asks_the_device_nothing(weights, dtype):
    """There is nothing to ask of a meta tensor: what runs on it can be captured."""
    model = CsmModel(SHAPE, RandomTensors(SHAPE), device="meta", dtype=dtype, weights=weights)
    cache, b = model.cache(8, 64), 4
    asked = Draw(
        *(
            part.to("meta")
            for part in (torch.zeros(b).long(), torch.zeros(b).long(), torch.zeros(b), torch.ones(b).bool())
        )
    )
    hidden = torch.zeros(b, SHAPE.backbone.dim, device="meta", dtype=dtype)
    codes, finite = model.codec_frame(hidden, asked)
    places = torch.zeros(b, dtype=torch.int64, device="meta")
    hidden = model.step(cache, codes, places, places, finite, span=32)
    assert hidden.shape == (b, SHAPE.backbone.dim) and hidden.dtype == dtype and codes.shape == (b, CODEBOOKS)


def test_bfloat16_is_near():
    model = CsmModel(SHAPE, RandomTensors(SHAPE, 3), dtype=torch.bfloat16)
    rows, cache = some_rows(3), model.cache(1, 64)
    hidden = model.prefill(cache, 0, rows, 0)
    assert hidden.dtype == cache.k.dtype == torch.bfloat16
    expected = tiny().hidden_states(rows)[-1]
    assert torch.cosine_similarity(hidden.float(), expected, dim=0) > 0.995


def test_8_bit_weights_are_near():
    rows = some_rows(3, n_audio=40)
    expected = tiny().hidden_states(rows)
    for weights in ("w8a8", "int8"):
        assert torch.cosine_similarity(tiny(weights).hidden_states(rows), expected, dim=1).min() > 0.98


def test_w8a8_is_for_the_cpu():
    for wrong in ({"device": "meta"}, {"dtype": torch.bfloat16}):
        with pytest.raises(ValueError, match="w8a8"):
            CsmModel(SHAPE, RandomTensors(SHAPE), weights="w8a8", **wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_what_the_cpu_says():
    model = CsmModel(SHAPE, RandomTensors(SHAPE, 3), device="cuda")
    codes, hidden = speak(tiny(), [1, 2, 3, 4], temperature=0.0)
    cache = model.cache(4, 64)
    found, positions = begin(model, cache, [1, 2, 3, 4])
    asked = draw([1, 2, 3, 4], temperature=0.0)
    on_gpu = Draw(asked.seeds.cuda(), asked.index.cuda(), asked.temperature.cuda(), asked.may_end.cuda())
    first, finite = model.codec_frame(found, on_gpu)
    assert finite.all() and torch.equal(first.cpu(), codes[0])
    slots, active = torch.arange(4).cuda(), torch.ones(4).bool().cuda()
    stepped = model.step(cache, first, positions.cuda(), slots, active, span=32)
    torch.testing.assert_close(stepped.cpu(), hidden[0], rtol=1e-3, atol=1e-3)
