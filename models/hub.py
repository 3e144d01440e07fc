"""Models from the Hugging Face hub, through its own client.

The client's `hf_hub_download` (2.4) deletes a partial download when it fails or is killed, so two
gigabytes would start over. Here its metadata request and its `http_get` (retries, Range, redirects, tokens)
write into a partial file of our own, named after the content's ETag, and go on from its length.

`HF_ENDPOINT` (a mirror) and `HF_TOKEN` are honoured.
"""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from models.catalogue import Entry, HubSource, ModelFile
from models.fetching import ProgressMeter, PullFailed, check_disk, feed_file, sha256_of

logger = logging.getLogger(__name__)

_METADATA_TIMEOUT_S = 20.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class _Remote:
    """What the hub says of one file."""

    file: ModelFile
    url: str
    etag: str
    """SHA-256 of a large file (LFS), git's SHA-1 of a small one."""
    size_bytes: int
    commit: str


def fetch(entry: Entry, staging: Path, meter: ProgressMeter) -> None:
    """Complete `entry`'s files in `staging`, going on with partial ones of an earlier attempt.

    Sizes and hashes are the catalogue's, or the hub's own where the catalogue has none. Blocks for
    minutes. `PullFailed` says what to do; partial files stay.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise PullFailed(
            "The hub's client is not installed. Run `pip install 'maya-voice[speech]'`."
        ) from None
    if entry.hub is None:
        raise PullFailed(f"{entry.name} is not on the hub; run `maya models pull {entry.name}`.")
    missing = [file for file in entry.files if not (staging / file.name).exists()]
    remotes = []
    for file in missing:
        with _explained(entry, entry.hub, file):
            remotes.append(_ask(entry, entry.hub, file))
    if len({remote.commit for remote in remotes}) > 1:
        raise PullFailed(
            f"{entry.hub.repository} changed meanwhile; run `maya models pull {entry.name}` again."
        )
    meter.total_bytes += sum(remote.size_bytes for remote in remotes if remote.file.size_bytes is None)
    partials = {remote.file.name: _partial(remote, staging) for remote in remotes}
    left = sum(remote.size_bytes - _length(partials[remote.file.name]) for remote in remotes)
    check_disk(staging, left, f"Pulling {entry.name}")
    for remote in remotes:
        partial = partials[remote.file.name]
        with _explained(entry, entry.hub, remote.file):
            _download(remote, partial, meter)
        meter.say(remote.file.name, "check")
        _check(entry, remote, partial)
        partial.replace(staging / remote.file.name)


def _ask(entry: Entry, hub: HubSource, file: ModelFile) -> _Remote:
    """HEAD of one file. The hub's word must agree with the catalogue before a byte is fetched."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(
        hub.repository, file.name, revision=hub.revision, endpoint=os.environ.get("HF_ENDPOINT") or None
    )
    found = get_hf_file_metadata(url, timeout=_METADATA_TIMEOUT_S)
    if not found.etag or not found.commit_hash or found.size is None:
        raise PullFailed(
            f"{url} gave no size, ETag or commit: HF_ENDPOINT names no hub, or a proxy answered."
        )
    wrong_size = file.size_bytes is not None and found.size != file.size_bytes
    is_sha256 = _SHA256.fullmatch(found.etag) is not None
    wrong_hash = is_sha256 and file.sha256 is not None and found.etag != file.sha256
    if wrong_size or wrong_hash:
        raise PullFailed(
            f"The hub offers another {file.name} of {entry.name} than the catalogue pins: "
            f"{found.size} bytes, ETag {found.etag}; expected {file.size_bytes} bytes, "
            f"SHA-256 {file.sha256}. Nothing was fetched."
        )
    return _Remote(file, url, found.etag, found.size, found.commit_hash)


def _partial(remote: _Remote, staging: Path) -> Path:
    """The partial file of this very content; those of other contents are deleted."""
    name = Path(remote.file.name)
    folder = staging / name.parent
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.name}.{re.sub(r'[^0-9A-Za-z]', '', remote.etag)[:16]}.incomplete"
    for other in folder.glob(f"{name.name}.*.incomplete"):
        if other != path or other.stat().st_size > remote.size_bytes:
            other.unlink()
    return path


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Counted:
    """A file whose position is reported at each write. `http_get` may rewind it when a server ignores
    Range."""

    def __init__(self, raw: BinaryIO, name: str, meter: ProgressMeter) -> None:
        self._raw, self._name, self._meter = raw, name, meter

    def write(self, chunk: bytes) -> int:
        written = self._raw.write(chunk)
        self._meter.at(self._name, self._raw.tell())
        return written

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._raw.truncate(size)


def _download(remote: _Remote, partial: Path, meter: ProgressMeter) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars("huggingface_hub.http_get")  # the meter reports

    there = _length(partial)
    if there:
        logger.info("going on with %s at byte %d of %d", remote.file.name, there, remote.size_bytes)
    meter.at(remote.file.name, there)
    with partial.open("r+b" if there else "wb") as raw:
        raw.seek(there)
        http_get(
            remote.url,
            cast(BinaryIO, _Counted(raw, remote.file.name, meter)),
            resume_size=there,
            headers=build_hf_headers(library_name="maya-voice"),
            expected_size=remote.size_bytes,
        )


def _check(entry: Entry, remote: _Remote, partial: Path) -> None:
    """Compare what arrived with the catalogue's hash, else with the hub's own."""
    expected = remote.file.sha256 or (remote.etag if _SHA256.fullmatch(remote.etag) else None)
    if expected is not None:
        found = sha256_of(partial)
    elif _SHA1.fullmatch(remote.etag):
        expected, found = remote.etag, _git_blob_sha1(partial)
    else:
        logger.warning("the hub gives no checksum for %s: only its size was checked", remote.file.name)
        return
    if found != expected:
        partial.unlink()
        raise PullFailed(
            f"{remote.file.name} of {entry.name} arrived with checksum {found}, expected {expected}. It was "
            f"deleted; run `maya models pull {entry.name}` again."
        )


def _git_blob_sha1(path: Path) -> str:
    """The object id that git gives to a file's content (gitformat-pack: "blob <size>\\0<content>")."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    feed_file(digest, path)
    return digest.hexdigest()


@contextmanager
def _explained(entry: Entry, hub: HubSource, file: ModelFile) -> Iterator[None]:
    """Turn the client's errors into sentences that end with what to do."""
    from huggingface_hub import errors

    again = f"run `maya models pull {entry.name}` again: it goes on where it stopped"
    what = f"{file.name} of {hub.repository}"
    try:
        yield
    except PullFailed:
        raise
    except errors.GatedRepoError:
        message = (
            f"{hub.repository} is gated. Ask for access on its page at the hub, set HF_TOKEN, then {again}."
        )
    except errors.RepositoryNotFoundError:
        message = f"The hub has no {hub.repository}, or it is private (HF_TOKEN). Then {again}."
    except (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError):
        message = f"The hub has no {what} at revision {hub.revision}. A newer Maya may name another."
    except errors.OfflineModeIsEnabled:
        message = f"HF_HUB_OFFLINE is set: unset it, then {again}."
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            message = f"The hub refused {what} ({status}): check HF_TOKEN, then {again}."
        else:
            message = f"The hub answered {status} for {what}. Wait a little, then {again}."
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        message = f"{what} did not arrive whole ({error}). Check the network, then {again}."
    except Exception as error:  # of whichever HTTP library this version of the client uses
        message = f"The hub could not be reached for {what} ({error}). Check the network, then {again}."
    else:
        return
    raise PullFailed(message)
