"""What was dialled and who wants no calls: two small files that outlive the process. Blocks."""

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.outbound.policy import Dialled
from telephony.numbers import NotDialable, dialable

log = logging.getLogger(__name__)

_KEPT = timedelta(days=2)


class DoNotCall:
    """A text file, one number a line; what follows `#` is a remark. Read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._numbers: frozenset[str] = frozenset()

    def numbers(self) -> frozenset[str]:
        """Raises `OSError` when a file that exists cannot be read: then nobody may be called."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return frozenset()
        stamp = found.st_mtime_ns, found.st_size
        if stamp != self._read_at:
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self._numbers = frozenset(filter(None, map(self._number, lines)))
            self._read_at = stamp
        return self._numbers

    def add(self, number: str, why: str) -> None:
        """Raises `OSError`."""
        if number in self.numbers():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{number}  # {datetime.now(UTC):%Y-%m-%d} {' '.join(why.split())}\n")
            file.flush()
            os.fsync(file.fileno())

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
    """One JSON line for each call that was tried, for the daily limits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls: list[Dialled] | None = None

    def recent(self, now: datetime) -> list[Dialled]:
        """Raises `OSError`."""
        if self._calls is None:
            self._calls = list(self._stored())
        self._calls = [call for call in self._calls if now - call.at < _KEPT]
        return self._calls

    def add(self, call: Dialled) -> None:
        """Written before the carrier is asked: a crash must not make a number forget that it rang. Raises
        `OSError`."""
        self.recent(call.at).append(call)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": call.number, "at": call.at.isoformat()}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _stored(self) -> Iterator[Dialled]:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                fields = json.loads(line)
                yield Dialled(str(fields["number"]), datetime.fromisoformat(fields["at"]))
            except (ValueError, KeyError, TypeError):
                # The last line of a process that died while writing it.
                log.warning("%s: a line cannot be read and is left out", self._path)
