"""Whose recordings lie in a folder, by what their transcripts say. Blocks on the disk."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.reader import CallFolder, RecordingError


@dataclass(slots=True)
class Whose:
    theirs: list[Path] = field(default_factory=list)
    named_in: list[Path] = field(default_factory=list)
    """Calls of others, who left that number with a message."""
    unreadable: list[Path] = field(default_factory=list)
    """Damaged, or without their key."""
    begun: list[Path] = field(default_factory=list)
    """On, and without a transcript yet."""
    failed: dict[Path, str] = field(default_factory=dict)
    """What could not even be looked into, and why."""
    exists: bool = True
    """There is such a folder."""


def look_through(root: Path, keys: KeyRing, is_theirs: Callable[[str], bool]) -> Whose:
    """Every call under `root`. What fails for one call, or for all of them, is told; nothing is raised."""
    found = Whose()
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        found.failed[root] = error.strerror or str(error)
        found.exists = not isinstance(error, FileNotFoundError)
        return found
    for name in names:
        call = CallFolder((root / name).absolute(), keys)
        try:
            # Asked of the folder itself: of one that may not be entered every file seems to be missing.
            next(call.path.iterdir(), None)
            if call.is_call:
                _sort(call, is_theirs, found)
        except FileNotFoundError:
            continue  # deleted in this moment
        except OSError as error:
            found.failed[call.path] = error.strerror or str(error)
    return found


def _sort(call: CallFolder, is_theirs: Callable[[str], bool], found: Whose) -> None:
    try:
        document = call.transcript()
        told = document["call"]
        if is_theirs(told["caller"]) or is_theirs(told["called"]):
            found.theirs.append(call.path)
        elif any(is_theirs(message["number"]) for message in document["messages"]):
            found.named_in.append(call.path)
    except (RecordingError, RecordingKeyError, KeyError, TypeError, AttributeError):
        (found.begun if call.live else found.unreadable).append(call.path)
