"""What this machine has: cores, memory, CUDA devices. Imports no model library until it is asked."""

import importlib.util
import os

from models.placement import Device


def usable_cores() -> int:
    """Cores this process may run on (affinity, not the machine's count)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int | None:
    """What Linux says can be had without swapping; None where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def cuda_devices() -> int:
    """CUDA devices that the transcriber and the language model may use; 0 without CTranslate2."""
    if importlib.util.find_spec("ctranslate2") is None:
        return 0
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count())


def torch_cuda_devices() -> int:
    """CUDA devices that the CSM voice may use: none without torch, or with its CPU build."""
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def free_bytes(device: Device) -> int | None:
    """Memory that a model may still take on `device`; None: nobody says."""
    if device.kind == "cpu":
        return available_memory_bytes()
    if torch_cuda_devices() <= device.index:
        return None
    import torch

    return int(torch.cuda.mem_get_info(device.index)[0])
