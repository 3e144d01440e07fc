"""A call's folder: its name, its files' names, and the lock that says that the call lives.

The lock is on the folder itself (flock(2)), so nothing lies about when a process is killed.
"""

import fcntl
import os
import re
from pathlib import Path

RECORDING = "recording.wav"
TRANSCRIPT = "transcript.json"
EVENTS = "events.jsonl"
SEALED_RECORDING = "recording.sealed"
SEALED_TRANSCRIPT = "transcript.sealed"
SEALED_EVENTS = "events.sealed"
PLAIN_FILES = (RECORDING, TRANSCRIPT, EVENTS)
SEALED_FILES = (SEALED_RECORDING, SEALED_TRANSCRIPT, SEALED_EVENTS)
RECORD_FILES = (*PLAIN_FILES, *SEALED_FILES)
PART_SUFFIX = ".part"
"""Of a transcript that is being written."""


def new_call_folder(root: Path, call_id: str) -> Path:
    """Make `root/<call_id>`; another number is added when it exists. The id cannot leave `root`. Raises
    `OSError`."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:100] or "call"
    root.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 1000):
        folder = root / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root / name} and its 999 successors exist")


class FolderLock:
    """Held while a call's folder is written to, by whatever process. Raises `OSError` where there is no such
    folder, and `BlockingIOError` when somebody else holds it."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self.fd)
            raise

    def release(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
