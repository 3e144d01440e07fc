"""The engine's stepper over torch: CSM, a codec, and the state of every slot on one device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from models.csm.graphs import CudaCapturer, GraphedTicks, span
from models.csm.model import CsmModel
from models.csm.program import Layout, Program, unpack
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CODEC_FRAME_SAMPLES, CONTEXT_ROWS
from models.csm.stepping import Codes, Encoder, Rows, Samples, TickResult, TickRow
from models.mimi.codec import Codec, StreamingEncoder
from models.mimi.own import OwnMimi

_ENCODER_WARM_UPS = 3
"""moshi computes, captures, and plays what it captured."""


class TorchStepper:
    """Implements `Stepper`. `model` and `codec` are on the same device. Make it, and call it, on one thread.

    Batches are padded to a bucket: inside one, a slot's codes do not depend on who shares the batch. `direct`
    lays batches out as CUDA needs them; by default, on CUDA alone.
    """

    def __init__(
        self,
        model: CsmModel,
        codec: Codec,
        slots: int,
        rows: int = CONTEXT_ROWS,
        *,
        direct: bool | None = None,
    ) -> None:
        """Raises `ValueError` for more slots than the largest bucket; torch's `OutOfMemoryError`."""
        self.slots, self.rows = slots, rows
        self._written = [0] * slots
        """Rows of each slot's cache that may hold something."""
        self._device = model.device
        self._codec = codec
        self._encoder: StreamingEncoder | None = None
        self._stream: _EncoderStream | None = None
        on_cuda = self._device.type == "cuda"
        layout = Layout.of(slots, direct=on_cuda if direct is None else direct)
        self._program = Program(model, codec, rows, layout, captures_codec=isinstance(codec, OwnMimi))
        if on_cuda:
            self._device = self._program.hidden.device  # "cuda" has become "cuda:0".
            torch.cuda.set_device(self._device)
        self._graphs = GraphedTicks(self._program, CudaCapturer) if on_cuda else None

    def warm_up(self, *, encoder: bool = False) -> None:
        """Do what the first ticks would have to wait for: capture graphs, load the codec's `encoder`."""
        if encoder:
            stream = self.open_encoder()
            for _ in range(_ENCODER_WARM_UPS):
                stream.push(torch.zeros(CODEC_FRAME_SAMPLES).numpy())
        if self._graphs is not None:
            self._graphs.capture_all()
        else:
            idle = torch.from_numpy(self._program.layout.idle(1))
            self._program(idle, self.rows)

    @torch.inference_mode()
    def prefill(self, slot: int, rows: Rows, start: int) -> None:
        """Raises `ValueError` for a column that names no row of its table: on CUDA, looking it up would end
        the whole process's use of the device."""
        text, codes = rows[:, CODEBOOKS], rows[:, :CODEBOOKS]
        most_text = self._program.model.shape.text_vocabulary
        if rows.min() < -1 or text.max() >= most_text or codes.max() >= AUDIO_VOCABULARY:
            raise ValueError(f"rows hold text up to {text.max()} and codes up to {codes.max()}")
        self._written[slot] = max(self._written[slot], start + len(rows))
        with _frees_memory():
            hidden = self._program.model.prefill(self._program.cache, slot, torch.tensor(rows), start)
            self._program.hidden[slot] = hidden
            if self._graphs is not None:
                # The engine measures how long this takes, and a tick must not wait behind many of them.
                self._graphs.wait()

    def tick(self, batch: Sequence[TickRow]) -> TickResult:
        packed, places = self._program.layout.inputs(batch)
        for row in batch:
            self._written[row.slot] = max(self._written[row.slot], row.position + 1)
        n_rows = span(max(row.position for row in batch), self.rows)
        with _frees_memory():
            if self._graphs is not None:
                return unpack(self._graphs(packed, n_rows), places)
            outputs = self._program(torch.from_numpy(packed), n_rows)
            return unpack(outputs.numpy(), places)

    def restart_voice(self, slot: int) -> None:
        self._program.decoder.reset(slot)

    @torch.inference_mode()
    def forget(self, slot: int, kept: int = 0) -> None:
        # Rows never written are zeros, and memory that is never touched is never taken.
        cache, written = self._program.cache, self._written[slot]
        for held in (cache.k, cache.v):
            held[:, slot, :, kept:written] = 0
        self._written[slot] = min(kept, written)
        self._program.hidden[slot] = 0
        self._program.decoder.reset(slot)

    @torch.inference_mode()
    def save(self, slot: int, n_rows: int) -> tuple[Tensor, Tensor]:
        return self._program.cache.save(slot, n_rows)

    @torch.inference_mode()
    def restore(self, saved: tuple[Tensor, Tensor], slot: int) -> None:
        self._written[slot] = max(self._written[slot], saved[0].shape[2])
        self._program.cache.restore(saved, slot)

    def open_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._codec.encoder(1)
        self._encoder.reset(0)
        if self._stream is not None:
            self._stream.over = True
        self._stream = _EncoderStream(self._encoder, self._device)
        return self._stream


class _EncoderStream:
    def __init__(self, encoder: StreamingEncoder, device: torch.device) -> None:
        self.over = False
        self._encoder = encoder
        self._device = device
        self._slot = torch.zeros(1, dtype=torch.int64, device=device)

    def push(self, audio: Samples) -> Codes:
        if self.over:
            raise RuntimeError("this stream has ended: the encoder was opened again")
        with _frees_memory():
            codes = self._encoder.step(torch.from_numpy(audio)[None].to(self._device), self._slot)
            found: Codes = codes[0].to("cpu", torch.int32).numpy()
            return found


@contextmanager
def _frees_memory() -> Iterator[None]:
    """When memory runs out, give back what torch holds without need: the next step may then find room."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise
