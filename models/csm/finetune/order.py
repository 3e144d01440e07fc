"""Which CodecFrames a step trains on: a function of seed and step, so that a resumed run sees what the killed
one would have seen."""

import numpy as np
from numpy.typing import NDArray


def shuffled(n: int, epoch: int, seed: int) -> NDArray[np.int64]:
    """The numbers 0..n - 1 in the order of this epoch, (n,) int64."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    return generator.permutation(n)


def members(step: int, size: int, n: int, seed: int) -> NDArray[np.int64]:
    """The `size` of `n` CodecFrames that step 0, 1, ... trains on, (size,) int64. Epochs follow one another
    without a gap."""
    first, last = step * size, (step + 1) * size
    epochs = range(first // n, (last - 1) // n + 1)
    numbers = np.concatenate([shuffled(n, epoch, seed) for epoch in epochs])
    return numbers[first - epochs[0] * n :][:size]
