"""One core is what the figures are about, and what keeps float32 sums the same from run to run."""

import os

os.environ.setdefault("NO_TORCH_COMPILE", "1")  # moshi would ask for triton

import torch

torch.set_num_threads(1)
