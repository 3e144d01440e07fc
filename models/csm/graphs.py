"""Ticks as CUDA graphs: a tick is thousands of small kernels, and launched one by one the launches are what
takes the time. One graph for each (batch bucket, bucket of rows); all share one pool of memory, since only
one runs at a time and its outputs are read before the next.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.csm.program import OUTPUTS, Input, Program, pack
from models.csm.scheduler import BUCKETS

SPANS = (256, 512, 1024, 2048)
"""Rows of the cache that a graph reads."""
_WARM_UPS = 2
"""Before a capture: libraries allocate workspaces and choose kernels when they are first called."""


def span(position: int, rows: int) -> int:
    """The smallest of `SPANS` that holds row `position`, at most `rows`."""
    return min(rows, next((s for s in SPANS if position < s), rows))


@dataclass(slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    outputs: Tensor
    codes: Tensor
    finite: Tensor


class GraphedTicks:
    """Runs `program` on its CUDA device. A codec that is not captured runs after the graph."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._read = torch.cuda.Event()  # type: ignore[no-untyped-call]
        most = program.layout.slots
        self._sent = torch.zeros(len(Input), most, dtype=torch.int64, pin_memory=True)
        self._received = torch.zeros(most, OUTPUTS, dtype=torch.int32, pin_memory=True)

    def capture_all(self) -> None:
        """Capture every graph that a tick may need. Blocks for seconds. Largest first: smaller ones then find
        room in the pool."""
        rows = self._program.cache.rows
        for n_rows in sorted({span(s - 1, rows) for s in SPANS}, reverse=True):
            for size in reversed([b for b in BUCKETS if b <= self._program.layout.slots]):
                self._graph(size, n_rows)

    @torch.inference_mode()
    def __call__(self, inputs: NDArray[np.int64], n_rows: int) -> NDArray[np.int32]:
        """(8, b) -> (b, `OUTPUTS`), on the host; waits once. The array is overwritten by the next call."""
        size = inputs.shape[1]
        held = self._graph(size, n_rows)
        sent = self._sent.view(-1)[: inputs.size].view(inputs.shape)
        sent.copy_(torch.from_numpy(inputs))
        held.inputs.copy_(sent, non_blocking=True)
        held.graph.replay()
        outputs = held.outputs
        if not self._program.captures_codec:
            outputs = pack(held.codes, held.finite, self._program.sound(held.inputs, held.codes))
        received = self._received[:size]
        received.copy_(outputs, non_blocking=True)
        self._read.record()
        self._read.synchronize()
        found: NDArray[np.int32] = received.numpy()
        return found

    def _graph(self, size: int, n_rows: int) -> _Graph:
        held = self._graphs.get((size, n_rows))
        if held is None:
            held = self._graphs[size, n_rows] = self._capture(size, n_rows)
        return held

    @torch.inference_mode()
    def _capture(self, size: int, n_rows: int) -> _Graph:
        device = self._program.hidden.device
        # All rows inactive, on scratch places: neither warming up nor capturing changes a slot.
        inputs = torch.from_numpy(self._program.layout.idle(size)).to(device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._run(inputs, n_rows)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # thread_local: other models of this process may allocate meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs, codes, finite = self._run(inputs, n_rows)
        return _Graph(graph, inputs, outputs, codes, finite)

    def _run(self, inputs: Tensor, n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        program = self._program
        codes, finite = program.sample(inputs)
        outputs = pack(codes, finite, program.sound(inputs, codes)) if program.captures_codec else codes
        program.advance(inputs, codes, n_rows)
        return outputs, codes, finite
