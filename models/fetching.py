"""What both sources of models share: progress, disk space, hashes, locks and errors of a pull."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.base import ModelError

CHUNK_BYTES = 4 << 20
SPARE_DISK_BYTES = 128 << 20
"""Left free beyond what a pull writes, so that it never is the pull that fills the disk."""


class PullFailed(ModelError):
    """A pull did not finish. What was fetched stays; the message names the command that goes on."""


class NotEnoughDisk(PullFailed):
    """The file system of the store has less room than the model needs."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of a running pull. `done_bytes` and `total_bytes` count the whole model."""

    entry: str
    file: str
    stage: Literal["wait", "fetch", "check"]
    """`wait`: another process pulls the same model. `check`: the finished file is being hashed."""
    done_bytes: int
    total_bytes: int


ProgressCallback = Callable[[Progress], None]


class ProgressMeter:
    """Adds up the bytes of one pull, file by file, and reports them."""

    def __init__(self, entry: str, total_bytes: int, report: ProgressCallback | None) -> None:
        self._entry = entry
        self._report = report
        self._done: dict[str, int] = {}
        self.total_bytes = total_bytes

    def add(self, file: str, n_bytes: int) -> None:
        self.at(file, self._done.get(file, 0) + n_bytes)

    def at(self, file: str, n_bytes: int) -> None:
        """Say that `n_bytes` of `file` are there; fewer than before after a restarted download."""
        self._done[file] = n_bytes
        self.say(file, "fetch")

    def say(self, file: str, stage: Literal["wait", "fetch", "check"]) -> None:
        if self._report is not None:
            done = min(sum(self._done.values()), self.total_bytes)
            self._report(Progress(self._entry, file, stage, done, self.total_bytes))


def feed_file(digest: "hashlib._Hash", path: Path, n_bytes: int | None = None) -> None:
    """Update `digest` with the first `n_bytes` of a file (all of it by default). Blocks: about 1 s a GB."""
    left = path.stat().st_size if n_bytes is None else n_bytes
    with path.open("rb") as stream:
        while left > 0 and (chunk := stream.read(min(CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file. Blocks while it reads all of it."""
    digest = hashlib.sha256()
    feed_file(digest, path)
    return digest.hexdigest()


def existing_parent(folder: Path) -> Path:
    """The nearest folder upwards that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def check_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise `NotEnoughDisk` unless `folder`'s file system takes `needed_bytes` and stays usable."""
    free = shutil.disk_usage(existing_parent(folder)).free
    if free < needed_bytes + SPARE_DISK_BYTES:
        raise NotEnoughDisk(
            f"{what} needs {megabytes(needed_bytes + SPARE_DISK_BYTES)} of free disk at {folder}, where "
            f"{megabytes(free)} are free. Make room, or set MAYA_MODELS to a folder on a larger disk."
        )


def megabytes(n_bytes: int) -> str:
    """A size for people, in the decimal units that disks are sold in."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on `path` across processes and threads; the kernel frees it when we die.

    Calls `on_wait` once, before blocking, if somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
