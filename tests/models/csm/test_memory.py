import pytest
import torch
from torch import Tensor

from models.csm.memory import (
    OutOfMemory,
    WeightsKind,
    check_room,
    embedding_bytes,
    slot_bytes,
    total_bytes,
    voice_memory,
    weight_bytes,
)
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_1B, CSM_TINY


def held_bytes(thing: object, seen: set[int]) -> int:
    """Of every tensor that can be reached from an object, each storage once."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        storage = thing.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(thing, list | tuple):
        return sum(held_bytes(part, seen) for part in thing)
    if isinstance(thing, dict):
        return sum(held_bytes(part, seen) for part in thing.values())
    names = [*getattr(thing, "__dict__", {}), *getattr(type(thing), "__slots__", ())]
    return sum(held_bytes(getattr(thing, name, None), seen) for name in names)


@pytest.mark.parametrize(
    ("weights", "dtype"), [("full", torch.float32), ("full", torch.bfloat16), ("int8", torch.bfloat16)]
)
def test_the_reckoning_is_what_a_model_really_holds(weights: WeightsKind, dtype: torch.dtype) -> None:
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY), dtype=dtype, weights=weights)
    width = dtype.itemsize
    reckoned = weight_bytes(CSM_TINY, weights, width) + embedding_bytes(CSM_TINY, weights, width)
    rope = sum(held_bytes(table, set()) for table in (model._turns, model._decoder_turns, model._offsets))
    assert held_bytes(model, set()) - rope == pytest.approx(reckoned, rel=0.001)
    cache = model.cache(slots=3, rows=100)
    assert held_bytes(cache, set()) == 3 * slot_bytes(CSM_TINY, weights, width, 100)


def test_keys_beside_8_bit_weights_are_as_large_as_reckoned() -> None:
    cache = CsmModel(CSM_TINY, RandomTensors(CSM_TINY), weights="w8a8").cache(slots=3, rows=100)
    assert held_bytes(cache, set()) == 3 * slot_bytes(CSM_TINY, "w8a8", 4, 100)


def test_csm_1b_in_bfloat16_is_as_large_as_published() -> None:
    published = 3_105_583_104
    tables = 63_581 * 1024 * 2  # the decoder's projected inputs are made at load
    reckoned = weight_bytes(CSM_1B, "full", 2) + embedding_bytes(CSM_1B, "full", 2) - tables
    assert reckoned == pytest.approx(published, rel=0.001)
    assert slot_bytes(CSM_1B, "full", 2) == 2048 * 32_768


def test_smaller_weights_and_fewer_slots_take_less() -> None:
    def total(weights: WeightsKind, slots: int) -> int:
        return total_bytes(voice_memory(device="cpu", weights=weights, slots=slots))

    assert total("w8a8", 8) < 0.6 * total("full", 8)
    assert total("w8a8", 16) - total("w8a8", 8) == pytest.approx(8 * slot_bytes(CSM_1B, "w8a8", 4), rel=0.2)
    assert total("w8a8", 8) < 4e9


@pytest.mark.parametrize(("device", "smaller"), [("cpu", "w8a8"), ("cuda:1", "int8")])
def test_what_does_not_fit_says_how_much_it_needs_and_what_to_change(device: str, smaller: str) -> None:
    kind = "cuda" if device.startswith("cuda") else "cpu"
    parts = voice_memory(device=kind, weights="full", slots=12)
    with pytest.raises(OutOfMemory) as caught:
        check_room(parts, 2_000_000_000, device)
    message = str(caught.value)
    needed = (total_bytes(parts) + (600 << 20)) / 1e9
    assert f"needs {needed:.1f} GB on {device}" in message
    assert "2.0 GB are free" in message
    assert f"KV cache of {16 if kind == 'cuda' else 12} slots" in message  # a graph has places for 16
    assert f"--voice-weights {smaller}" in message
    assert "--tts-slots" in message
    check_room(parts, None, device)


def test_what_loading_takes_for_a_while_must_fit_too() -> None:
    parts = voice_memory(device="cpu", weights="w8a8", slots=8)
    needed = total_bytes(parts) + (600 << 20)
    check_room(parts, needed, "cpu")
    with pytest.raises(OutOfMemory):
        check_room(parts, needed - 1, "cpu")
