"""`maya bench browser`: from a click on Call to the greeting heard, in Debian's Chromium, by `maya serve`.

Each call is made on a page loaded anew, with a microphone that is allowed already and that Chromium itself
plays. `greeted_ms` is the page's own figure: from the click's time stamp to the moment at which the first
audible sample (above -50 dBFS) leaves Chromium for the loudspeaker, on one clock (`performance.now`). In it
are opening the microphone, starting the audio thread, the WebSocket, the server's answer and the playing; not
the browser's question whether the microphone may be used. The greeting is voiced when the server starts, so
the profile makes no difference.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.report import Report, spread
from infra.errors import CommandError
from infra.local_server import local_server

_GREETED_LIMIT_MS = 20_000
_BETWEEN_MS = 500
_OPTIONS = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


def run(
    *,
    calls: int = 20,
    profile: str = "scripted",
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """`calls` calls one after the other; 2 s each. Raises `CommandError` without Chromium, and when the
    server does not start."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise CommandError("bench browser needs Chromium; on Debian: sudo apt-get install chromium")
    greeted: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--profile", profile]
        with local_server(Path(folder) / "calls", Path(folder) / "server.log", options) as server:
            server.wait_until_ready(lambda line: None)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=list(_OPTIONS))
                version = browser.version
                for number in range(calls):
                    context = browser.new_context()
                    page = context.new_page()
                    page.goto(f"http://127.0.0.1:{server.port}/talk")
                    page.click("#call")
                    body = page.locator("body[data-greeted-ms]")
                    body.wait_for(timeout=_GREETED_LIMIT_MS)
                    greeted.append(float(body.get_attribute("data-greeted-ms") or "nan"))
                    page.wait_for_timeout(_BETWEEN_MS)
                    page.click("#hang-up")
                    context.close()
                    progress(f"call {number + 1}: greeting heard after {greeted[-1]:.0f} ms")
                browser.close()
    return Report(
        figures=spread("greeted", greeted),
        notes=(f"Chromium {version}, microphone allowed beforehand, server on the same machine.",),
        details={"greeted_ms": greeted},
    )
