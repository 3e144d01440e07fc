"""What the engine asks of tensors. Nothing here imports torch: the engine is tested without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int32]
"""(n_rows, 33) int32: 32 codes and a text token; -1 where a column is not valid."""
Codes = NDArray[np.int32]
"""(n_codec_frames, 32) int32 in [0, 2048)."""
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TickRow:
    """One slot's part in a tick."""

    slot: int
    position: int
    """Rows in the slot's KV cache before this tick; the new CodecFrame's row is written there."""
    index: int
    """Number of this CodecFrame in its utterance, from 0: with `seed` and the codebook it names the noise."""
    seed: int
    """Of the utterance; 63 bits."""
    temperature: float = 0.9
    """0 takes the most probable code."""
    may_end: bool = True
    """False: codebook 0 may not be 0, so the utterance cannot end here."""


@dataclass(frozen=True, slots=True)
class TickResult:
    """Rows in the order of the batch."""

    codes: Codes
    pcm: Samples
    """(n, 1920) float32 at 24 kHz."""
    finite: NDArray[np.bool_]
    """(n,) False where a slot's logits were not finite: its codes and samples mean nothing."""


class Encoder(Protocol):
    """A stream of speech on its way into codes."""

    def push(self, audio: Samples) -> Codes:
        """(k * 1920,) float32 at 24 kHz -> (k, 32). Blocks."""
        ...


class Stepper(Protocol):
    """Slots of KV cache, of last hidden state and of Mimi decoder state on one device. All methods block and
    belong to one thread. The caller keeps the books: which rows a slot's cache holds, and how many."""

    slots: int
    rows: int
    """Rows that a slot's cache can hold."""

    def prefill(self, slot: int, rows: Rows, start: int) -> None:
        """Evaluate `rows` as rows start, start + 1, ... of the slot; rows before `start` stand. What was
        cached at or after `start` is void. The last row's hidden state is kept for the next tick."""
        ...

    def tick(self, batch: Sequence[TickRow]) -> TickResult:
        """One CodecFrame for each of the batch's slots (no slot twice): sample 32 codes from the slot's last
        hidden state, decode them to 80 ms with the slot's Mimi state, evaluate them as row `position`."""
        ...

    def restart_voice(self, slot: int) -> None:
        """Fresh Mimi decoder state: before an utterance that does not continue the one before."""
        ...

    def forget(self, slot: int, kept: int = 0) -> None:
        """Wipe the slot's cache from row `kept` on (not-a-number must not survive in it) and its voice."""
        ...

    def save(self, slot: int, n_rows: int) -> Any:
        """A copy of the slot's first `n_rows` rows, for `restore`."""
        ...

    def restore(self, saved: Any, slot: int) -> None:
        """Put a saved beginning into a slot. A prefill of at least one row must follow before a tick."""
        ...

    def open_encoder(self) -> Encoder:
        """A stream from its beginning; it ends the one opened before."""
        ...
