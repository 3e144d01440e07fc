"""Keys, and encrypted files in memory, for tests of recordings."""

import base64
import io
from collections.abc import Sequence

from infra.records.keys import KeyRing, RecordingKey
from infra.records.sealed import Content, SealedReader, SealedWriter, State

KEY = RecordingKey(bytes(range(32)))
OLD_KEY = RecordingKey(bytes(range(100, 132)))
CALL = b"0123456789abcdef"


def as_text(key: RecordingKey) -> str:
    return base64.b64encode(key.secret).decode()


class Counting:
    """Nonces and ids that can be told apart and are the same in every run."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, n: int) -> bytes:
        self.asked.append((len(self.asked) + 1).to_bytes(n, "big"))
        return self.asked[-1]


def sealed(
    payloads: Sequence[bytes], *, ended: bool = True, key: RecordingKey = KEY, call: bytes = CALL
) -> bytes:
    """A file of events with these chunks, and the empty one at the end unless the process was killed."""
    file = Uncloseable()
    writer = SealedWriter(file, Content.EVENTS, key, call, Counting())
    for payload in payloads:
        writer.append(payload)
    if ended:
        writer.close()
    return file.getvalue()


def unsealed(data: bytes, keys: KeyRing | None = None) -> tuple[list[bytes], State, str]:
    reader = SealedReader(io.BytesIO(data), KeyRing([KEY]) if keys is None else keys, Content.EVENTS)
    return list(reader), reader.state, reader.fault


class Uncloseable(io.BytesIO):
    def close(self) -> None:
        return None
