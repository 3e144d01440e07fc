"""Small wheels, a small catalogue and a small hub for the tests of the store."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from models.catalogue import Entry, HubSource, Kind, Licence, ModelFile, WheelPart

OPEN_LICENCE = Licence("MIT", "https://example.com/licence", "Copyright somebody")
CLOSED_LICENCE = Licence("Strict", "https://example.com/strict", "Built with Strict", must_accept=True)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pattern(n_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not compress to nothing and differ by seed."""
    return b"".join(hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(n_bytes // 32 + 1))[
        :n_bytes
    ]


def make_wheel(folder: Path, project: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip accepts, with a licence text."""
    folder.mkdir(parents=True, exist_ok=True)
    name = project.replace("-", "_")
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    everything = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE": b"You may.",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in everything.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in everything))
    return wheel


def write_lock(lock: Path, wheels: list[Path]) -> None:
    lines = ["# pinned\n"]
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{sha256(wheel.read_bytes())}\n")
    lock.write_text("".join(lines))


def make_entry(
    name: str,
    files: dict[str, list[tuple[str, str, bytes]]],
    *,
    kind: Kind = "stt",
    main_file: str | None = None,
    licence: Licence = OPEN_LICENCE,
    hub: HubSource | None = None,
) -> Entry:
    """An entry whose files are given as parts (project, member, content)."""
    return Entry(
        name=name,
        kind=kind,
        title=name,
        files=tuple(
            ModelFile(
                file,
                sum(len(content) for _, _, content in parts),
                sha256(b"".join(content for _, _, content in parts)),
                tuple(WheelPart(project, member, len(content)) for project, member, content in parts),
            )
            for file, parts in files.items()
        ),
        licence=licence,
        memory_bytes=1 << 20,
        main_file=main_file,
        hub=hub,
    )


@dataclass
class HubFile:
    """One file of the small hub. Small files (`lfs=False`) carry git's SHA-1, large ones a SHA-256."""

    content: bytes
    lfs: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Each GET pops the first item and closes the connection after so many bytes."""
    ignore_range: bool = False
    wrong_content: bytes | None = None
    error: tuple[int, str] | None = None
    """Status and `X-Error-Code` of every answer."""

    @property
    def etag(self) -> str:
        if self.lfs:
            return sha256(self.content)
        blob = f"blob {len(self.content)}\0".encode() + self.content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """Answers HEAD and GET of `/<owner>/<repo>/resolve/<revision>/<file>` as the hub does: large files by
    a redirect to another path with `X-Linked-Size` and `X-Linked-Etag`, small ones at once."""

    daemon_threads = True
    commit = "c0ffee" * 6 + "c0ff"

    def __init__(self, repository: str, files: dict[str, HubFile]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.files = files
        self.requests: list[tuple[str, str, str | None]] = []
        """(method, path, Range header)"""
        self.tokens: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self, prefix: str = "/cdn/") -> list[str | None]:
        """Range headers of the GETs that fetched content."""
        return [
            range_ for method, path, range_ in self.requests if method == "GET" and path.startswith(prefix)
        ]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.server.tokens.append(self.headers.get("Authorization"))
        if path.startswith("/cdn/"):
            return self._content(self.server.files[path.removeprefix("/cdn/")])
        prefix = f"/{self.server.repository}/resolve/"
        if not path.startswith(prefix):
            return self._error(404, "RepoNotFound")
        _, _, name = path.removeprefix(prefix).partition("/")
        file = self.server.files.get(name)
        if file is None:
            return self._error(404, "EntryNotFound")
        if file.error is not None:
            return self._error(*file.error)
        if not file.lfs:
            return self._content(file)
        self.send_response(302)
        self.send_header("Location", f"{self.server.url}/cdn/{name}")
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("X-Linked-Size", str(len(file.content)))
        self.send_header("X-Linked-ETag", f'"{file.etag}"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, file: HubFile) -> None:
        content = file.content if file.wrong_content is None else file.wrong_content
        start = 0
        wanted = self.headers.get("Range")
        if wanted and not file.ignore_range:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("ETag", f'"{file.etag}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if file.cut_after:
            self.wfile.write(body[: file.cut_after.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Tests print nothing."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
