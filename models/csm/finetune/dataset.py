"""All CodecFrames of a split in memory: 4.2 kB each for CSM-1B, 0.5 GB for one speaker of Expresso."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.csm.finetune.features import Features


@dataclass(frozen=True, slots=True)
class Dataset:
    codes: Tensor
    """(n, 32) int16."""
    hidden: Tensor
    """(n, dim) bfloat16."""

    @classmethod
    def of(cls, clips: Sequence[Features]) -> "Dataset":
        return cls(torch.cat([clip.codes for clip in clips]), torch.cat([clip.hidden for clip in clips]))

    def __len__(self) -> int:
        return len(self.codes)

    def spread(self, most: int) -> "Dataset":
        """At most `most` CodecFrames, evenly spaced over all."""
        if len(self) <= most:
            return self
        places = torch.arange(most) * len(self) // most
        return Dataset(self.codes[places], self.hidden[places])

    def pick(self, numbers: NDArray[np.int64], device: str) -> tuple[Tensor, Tensor]:
        """Hidden states (b, dim) bfloat16 and codes (b, 32) int64 on the device."""
        places = torch.from_numpy(numbers)
        return self.hidden[places].to(device), self.codes[places].to(device, torch.int64)
