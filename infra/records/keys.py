"""The keys of encrypted recordings: the first one locks, all of them unlock.

A key is 32 random bytes in base64. Its id is derived from it, so that keys need no names and cannot be mixed
up. To change keys put the new one before the old one, and drop the old one when its recordings are gone.
"""

import base64
import binascii
import hashlib
import logging
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "MAYA_RECORDINGS_KEY"
FILE_VARIABLE = "MAYA_RECORDING_KEY_FILE"
KEY_BYTES = 32
KEY_ID_BYTES = 8


class RecordingKeyError(Exception):
    """A key is missing or malformed; the message says which, and what to do. It never shows a key."""


@dataclass(frozen=True, slots=True)
class RecordingKey:
    secret: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """(8 bytes) Tells keys apart and nothing about them."""
        return hashlib.sha256(b"maya recordings key\0" + self.secret).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return self.id.hex()


class KeyRing:
    """All keys that are known. `KeyRing.load` reads them."""

    def __init__(self, keys: Sequence[RecordingKey] = ()) -> None:
        self._keys = tuple(keys)

    @classmethod
    def load(cls, environ: Mapping[str, str], key_file: Path | None = None) -> "KeyRing":
        """From `MAYA_RECORDINGS_KEY` (several are separated by commas), then from `key_file` or
        `MAYA_RECORDING_KEY_FILE` (one a line, `#` begins a comment). Raises `RecordingKeyError`."""
        keys = [
            _key(text, f"{VARIABLE}, key {number}")
            for number, text in enumerate(environ.get(VARIABLE, "").replace(",", " ").split(), 1)
        ]
        path = key_file or (Path(named) if (named := environ.get(FILE_VARIABLE, "")) else None)
        if path is not None:
            keys += _keys_of(path)
        return cls(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[RecordingKey]:
        return iter(self._keys)

    @property
    def writing(self) -> RecordingKey:
        """The one that locks. Raises `RecordingKeyError` when there is none."""
        if not self._keys:
            raise RecordingKeyError(
                f"recordings are to be encrypted, but there is no key: set {VARIABLE} to one that "
                "`maya recordings key` makes, and keep a copy where recordings are not"
            )
        return self._keys[0]

    def find(self, key_id: bytes) -> RecordingKey:
        """The key with this id. Raises `RecordingKeyError`, which names the id that is wanted."""
        for key in self._keys:
            if key.id == key_id:
                return key
        known = ", ".join(map(str, self._keys)) or "none"
        raise RecordingKeyError(
            f"encrypted with key {key_id.hex()}, which is not at hand (known: {known}): "
            f"add it to {VARIABLE}, behind a comma, or to the key file"
        )


def new_key() -> str:
    """A key for `MAYA_RECORDINGS_KEY`, in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def _keys_of(path: Path) -> list[RecordingKey]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            log.warning("the recordings' keys in %s can be read by others: chmod 600 %s", path, path)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingKeyError(
            f"the recordings' keys cannot be read: {error}. Put one key a line there, or say where they are "
            f"with {FILE_VARIABLE}"
        ) from None
    lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [_key(line, f"{path}, line {number}") for number, line in lines if line]


def _key(text: str, where: str) -> RecordingKey:
    try:
        secret = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != KEY_BYTES:
        raise RecordingKeyError(
            f"{where}: not {KEY_BYTES} bytes in base64 (44 characters); `maya recordings key` makes one"
        )
    return RecordingKey(secret)
