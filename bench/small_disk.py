"""A disk that is soon full, on a machine whose own are not."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 4


class NoSmallDisk(Exception):
    """Mounting one needs root, and a container that allows it."""


@contextmanager
def small_disk(folder: Path, options: str = "rw") -> Iterator[None]:
    """`MIB` of memory, mounted at `folder`, which exists. Raises `NoSmallDisk`."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MIB}m,mode=700,{options}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise NoSmallDisk("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Until not a byte is left on its disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
