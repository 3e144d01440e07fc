"""A real `maya serve` with stand-in models or others, in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local_server import LocalServer, local_server


@contextmanager
def served(tmp_path: Path, profile: str = "scripted", *options: str) -> Iterator[LocalServer]:
    with local_server(
        tmp_path / "calls", tmp_path / "server.log", ["--profile", profile, *options]
    ) as server:
        server.wait_until_ready(lambda line: None, limit_s=100)
        yield server
