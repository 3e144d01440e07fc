"""Keeps the bridge to Ray alive, and hands on what it says. Threads, since it starts before any event
loop."""

import contextlib
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infra.cluster.bridge import Wanted
from infra.cluster.sessions import end_session
from infra.settings import secret_variables

log = logging.getLogger(__name__)

_AGAIN_S, _AGAIN_MOST_S = 1.0, 15.0
_END_S = 8.0
_UNTOLD = 2_000
"""News for Ray's account that may wait; beyond that they are dropped: no call depends on them."""
_LAST_WORDS = 20

News = Mapping[str, Any]


class Supervisor:
    """`start()`, then `on_news` is called on a thread for each line of the bridge, and with `{"bridge":
    false}` when it has died; it is started again until `close()`."""

    def __init__(
        self, wanted: Wanted, environment: Mapping[str, str], on_news: Callable[[News], None]
    ) -> None:
        self._wanted = wanted
        # Without the second one, whatever asks Ray something after the end would start another Ray.
        ray = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
        self._environment = {**_nothing_secret(os.environ), **environment, **ray}
        self._on_news = on_news
        self._untold: queue.Queue[Sequence[str]] = queue.Queue(_UNTOLD)
        self._process: subprocess.Popen[str] | None = None
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._folders: list[Path] = []
        self._lock = threading.Lock()
        self.last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self.starts = 0

    def start(self) -> None:
        for work in (self._keep, self._write):
            thread = threading.Thread(target=work, name=f"bridge{work.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def tell(self, news: Sequence[str]) -> None:
        """Never blocks."""
        with contextlib.suppress(queue.Full):
            self._untold.put_nowait(news)

    def restart(self) -> None:
        """Leave the bridge and the Ray that it has started, and begin anew."""
        self._end(self._process, patience_s=1.0)

    def close(self) -> None:
        """End the bridge, with the Ray that it has started. Blocks for seconds."""
        self._closed.set()
        self._end(self._process, patience_s=_END_S)
        for thread in self._threads:
            thread.join(_END_S)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _end(process: "subprocess.Popen[str] | None", *, patience_s: float) -> None:
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _keep(self) -> None:
        wait_s = _AGAIN_S
        while not self._closed.is_set():
            heard = self._run_once()
            if self._closed.is_set():
                return
            log.error("the bridge to Ray has ended: %s", " | ".join(self.last_words) or "it said nothing")
            self._on_news({"bridge": False})
            wait_s = _AGAIN_S if heard else min(2 * wait_s, _AGAIN_MOST_S)
            self._closed.wait(wait_s)

    def _run_once(self) -> bool:
        """True when it got as far as to name replicas."""
        wanted = self._wanted
        if wanted.address == "auto":
            # Ray's sockets lie in it, whose paths must be short.
            folder = Path(tempfile.mkdtemp(prefix="maya-ray-"))
            self._folders.append(folder)
            wanted = replace(wanted, folder=str(folder))
        with self._lock:
            process = subprocess.Popen(
                [sys.executable, "-m", "infra.cluster.bridge"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment,
                start_new_session=True,  # Ctrl-C ends the calls politely; Ray must live until then
            )
            self._process = process
        self.starts += 1
        errors = threading.Thread(target=self._listen, args=(process,), daemon=True)
        errors.start()
        # Whatever it has started may hold its pipes open: these would not end with it.
        reaper = threading.Thread(target=_reap, args=(process,), daemon=True)
        reaper.start()
        heard = False
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.write(json.dumps(asdict(wanted)) + "\n")
                process.stdin.flush()
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):
                news = json.loads(line)
                if "error" in news:
                    self.last_words.append(str(news["error"]))
                heard = heard or bool(news.get("replicas"))
                self._on_news(news)
        reaper.join()
        errors.join(1.0)
        return heard

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stderr or ():
            self.last_words.append(line.strip())
            log.debug("ray: %s", line.rstrip())

    def _write(self) -> None:
        while not self._closed.is_set():
            try:
                news = self._untold.get(timeout=0.5)
            except queue.Empty:
                continue
            process = self._process
            with contextlib.suppress(OSError, ValueError):
                if process is not None and process.stdin is not None:
                    process.stdin.write(json.dumps(news) + "\n")
                    process.stdin.flush()


def _nothing_secret(environ: Mapping[str, str]) -> dict[str, str]:
    """Ray hands its environment on to all that it starts, and shows it. Models are told their settings, and
    of Maya's variables read one only."""
    secret = {name for variable in secret_variables() for name in (variable, f"{variable}_FILE")}
    return {
        name: value
        for name, value in environ.items()
        if name not in secret and (name == "MAYA_MODELS" or not name.startswith(("MAYA_", "TWILIO_")))
    }


def _reap(process: "subprocess.Popen[str]") -> None:
    process.wait()
    end_session(process.pid)
