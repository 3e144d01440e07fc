"""Batches of transcriptions: the sums, and one round on the smallest model."""

import numpy as np
import pytest

from bench.hearing_load import Served, compare, figures
from models.catalogue import WHISPER_TINY_EN
from models.store import Store
from telephony.simulator.voices import PEOPLE


def test_ratios_are_to_one_at_a_time() -> None:
    alone = [Served(("a", "b"), (0.1, 0.3), 0.3, 0.4), Served(("c", "d"), (0.1, 0.3), 0.3, 0.4)]
    pairs = [Served(("a", "b"), (0.2, 0.2), 0.2, 0.3), Served(("c", "x"), (0.3, 0.3), 0.3, 0.3)]
    assert figures({1: alone, 2: pairs}) == {
        "hearing_clips": 4,
        "hearing_cpu_ms": 200,
        "batch_2_cpu_ratio": 0.75,
        "batch_2_wall_ratio": 0.833,
        "batch_2_wait_ratio": 1.25,
        "batch_2_texts_equal": 0.75,
    }


@pytest.mark.models
async def test_batches_of_the_smallest_model_hear_the_same() -> None:
    from bench.hearing import _spoken

    assert WHISPER_TINY_EN.window is not None
    voice = next(iter(PEOPLE))
    clips = [_spoken(text, voice) for text in ("What time do you close today?", "Can I park there?")]
    assert all(clip.dtype == np.float32 for clip in clips)
    found = await compare(
        Store().path("whisper-tiny.en"), WHISPER_TINY_EN.window, clips, threads=1, batches=(1, 2)
    )
    assert found["hearing_clips"] == 2
    assert found["batch_2_texts_equal"] == 1.0
