"""`maya bench console`: what the operator's page costs a server with many live calls, and how late it is.

The server runs `calls` calls that only report (bench/console_load.py): 50 pieces of sound a second of each
side that speaks, words as they are understood, a turn about every ten seconds. Its processor time is taken
with the page and without it in turns, `rounds` times; `core_percent` is what the page adds, as a share of one
core: the board that listens to every call, the stream to each viewer, HTTP, access and all. Viewers run in
other processes: `viewers` plain ones, and Debian's Chromium where there is one.

`update_ms` is from the moment at which a call reported words to the moment at which a viewer had read them;
`shown_ms` the same until they stood in Chromium's page, whose table shows all calls meanwhile. Both by one
clock of this machine.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bench.console_server import PROBE, WARM_UP_S
from bench.report import Report, percentile, spread
from infra.errors import CommandError
from infra.local_server import free_port

_START_LIMIT_S = 60.0
_WATCH = """() => {
    window.seen = [];
    new MutationObserver((changes) => {
        for (const { addedNodes } of changes) for (const node of addedNodes) {
            const said = Number(node.querySelector?.(".words")?.textContent);
            if (said > 1e9) window.seen.push(Date.now() - 1000 * said);
        }
    }).observe(document.getElementById("live-entries"), { childList: true, subtree: true });
}"""


@dataclass
class _Seen:
    update_ms: list[float] = field(default_factory=list)
    shown_ms: list[float] = field(default_factory=list)
    rows: int = 0
    messages: int = 0
    received_bytes: int = 0


def run(
    *,
    calls: int = 200,
    viewers: int = 3,
    seconds: float = 20.0,
    rounds: int = 2,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """About two and a half minutes. Raises `CommandError` when the server does not start."""
    seen = _Seen()
    shares: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * rounds):
        page = bool(number % 2)
        told = _measure(calls, viewers if page else 0, seconds, seen, page=page)
        shares[page].append(100 * told["cpu_s"] / told["wall_s"])
        progress(f"{'with' if page else 'without'} the page: {shares[page][-1]:.1f} % of a core")
    looked_s = max(1, viewers) * rounds * (WARM_UP_S + seconds)
    with_, without = (percentile(shares[page], 50) for page in (True, False))
    return Report(
        figures={
            "calls": calls,
            "viewers": viewers + bool(seen.shown_ms),
            "core_percent": round(with_ - without, 1),
            "with_page_core_percent": round(with_, 1),
            "without_page_core_percent": round(without, 1),
            **spread("update", seen.update_ms),
            **spread("shown", seen.shown_ms),
            "rows_shown": seen.rows,
            "messages_per_viewer_s": round(seen.messages / looked_s, 2),
            "kib_per_viewer_s": round(seen.received_bytes / 1024 / looked_s, 1),
        },
        notes=()
        if seen.shown_ms
        else ("no Chromium: nothing was drawn; on Debian: sudo apt-get install chromium",),
        details={"with": shares[True], "without": shares[False]},
    )


def _measure(calls: int, viewers: int, seconds: float, seen: _Seen, *, page: bool) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "bench.console_server", "--port", str(port)]
    command += ["--calls", str(calls), "--seconds", str(seconds), *(["--page"] if page else [])]
    with _server(command) as server, _looking(port, viewers, seen), _drawn(port, seen, page=page) as drawn:
        assert server.stdin is not None  # noqa: S101  it is a pipe
        assert server.stdout is not None  # noqa: S101
        server.stdin.write("go\n")
        server.stdin.flush()
        while not (line := server.stdout.readline()).startswith("{"):
            if not line:
                raise CommandError("the measured server stopped")
        drawn()
    told: dict[str, float] = json.loads(line)
    return told


@contextmanager
def _server(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None  # noqa: S101  it is a pipe
        starting = threading.Timer(_START_LIMIT_S, server.kill)
        starting.start()
        while (line := server.stdout.readline()) and line != "ready\n":
            pass
        starting.cancel()
        if not line:
            raise CommandError("the measured server did not start")
        yield server
        server.wait(20)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


@contextmanager
def _looking(port: int, viewers: int, seen: _Seen) -> Iterator[None]:
    """Viewers that read, and note when they read the probe's words."""
    threads = [threading.Thread(target=_read, args=(port, seen), daemon=True) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(10)


def _read(port: int, seen: _Seen) -> None:
    # The server may not listen yet, and ends the stream by going away.
    for _ in range(100):
        with suppress(OSError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/console/live?call={PROBE}") as stream:
                _follow(stream, seen)
            return
        time.sleep(0.1)


def _follow(stream: Any, seen: _Seen) -> None:
    first = True
    for line in stream:
        now = time.time()
        if not line.startswith(b"data: "):
            continue
        seen.messages += 1
        seen.received_bytes += len(line)
        said = [] if first else json.loads(line[6:])["call"]["entries"]
        first = False
        seen.update_ms += [1000 * (now - float(entry["text"])) for entry in said]


@contextmanager
def _drawn(port: int, seen: _Seen, *, page: bool) -> Iterator[Callable[[], None]]:
    """A browser that shows the probe's words beside the table. Yields what collects what it saw."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not page or chromium is None:
        yield lambda: None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        shown = browser.new_page()
        shown.goto(f"http://127.0.0.1:{port}/console#/live/{PROBE}")
        shown.wait_for_selector("#live-rows tr")
        shown.evaluate(_WATCH)

        def collect() -> None:
            seen.shown_ms += shown.evaluate("window.seen")
            seen.rows = shown.locator("#live-rows tr").count()
            browser.close()

        yield collect
