"""Requantise a GGUF once for a machine's CPU.

llama.cpp repacks Q4_0 weights at loading into blocks that AVX2 and AVX-512 multiply eight columns at a time.
"""

import ctypes
import os
from pathlib import Path

from models.base import ModelFailed, ModelMissing
from models.llama.binding import library

FILE_TYPES = {"q4_0": 2, "q8_0": 7}
"""`enum llama_ftype`: LLAMA_FTYPE_MOSTLY_Q4_0, LLAMA_FTYPE_MOSTLY_Q8_0."""


def quantize(source: Path, target: Path, *, to: str = "q4_0") -> None:
    """Write `source` requantised as `to` to `target`, by way of `target` + ".part". Blocks: about 15 s of two
    cores for 1.5 billion weights. Raises `ValueError` for an unknown kind, `ModelMissing` without `source`,
    `ModelFailed` when llama.cpp fails (a full disk, most often)."""
    if to not in FILE_TYPES:
        raise ValueError(f"unknown quantisation {to!r}; known: {', '.join(FILE_TYPES)}")
    if not source.is_file():
        raise ModelMissing(f"{source}: no such file; expected a GGUF model to requantise")
    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.nthread = 0  # as many as the machine has
    params.ftype = FILE_TYPES[to]
    params.allow_requantize = True
    part = target.with_name(target.name + ".part")
    try:
        code = lib.llama_model_quantize(os.fsencode(source), os.fsencode(part), ctypes.byref(params))
        if code != 0:
            raise ModelFailed(f"{source}: requantising to {to} failed; is there room for {target}?")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
