"""The engine over the tiny real model: what is spoken is what the model says, whoever else speaks."""

import numpy as np
import pytest
import torch

from models.csm.rows import END_ROW, audio_rows
from models.csm.sampling import Draw
from models.csm.stepping import Rows
from tests.models.csm.engine_kit import Bench, Heard
from tests.models.csm.tiny_stepper import some_rows, tiny_codec, tiny_model, tiny_stepper

FRAMES = 6


def sound(heard: Heard) -> np.ndarray:
    return np.concatenate([frame.pcm for frame in heard.frames])


def codes(heard: Heard) -> np.ndarray:
    return np.stack([frame.codes for frame in heard.frames])


def spoken_plainly(rows: Rows, seed: int) -> np.ndarray:
    """The model's own loop, without an engine."""
    model = tiny_model()
    cache = model.cache(1, 128)
    hidden = model.prefill(cache, 0, torch.tensor(rows), 0)[None]
    found = []
    for index in range(FRAMES):
        draw = Draw(
            torch.tensor([seed]), torch.tensor([index]), torch.tensor([0.9]), torch.tensor([index >= 2])
        )
        said, _ = model.codec_frame(hidden, draw)
        position = torch.tensor([len(rows) + index])
        hidden = model.step(cache, said, position, torch.tensor([0]), torch.tensor([True]))
        found.append(said[0].numpy())
    return np.stack(found)


def test_the_engine_says_what_the_model_says_and_the_codec_sounds():
    bench = Bench(tiny_stepper())
    rows = some_rows(1)
    heard = bench.say(bench.engine.open(), rows, most=FRAMES, seed=11, temperature=0.9)
    bench.run()
    np.testing.assert_array_equal(codes(heard), spoken_plainly(rows, 11))
    whole = tiny_codec().decode(torch.tensor(codes(heard)).long()[None])[0].numpy()
    np.testing.assert_allclose(sound(heard), whole, atol=1e-5)


@pytest.mark.parametrize("weights", ["full", "w8a8"])
def test_a_call_does_not_depend_on_its_company(weights):
    def play(*others: int) -> tuple[Heard, Heard]:
        bench = Bench(tiny_stepper(weights=weights))
        slots = [bench.engine.open() for _ in range(3)]
        mine, *theirs = (
            bench.say(slot, some_rows(n), most=FRAMES, seed=n)
            for slot, n in zip(slots, (1, *others), strict=True)
        )
        bench.run()
        return mine, theirs[0]

    (mine, theirs), (again, different) = play(2, 3), play(40, 50)
    np.testing.assert_array_equal(codes(mine), codes(again))
    np.testing.assert_array_equal(sound(mine), sound(again))
    assert (codes(theirs) != codes(different)).any()


def test_the_second_utterance_stands_on_the_first_whatever_was_cut_between():
    """A context that was built up over a call, rewound at a barge-in, is the context evaluated at once."""
    bench = Bench(tiny_stepper(), chunk_rows=4)
    slot = bench.engine.open()
    first = bench.say(slot, some_rows(1), most=30)
    while len(first.frames) < 5:
        bench.step()
    bench.engine.cancel(slot)
    context = np.concatenate([some_rows(1), audio_rows(codes(first)[:3]), END_ROW, some_rows(2)])
    bench.engine.prepare(slot, context)
    bench.run()
    second = bench.say(slot, np.concatenate([context, some_rows(3)]), most=FRAMES, seed=5)
    bench.run()
    fresh = Bench(tiny_stepper())
    expected = fresh.say(fresh.engine.open(), np.concatenate([context, some_rows(3)]), most=FRAMES, seed=5)
    fresh.run()
    np.testing.assert_array_equal(codes(second), codes(expected))
    np.testing.assert_allclose(sound(second), sound(expected), atol=1e-5)


def test_a_slot_that_is_given_to_another_call_has_forgotten_the_first():
    bench = Bench(tiny_stepper())
    slot = bench.engine.open()
    bench.say(slot, some_rows(1), most=FRAMES)
    bench.run()
    bench.engine.close(slot)
    assert bench.engine.open() == slot
    heard = bench.say(slot, some_rows(2), most=FRAMES, seed=3)
    bench.run()
    fresh = Bench(tiny_stepper())
    expected = fresh.say(fresh.engine.open(), some_rows(2), most=FRAMES, seed=3)
    fresh.run()
    np.testing.assert_array_equal(codes(heard), codes(expected))
    np.testing.assert_array_equal(sound(heard), sound(expected))


def test_the_shared_prompt_is_as_good_as_ones_own():
    prompt, rows = some_rows(7), np.concatenate([some_rows(7), some_rows(8)])
    bench = Bench(tiny_stepper())
    bench.engine.set_prompt(prompt)
    bench.run()
    bench.engine.open()
    heard = bench.say(bench.engine.open(), rows, most=FRAMES, seed=2)
    bench.run()
    assert bench.engine.stats.prefilled_rows == len(rows) + 1, "and the END row"
    fresh = Bench(tiny_stepper())
    slot = fresh.engine.open()
    fresh.engine.prepare(slot, prompt)
    fresh.run()
    expected = fresh.say(slot, rows, most=FRAMES, seed=2)
    fresh.run()
    np.testing.assert_array_equal(codes(heard), codes(expected))


def test_not_a_number_in_one_slot_ends_that_utterance_alone():
    stepper = tiny_stepper()
    bench = Bench(stepper)
    slots = [bench.engine.open() for _ in range(3)]
    heard = [bench.say(slot, some_rows(slot), most=FRAMES, seed=9) for slot in slots]
    while not heard[1].frames:
        bench.step()
    stepper._program.cache.v[:, 1, :, 2] = torch.nan
    bench.run()
    assert [h.ends for h in heard] == [["cap"], ["failed"], ["cap"]]
    again = bench.say(1, some_rows(1), most=FRAMES, seed=9)
    bench.run()
    assert again.ends == ["cap"]
    np.testing.assert_array_equal(codes(again)[0], codes(heard[1])[0])


def test_audio_of_the_caller_becomes_codes_while_another_call_speaks():
    bench = Bench(tiny_stepper())
    first, second = bench.engine.open(), bench.engine.open()
    bench.say(first, some_rows(1), most=20)
    audio = np.random.default_rng(0).normal(0, 0.1, 1920 * 10).astype(np.float32)
    got: list[np.ndarray | None] = []
    bench.engine.encode(second, audio, got.append)
    bench.run()
    whole = tiny_codec().encode(torch.from_numpy(audio)[None])[0].numpy()
    assert got[0] is not None
    np.testing.assert_array_equal(got[0], whole)


def test_two_callers_are_encoded_one_after_the_other():
    bench = Bench(tiny_stepper(), chunk_codec_frames=2)
    audio = np.random.default_rng(0).normal(0, 0.1, (2, 1920 * 5)).astype(np.float32)
    got: list[np.ndarray | None] = []
    for one in audio:
        bench.engine.encode(bench.engine.open(), one, got.append)
    bench.run()
    whole = tiny_codec().encode(torch.from_numpy(audio)).numpy()
    assert got[0] is not None and got[1] is not None
    np.testing.assert_array_equal(np.stack([got[0], got[1]]), whole)
