"""What the doctor asks about models: is everything there that a profile loads? Prints nothing."""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from models import profiles
from models.fetching import existing_parent, megabytes
from models.load import model_names
from models.store import Store

_PACKAGES = (
    # (import name, distribution, what it does)
    ("onnxruntime", "onnxruntime", "voice activity"),
    ("faster_whisper", "faster-whisper", "speech recognition"),
    ("llama_cpp", "llama-cpp-python", "language model; compiles from source and needs gcc and g++"),
    ("hibari", "hibari-tts", "voice"),
    ("huggingface_hub", "huggingface-hub", "pulls from the hub"),
)
_BESIDE_MODELS_BYTES = 800 << 20
"""Voice, KV cache, libraries and the server itself, roughly."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor. `mend` is a command or an instruction, "" when all is well."""

    name: str
    state: Literal["ok", "warning", "failed"]
    message: str
    mend: str = ""


def check_models(
    profile: str, store: Store, *, llm: str | None = None, stt: str | None = None, full: bool = False
) -> list[Check]:
    """Packages, models, memory, disk and GPU for `load_models` with the same arguments.

    Blocks: milliseconds, or about a second a gigabyte with `full`, which hashes every model.
    """
    names = model_names(profile, llm=llm, stt=stt)
    if not names:
        return [Check("models", "ok", f"profile {profile} needs none")]
    return [
        *_packages(),
        *_models(names, store, full=full),
        *_memory(names, store),
        *_gpu(profile),
    ]


def _packages() -> Iterator[Check]:
    for module, distribution, purpose in _PACKAGES:
        if not _installed(module):
            mend = "pip install 'maya-voice[speech]'"
            yield Check(distribution, "failed", f"not installed ({purpose})", mend)
            continue
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            version = "unknown version"
        yield Check(distribution, "ok", f"{version} ({purpose})")


def _models(names: tuple[str, ...], store: Store, *, full: bool) -> Iterator[Check]:
    missing_bytes = 0
    for name in names:
        state = store.verify(name) if full else store.state(name)
        if state.state == "installed":
            checked = "hashes verified" if full else "installed"
            yield Check(name, "ok", f"{checked}, {megabytes(state.entry.size_bytes)}")
        else:
            missing_bytes += state.entry.size_bytes
            yield Check(name, "failed", state.problem, state.mend)
    if missing_bytes:
        free = shutil.disk_usage(existing_parent(store.root)).free
        message = f"{megabytes(free)} free at {store.root}, {megabytes(missing_bytes)} to pull"
        enough = free > missing_bytes * 1.2
        mend = "" if enough else "make room, or set MAYA_MODELS to a folder on a larger disk"
        yield Check("disk", "ok" if enough else "failed", message, mend)


def _memory(names: tuple[str, ...], store: Store) -> Iterator[Check]:
    available = _available_memory_bytes()
    if available is None:
        return
    needed = sum(store.entry(name).memory_bytes for name in names) + _BESIDE_MODELS_BYTES
    message = f"about {megabytes(needed)} needed, {megabytes(available)} available"
    if needed <= available:
        yield Check("memory", "ok", message)
    else:
        yield Check("memory", "warning", message, "close other programs, or use a smaller profile")


def _available_memory_bytes() -> int | None:
    """What Linux says can be had without swapping; None where it does not say."""
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _gpu(profile: str) -> Iterator[Check]:
    if not profiles.PROFILES[profile].gpu or not _installed("ctranslate2", "llama_cpp"):
        return
    import ctranslate2
    import llama_cpp

    devices = int(ctranslate2.get_cuda_device_count())
    if devices == 0:
        yield Check("cuda", "warning", "no CUDA device: this profile runs slowly on the CPU",
                    "use --profile embedded, or a machine with a CUDA device")  # fmt: skip
    elif not llama_cpp.llama_supports_gpu_offload():
        yield Check(
            "cuda",
            "warning",
            f"{devices} device(s), but llama-cpp-python was built without CUDA",
            "CMAKE_ARGS='-DGGML_CUDA=on' pip install --no-cache-dir --force-reinstall llama-cpp-python",
        )
    else:
        yield Check("cuda", "ok", f"{devices} device(s)")
