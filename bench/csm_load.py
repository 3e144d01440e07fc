"""The voice in real-time service on one device: how many slots at once, and how soon each is heard.

CSM-1B of random weights through the engine on its thread, as calls use it: a shared prompt, callers who ask
for an utterance again and again, each after a pause of its own. The speed of sound does not depend on the
weights' values; its quality is not measured here.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.csm_ours import text_rows
from bench.report import Report, percentile
from models.base import ModelError
from models.csm.engine import Engine
from models.csm.host import ThreadHost
from models.csm.measures import EngineStats
from models.csm.model import CsmModel
from models.csm.random_weights import RandomTensors
from models.csm.shapes import (
    AUDIO_VOCABULARY,
    CODEBOOKS,
    CODEC_FRAME_S,
    CSM_1B,
    CsmShape,
    TransformerShape,
)
from models.csm.stepper import TorchStepper
from models.csm.utterance import SpokenFrame, Utterance
from models.mimi.opening import CodecKind, open_codec
from models.mimi.random_mimi import save_random_mimi

LOADS = (1, 4, 8, 16, 32, 64)
PROMPT_ROWS = 200
TEXT_ROWS = 16
_COPIED_BYTES = 256 << 20


@dataclass
class _Talker:
    """One slot that speaks, pauses, and speaks again."""

    host: ThreadHost
    slot: int
    codec_frames: int
    firsts_s: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        self.done.clear()
        asked = time.monotonic()
        utterance = Utterance(
            rows=text_rows(PROMPT_ROWS + TEXT_ROWS),
            seed=self.slot,
            judge=lambda index, codes, pcm: None,
            most_codec_frames=self.codec_frames,
            may_end_after=self.codec_frames,
            on_frame=lambda spoken: self._spoken(spoken, asked),
            on_end=lambda reason: self.done.set(),
        )
        self.host.post(lambda engine: engine.speak(self.slot, utterance))

    def _spoken(self, spoken: SpokenFrame, asked: float) -> None:
        if spoken.index == 0:
            self.firsts_s.append(time.monotonic() - asked)


def run_on(
    device: str,
    *,
    shape: CsmShape = CSM_1B,
    loads: Sequence[int] = LOADS,
    tiny_mimi: bool = False,
    utterances: int = 3,
    codec_frames: int = 60,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Blocks for a few minutes. `device` as torch names it; each slot speaks `utterances` at each load.
    Raises `ModelError` when the device is absent."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("torch finds no CUDA device: --device cpu compares the voice with its peers instead")
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    floor_ms = read_bytes(shape, dtype.itemsize) / _bandwidth(device) * 1e3

    def measure(kind: CodecKind) -> dict[str, object]:
        host = ThreadHost(lambda: _engine(device, dtype, shape, max(loads), kind, tiny_mimi))
        host.wait_loaded()
        host.post(lambda engine: engine.set_prompt(text_rows(PROMPT_ROWS)))
        figures: dict[str, object] = {}
        for slots in loads:
            progress(f"{slots} slots, codec {kind}")
            _hold(host, slots, 1, codec_frames)  # caches are warm before the clock counts
            before = _stats(host)
            firsts_s = _hold(host, slots, utterances, codec_frames)
            figures |= _figures(slots, before, _stats(host), firsts_s, floor_ms)
        asyncio.run(host.aclose())
        return figures

    figures = measure("own")
    notes = [
        f"{shape.name}, random weights, {dtype} on {_name(device)}",
        f"{utterances} utterances of {codec_frames} CodecFrames a slot, prompt of {PROMPT_ROWS} rows shared; "
        "floor: weights read once a tick at the bandwidth of a device copy",
    ]
    if tiny_mimi or find_spec("moshi") is None:
        notes.append("the moshi package was not measured: it is not installed, or Mimi is tiny")
    else:
        figures |= {f"moshi_{name}": value for name, value in measure("moshi").items()}
    return Report(figures={"floor_ms": round(floor_ms, 2), **figures}, notes=notes)


def _engine(
    device: str, dtype: torch.dtype, shape: CsmShape, slots: int, kind: CodecKind, tiny_mimi: bool
) -> Engine:
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.set_device(torch.device(device).index or 0)
    model = CsmModel(shape, RandomTensors(shape, seed=1), device=device, dtype=dtype)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "mimi.safetensors"
        save_random_mimi(file, seed=1, tiny=tiny_mimi)
        stepper = TorchStepper(model, open_codec(kind, file, device), slots)
    if on_cuda:
        stepper.warm_up()
    return Engine(stepper)


def _hold(host: ThreadHost, slots: int, utterances: int, codec_frames: int) -> list[float]:
    """Let `slots` talkers speak their utterances, begun at random moments. Seconds to the first 80 ms of
    each."""
    talkers = [_Talker(host, slot, codec_frames) for slot in _open(host, slots)]
    threads = [threading.Thread(target=_talk, args=(talker, utterances)) for talker in talkers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for talker in talkers:
        _close(host, talker.slot)
    return [first for talker in talkers for first in talker.firsts_s]


def _open(host: ThreadHost, slots: int) -> list[int]:
    opened: list[int] = []
    done = threading.Event()

    def open_all(engine: Engine) -> None:
        opened.extend(engine.open() for _ in range(slots))
        done.set()

    host.post(open_all)
    done.wait()
    return opened


def _stats(host: ThreadHost) -> EngineStats:
    """As of now, whatever the last step was."""
    found: list[EngineStats] = []
    done = threading.Event()

    def look(engine: Engine) -> None:
        found.append(engine.stats)
        done.set()

    host.post(look)
    done.wait()
    return found[0]


def _close(host: ThreadHost, slot: int) -> None:
    host.post(lambda engine: engine.close(slot))


def _talk(talker: _Talker, utterances: int) -> None:
    pauses = random.Random(talker.slot)
    for _ in range(utterances):
        time.sleep(pauses.uniform(0.0, talker.codec_frames * CODEC_FRAME_S / 4))
        talker.begin()
        talker.done.wait()


def _figures(
    slots: int, before: EngineStats, after: EngineStats, firsts_s: list[float], floor_ms: float
) -> dict[str, object]:
    return {
        f"rtf_{slots}": round(after.tick_ms_p50 / (CODEC_FRAME_S * 1e3), 3),
        f"tick_p99_ms_{slots}": round(after.tick_ms_p99, 1),
        f"first_audio_p50_ms_{slots}": round(percentile(firsts_s, 50) * 1e3, 1),
        f"first_audio_p95_ms_{slots}": round(percentile(firsts_s, 95) * 1e3, 1),
        f"underruns_{slots}": after.underruns - before.underruns,
        f"codec_frames_{slots}": after.codec_frames - before.codec_frames,
        f"floor_share_{slots}": round(floor_ms / after.tick_ms_p50, 3),
    }


def read_bytes(shape: CsmShape, width: int) -> int:
    """Weights that a tick must read once, bytes: the backbone and its head, and the decoder 31 times, each
    time with another head. Inputs are looked up, which costs next to nothing; only the hidden state is
    projected."""
    decoder, steps = shape.decoder, CODEBOOKS - 1
    backbone = _weights(shape.backbone) + AUDIO_VOCABULARY * shape.backbone.dim
    heads = AUDIO_VOCABULARY * decoder.dim * steps
    return width * (backbone + steps * _weights(decoder) + heads + decoder.dim * shape.backbone.dim)


def _weights(shape: TransformerShape) -> int:
    attention = shape.dim * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * (attention + 3 * shape.dim * shape.ffn)


def _bandwidth(device: str) -> float:
    """Bytes a second that a copy on the device reads and writes, the best of five."""
    source = torch.zeros(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPIED_BYTES / min(_timed(lambda: target.copy_(source), device) for _ in range(6))


def _timed(work: Callable[[], object], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
