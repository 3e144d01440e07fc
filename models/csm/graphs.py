"""Ticks as CUDA graphs: a tick is thousands of small kernels, and launched one by one the launches are what
takes the time.

Codes and their sound are one graph for each batch bucket; the backbone's step, which reads as many rows of
the cache as the longest context needs, is one for each bucket of rows as well. It is a tenth of a tick's
kernels: in one graph the other nine would be captured, and take the device's memory, for each bucket of rows.
All share one pool, since only one runs at a time and what it gives back is held.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.csm.program import OUTPUTS, Input, Program, pack
from models.csm.scheduler import BUCKETS
from models.csm.shapes import CODEBOOKS

SPANS = (256, 512, 1024, 2048)
"""Rows of the cache that a graph reads."""
_WARM_UPS = 2
"""Before a capture: libraries allocate workspaces and choose kernels when they are first called."""
_CAPTURING = threading.Lock()
"""One capture at a time in a process, says torch; replicas on other devices capture too."""
_T = TypeVar("_T")


def span(position: int, rows: int) -> int:
    """The smallest of `SPANS` that holds row `position`, at most `rows`."""
    return min(rows, next((s for s in SPANS if position < s), rows))


class Capturer(Protocol):
    def capture(self, work: Callable[[], _T]) -> tuple[Callable[[], object], _T]:
        """Run `work` a few times, then record it. Returns what plays it back, and its results: tensors that
        each playing overwrites, and that hold nothing before the first."""
        ...

    def wait(self) -> None:
        """Until the device has done what it was told."""
        ...


class CudaCapturer:
    """Captures on a stream of its own; plays on the calling thread's stream of `device`."""

    def __init__(self, device: torch.device) -> None:
        """`device` has an index."""
        self._device = device
        # Warm-ups leave cuBLAS a workspace for this stream; otherwise the first graph's pool would lend one.
        # torch's own default is a single stream for all devices: that of whoever captures first.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        # Blocking: the event loop and the other models need the core more than this needs the microseconds.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def capture(self, work: Callable[[], _T]) -> tuple[Callable[[], object], _T]:
        graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        # The outer context gives the thread its stream back even where a capture's end fails.
        with _CAPTURING, torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                work()
            # thread_local: other models of this process may allocate meanwhile.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                results = work()
        here.wait_stream(self._stream)
        return graph.replay, results

    def wait(self) -> None:
        self._done.record(torch.cuda.current_stream(self._device))
        self._done.synchronize()


@dataclass(frozen=True, slots=True)
class _Voice:
    """Of a batch bucket: `play` makes codes and sound from `inputs`."""

    play: Callable[[], object]
    inputs: Tensor
    codes: Tensor
    finite: Tensor
    outputs: Tensor | None
    """None: the codec is not captured."""


class GraphedTicks:
    """Runs `program` on its CUDA device. A codec that is not captured runs after the graphs."""

    def __init__(self, program: Program, new_capturer: Callable[[torch.device], Capturer]) -> None:
        self._program = program
        self._new_capturer = new_capturer
        device = program.hidden.device
        most, pinned = program.layout.slots, device.type == "cuda"
        self._sent = torch.zeros(len(Input) * most, dtype=torch.int64, pin_memory=pinned)
        self._received = torch.zeros(most, OUTPUTS, dtype=torch.int32, pin_memory=pinned)
        self._start()

    def _start(self) -> None:
        """Without graphs."""
        self._voices: dict[int, _Voice] = {}
        self._steps: dict[tuple[int, int], Callable[[], object]] = {}
        self._parts = self._program.model.parts
        self._capturer = self._new_capturer(self._program.hidden.device)

    def capture_all(self) -> None:
        """Capture every graph that a tick may need. Blocks for seconds. Largest first: smaller ones then find
        room in the pool."""
        rows = self._program.cache.rows
        if not self._program.captures_codec:
            self._warm_codec()
        for size in reversed([b for b in BUCKETS if b <= self._program.layout.slots]):
            for n_rows in sorted({span(s - 1, rows) for s in SPANS}, reverse=True):
                self._step(size, n_rows)

    @torch.inference_mode()
    def _warm_codec(self) -> None:
        """moshi captures when it is called again; with no slot named, no slot moves."""
        slots = torch.zeros(0, dtype=torch.int64, device=self._program.hidden.device)
        for _ in range(_WARM_UPS + 1):
            self._program.decoder.step(slots.new_zeros(0, CODEBOOKS), slots)

    @torch.inference_mode()
    def __call__(self, inputs: NDArray[np.int64], n_rows: int) -> NDArray[np.int32]:
        """(8, b) -> (b, `OUTPUTS`), on the host; waits once. The array is overwritten by the next call."""
        if self._parts != self._program.model.parts:
            self._start()  # What was captured reads weights that are gone.
        size = inputs.shape[1]
        step, voice = self._step(size, n_rows), self._voice(size)
        sent = self._sent[: inputs.size].view(inputs.shape)
        sent.copy_(torch.from_numpy(inputs))
        voice.inputs.copy_(sent, non_blocking=True)
        voice.play()
        step()
        outputs = voice.outputs
        if outputs is None:
            outputs = pack(voice.codes, voice.finite, self._program.sound(voice.inputs, voice.codes))
        received = self._received[:size]
        received.copy_(outputs, non_blocking=True)
        self._capturer.wait()
        found: NDArray[np.int32] = received.numpy()
        return found

    def wait(self) -> None:
        self._capturer.wait()

    @torch.inference_mode()
    def _voice(self, size: int) -> _Voice:
        found = self._voices.get(size)
        if found is not None:
            return found
        program = self._program
        # All rows inactive, on scratch places: neither warming up nor capturing changes a slot.
        inputs = torch.from_numpy(program.layout.idle(size)).to(program.hidden.device)

        def speak() -> tuple[Tensor, Tensor, Tensor | None]:
            codes, finite = program.sample(inputs)
            captured = program.captures_codec
            return codes, finite, pack(codes, finite, program.sound(inputs, codes)) if captured else None

        play, (codes, finite, outputs) = self._capturer.capture(speak)
        found = self._voices[size] = _Voice(play, inputs, codes, finite, outputs)
        return found

    @torch.inference_mode()
    def _step(self, size: int, n_rows: int) -> Callable[[], object]:
        found = self._steps.get((size, n_rows))
        if found is None:
            voice, program = self._voice(size), self._program
            # Warming up runs: on inputs that change no slot, and on their codes. Other graphs use the memory
            # that codes of an earlier tick lay in, and what is no code ends the use of the device.
            voice.inputs.copy_(torch.from_numpy(program.layout.idle(size)))
            voice.play()
            found, _ = self._capturer.capture(lambda: program.advance(voice.inputs, voice.codes, n_rows))
            self._steps[size, n_rows] = found
        return found
