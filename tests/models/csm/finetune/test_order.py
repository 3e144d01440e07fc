import numpy as np

from models.csm.finetune.order import members, shuffled


def test_every_epoch_takes_each_once_in_its_own_order() -> None:
    first, second = shuffled(100, 0, 7), shuffled(100, 1, 7)
    assert sorted(first) == sorted(second) == list(range(100))
    assert list(first) != list(second)


def test_steps_run_through_the_epochs_without_a_gap() -> None:
    taken = np.concatenate([members(step, 30, 100, 7) for step in range(10)])
    assert np.array_equal(taken, np.concatenate([shuffled(100, epoch, 7) for epoch in range(3)]))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert np.array_equal(members(0, 25, 10, 3)[20:], shuffled(10, 2, 3)[:5])
