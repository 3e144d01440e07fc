"""Whether quantised weights may be used: their cross-entropy on real speech, codebook by codebook.

Teacher-forced: each codebook is predicted from the true codes before it, and each CodecFrame from true rows.
The same speech goes through the whole weights and through the quantised ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.csm.model import CsmModel
from models.csm.rows import END_ROW, audio_rows, text_rows
from models.csm.shapes import CODEBOOKS
from models.csm.stepping import Codes

MOST_WORSE = 0.01
"""The gate: no codebook's cross-entropy may rise by this share, nor their mean."""
_AT_ONCE = 64
"""CodecFrames whose logits are held together: 17 MB."""


@dataclass(frozen=True, slots=True)
class CodedClip:
    tokens: Sequence[int]
    """Of the words, BOS to EOS."""
    codes: Codes


@dataclass(frozen=True, slots=True)
class GateReport:
    """Cross-entropies in nats, mean over all CodecFrames and the END of each clip, by codebook."""

    weights: str
    n_clips: int
    n_codec_frames: int
    whole: list[float]
    quantised: list[float]

    @property
    def worse(self) -> list[float]:
        """By what share each codebook is worse; negative: better."""
        return [q / w - 1 for w, q in zip(self.whole, self.quantised, strict=True)]

    @property
    def mean_worse(self) -> float:
        return float(np.mean(self.quantised) / np.mean(self.whole) - 1)

    @property
    def passed(self) -> bool:
        # Written so that not-a-number fails.
        return self.mean_worse < MOST_WORSE and all(share < MOST_WORSE for share in self.worse)


def compare(
    load: Callable[[bool], CsmModel],
    weights: str,
    clips: Sequence[CodedClip],
    done: Callable[[], None] = lambda: None,
) -> GateReport:
    """`load(False)` gives the model with whole weights, `load(True)` with `weights`; one is held at a time.
    `done` is called after each clip, twice for each. Blocks. Raises ValueError without clips."""
    if not clips:
        raise ValueError("no clips to compare on")
    whole = cross_entropies(load(False), clips, done)
    quantised = cross_entropies(load(True), clips, done)
    n_codec_frames = sum(len(clip.codes) + 1 for clip in clips)
    return GateReport(weights, len(clips), n_codec_frames, whole.tolist(), quantised.tolist())


def cross_entropies(
    model: CsmModel, clips: Iterable[CodedClip], done: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """Mean cross-entropy of each codebook, (32,) in nats."""
    total, count = torch.zeros(CODEBOOKS, dtype=torch.float64), 0
    for clip in clips:
        total += _summed(model, clip)
        count += len(clip.codes) + 1
        done()
    mean: NDArray[np.float64] = (total / count).numpy()
    return mean


@torch.inference_mode()
def _summed(model: CsmModel, clip: CodedClip) -> torch.Tensor:
    """(32,) float64: summed over the clip's CodecFrames and its END."""
    rows = np.concatenate([text_rows(clip.tokens), audio_rows(clip.codes)])
    hidden = model.hidden_states(torch.from_numpy(rows))[len(clip.tokens) - 1 :]
    ended = np.concatenate([clip.codes, END_ROW[:, :CODEBOOKS]]).astype(np.int64)
    codes = torch.from_numpy(ended).to(model.device)
    total = torch.zeros(CODEBOOKS, dtype=torch.float64)
    for start in range(0, len(codes), _AT_ONCE):
        part = codes[start : start + _AT_ONCE]
        likely = model.forced_logits(hidden[start : start + _AT_ONCE], part).log_softmax(-1)
        total -= likely.gather(-1, part.unsqueeze(-1))[..., 0].to("cpu", torch.float64).sum(0)
    return total
