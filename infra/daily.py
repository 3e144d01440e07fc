"""Work that is done at once and then every day, on a thread of its own."""

import threading
from collections.abc import Callable
from typing import Final

DAY_S: Final = 86_400.0


class Daily:
    """`work` sees to its own errors. `stopped` is what the thread waits on for the next day."""

    def __init__(self, name: str, work: Callable[[], None], stopped: threading.Event | None = None) -> None:
        self._work = work
        self._stopped = stopped or threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; work under way is finished, and is the last."""
        self._stopped.set()

    def _run(self) -> None:
        while True:
            self._work()
            if self._stopped.wait(DAY_S):
                return
