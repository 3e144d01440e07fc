"""What the page's routes ask: the live board and its feed, the archive, and what else there is to see."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from infra.calls import Calls
from infra.console.archive import Archive, ReadSide
from infra.console.feed import Feed
from infra.console.live import LiveBoard
from infra.console.past_routes import Clerk
from infra.console.sound import SoundShelf
from infra.records.keys import KeyRing
from infra.settings import Settings


class Console:
    """One server's. Make it before the first call: it joins the watchers of `calls`. Without a `store` only
    what is on is shown. Raises `RecordingKeyError`."""

    def __init__(
        self,
        settings: Settings,
        calls: Calls,
        store: ReadSide | None = None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.board = LiveBoard(settings.recording, wall=wall)
        self.feed = Feed(self.board, house=self.house)
        self.clerk: Clerk | None = None
        if store is not None:
            keys = KeyRing.load(os.environ, settings.recording.key_file)
            self.clerk = Clerk(Archive(store, settings.calls_dir, keys), SoundShelf(keys))
        self._calls = calls
        calls.watchers.append(self.board.watch)

    def house(self) -> dict[str, Any]:
        """Of this server: calls that are on, how many could be, and whether new ones are taken."""
        view = self._calls.admission.view()
        return {"live": self.board.live, "draining": self._calls.draining, "capacity": asdict(view)}

    @property
    def closing(self) -> bool:
        """The server is being stopped, and nobody is on any more: streams must not hold it up."""
        return self._calls.draining and not self._calls.live

    def end_call(self, call_id: str) -> bool:
        """Let the agent say goodbye and hang up. False where that call is not on."""
        return self._calls.end_call(call_id)
