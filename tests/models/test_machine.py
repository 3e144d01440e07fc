import sys

import pytest

from models import machine
from models.placement import CPU, Device


def test_the_cpu_has_cores_and_memory() -> None:
    assert machine.usable_cores() >= 1
    available = machine.free_bytes(CPU)
    assert available is None or available > 1 << 20


def test_without_their_libraries_there_are_no_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "ctranslate2"):
        monkeypatch.setitem(sys.modules, name, None)
    assert machine.cuda_devices() == 0
    assert machine.torch_cuda_devices() == 0
    assert machine.free_bytes(Device("cuda", 0)) is None


@pytest.mark.gpu
def test_a_cuda_device_tells_its_free_memory() -> None:
    assert machine.torch_cuda_devices() >= 1
    free = machine.free_bytes(Device("cuda", 0))
    assert free is not None
    assert free > 1 << 20
