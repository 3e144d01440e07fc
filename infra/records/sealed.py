"""Encrypted files that only grow: a header, then chunks. docs/recordings.md describes every byte.

Each chunk is locked with AES-256-GCM (NIST SP 800-38D) under a key that belongs to this file alone, so that a
random nonce of 96 bits never repeats for a key in practice. Its number and whether it is the last one are
authenticated with it, and so is the header: chunks cannot be altered, reordered, dropped from the middle or
moved to another file unnoticed. A file that was cut off is read up to its last whole chunk, and says that it
ended early.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, Literal, NamedTuple

from infra.records.keys import KEY_ID_BYTES, KeyRing, RecordingKey

MAGIC = b"\x89MAYAREC"
VERSION = 1
FILE_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
LARGEST_PAYLOAD = 2**18
_HEADER = struct.Struct(f">8sBB2x{KEY_ID_BYTES}s{FILE_ID_BYTES}s{FILE_ID_BYTES}s")
_PREFIX = struct.Struct(f">IB{NONCE_BYTES}s")
_PLACE = struct.Struct(">QB")
_FINAL = 1

State = Literal["whole", "ended early", "damaged"]
RandomBytes = Callable[[int], bytes]


class SealedFileError(Exception):
    """Not a file of ours, of a later version, or of another kind; the message says which."""


class Content(IntEnum):
    """What a file holds. The wrong one in the right place is refused."""

    AUDIO = 1
    TRANSCRIPT = 2
    EVENTS = 3


class Header(NamedTuple):
    content: Content
    key_id: bytes
    call_id: bytes
    """(16 bytes) Random, the same in all files of one call: they cannot be swapped between calls."""
    file_id: bytes
    """(16 bytes) Random."""

    def encode(self) -> bytes:
        return _HEADER.pack(MAGIC, VERSION, self.content, self.key_id, self.call_id, self.file_id)

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Raises `SealedFileError`."""
        if len(data) < _HEADER.size:
            raise SealedFileError("too short to be an encrypted recording")
        magic, version, content, key_id, call_id, file_id = _HEADER.unpack(data[: _HEADER.size])
        if magic != MAGIC:
            raise SealedFileError("no encrypted recording of Maya's")
        if version != VERSION:
            raise SealedFileError(f"version {version} of the format; this Maya reads version {VERSION}")
        if content not in set(Content) or data[10:12] != bytes(2):
            raise SealedFileError("its header is damaged")
        return cls(Content(content), key_id, call_id, file_id)


class Seal:
    """Locks and unlocks the chunks of one file. No I/O."""

    def __init__(self, header: Header, key: RecordingKey) -> None:
        """Raises `ModuleNotFoundError` without `cryptography`."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._header = header.encode()
        # RFC 5869; the salt makes it this file's key.
        derived = HKDF(SHA256(), 32, salt=header.file_id, info=b"maya recording file, version 1")
        self._cipher = AESGCM(derived.derive(key.secret))

    def lock(self, number: int, payload: bytes, nonce: bytes, *, final: bool = False) -> bytes:
        """The bytes of chunk `number`. Raises `ValueError` for more than `LARGEST_PAYLOAD`."""
        if len(payload) > LARGEST_PAYLOAD:
            raise ValueError(f"a chunk holds at most {LARGEST_PAYLOAD} bytes, not {len(payload)}")
        flags = _FINAL if final else 0
        locked = self._cipher.encrypt(nonce, payload, self._associated(number, flags))
        return _PREFIX.pack(len(locked), flags, nonce) + locked

    def unlock(self, number: int, flags: int, nonce: bytes, locked: bytes) -> bytes | None:
        """The payload, or None when anything about the chunk is not as it was written."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(nonce, locked, self._associated(number, flags))
        except InvalidTag:
            return None

    def _associated(self, number: int, flags: int) -> bytes:
        return self._header + _PLACE.pack(number, flags)


class SealedWriter:
    """Appends chunks to a new file. Every chunk is handed to the operating system at once. Raises `OSError`;
    what was written before stays readable."""

    def __init__(
        self, file: BinaryIO, content: Content, key: RecordingKey, call_id: bytes, random: RandomBytes
    ) -> None:
        """`file` is unbuffered and empty."""
        header = Header(content, key.id, call_id, random(FILE_ID_BYTES))
        self._seal = Seal(header, key)
        self._file = file
        self._random = random
        self._chunks = 0
        write_all(file, header.encode())

    def append(self, payload: bytes, *, final: bool = False) -> None:
        """Bytes of any number become as many chunks as they need."""
        starts = range(0, max(1, len(payload)), LARGEST_PAYLOAD)
        pieces = [payload[at : at + LARGEST_PAYLOAD] for at in starts]
        for number, piece in enumerate(pieces, 1):
            nonce = self._random(NONCE_BYTES)
            chunk = self._seal.lock(self._chunks, piece, nonce, final=final and number == len(pieces))
            write_all(self._file, chunk)
            self._chunks += 1

    def close(self) -> None:
        """Say that this is the end, and close the file."""
        try:
            self.append(b"", final=True)
        finally:
            self._file.close()


def write_all(file: BinaryIO, data: bytes) -> None:
    """Unbuffered files may take a part only, as a disk does that becomes full. Raises `OSError`."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


@dataclass(slots=True)
class SealedReader:
    """Reads one file's payloads. After iterating ask `state`; iterate again for what was appended since."""

    file: BinaryIO
    keys: KeyRing
    content: Content
    state: State = "ended early"
    fault: str = ""
    """Where and what, when `state` is "damaged"."""
    chunks: int = 0
    """Whole chunks read so far."""

    _seal: Seal | None = None
    header: Header | None = None

    def __iter__(self) -> Iterator[bytes]:
        """Payloads of whole, authentic chunks in order, up to the first that is not. Raises
        `RecordingKeyError`, `SealedFileError`, `OSError`."""
        if self._seal is None:
            self._seal = self._open()
        if self._seal is None or self.state == "damaged":
            return
        while True:
            begin = self.file.tell()
            prefix = self.file.read(_PREFIX.size)
            if self.state == "whole":
                if prefix:
                    self._damaged(begin, "there is more behind the end")
                return
            if len(prefix) < _PREFIX.size:
                self.file.seek(begin)
                return
            length, flags, nonce = _PREFIX.unpack(prefix)
            if not TAG_BYTES <= length <= LARGEST_PAYLOAD + TAG_BYTES or flags not in (0, _FINAL):
                self._damaged(begin, "no chunk begins here")
                return
            locked = self.file.read(length)
            if len(locked) < length:
                self.file.seek(begin)
                return
            payload = self._seal.unlock(self.chunks, flags, nonce, locked)
            if payload is None:
                self._damaged(begin, "altered, or out of its place")
                return
            self.chunks += 1
            if flags == _FINAL:
                self.state = "whole"
            yield payload

    def _open(self) -> Seal | None:
        begin = self.file.tell()
        data = self.file.read(_HEADER.size)
        if len(data) < _HEADER.size and MAGIC.startswith(data[: len(MAGIC)]):
            self.file.seek(begin)  # cut off within the header, or just being written
            return None
        self.header = Header.decode(data)
        if self.header.content is not self.content:
            raise SealedFileError(
                f"holds {self.header.content.name.lower()}, not {self.content.name.lower()}: "
                "files were exchanged"
            )
        return Seal(self.header, self.keys.find(self.header.key_id))

    def _damaged(self, at: int, what: str) -> None:
        self.state = "damaged"
        self.fault = f"chunk {self.chunks} at byte {at}: {what}"
