"""The stepper over the tiny model: slots are independent, and its books can be kept from outside."""

import numpy as np
import pytest
import torch

from models.csm.model import CsmModel
from models.csm.program import OUTPUTS, Layout, Program
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_TINY
from models.csm.stepper import TorchStepper
from models.csm.stepping import TickResult, TickRow
from models.mimi.random_mimi import random_mimi
from tests.models.csm.tiny_stepper import some_rows, tiny_codec, tiny_model, tiny_stepper


def begin(stepper: TorchStepper, slot: int, seed: int) -> int:
    rows = some_rows(seed)
    stepper.prefill(slot, rows, 0)
    stepper.restart_voice(slot)
    return len(rows)


def speak(stepper: TorchStepper, slots: list[int], n: int = 4, *, company: int = 0) -> list[TickResult]:
    """`n` ticks of `slots`, each slot begun with its number's rows plus `company`."""
    positions = [begin(stepper, slot, slot + company * (slot != slots[0])) for slot in slots]
    results = []
    for index in range(n):
        batch = [
            TickRow(slot, position + index, index, seed=77 + slot)
            for slot, position in zip(slots, positions, strict=True)
        ]
        results.append(stepper.tick(batch))
    return results


def codes(results: list[TickResult], row: int = 0) -> np.ndarray:
    return np.stack([result.codes[row] for result in results])


def sound(results: list[TickResult], row: int = 0) -> np.ndarray:
    return np.concatenate([result.pcm[row] for result in results])


def test_the_shapes_of_a_tick():
    (result,) = speak(tiny_stepper(), [2, 0, 1], 1)
    assert result.codes.shape == (3, 32) and result.codes.dtype == np.int32
    assert result.pcm.shape == (3, 1920) and result.pcm.dtype == np.float32
    assert result.finite.tolist() == [True] * 3
    assert result.codes.min() >= 0 and result.codes.max() < 2048


@pytest.mark.parametrize("weights", ["full", "w8a8"])
def test_company_within_a_bucket_changes_no_bit(weights):
    mine = speak(tiny_stepper(weights=weights), [0, 1, 2])
    other = speak(tiny_stepper(weights=weights), [0, 1, 2], company=100)
    padded = speak(tiny_stepper(weights=weights), [0, 1, 2, 3], company=200)
    for theirs in (other, padded):
        np.testing.assert_array_equal(codes(mine), codes(theirs))
        np.testing.assert_array_equal(sound(mine), sound(theirs))
    assert (codes(mine, 1) != codes(other, 1)).any()


def test_place_in_the_batch_and_slot_number_do_not_matter():
    first, second = tiny_stepper(), tiny_stepper()
    for stepper, slot in ((first, 0), (second, 3)):
        stepper.prefill(slot, some_rows(5), 0)
        stepper.prefill(1, some_rows(6), 0)
        stepper.restart_voice(slot)
    a = first.tick([TickRow(0, 8, 0, seed=5), TickRow(1, 8, 0, seed=6)])
    b = second.tick([TickRow(1, 8, 0, seed=6), TickRow(3, 8, 0, seed=5)])
    np.testing.assert_array_equal(a.codes[0], b.codes[1])
    np.testing.assert_array_equal(a.pcm[0], b.pcm[1])


def test_the_layout_of_cuda_says_the_same():
    compact, direct = tiny_stepper(slots=3), tiny_stepper(slots=3, direct=True)
    mine, theirs = speak(compact, [2, 0, 1]), speak(direct, [2, 0, 1])
    for row in range(3):
        np.testing.assert_array_equal(codes(mine, row), codes(theirs, row))
        np.testing.assert_allclose(sound(mine, row), sound(theirs, row), atol=1e-5)


@pytest.mark.parametrize("direct", [False, True])
def test_a_slot_that_rests_is_not_moved(direct):
    alone = tiny_stepper(direct=direct)
    steady = tiny_stepper(direct=direct)
    expected = speak(alone, [0, 2], 4)
    n = begin(steady, 0, 0), begin(steady, 2, 2)
    found = []
    for index in range(4):
        found.append(steady.tick([TickRow(0, n[0] + index, index, 77), TickRow(2, n[1] + index, index, 79)]))
        # Slot 1 comes and goes between, in other buckets; then slots 0 and 2 rest.
        begin(steady, 1, 50 + index)
        steady.tick([TickRow(1, n[0], 0, seed=index)])
        steady.forget(1)
    np.testing.assert_array_equal(codes(expected, 1), codes(found, 1))
    np.testing.assert_array_equal(sound(expected, 0), sound(found, 0))


def test_a_saved_beginning_is_as_good_as_an_evaluated_one():
    stepper = tiny_stepper()
    rows = some_rows(9)
    stepper.prefill(0, rows, 0)
    saved = stepper.save(0, 6)
    stepper.forget(0)
    stepper.restore(saved, 3)
    stepper.prefill(3, rows[6:], 6)
    fresh = tiny_stepper()
    fresh.prefill(3, rows[:6], 0)
    fresh.prefill(3, rows[6:], 6)
    a, b = (s.tick([TickRow(3, 8, 0, seed=1)]) for s in (stepper, fresh))
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_array_equal(a.pcm, b.pcm)


def test_a_rewound_slot_says_what_it_would_have_said():
    stepper = tiny_stepper()
    n = begin(stepper, 0, 0)
    for index in range(5):
        stepper.tick([TickRow(0, n + index, index, seed=3)])
    stepper.prefill(0, some_rows(0)[-1:], n - 1)
    stepper.restart_voice(0)
    again = stepper.tick([TickRow(0, n, 0, seed=3)])
    fresh = tiny_stepper()
    fresh.prefill(0, some_rows(0)[:-1], 0)
    fresh.prefill(0, some_rows(0)[-1:], n - 1)
    np.testing.assert_array_equal(again.codes, fresh.tick([TickRow(0, n, 0, seed=3)]).codes)


@pytest.mark.parametrize("direct", [False, True])
def test_not_a_number_is_seen_and_stays_in_its_slot(direct):
    stepper, clean = tiny_stepper(direct=direct), tiny_stepper(direct=direct)
    expected = speak(clean, [0, 1])
    n = [begin(stepper, slot, slot) for slot in (0, 1)]
    found = []
    for index in range(4):
        if index == 1:
            stepper._program.hidden[1] = torch.nan
        rows = [TickRow(slot, n[slot] + index, index, seed=77 + slot) for slot in (0, 1)]
        found.append(stepper.tick(rows))
    np.testing.assert_array_equal(codes(found), codes(expected))
    np.testing.assert_array_equal(sound(found), sound(expected))
    assert [bool(r.finite[1]) for r in found[:2]] == [True, False]
    stepper.forget(1)
    begin(stepper, 1, 1)
    rows = [TickRow(slot, n[slot] + 4 * (slot == 0), 4 * (slot == 0), seed=77 + slot) for slot in (0, 1)]
    after = stepper.tick(rows)
    assert after.finite.all()
    np.testing.assert_array_equal(after.codes[1], expected[0].codes[1])
    np.testing.assert_array_equal(after.pcm[1], expected[0].pcm[1])


@pytest.mark.parametrize(("column", "value"), [(0, 2051), (31, 5000), (32, 128_256), (32, -2), (4, -7)])
def test_rows_that_name_nothing_are_refused_before_the_device_sees_them(column: int, value: int):
    rows = some_rows(0)
    rows[2, column] = value
    with pytest.raises(ValueError, match="rows hold"):
        tiny_stepper().prefill(0, rows, 0)


def test_forgetting_leaves_nothing_behind():
    stepper = tiny_stepper()
    cache = stepper._program.cache
    n = begin(stepper, 1, 1)
    for index in range(3):
        stepper.tick([TickRow(1, n + index, index, seed=1)])
    saved = stepper.save(1, n + 3)
    stepper.forget(1, kept=2)
    assert cache.k[:, 1, :, :2].any() and not cache.k[:, 1, :, 2:].any() and not cache.v[:, 1, :, 2:].any()
    stepper.restore(saved, 1)
    stepper.forget(1)
    assert not cache.k[:, 1].any() and not cache.v[:, 1].any()
    stepper.prefill(1, some_rows(1), 0)
    stepper.forget(1)
    assert not cache.k[:, 1].any() and not cache.v[:, 1].any() and not stepper._program.hidden[1].any()


@pytest.mark.parametrize("direct", [False, True])
def test_the_ban_on_ending_is_of_each_row_and_of_codebook_0(monkeypatch: pytest.MonkeyPatch, direct: bool):
    """A model that wants to say 0 in every codebook."""
    stepper = tiny_stepper(direct=direct)
    model = stepper._program.model
    zero = torch.zeros(2051).index_fill(0, torch.tensor([0]), 1e4)
    heads = [model._first_head, *model._heads]
    wanting = [lambda x, head=head: head(x) + zero for head in heads]
    monkeypatch.setattr(model, "_first_head", wanting[0])
    monkeypatch.setattr(model, "_heads", wanting[1:])
    n = [begin(stepper, slot, slot) for slot in range(3)]
    banned = (True, False, True)
    result = stepper.tick([TickRow(i, n[i], 0, i, 0.9, may_end=not banned[i]) for i in range(3)])
    assert (result.codes[:, 0] != 0).tolist() == list(banned)
    assert not result.codes[:, 1:].any() and result.finite.all()


def test_temperature_is_of_each_row():
    stepper = tiny_stepper()
    n = [begin(stepper, slot, 4) for slot in range(3)]
    rows = [TickRow(0, n[0], 0, 1, 0.0), TickRow(1, n[1], 0, 2, 0.0), TickRow(2, n[2], 0, 2, 1.5)]
    result = stepper.tick(rows)
    np.testing.assert_array_equal(result.codes[0], result.codes[1])
    assert (result.codes[2] != result.codes[0]).any()


def test_audio_becomes_codes_as_the_codec_makes_them():
    stepper = tiny_stepper()
    audio = np.random.default_rng(0).normal(0, 0.1, 1920 * 6).astype(np.float32)
    whole = tiny_codec().encode(torch.from_numpy(audio)[None])[0].numpy()
    for _ in range(2):
        stream = stepper.open_encoder()
        pieces = [stream.push(audio[: 1920 * 2]), stream.push(audio[1920 * 2 :])]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    stepper.open_encoder()
    with pytest.raises(RuntimeError, match="opened again"):
        stream.push(audio)


def test_warming_up_changes_nothing():
    stepper = tiny_stepper()
    stepper.warm_up(encoder=True)
    np.testing.assert_array_equal(codes(speak(stepper, [0])), codes(speak(tiny_stepper(), [0])))


class Uncaptured:
    """A codec that is not `OwnMimi`, as far as the stepper can see."""

    def __init__(self) -> None:
        self.decoder, self.encoder = tiny_codec().decoder, tiny_codec().encoder
        self.decode, self.encode = tiny_codec().decode, tiny_codec().encode


@pytest.mark.parametrize("direct", [False, True])
def test_a_codec_that_cannot_be_captured_sounds_the_same(direct):
    stepper = TorchStepper(tiny_model(), Uncaptured(), 3, 128, direct=direct)
    mine, theirs = speak(tiny_stepper(3), [2, 0, 1]), speak(stepper, [2, 0, 1])
    for row in range(3):
        np.testing.assert_array_equal(codes(mine, row), codes(theirs, row))
        np.testing.assert_allclose(sound(mine, row), sound(theirs, row), atol=1e-5)


def test_a_tick_asks_the_device_nothing():
    """The meta device has shapes and no numbers: whatever would read one back raises."""
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3), device="meta", dtype=torch.float32)
    layout = Layout.of(3, direct=True)
    program = Program(model, random_mimi(3, tiny=True, device="meta"), 128, layout)
    packed, _ = layout.inputs([TickRow(2, 8, 0, seed=1)])
    outputs = program(torch.from_numpy(packed).to("meta"), 128)
    assert outputs.shape == (4, OUTPUTS) and outputs.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("slots", [1, 4])
def test_graphs_say_what_the_cpu_says(slots):
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3), device="cuda", dtype=torch.float32)
    stepper = TorchStepper(model, random_mimi(3, tiny=True, device="cuda"), slots, 128)
    stepper.warm_up()
    found, expected = speak(stepper, [0]), speak(tiny_stepper(slots), [0])
    np.testing.assert_array_equal(codes(found), codes(expected))
    np.testing.assert_allclose(sound(found), sound(expected), atol=1e-4)


def test_more_slots_than_a_batch_holds_are_refused():
    with pytest.raises(ValueError, match="at most 64"):
        TorchStepper(tiny_model(), tiny_codec(), 65, 16)
