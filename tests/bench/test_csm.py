"""The voice's benches measure what they say: on small processes, and on the tiny model."""

import sys
from contextlib import ExitStack

import pytest
import torch

from bench.csm_load import read_bytes, run_on
from bench.csm_own import tick_own_ms
from bench.interleaved import Series, Worker, WorkerFailed, interleave, start
from models.base import ModelError
from models.csm.shapes import CSM_1B, CSM_TINY

WORKER = """
import json, sys
print("a library's chatter")
print(json.dumps({"ready": True}), flush=True)
done = 0
for line in sys.stdin:
    name, *arguments = json.loads(line)
    done += 1
    if name == "die":
        sys.exit("no more")
    print(json.dumps({"cpu_ms": done, "wall_ms": arguments[0]}), flush=True)
"""


def worker(name: str) -> Worker:
    return Worker(name, [sys.executable, "-c", WORKER])


def test_rivals_are_asked_in_turns_and_warm_up_does_not_count():
    with ExitStack() as stack:
        one, other = worker("one"), worker("other")
        start([one, other], stack)
        series = interleave(
            {"a": (one, ["work", 5]), "b": (other, ["work", 7]), "c": (one, ["work", 9])}, 3, warm_up=1
        )
    assert series["a"].cpu_ms == [3, 5, 7]
    assert series["b"].cpu_ms == [2, 3, 4]
    assert series["c"].cpu_ms == [4, 6, 8]
    assert series["c"].wall == 9


def test_a_dead_rival_is_reported_with_its_last_words():
    with worker("poor thing") as poor:
        poor.wait_ready()
        with pytest.raises(WorkerFailed, match=r"(?s)poor thing.*status 1.*no more"):
            poor.ask("die")


def test_a_series_gives_medians():
    series = Series()
    for value in (5, 1, 100):
        series.add({"cpu_ms": value, "wall_ms": 2 * value})
    assert (series.cpu, series.wall) == (5, 10)


def test_the_floor_counts_the_published_bytes():
    # 1.946 GB backbone, 8 MB its head, 31 x 222.3 MB decoder, 130 MB heads, 4 MB projection, in bfloat16.
    assert read_bytes(CSM_1B, 2) == pytest.approx(8.981e9, rel=2e-3)


def test_the_engines_own_cost_is_measured_over_real_joins_and_leaves():
    assert tick_own_ms(ticks=50) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_load_bench_says_what_can_be_measured():
    with pytest.raises(ModelError, match="--device cpu"):
        run_on("cuda")


def test_a_device_under_load_gives_every_figure():
    figures = run_on(
        "cpu", shape=CSM_TINY, loads=(1, 3), tiny_mimi=True, utterances=2, codec_frames=8
    ).figures
    assert figures["codec_frames_1"] == 16
    assert figures["codec_frames_3"] == 48
    assert all(f"{name}_{slots}" in figures for name in ("rtf", "first_audio_p95_ms") for slots in (1, 3))
