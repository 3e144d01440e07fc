"""How a tick's batch is laid out for the device."""

import numpy as np

from models.csm.graphs import span
from models.csm.program import Input, Layout, unpack
from models.csm.shapes import CODEC_FRAME_SAMPLES
from models.csm.stepping import TickRow

ROWS = [TickRow(2, 10, 3, seed=2**62 + 1, temperature=0.9), TickRow(0, 7, 0, seed=5, may_end=False)]


def test_a_compact_batch_is_filled_up_with_scratch_places():
    layout = Layout.of(6, direct=False)
    packed, places = layout.inputs([*ROWS, TickRow(5, 1, 1, seed=1)])
    assert places == [0, 1, 2] and packed.shape == (8, 4)
    assert packed[Input.SLOT].tolist() == [2, 0, 5, 6] and packed[Input.VOICE].tolist() == [2, 0, 5, 6]
    assert packed[Input.ACTIVE].tolist() == [1, 1, 1, 0]
    assert packed[Input.SEED, 0] == 2**62 + 1 and packed[Input.MAY_END].tolist() == [1, 0, 1, 0]
    assert packed[Input.TEMPERATURE].view(np.float64).tolist() == [0.9, 0.9, 0.9, 0.0]


def test_a_direct_batch_has_each_slot_in_its_own_row():
    layout = Layout.of(5, direct=True)
    assert layout.slots == 8, "a bucket's rows are slots"
    packed, places = layout.inputs(ROWS)
    assert places == [2, 0] and packed.shape == (8, 4)
    assert packed[Input.SLOT].tolist() == [0, 1, 2, 3]
    assert packed[Input.VOICE].tolist() == [0, 9, 2, 11], "the codec does not move a slot that rests"
    assert packed[Input.POSITION].tolist() == [7, 0, 10, 0]
    assert packed[Input.ACTIVE].tolist() == [1, 0, 1, 0]


def test_no_place_is_used_twice_or_missing():
    for direct in (False, True):
        for slots in (1, 2, 3, 5, 8, 13):
            layout = Layout.of(slots, direct=direct)
            for n in range(1, slots + 1):
                packed, _ = layout.inputs([TickRow(slot, 0, 0, 0) for slot in range(slots - n, slots)])
                for places in (packed[Input.SLOT], packed[Input.VOICE]):
                    assert len(set(places.tolist())) == packed.shape[1]
                    assert places.max() < layout.places
            assert layout.idle(1)[Input.VOICE].max() < layout.places


def test_results_come_in_the_order_of_the_batch():
    outputs = np.zeros((4, CODEC_FRAME_SAMPLES + 33), np.int32)
    outputs[2, 0], outputs[0, CODEC_FRAME_SAMPLES], outputs[2, -1] = np.float32(0.5).view(np.int32), 77, 1
    result = unpack(outputs, [2, 0])
    assert result.pcm[0, 0] == 0.5 and result.codes[1, 0] == 77 and result.finite.tolist() == [True, False]
    outputs[:] = 9
    assert result.pcm[0, 0] == 0.5, "the next tick overwrites what was read"


def test_a_span_holds_the_row_to_be_written():
    assert [span(p, 2048) for p in (0, 255, 256, 1023, 2047)] == [256, 256, 512, 1024, 2048]
    assert span(10, 128) == 128 and span(600, 700) == 700
