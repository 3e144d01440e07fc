"""What is captured of a tick, and in which order it is played; on a GPU, real graphs too."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.csm.graphs import SPANS, GraphedTicks, span
from models.csm.linear import Weights
from models.csm.model import CsmModel
from models.csm.program import OUTPUTS, Layout, Program
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CSM_TINY, ROW_COLUMNS
from models.csm.stepper import TorchStepper
from models.csm.stepping import TickRow
from models.mimi.random_mimi import random_mimi
from tests.models.csm.tiny_stepper import some_rows, tiny_codec, tiny_model, tiny_stepper

_T = TypeVar("_T")
_LEFT_OVER = 1_000_000
"""What lies in memory that another graph has used: no code, and a sound nobody made."""


class Repeats:
    """As CUDA's graphs are seen from outside: recording computes nothing, playing overwrites the results, and
    results of one graph do not outlive the playing of those that share its memory."""

    def __init__(self, device: torch.device) -> None:
        self.captures = 0
        self._results: list[Tensor] = []

    def capture(self, work: Callable[[], _T]) -> tuple[Callable[[], None], _T]:
        self.captures += 1
        work()
        results = work()
        mine = [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]
        self._results += mine
        self._spoil(self._results)

        def play() -> None:
            self._spoil([other for other in self._results if mine and all(other is not m for m in mine)])
            new = [leaf for leaf in tree_leaves(work()) if isinstance(leaf, Tensor)]
            for old, value in zip(mine, new, strict=True):
                old.copy_(value)

        return play, results

    def wait(self) -> None:
        pass

    @staticmethod
    def _spoil(results: list[Tensor]) -> None:
        for result in results:
            result.fill_(_LEFT_OVER)


class Uncaptured:
    """A codec that is not `OwnMimi`, as far as the stepper can see."""

    def __init__(self) -> None:
        self.decoder, self.encoder = tiny_codec().decoder, tiny_codec().encoder
        self.decode, self.encode = tiny_codec().decode, tiny_codec().encode


def graphed(stepper: TorchStepper) -> TorchStepper:
    stepper._graphs = GraphedTicks(stepper._program, Repeats)
    stepper._program.model.cache_attention = "batch"
    return stepper


def talk(stepper: TorchStepper) -> list[np.ndarray]:
    """Slots join in other buckets, one of them grows into rows of another span; slot 0 rests now and then."""
    found, positions = [], {}
    for slot, n_rows in ((0, 8), (2, 255), (1, 8)):
        stepper.prefill(slot, np.resize(some_rows(slot), (n_rows, ROW_COLUMNS)), 0)
        stepper.restart_voice(slot)
        positions[slot] = n_rows
        for index in range(2):
            batch = [TickRow(s, at, index, 70 + s) for s, at in positions.items() if s or index == 0]
            if not batch:
                continue
            result = stepper.tick(batch)
            found += [result.codes, result.pcm]
            for row in batch:
                positions[row.slot] += 1
    return found


@pytest.fixture
def restored_attention():
    yield
    tiny_model().cache_attention = "rows"


@pytest.mark.parametrize("warmed", [False, True])
@pytest.mark.parametrize("codec", [tiny_codec, Uncaptured])
@pytest.mark.usefixtures("restored_attention")
def test_playing_graphs_says_what_computing_says(codec, warmed):
    def stepper() -> TorchStepper:
        return TorchStepper(tiny_model(), codec(), 3, 512, direct=True)

    plain = stepper()
    plain._program.model.cache_attention = "batch"
    played = graphed(stepper())
    if warmed and codec is tiny_codec:
        played.warm_up()
    for mine, theirs in zip(talk(plain), talk(played), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.usefixtures("restored_attention")
def test_every_graph_is_captured_before_the_first_call():
    stepper = graphed(TorchStepper(tiny_model(), tiny_codec(), 3, 512, direct=True))
    stepper.warm_up()
    capturer = stepper._graphs._capturer
    assert capturer.captures == 3 * (1 + 2)  # buckets 1, 2, 4; a voice each, and steps over 256 and 512 rows
    talk(stepper)
    assert capturer.captures == 9


def test_replaced_parts_are_spoken_with():
    """A graph reads the memory that weights lay in when it was captured."""
    other = RandomTensors(CSM_TINY, 4)
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3))
    stepper = graphed(TorchStepper(model, tiny_codec(), 1, 64, direct=True))
    fresh = graphed(
        TorchStepper(CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3)), tiny_codec(), 1, 64, direct=True)
    )
    stepper.warm_up()
    for one in (stepper, fresh):
        one._program.model.replace_parts(decoder=other, audio_head=other["audio_head"])
    for one in (stepper, fresh):
        one.prefill(0, some_rows(1), 0)
    a, b = (one.tick([TickRow(0, 8, 0, seed=1)]) for one in (stepper, fresh))
    np.testing.assert_array_equal(a.codes, b.codes)
    assert stepper._graphs._parts == model.parts == 2


def test_spans_hold_the_position():
    for position in (0, 255, 256, 2047):
        assert position < span(position, 2048) and span(position, 2048) in SPANS
    assert span(20, 128) == 128


class _HostTensors(TorchDispatchMode):
    """Collects operations that see a tensor of the host: a copy between host and device waits, and cannot be
    captured."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, results)) if isinstance(x, Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.found.append(str(func))
        return results


@pytest.mark.parametrize(
    ("weights", "dtype"), [("full", torch.float32), ("full", torch.bfloat16), ("int8", torch.bfloat16)]
)
def test_a_tick_touches_nothing_of_the_host(weights: Weights, dtype: torch.dtype):
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3), device="meta", dtype=dtype, weights=weights)
    layout = Layout.of(3, direct=True)
    program = Program(model, random_mimi(3, tiny=True, device="meta"), 128, layout)
    packed, _ = layout.inputs([TickRow(2, 8, 0, seed=1)])
    inputs = torch.from_numpy(packed).to("meta")
    with _HostTensors() as mode:
        outputs = program(inputs, 128)
    assert mode.found == []
    assert outputs.shape == (4, OUTPUTS) and program.hidden.dtype == dtype
    with _HostTensors() as mode:
        torch.zeros(2, device="meta").add_(torch.ones(2))
    assert mode.found


def test_a_stepper_without_graphs_needs_no_gpu():
    assert tiny_stepper(direct=True)._graphs is None


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(device: str, dtype: torch.dtype, weights: Weights = "full", slots: int = 3) -> TorchStepper:
    model = CsmModel(CSM_TINY, RandomTensors(CSM_TINY, 3), device=device, dtype=dtype, weights=weights)
    return TorchStepper(model, random_mimi(3, tiny=True, device=device), slots, 512)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("warmed", [False, True])
@pytest.mark.parametrize(
    ("weights", "dtype"), [("full", torch.float32), ("full", torch.bfloat16), ("int8", torch.bfloat16)]
)
def test_real_graphs_say_what_computing_says(weights: Weights, dtype: torch.dtype, warmed: bool):
    plain, played = on_gpu("cuda", dtype, weights), on_gpu("cuda", dtype, weights)
    program = plain._program
    plain._graphs = lambda packed, n_rows: program(torch.from_numpy(packed).cuda(), n_rows).cpu().numpy()
    plain._graphs.wait = torch.cuda.synchronize
    if warmed:
        played.warm_up(encoder=True)
    for mine, theirs in zip(talk(plain), talk(played), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.gpu
@gpu
def test_replicas_capture_at_once_each_on_its_device():
    expected = talk(on_gpu("cuda:0", torch.bfloat16))
    n_devices = min(2, torch.cuda.device_count())

    def replica(index: int) -> list[np.ndarray]:
        stepper = on_gpu(f"cuda:{index}", torch.bfloat16)
        stepper.warm_up()
        return talk(stepper)

    with ThreadPoolExecutor(n_devices) as threads:
        for found in threads.map(replica, range(n_devices)):
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.gpu
@gpu
def test_the_span_of_a_neighbour_changes_no_code():
    """Which rows of the cache a batch reads depends on its longest context."""
    found = []
    for company in (8, 300):
        stepper = on_gpu("cuda", torch.bfloat16, slots=2)
        for slot, n_rows in ((0, 8), (1, company)):
            stepper.prefill(slot, np.resize(some_rows(slot), (n_rows, ROW_COLUMNS)), 0)
            stepper.restart_voice(slot)
        for index in range(4):
            rows = [TickRow(0, 8 + index, index, 1), TickRow(1, company + index, index, 2)]
            found.append(stepper.tick(rows).codes[0])
    np.testing.assert_array_equal(found[:4], found[4:])
