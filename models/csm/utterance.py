"""What the engine is asked to speak, and what it tells back. All callbacks run on the engine's thread; they
must neither block nor call the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.csm.stepping import Rows, Samples

EndReason = Literal["end", "cap", "repeat", "silence", "cancelled", "failed", "closed"]
"""end: the model ended it. cap, repeat, silence: a rule did. cancelled: by `cancel` or a newer `speak`.
failed: the numbers or the device. closed: the slot or the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class SpokenFrame:
    """80 ms of an utterance."""

    index: int
    codes: NDArray[np.int32]
    """(32,)"""
    pcm: Samples
    """(1920,) float32 at 24 kHz."""
    last: bool = False
    """A rule ends the utterance here: nothing follows, so a fade-out has to happen in these samples."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """This CodecFrame ends the utterance."""

    reason: EndReason
    spoken: bool = False
    """False: the CodecFrame is neither heard nor kept in the context; an END row stands in its place."""


Judge = Callable[[int, NDArray[np.int32], Samples], Verdict | None]
"""(index, codes (32,), pcm (1920,)) of each CodecFrame before it is spoken."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """`rows` is the whole of what the model is to know: voice prompt, context, and last the text to speak."""

    rows: Rows
    seed: int
    """63 bits: with the CodecFrame's index and the codebook it names all the noise."""
    judge: Judge
    most_codec_frames: int
    on_frame: Callable[[SpokenFrame], None]
    on_end: Callable[[EndReason], None]
    """Called exactly once, after the last `on_frame`."""
    may_end_after: int = 2
    """CodecFrames before this index have codebook 0 never at 0."""
    temperature: float = 0.9
