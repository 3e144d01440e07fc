"""The CSM voice put together: from files to an engine on each device, to a synthesizer."""

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from models.base import ModelMissing
from models.csm.checkpoint import Checkpoint, open_checkpoint
from models.csm.engine import Engine
from models.csm.host import ThreadHost
from models.csm.measures import ADMISSION_S
from models.csm.memory import MemoryPart, OutOfMemory, check_room, describe, out_of_memory, voice_memory
from models.csm.model import CsmModel
from models.csm.prompt import VoicePrompt, load_prompt, sha256_of
from models.csm.shapes import CONTEXT_ROWS, CsmShape
from models.csm.stepper import TorchStepper
from models.csm.text import TextTokenizer
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from models.machine import free_bytes, usable_cores
from models.mimi.opening import open_codec
from models.placement import Device
from models.voices import CsmVoicePlan, VoiceChoice

logger = logging.getLogger(__name__)

MOST_THREADS = 8
SHARED_OUT_DIM = 512
"""Below this width, a product takes less time than handing it to other threads."""


def load_csm(
    plan: CsmVoicePlan, choice: VoiceChoice, devices: Sequence[Device], *, slots: int, threads: int | None
) -> CsmSynthesizer:
    """Load one replica of the voice on each of `devices`, with `slots` slots each. Blocks, up to a minute.
    `threads` on a CPU; None: as many as `default_threads` says.

    Raises `CheckpointError`, `OutOfMemory` (before anything is loaded where that can be known),
    `ModelMissing`, `ModelError`.
    """
    with open_checkpoint(plan.files.base, parts=plan.files.parts) as checkpoint:
        parts = {device: _memory(checkpoint, device, choice, slots) for device in devices}
        for device in devices:
            check_room(parts[device], free_bytes(device), str(device))
        if choice.codec == "moshi" and len(devices) > 1:
            # moshi captures on the device that was first, and its guard against captures is the process's.
            os.environ["NO_CUDA_GRAPH"] = "1"
        hosts = [
            ThreadHost(
                partial(make_engine, checkpoint, plan, choice, device, slots=slots, threads=threads),
                name=f"maya-csm-{device}",
            )
            for device in devices
        ]
        try:
            tokenizer, prompt = read_words(plan)  # seconds, meanwhile
            for host, device in zip(hosts, devices, strict=True):
                with _explained(parts[device], device):
                    host.wait_loaded()
        except BaseException:
            _close(hosts)
            raise
    for device in devices:
        logger.info("voice %s on %s, %d slots: %s", plan.name, device, slots, describe(parts[device]))
    return CsmSynthesizer(hosts, tokenizer, voice_options(choice, prompt))


def read_words(plan: CsmVoicePlan) -> tuple[TextTokenizer, VoicePrompt | None]:
    """The tokenizer, and the voice prompt if there is one. Raises `ModelMissing`, `ModelError`."""
    files = plan.files
    if files.tokenizer is None or files.mimi is None:
        raise ModelMissing(f"The voice {plan.name} has no tokenizer or no Mimi; see `maya doctor`.")
    prompt = None
    if files.prompt is not None:
        prompt = load_prompt(files.prompt, mimi_sha256=sha256_of(files.mimi))
    return TextTokenizer.open(files.tokenizer), prompt


def voice_options(choice: VoiceChoice, prompt: VoicePrompt | None) -> CsmVoiceOptions:
    return CsmVoiceOptions(
        speaker=choice.speaker, caller_speaker=choice.speaker + 1, context=choice.context, prompt=prompt
    )


def make_engine(
    checkpoint: Checkpoint,
    plan: CsmVoicePlan,
    choice: VoiceChoice,
    device: Device,
    *,
    slots: int,
    threads: int | None,
    rows: int = CONTEXT_ROWS,
    clock: Callable[[], float] | None = None,
) -> Engine:
    """Load model and codec. Call it on the thread that the engine will run on: torch keeps a number of
    threads for each of its callers' threads."""
    if plan.files.mimi is None:
        raise ModelMissing(f"The voice {plan.name} has no Mimi; see `maya doctor`.")
    on_cuda = device.kind == "cuda"
    if on_cuda:
        torch.cuda.set_device(device.index)  # Else this thread takes memory of cuda:0 as well.
    else:
        torch.set_num_threads(threads or default_threads(checkpoint.shape, usable_cores()))
    model = CsmModel(
        checkpoint.shape,
        checkpoint,
        device=str(device),
        dtype=torch.bfloat16 if on_cuda else torch.float32,
        weights=choice.weights,
    )
    stepper = TorchStepper(model, open_codec(choice.codec, plan.files.mimi, str(device)), slots, rows)
    stepper.warm_up(encoder=choice.context == "audio")
    # A CPU is slower than real time with the full model: refusing calls would leave none.
    admission_s = ADMISSION_S if on_cuda else None
    engine = partial(Engine, stepper, admission_s=admission_s)
    if not choice.paced:
        engine = partial(engine, lead_s=math.inf)
    return engine() if clock is None else engine(clock=clock)


def default_threads(shape: CsmShape, cores: int) -> int:
    """For torch on a CPU. Its threads wait for each other by spinning, and the transcriber and the language
    model have threads too: with more of them than free cores each wait lasts until the scheduler comes round.
    On two busy cores a tick of the tiny model took 30 ms with one thread and 680 ms with two. So half of the
    cores, and one where a product is too small to be shared out."""
    return max(1, min(cores // 2, MOST_THREADS)) if shape.backbone.dim >= SHARED_OUT_DIM else 1


def _memory(
    checkpoint: Checkpoint, device: Device, choice: VoiceChoice, slots: int
) -> tuple[MemoryPart, ...]:
    return voice_memory(
        checkpoint.shape, device=device.kind, weights=choice.weights, slots=slots, codec=choice.codec
    )


@contextmanager
def _explained(parts: Sequence[MemoryPart], device: Device) -> Iterator[None]:
    """An allocation that failed becomes the sentence that says how much is needed."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(out_of_memory(parts, str(device), free_bytes(device))) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(out_of_memory(parts, str(device), free_bytes(device))) from error


def _close(hosts: Sequence[ThreadHost]) -> None:
    """End hosts that nobody will use. In a thread of its own, since a loop may run in this one."""

    async def close_all() -> None:
        await asyncio.gather(*(host.aclose() for host in hosts))

    thread = threading.Thread(target=lambda: asyncio.run(close_all()))
    thread.start()
    thread.join()
