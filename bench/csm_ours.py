"""Our voice, timed from `maya bench csm`: a worker like `bench.csm_peers`, with our own CSM and Mimi.

CSM-1B of random weights, W8A8, in one process: its memory is the voice's memory. Arguments: threads, slots.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES, CSM_1B, MIMI_BINS, ROW_COLUMNS
from models.csm.stepper import TorchStepper
from models.csm.stepping import Rows, TickRow
from models.mimi.codec import StreamingDecoder
from models.mimi.random_mimi import random_mimi

CONTEXT_ROWS = 200
MIMI_PAST = 126
"""CodecFrames after which Mimi's attention sees its whole window of 10 s."""


class Ours:
    def __init__(self, slots: int) -> None:
        model = CsmModel(CSM_1B, RandomTensors(CSM_1B, seed=1), weights="w8a8")
        self._codec = random_mimi(seed=1)
        self._stepper = TorchStepper(model, self._codec, slots)
        self._position = [0] * slots
        # A page that was never written is not in the memory figure: write every row of every slot.
        whole = self._stepper.save(0, self._stepper.rows)
        for slot in range(slots):
            self._stepper.restore(whole, slot)
            self.prefill(CONTEXT_ROWS, slot)
        del whole
        self._alone: StreamingDecoder | None = None

    def prefill(self, rows: int, slot: int = 0) -> None:
        self._stepper.prefill(slot, text_rows(rows), 0)
        self._position[slot] = rows

    def tick(self, slots: int) -> None:
        """One CodecFrame for each of the first `slots`: codes, sound and the backbone's step."""
        batch = [TickRow(slot, self._position[slot], self._position[slot], slot) for slot in range(slots)]
        self._stepper.tick(batch)
        for slot in range(slots):
            self._position[slot] += 1

    def encode(self, codec_frames: int) -> None:
        """The caller's speech into codes."""
        self._stepper.open_encoder().push(np.zeros(codec_frames * CODEC_FRAME_SAMPLES, np.float32))

    def mimi(self, slots: int) -> None:
        """One CodecFrame of sound for each of the first `slots`."""
        if self._alone is None:
            self._alone = self._codec.decoder(len(self._position))
            for _ in range(MIMI_PAST):
                self._sound(self._alone, len(self._position))
        self._sound(self._alone, slots)

    def _sound(self, decoder: StreamingDecoder, slots: int) -> None:
        decoder.step(torch.randint(0, MIMI_BINS, (slots, CODEBOOKS)), torch.arange(slots))

    def memory(self) -> dict[str, float]:
        return {"rss_gb": _rss_bytes() / 1e9, "peak_gb": _peak_bytes() / 1e9}


def text_rows(rows: int) -> Rows:
    found = np.full((rows, ROW_COLUMNS), -1, np.int32)
    found[:, CODEBOOKS] = np.arange(rows) % 1000
    return found


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    ours = Ours(int(sys.argv[2]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        answer = getattr(ours, name)(*arguments)
        took = {"cpu_ms": (time.process_time() - cpu) * 1e3, "wall_ms": (time.perf_counter() - wall) * 1e3}
        print(json.dumps(answer or took), flush=True)


if __name__ == "__main__":
    main()
