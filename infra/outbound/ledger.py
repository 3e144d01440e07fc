"""What was dialled and who wants no calls: two small files that outlive the process. Blocks."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.outbound.policy import Dialled
from telephony.numbers import NotDialable, dialable

log = logging.getLogger(__name__)

_KEPT = timedelta(days=2)


class DoNotCall:
    """A text file, one number a line; what follows `#` is a remark. Read again whenever it has changed. From
    any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._numbers: frozenset[str] = frozenset()
        self._added: set[str] = set()
        """They stay on the list while this process lives, whatever the disk makes of them."""

    def numbers(self) -> frozenset[str]:
        """Raises `OSError` when a file that exists, or that was there before, cannot be read: then nobody may
        be called."""
        with self._lock:
            return self._listed() | self._added

    def add(self, number: str, why: str) -> None:
        """Raises `OSError` where it could not be written, and `UnicodeDecodeError` where the list is no text;
        the number counts nonetheless until the process ends."""
        with self._lock:
            self._added.add(number)
            if number in self._listed():
                return
            _append(self._path, f"{number}  # {datetime.now(UTC):%Y-%m-%d} {' '.join(why.split())}")

    def _listed(self) -> frozenset[str]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if self._read_at is not None:
                raise
            return frozenset()
        stamp = found.st_mtime_ns, found.st_size
        if stamp != self._read_at:
            # Editors of some systems begin a file with a byte order mark.
            lines = self._path.read_text(encoding="utf-8-sig").splitlines()
            self._numbers = frozenset(filter(None, map(self._number, lines)))
            self._read_at = stamp
        return self._numbers

    def _number(self, line: str) -> str:
        written = line.partition("#")[0].strip()
        if not written:
            return ""
        try:
            return dialable(written)
        except NotDialable:
            # A number that is not dialled anyway does no harm here, and a slip of the pen should be seen.
            log.warning("%s: %r is no number that could be dialled", self._path, written)
            return written


class CallLedger:
    """One JSON line for each call that was tried, for the daily limits. From any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._calls: list[Dialled] | None = None

    def recent(self, now: datetime) -> list[Dialled]:
        """Raises `OSError`."""
        with self._lock:
            return list(self._recent(now))

    def add(self, call: Dialled) -> None:
        """Written before the carrier is asked: a crash must not make a number forget that it rang. Raises
        `OSError`."""
        with self._lock:
            self._recent(call.at).append(call)
            _append(self._path, json.dumps({"number": call.number, "at": call.at.isoformat()}))

    def forget(self, number: str) -> int:
        """Blot out `number` (E.164) in the file, in place, so that a server that adds to it meanwhile loses
        nothing. The calls go on counting towards the limits of all numbers together. How many there were.
        Raises `OSError`."""
        wanted = json.dumps(number).encode()
        with self._lock:
            try:
                with self._path.open("rb+") as file:
                    found, at = 0, 0
                    for line in file.readlines():
                        place = line.find(wanted)
                        if place >= 0:
                            file.seek(at + place)
                            file.write(b'"' + b"-" * (len(wanted) - 2) + b'"')
                            found += 1
                        at += len(line)
                    os.fsync(file.fileno())
            except FileNotFoundError:
                return 0
            self._calls = None
        return found

    def _recent(self, now: datetime) -> list[Dialled]:
        known = self._stored() if self._calls is None else self._calls
        self._calls = [call for call in known if now - call.at < _KEPT]
        return self._calls

    def _stored(self) -> Iterator[Dialled]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                fields = json.loads(line)
                at = datetime.fromisoformat(fields["at"])
                if at.tzinfo is None:
                    raise ValueError
                yield Dialled(str(fields["number"]), at)
            except (ValueError, KeyError, TypeError):
                # The last line of a process that died while writing it.
                log.warning("%s: a line cannot be read and is left out", self._path)


def _append(path: Path, line: str) -> None:
    """On disk when it returns. A last line that nobody ended, by hand or by a crash, stays a line of its own.
    Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        start = ""
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            start = "" if file.read(1) == b"\n" else "\n"
        file.write(f"{start}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
