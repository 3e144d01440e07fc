"""Deletes calls that were kept long enough: only what this package wrote, never a call that lives.

A call is as old as the last word or sample written of it. Links are not followed, what we did not write stays
where it is, and a folder that still holds something stays with it.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from infra.daily import DAY_S, Daily
from infra.records.folder import PART_SUFFIX, RECORD_FILES, FolderLock

log = logging.getLogger(__name__)

_MADE_OF_THEM = ("timeline.png",)
OURS = frozenset((*RECORD_FILES, *(name + PART_SUFFIX for name in RECORD_FILES), *_MADE_OF_THEM))


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` did, or would do. `kept` says of folders that are old enough why they stay."""

    deleted: tuple[Path, ...] = ()
    freed_bytes: int = 0
    kept: dict[Path, str] = field(default_factory=dict)


def prune(root: Path, retention_days: float, now: float, *, dry_run: bool = False) -> Pruned:
    """Delete the calls under `root` whose last word is older. `now` is seconds since 1970. Blocks; a folder
    that cannot be deleted is left and told."""
    deleted: list[Path] = []
    freed = 0
    kept: dict[Path, str] = {}
    for folder in _folders(root):
        try:
            with FolderLock(folder) as lock:
                files = _files(lock.fd)
                written = [at for name, (at, _) in files.items() if name in RECORD_FILES]
                if not written or now - max(written) < retention_days * DAY_S:
                    continue
                if not dry_run:
                    _unlink(lock.fd, files)
                freed += sum(size for _, size in files.values())
                if left := _foreign(lock.fd, files):
                    kept[folder] = left
                    continue
                if not dry_run:
                    folder.rmdir()
                deleted.append(folder)
        except BlockingIOError:
            continue  # the call lives
        except OSError as error:
            kept[folder] = str(error)
    return Pruned(tuple(deleted), freed, kept)


def delete_call(folder: Path) -> str:
    """Delete one call's files, whatever their age. "" when nothing of it is left, else why something is.
    Blocks."""
    try:
        with FolderLock(folder) as lock:
            files = _files(lock.fd)
            _unlink(lock.fd, files)
            if left := _foreign(lock.fd, files):
                return left
            folder.rmdir()
    except FileNotFoundError:
        return ""
    except BlockingIOError:
        return "the call is on"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _unlink(folder_fd: int, files: Iterable[str]) -> None:
    for name in files:
        os.unlink(name, dir_fd=folder_fd)


def _foreign(folder_fd: int, ours: Iterable[str]) -> str:
    """What else lies there, in words."""
    left = sorted(set(_names(folder_fd)) - set(ours))
    return f"not all of it is ours: {', '.join(left[:3])}" if left else ""


def _folders(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    for name in names:
        yield root / name


def _files(folder_fd: int) -> dict[str, tuple[float, int]]:
    """Our plain files in the folder: when each was last written to, and its size in bytes."""
    found = {}
    for name in _names(folder_fd):
        if name in OURS:
            status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                found[name] = (status.st_mtime, status.st_size)
    return found


def _names(folder_fd: int) -> list[str]:
    return os.listdir(folder_fd)


def prune_daily(
    root: Path,
    retention_days: float,
    *,
    clock: Callable[[], float] = time.time,
    stopped: threading.Event | None = None,
) -> Daily:
    """From now on. `clock` gives seconds since 1970; the thread waits for the next day on `stopped`."""

    def work() -> None:
        try:
            done = prune(root, retention_days, clock())
        except OSError as error:
            log.error("old recordings under %s cannot be deleted: %s", root, error)
            return
        if done.deleted:
            log.info("deleted %d call(s) older than %g days", len(done.deleted), retention_days)
        for folder, why in done.kept.items():
            log.warning("%s is older than %g days and stays: %s", folder, retention_days, why)

    return Daily("recordings-retention", work, stopped)
