"""The engine over a stepper that keeps its books true: see null_stepper.py."""

import numpy as np
import pytest

from models.base import ModelBusy, ModelFailed
from models.csm.rows import END_ROW
from models.csm.utterance import SpokenFrame, Verdict
from tests.models.csm.engine_kit import Bench
from tests.models.csm.null_stepper import NullStepper, spoken_codes, text_rows


def held(stepper: NullStepper, slot: int) -> np.ndarray:
    return np.array(stepper.cache[slot], np.int32).reshape(-1, 33)


def test_an_utterance_is_spoken_and_its_rows_stand_with_an_end():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1, 2, 3), most=4, seed=7)
    bench.run()
    assert heard.ends == ["cap"]
    assert [frame.index for frame in heard.frames] == [0, 1, 2, 3]
    assert [frame.last for frame in heard.frames] == [False, False, False, True]
    before = [tuple(map(int, row)) for row in text_rows(1, 2, 3)]
    for index, codes in enumerate(heard.codes):
        assert codes == tuple(map(int, spoken_codes(before, 7, index)))
        before.append((*codes, -1))
    expected = np.concatenate([np.array(before, np.int32), END_ROW])
    np.testing.assert_array_equal(bench.engine.holds(slot), expected)
    np.testing.assert_array_equal(held(stepper, slot), expected)


def test_the_first_codec_frame_needs_no_step_after_the_prefill():
    stepper = NullStepper()
    bench = Bench(stepper)
    heard = bench.say(bench.engine.open(), text_rows(*range(90)), most=1)
    bench.step()
    bench.step()
    assert stepper.prefills == [(0, 0, 90)]
    assert len(heard.frames) == 1


def test_an_end_that_the_model_makes_is_not_heard_and_not_written_twice():
    stepper = NullStepper()
    stepper.ends_at = 3
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1))
    bench.run()
    assert heard.ends == ["end"]
    assert len(heard.frames) == 3 and not any(frame.last for frame in heard.frames)
    assert len(bench.engine.holds(slot)) == 1 + 3 + 1
    assert stepper.prefills == [(0, 0, 1)], "the END row came from the tick"


def test_an_end_that_is_almost_zero_is_replaced_by_an_end_row():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1), judge=lambda i, codes, pcm: Verdict("end") if i == 2 else None)
    bench.run()
    assert heard.ends == ["end"] and len(heard.frames) == 2
    np.testing.assert_array_equal(bench.engine.holds(slot)[3:], END_ROW)
    np.testing.assert_array_equal(held(stepper, slot), bench.engine.holds(slot))


def test_it_may_not_end_before_its_time():
    stepper = NullStepper()
    stepper.ends_at = 0
    bench = Bench(stepper)
    heard = bench.say(bench.engine.open(), text_rows(1), may_end_after=3)
    bench.run()
    assert heard.ends == ["end"] and len(heard.frames) == 3


def test_the_window_caps_an_utterance_and_leaves_room_for_its_end():
    stepper = NullStepper(rows=16)
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(*range(10)), most=100)
    bench.run()
    assert heard.ends == ["cap"] and len(heard.frames) == 5 and heard.frames[-1].last
    assert len(bench.engine.holds(slot)) == 16


def test_rows_that_leave_no_room_are_refused():
    bench = Bench(NullStepper(rows=16))
    slot = bench.engine.open()
    assert bench.say(slot, text_rows(*range(15))).ends == ["failed"]
    assert bench.say(slot, text_rows()).ends == ["failed"]
    with pytest.raises(ModelFailed, match="no room"):
        bench.engine.prepare(slot, text_rows(*range(15)))
    assert bench.run() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"seed": 1 << 63}, {"seed": -1}, {"temperature": float("nan")}, {"temperature": -1.0}, {"most": 0}],
)
def test_an_utterance_that_would_fail_its_batch_fails_alone(wrong: dict[str, object]):
    bench = Bench(NullStepper())
    fine = bench.say(bench.engine.open(), text_rows(1), most=3)
    assert bench.say(bench.engine.open(), text_rows(1), **wrong).ends == ["failed"]
    bench.run()
    assert fine.ends == ["cap"]


def test_nothing_is_evaluated_twice():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    first = text_rows(1, 2, 3)
    heard = bench.say(slot, first, most=4)
    bench.run()
    context = np.concatenate([bench.engine.holds(slot), text_rows(4, 5)])
    bench.engine.prepare(slot, context)
    bench.run()
    bench.engine.prepare(slot, context[:-1])
    bench.run()
    bench.say(slot, np.concatenate([context, text_rows(6)]), most=2)
    bench.run()
    evaluated = [(start, n) for _, start, n in stepper.prefills]
    assert evaluated == [(0, 3), (7, 1), (8, 2), (10, 1), (13, 1)]
    assert len(heard.frames) == 4


def test_speaking_what_is_prepared_needs_no_prefill():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    bench.engine.prepare(slot, text_rows(1, 2, 3))
    bench.run()
    bench.say(slot, text_rows(1, 2, 3), most=1)
    bench.step()
    assert len(stepper.prefills) == 1 and len(stepper.ticks) == 1


def test_a_shorter_beginning_passes_its_last_row_again():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    bench.engine.prepare(slot, text_rows(1, 2, 3, 4))
    bench.run()
    bench.say(slot, text_rows(1, 2, 3), most=1)
    bench.step()
    assert stepper.prefills[-1] == (slot, 2, 1)


def test_a_barge_in_rewinds_to_what_was_heard():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1, 2), most=50)
    while len(heard.frames) < 5:
        bench.step()
    bench.engine.cancel(slot)
    ticks = len(stepper.ticks)
    cut = np.concatenate([bench.engine.holds(slot)[: 2 + 2], END_ROW])
    bench.engine.prepare(slot, cut)
    bench.run()
    assert heard.ends == ["cancelled"] and len(stepper.ticks) == ticks
    assert stepper.prefills[-1] == (slot, 4, 1)
    np.testing.assert_array_equal(held(stepper, slot), cut)


def test_cancel_before_the_first_codec_frame_and_during_prefill():
    stepper = NullStepper()
    bench = Bench(stepper, chunk_rows=4)
    slot = bench.engine.open()
    never = bench.say(slot, text_rows(*range(10)))
    bench.engine.cancel(slot)
    assert bench.run() == 0 and never.ends == ["cancelled"] and not stepper.prefills
    amid = bench.say(slot, text_rows(*range(10)))
    bench.step()
    bench.engine.cancel(slot)
    assert bench.run() == 0 and amid.ends == ["cancelled"]
    ready = bench.say(slot, text_rows(*range(10)))
    while bench.engine.holds(slot).shape[0] < 10:
        bench.step()
    bench.engine.cancel(slot)
    bench.engine.cancel(slot)
    assert bench.run() == 0 and ready.ends == ["cancelled"] and not stepper.ticks
    assert [n for _, _, n in stepper.prefills] == [4, 3, 3], "what was evaluated before a cancel is kept"


def test_cancel_at_the_first_codec_frame():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1))
    while not heard.frames:
        bench.step()
    bench.engine.cancel(slot)
    bench.run()
    assert heard.ends == ["cancelled"] and len(heard.frames) == 1
    again = bench.say(slot, text_rows(1), most=3)
    bench.run()
    assert again.ends == ["cap"] and again.codes[0] == heard.codes[0]


def test_a_newer_utterance_cancels_the_one_before():
    bench = Bench(NullStepper())
    slot = bench.engine.open()
    old = bench.say(slot, text_rows(1), most=50)
    bench.step()
    bench.step()
    new = bench.say(slot, text_rows(1, 2), most=2)
    bench.run()
    assert old.ends == ["cancelled"] and new.ends == ["cap"]


def test_what_is_prepared_while_speaking_waits_for_the_end():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1), most=3)
    bench.engine.prepare(slot, text_rows(8, 9))
    bench.engine.prepare(slot, text_rows(7, 8, 9))
    bench.run()
    assert heard.ends == ["cap"]
    np.testing.assert_array_equal(held(stepper, slot), text_rows(7, 8, 9))
    amid = bench.say(slot, text_rows(1), most=50)
    bench.step()
    bench.engine.prepare(slot, text_rows(5))
    bench.engine.cancel(slot)
    bench.run()
    assert amid.ends == ["cancelled"]
    np.testing.assert_array_equal(held(stepper, slot), text_rows(5))
    after = bench.say(slot, text_rows(6), most=2)
    bench.run()
    assert after.ends == ["cap"] and len(held(stepper, slot)) == 1 + 2 + 1, "an old wish is forgotten"


def test_a_closed_slot_keeps_of_its_cache_what_all_calls_share_and_no_more():
    stepper = NullStepper()
    bench = Bench(stepper)
    bench.engine.set_prompt(text_rows(1, 2, 3, 4))
    bench.run()
    slot = bench.engine.open()
    bench.engine.prepare(slot, text_rows(1, 2, 7, 8, 9))
    bench.run()
    bench.engine.close(slot)
    assert stepper.forgotten[-1] == (slot, 2)
    np.testing.assert_array_equal(held(stepper, slot), text_rows(1, 2))


def test_not_a_number_ends_one_slot_and_no_other():
    stepper = NullStepper()
    bench = Bench(stepper)
    slots = [bench.engine.open() for _ in range(3)]
    heard = [bench.say(slot, text_rows(slot + 1), most=6) for slot in slots]
    while not all(h.frames for h in heard):
        bench.step()
    stepper.not_finite = {1}
    bench.run()
    assert [h.ends for h in heard] == [["cap"], ["failed"], ["cap"]]
    assert stepper.forgotten == [(1, 0)] and len(bench.engine.holds(1)) == 0
    again = bench.say(1, text_rows(2), most=2)
    bench.run()
    assert again.ends == ["cap"] and bench.engine.stats.failures == 1


@pytest.mark.parametrize("error", [RuntimeError("device"), MemoryError()])
def test_an_error_of_the_stepper_ends_what_it_concerns(error: Exception):
    stepper = NullStepper()
    bench = Bench(stepper)
    first, second = bench.engine.open(), bench.engine.open()
    bench.engine.prepare(second, text_rows(9))
    bench.run()
    heard = bench.say(first, text_rows(1))
    stepper.raises = error
    bench.run()
    assert heard.ends == ["failed"] and len(bench.engine.holds(second)) == 1
    speaking = bench.say(first, text_rows(1), most=3)
    bench.step()
    stepper.raises = error
    bench.run()
    assert speaking.ends == ["failed"]
    stepper.raises = error
    assert bench.say(second, text_rows(9)).ends == ["failed"], "the voice could not be restarted"
    good = bench.say(first, text_rows(1), most=3)
    bench.run()
    assert good.ends == ["cap"]


def test_a_device_that_refuses_everything_gets_no_calls_until_it_obeys():
    class Refusing(NullStepper):
        refuses = False

        def _fail(self) -> None:
            if self.refuses:
                raise RuntimeError("CUDA error: device-side assert triggered")

        def forget(self, slot: int, kept: int = 0) -> None:
            self._fail()
            super().forget(slot, kept)

    stepper = Refusing(slots=2)
    bench = Bench(stepper)
    slot = bench.engine.open()
    stepper.refuses = True
    heard = bench.say(slot, text_rows(1, 2))
    bench.run()
    bench.engine.close(slot)
    assert heard.ends == ["failed"]
    for _ in range(3):
        with pytest.raises(ModelFailed, match="device-side assert"):
            bench.engine.open()
    assert bench.engine.stats.open_slots == 0
    stepper.refuses = False
    again = bench.say(bench.engine.open(), text_rows(1, 2), most=4)
    bench.run()
    assert again.ends == ["cap"]


def test_a_listener_that_raises_loses_its_utterance():
    bench = Bench(NullStepper())
    slot, other = bench.engine.open(), bench.engine.open()

    def raises(frame: SpokenFrame) -> None:
        raise RuntimeError("event loop is closed")

    fine = bench.say(other, text_rows(1), most=2)
    heard = bench.say(slot, text_rows(1), judge=lambda i, codes, pcm: raises(codes))  # type: ignore[arg-type]
    bench.run()
    assert heard.ends == ["failed"] and fine.ends == ["cap"]


def test_slots_run_out_and_come_back():
    stepper = NullStepper(slots=2)
    bench = Bench(stepper)
    assert [bench.engine.open(), bench.engine.open()] == [0, 1]
    with pytest.raises(ModelBusy, match="all 2 slots"):
        bench.engine.open()
    heard = bench.say(0, text_rows(1))
    bench.engine.close(0)
    assert heard.ends == ["closed"] and bench.run() == 0
    assert stepper.forgotten == [(0, 0)]
    assert bench.engine.open() == 0
    bench.engine.close(1)
    with pytest.raises(ValueError, match="not open"):
        bench.engine.prepare(1, text_rows(1))


def test_a_closed_engine_takes_no_calls():
    bench = Bench(NullStepper())
    heard = bench.say(bench.engine.open(), text_rows(1))
    bench.engine.close_all()
    assert heard.ends == ["closed"] and bench.say(0, text_rows(1)).ends == ["closed"]
    bench.engine.close(0)  # as a call does that ends after its voice
    with pytest.raises(ModelFailed, match="shut down"):
        bench.engine.open()


def test_the_shared_prompt_is_evaluated_once():
    stepper = NullStepper()
    bench = Bench(stepper, chunk_rows=4)
    prompt = text_rows(1, 2, 3, 4, 5)
    bench.engine.set_prompt(prompt)
    bench.run()
    evaluated = len(stepper.prefills)
    slots = [bench.engine.open() for _ in range(3)]
    for slot in slots:
        np.testing.assert_array_equal(held(stepper, slot), prompt)
        heard = bench.say(slot, np.concatenate([prompt, text_rows(slot + 50)]), most=2)
        bench.run()
        assert heard.ends == ["cap"]
    starts = [start for _, start, _ in stepper.prefills[evaluated:]]
    assert min(starts) == 5 and bench.engine.stats.restored_rows == 10
    bench.engine.close(1)
    np.testing.assert_array_equal(held(stepper, 1), prompt)
    assert bench.engine.open() == 1


def test_a_restored_prompt_has_no_hidden_state_to_speak_from():
    stepper = NullStepper(slots=2)
    bench = Bench(stepper)
    prompt = text_rows(1, 2, 3)
    bench.engine.set_prompt(prompt)
    bench.run()
    slots = [bench.engine.open() for _ in range(2)]
    before = len(stepper.prefills)
    heard = bench.say(slots[1], prompt, most=2)
    bench.run()
    assert heard.ends == ["cap"]
    assert stepper.prefills[before] == (slots[1], 2, 1)


def test_a_prompt_that_a_call_spoke_is_taken_from_its_slot():
    stepper = NullStepper(slots=2)
    bench = Bench(stepper)
    first = bench.engine.open()
    bench.say(first, text_rows(1, 2), most=3)
    bench.run()
    greeting = bench.engine.holds(first)
    before = len(stepper.prefills)
    bench.engine.set_prompt(greeting)
    second = bench.engine.open()
    np.testing.assert_array_equal(held(stepper, second), greeting)
    assert len(stepper.prefills) == before


def test_a_prompt_set_while_all_slots_are_taken_comes_from_the_first_call_that_holds_it():
    stepper = NullStepper(slots=1)
    bench = Bench(stepper)
    slot = bench.engine.open()
    bench.engine.set_prompt(text_rows(1, 2))
    assert bench.run() == 0
    bench.say(slot, text_rows(1, 2, 3), most=1)
    bench.run()
    bench.engine.close(slot)
    np.testing.assert_array_equal(held(stepper, bench.engine.open()), text_rows(1, 2))


def test_audio_is_encoded_between_ticks():
    bench = Bench(NullStepper(), chunk_codec_frames=2)
    slot = bench.engine.open()
    got: list[np.ndarray | None] = []
    loud = np.repeat(np.arange(1, 6, dtype=np.float32) / 100, 1920)[:-100]
    bench.engine.encode(slot, loud, got.append)
    heard = bench.say(slot, text_rows(1), most=40)
    while not got:
        bench.step()
    assert not heard.ends, "codes come while the call speaks"
    assert got[0] is not None
    np.testing.assert_array_equal(got[0][:, 0], [10, 20, 30, 40, 50])
    bench.engine.encode(slot, np.zeros(0, np.float32), got.append)
    bench.run()
    assert got[1] is not None and got[1].shape == (0, 32)


def test_encoding_ends_with_its_slot_or_when_it_is_cancelled_or_fails():
    stepper = NullStepper()
    bench = Bench(stepper)
    slot = bench.engine.open()
    got: list[np.ndarray | None] = []
    job = bench.engine.encode(slot, np.ones(50_000, np.float32), got.append)
    bench.engine.cancel_encode(job)
    bench.engine.cancel_encode(job)
    assert got == [None]
    bench.engine.encode(slot, np.ones(50_000, np.float32), got.append)
    stepper.raises = RuntimeError("no encoder")
    bench.run()
    bench.engine.encode(slot, np.ones(50_000, np.float32), got.append)
    bench.engine.close(slot)
    assert got == [None, None, None] and bench.run() == 0


def test_sound_is_kept_ahead_and_not_further():
    bench = Bench(NullStepper())
    slot = bench.engine.open()
    heard = bench.say(slot, text_rows(1), most=20)
    bench.run()
    begins = heard.at[0]
    for n, at in enumerate(heard.at):
        lead = begins + 0.08 * n - at
        assert -1e-6 <= lead <= 0.24 + 0.08
    assert heard.at[-1] - begins > 20 * 0.08 - 0.5
    assert bench.engine.stats.underruns == 0


def test_without_a_bound_it_does_not_wait():
    bench = Bench(NullStepper(), lead_s=float("inf"))
    heard = bench.say(bench.engine.open(), text_rows(1), most=20)
    bench.run()
    assert heard.at[-1] - heard.at[0] == pytest.approx(19 * 0.02)


def test_admission_refuses_one_slot_too_many():
    stepper = NullStepper(slots=8)
    bench = Bench(stepper, admission_s=0.022)
    heard = [bench.say(bench.engine.open(), text_rows(n), most=30) for n in range(2)]
    bench.run()
    assert all(h.ends == ["cap"] for h in heard)
    with pytest.raises(ModelBusy, match="limit"):
        bench.engine.open()
    bench.now += 60
    assert bench.engine.open() == 2, "what was slow once does not keep calls out for ever"
    stats = bench.engine.stats
    assert stats.tick_ms_p99 == pytest.approx(20.0) and stats.rtf == pytest.approx(0.25)
