"""Which codec: Maya's own Mimi, or the `moshi` package's."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.mimi.codec import Codec

CodecKind = Literal["own", "moshi"]


def open_codec(kind: CodecKind, path: Path, device: str = "cpu") -> "Codec":
    """Load Mimi's weights from a file, or from a folder that holds it. Blocks for a second or two. Raises
    `MimiError` (a `ModelError`) when the file or the package is not there or not right."""
    if kind == "own":
        from models.mimi.checkpoint import open_mimi

        return open_mimi(path, device)
    from models.mimi.moshi_codec import open_moshi

    return open_moshi(path, device)
