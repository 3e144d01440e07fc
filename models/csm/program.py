"""A tick as one function of tensors: 32 codes, their 80 ms of sound, the backbone's next row.

All that differs between two ticks goes in as one array of integers and comes out as another, so that on CUDA
there is one copy each way and the rest can be captured. A batch is laid out in one of two ways:

- compact: row i is the batch's i-th slot, and rows that fill the bucket use scratch places behind the slots';
- direct: row i is slot i, because the backbone's cache is then read in place; slots that rest are inactive.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.csm.model import CsmModel
from models.csm.sampling import Draw
from models.csm.scheduler import bucket
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_SAMPLES
from models.csm.stepping import TickResult, TickRow
from models.mimi.codec import Codec

OUTPUTS = CODEC_FRAME_SAMPLES + CODEBOOKS + 1
_SAMPLES, _CODES, _FINITE = slice(0, CODEC_FRAME_SAMPLES), slice(CODEC_FRAME_SAMPLES, -1), -1


class Input(IntEnum):
    """Rows of a tick's inputs, (8, b) int64."""

    SLOT = 0
    VOICE = 1
    """Place in the codec's state."""
    POSITION = 2
    ACTIVE = 3
    SEED = 4
    INDEX = 5
    MAY_END = 6
    TEMPERATURE = 7
    """The bits of a float64."""


class Layout(NamedTuple):
    """`places`: of the codec's state and of hidden states; those from `slots` on are scratch."""

    slots: int
    direct: bool
    places: int

    @staticmethod
    def of(slots: int, *, direct: bool) -> "Layout":
        """`slots` is rounded up to a bucket where batches are direct."""
        if direct:
            slots = bucket(slots)
            return Layout(slots, True, 2 * slots)
        spare = max(bucket(n) - n for n in range(1, slots + 1))
        return Layout(slots, False, slots + max(1, spare))

    def size(self, batch: Sequence[TickRow]) -> int:
        """Of the bucket."""
        return bucket(max(row.slot for row in batch) + 1 if self.direct else len(batch))

    def idle(self, size: int) -> NDArray[np.int64]:
        """(8, size) inputs that change no slot."""
        packed = np.zeros((len(Input), size), np.int64)
        packed[Input.SLOT] = np.arange(size) + (0 if self.direct else self.slots)
        packed[Input.VOICE] = np.arange(size) + self.slots
        return packed

    def inputs(self, batch: Sequence[TickRow]) -> tuple[NDArray[np.int64], list[int]]:
        """(8, size), and in which rows the batch's slots are."""
        size = self.size(batch)
        packed = self.idle(size)
        if not self.direct:
            packed[: Input.POSITION] -= len(batch)  # Scratch places count from the first row that needs one.
        places = [row.slot for row in batch] if self.direct else list(range(len(batch)))
        temperatures = packed[Input.TEMPERATURE].view(np.float64)
        for place, row in zip(places, batch, strict=True):
            whole = (row.slot, row.slot, row.position, True, row.seed, row.index, row.may_end)
            packed[: Input.TEMPERATURE, place] = whole
            temperatures[place] = row.temperature
        return packed, places


class Program:
    """Owns the state of all slots: the backbone's cache, the last hidden states, the codec's streams."""

    def __init__(
        self, model: CsmModel, codec: Codec, rows: int, layout: Layout, *, captures_codec: bool = True
    ) -> None:
        """A codec that is not captured (moshi makes graphs of its own, and always computes all its slots) is
        given the active rows alone; it may ask the device which."""
        self.model, self.layout, self.captures_codec = model, layout, captures_codec
        self.cache = model.cache(layout.slots, rows)
        self.decoder = codec.decoder(layout.places if captures_codec else layout.slots)
        width = model.shape.backbone.dim
        self.hidden = torch.zeros(layout.places, width, dtype=model.dtype, device=model.device)

    @torch.inference_mode()
    def __call__(self, inputs: Tensor, span: int) -> Tensor:
        """(8, b) int64 -> (b, `OUTPUTS`) int32: samples (their bits), codes, were the logits finite. `span`
        bounds the positions where batches are direct; asks the device nothing then."""
        codes, finite = self.sample(inputs)
        pcm = self.sound(inputs, codes)
        self.advance(inputs, codes, span)
        return pack(codes, finite, pcm)

    @torch.inference_mode()
    def sample(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        draw = Draw(
            seeds=inputs[Input.SEED],
            index=inputs[Input.INDEX],
            temperature=inputs[Input.TEMPERATURE].view(torch.float64).float(),
            may_end=inputs[Input.MAY_END].bool(),
        )
        return self.model.codec_frame(self.hidden.index_select(0, inputs[Input.SLOT]), draw)

    @torch.inference_mode()
    def sound(self, inputs: Tensor, codes: Tensor) -> Tensor:
        places = inputs[Input.VOICE]
        if self.captures_codec:
            return self.decoder.step(codes, places)
        (active,) = inputs[Input.ACTIVE].nonzero(as_tuple=True)
        pcm = torch.zeros(len(codes), CODEC_FRAME_SAMPLES, device=codes.device)
        if len(active):
            pcm[active] = self.decoder.step(codes[active], places[active]).float()
        return pcm

    @torch.inference_mode()
    def advance(self, inputs: Tensor, codes: Tensor, span: int) -> None:
        slots, active = inputs[Input.SLOT], inputs[Input.ACTIVE].bool()
        hidden = self.model.step(self.cache, codes, inputs[Input.POSITION], slots, active, span=span)
        kept = self.hidden.index_select(0, slots)
        self.hidden.index_copy_(0, slots, torch.where(active.unsqueeze(1), hidden, kept))


def pack(codes: Tensor, finite: Tensor, pcm: Tensor) -> Tensor:
    return torch.cat([pcm.float().view(torch.int32), codes.int(), finite.int().unsqueeze(1)], 1)


def unpack(outputs: NDArray[np.int32], places: Sequence[int]) -> TickResult:
    """Copies of the batch's rows of (b, `OUTPUTS`)."""
    rows = outputs[places]
    pcm = np.ascontiguousarray(rows[:, _SAMPLES]).view(np.float32)
    return TickResult(rows[:, _CODES], pcm, rows[:, _FINITE].astype(np.bool_))
