"""Takes what calls tell, and sees to it that it gets into the database: at once, or, while that is away,
through the journal.

    events ── CallAccount ── rows ──┬── database (a thread of its own)
                                    └── journal, while the database is away or slow; memory, while the disk
                                        is full too

A call only hands over its events. What is over (a turn, a tool run, the call) is committed within
`GATHER_S`, together with what else is at hand; what is under way at most every `PROGRESS_S`.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.store.account import CallAccount, Rows
from infra.store.database import Database, Done, Job, size_of
from infra.store.engine import is_away, said
from infra.store.errors import StoreError
from infra.store.journal import Journal
from pipeline.events import CallEvent

log = logging.getLogger(__name__)

GATHER_S: Final = 0.05
PROGRESS_S: Final = 1.0
SLOW_S: Final = 1.5
"""A database that takes longer is treated as away, until it answers."""
BEAT_S: Final = 2.0
RETRY_S: Final = (0.25, 0.5, 1.0, 2.0)
"""Between tries while it is away; the last one repeats."""
ADOPT_S: Final = 30.0
"""How often journals of processes that are gone are looked for."""
PLACED_S: Final = 10.0
"""So long after a call's end its recording may be begun, on a disk that is slow."""
_LAST_LAP_BYTES: Final = 262_144
"""Of journal that is still to be replayed. What comes meanwhile waits in memory, as it does when all is well:
else there would always be something new in the journal, and no end."""
_TAKEN_AT_ONCE: Final = 2_000
_JOURNALED_AT_ONCE: Final = 200


class Pen:
    """One call's account, and how far its reply has been played."""

    __slots__ = ("account", "kept_until", "place", "placing", "playing")

    def __init__(self, account: CallAccount, place: Callable[[], Path | None] | None) -> None:
        self.account = account
        self.place = place
        self.placing = place is None
        """Nobody needs to be asked any more where the call is recorded."""
        self.kept_until: float | None = None
        """Of a call that is over, and of whose recording it is not known yet where it lies."""
        self.playing: tuple[int, int] | None = None
        """Turn, samples played. Set on the event loop, read here."""


@dataclass(slots=True)
class _Flush:
    """Somebody waits until everything so far is safe."""

    safe: threading.Event = field(default_factory=threading.Event)
    committed: bool = False
    """In the database; otherwise the journal will do."""


class Writer:
    """One thread for all calls. `wall` is the time of day, `clock` only goes forward; both in seconds."""

    def __init__(
        self,
        database: Callable[[Callable[[Done], None]], Database],
        journal: Journal,
        *,
        limit_bytes: int,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue: queue.SimpleQueue[tuple[Pen, CallEvent] | Done | _Flush | None] = queue.SimpleQueue()
        self._database = database(self._queue.put)
        self._journal = journal
        self._limit = limit_bytes
        self._wall = wall
        self._clock = clock
        self._pens: dict[Pen, None] = {}
        """In their order."""
        self._touched: dict[Pen, None] = {}
        """Those that were told something since."""
        self._pending: Rows = {}
        self._urgent = False
        self._in_flight: Job | None = None
        self._since = 0.0
        self._set_aside = False
        """What is in flight has been kept besides."""
        self._replayed = 0
        """Bytes of the journal that are in the database."""
        self._last_lap = False
        self._held: Rows = {}
        """What could not be journaled."""
        self._held_bytes = 0
        self._full = False
        self._tries = 0
        self._away_since: float | None = None
        self._retry_at = 0.0
        self._beat_at = self._adopt_at = self._committed_at = self._progress_at = 0.0
        self._flushes: list[_Flush] = []
        self._closing = False
        self._journal_failed = False
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def open(self) -> None:
        self._database.open()
        self._thread.start()

    def hand_over(self, pen: Pen, event: CallEvent) -> None:
        """From the event loop. Never blocks."""
        self._queue.put((pen, event))

    @property
    def alive(self) -> bool:
        """Its thread runs."""
        return self._thread.is_alive()

    @property
    def away(self) -> bool:
        """The database cannot be reached, or is slow; what calls tell waits."""
        return self._away_since is not None

    @property
    def waiting_bytes(self) -> int:
        """On disk, for the database."""
        return self._journal.size

    @property
    def lost(self) -> int:
        """Rows that found room nowhere, or that the database refused."""
        return self._lost

    def flush(self, timeout_s: float, *, committed: bool = True) -> bool:
        """Wait until all that was handed over is in the database (or, not `committed`, at least in the
        journal). False when the time is up. Blocks."""
        wanted = _Flush(committed=committed)
        self._queue.put(wanted)
        return wanted.safe.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Everything is committed or journaled when it returns, if that takes no longer. Blocks."""
        self._queue.put(None)
        self._thread.join(timeout_s + 1.0)
        self._database.close(1.0)

    # The thread

    def _run(self) -> None:
        closing_at: float | None = None
        while True:
            now = self._clock()
            try:
                self._take_what_came()
                now = self._clock()
                self._step(now)
            except Exception:
                log.exception("the store's writer stumbled; calls go on")
            if self._closing:
                closing_at = closing_at or now + 3.0
                if not self._unsaved or (self.away and not self._pending) or now > closing_at:
                    break
        if self._in_flight is not None and self._in_flight.journal is None and not self._set_aside:
            self._keep(self._in_flight.rows)
        self._keep(self._pending)
        try:
            self._journal.close()
        except OSError as error:
            log.error("the store's journal cannot be closed: %s", error)
        if self._held:
            log.error("%d rows of the store are lost: neither database nor disk takes them", len(self._held))

    def _take_what_came(self) -> None:
        try:
            item = self._queue.get(timeout=self._patience())
            for _ in range(_TAKEN_AT_ONCE):
                self._take(item)
                item = self._queue.get_nowait()
            self._take(item)
        except queue.Empty:
            return

    def _patience(self) -> float:
        now = self._clock()
        idle = self._in_flight is None and not self.away
        due = min(self._beat_at, now + 1.0) if idle else now + 0.5
        if self._urgent:
            due = min(due, self._committed_at + GATHER_S)
        if self._in_flight is not None and not self._set_aside:
            due = min(due, self._since + SLOW_S)
        if self._pens:
            due = min(due, self._progress_at + PROGRESS_S)
        if self.away and self._in_flight is None:
            due = min(due, self._retry_at)
        return max(0.005, due - now)

    def _take(self, item: tuple[Pen, CallEvent] | Done | _Flush | None) -> None:
        if item is None:
            self._closing = True
        elif isinstance(item, Done):
            self._finished(item)
        elif isinstance(item, _Flush):
            self._flushes.append(item)
        else:
            pen, event = item
            try:
                self._urgent |= pen.account.take(event, round(1000 * self._wall()))
            except Exception:
                log.exception("a call's event could not be stored; the call goes on")
            self._pens[pen] = self._touched[pen] = None

    def _step(self, now: float) -> None:
        hurry = self._closing or bool(self._flushes)
        if hurry or now >= self._progress_at + PROGRESS_S:
            self._progress_at = now
            self._gather(list(self._pens), now)
        elif self._urgent and now >= self._committed_at + GATHER_S:
            self._gather(list(self._touched), now)
        if self._in_flight is not None:
            if not self._set_aside and now >= self._since + SLOW_S:
                self._gone(now, "it takes too long to answer")
                self._set_aside = True
                if self._in_flight.journal is None:
                    self._keep(self._in_flight.rows)
            if self._set_aside or (self.away and not self._last_lap):
                self._keep_pending()
        elif self.away:
            self._keep_pending()
            if now >= self._retry_at or self._closing:
                # While it is down, what waits belongs on disk.
                self._last_lap = not self._tries and self._journal.size - self._replayed <= _LAST_LAP_BYTES
                self._start(Job(dict(self._held), *self._journaled(), left_behind=True), now)
        elif self._pending or now >= self._beat_at:
            adopt = now >= self._adopt_at
            self._start(Job(self._pending, left_behind=adopt), now)
            self._pending = {}
        self._answer()

    def _gather(self, pens: Iterable[Pen], now: float) -> None:
        self._urgent = False
        self._touched.clear()
        for pen in pens:
            account = pen.account
            playing = pen.playing
            if playing is not None:
                account.played(*playing)
            if not pen.placing and pen.place is not None:
                folder = pen.place()
                pen.placing = folder is not None
                account.placed(folder)
            if not account.dirty:
                if account.ended and pen.kept_until is None:
                    pen.kept_until = now + PLACED_S
                if account.ended and (pen.placing or now >= (pen.kept_until or now)):
                    self._pens.pop(pen, None)
                continue
            # Where rows may be written long after the call's own, that one goes with them.
            self._pending |= account.rows(with_call=self.away)

    def _start(self, job: Job, now: float) -> None:
        self._in_flight, self._since, self._set_aside = job, now, False
        self._beat_at = self._committed_at = now
        self._beat_at += BEAT_S
        if job.left_behind:
            self._adopt_at = now + ADOPT_S
        self._database.start(job)

    def _finished(self, done: Done) -> None:
        now = self._clock()
        job, self._in_flight = done.job, None
        set_aside, self._set_aside = self._set_aside, False
        self._lost += done.refused
        if done.adopted:
            log.warning("the store has taken over %d journal(s) of processes that are gone", done.adopted)
        if done.error is not None:
            if job.journal is None and not set_aside:
                self._keep(job.rows)
            self._gone(now, _what(done.error))
            self._retry_at = now + RETRY_S[min(self._tries, len(RETRY_S) - 1)]
            self._tries += 1
            return
        self._tries = 0
        if not self.away:
            return
        if job.journal is not None:
            self._replayed = job.journal_end
        if self._journal.size and self._replayed >= self._journal.size:
            try:
                self._journal.clear()
                self._replayed = 0
            except OSError as error:
                log.error("the store's journal cannot be emptied: %s", error)
        for key, row in job.rows.items():
            if self._held.get(key) is row:
                del self._held[key]
        self._held_bytes = size_of(self._held)
        self._retry_at = now
        if not self._held and self._replayed >= self._journal.size:
            log.warning(
                "the store's database is back after %.1f s; what waited is in it",
                now - (self._away_since or now),
            )
            self._away_since = None
            self._journal_failed = self._full = False

    def _gone(self, now: float, why: str) -> None:
        if not self.away:
            self._away_since = now
            self._retry_at = now
            log.error("the store's database is away (%s); calls go on, and what they tell waits", why)

    # Keeping what cannot be committed

    def _journaled(self) -> tuple[Path | None, int, int]:
        if self._journal.size <= self._replayed:
            return None, 0, 0
        return self._journal.path, self._replayed, self._journal.size

    def _keep_pending(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, {}
            self._keep(pending)

    def _keep(self, rows: Rows) -> None:
        """In the journal, else in memory, as far as there is room."""
        size = size_of(rows)
        if self._journal_failed and self._held_bytes + size > self._limit:
            # Rows that stand here already may become newer.
            known = {key: row for key, row in rows.items() if key in self._held}
            self._shed(len(rows) - len(known))
            rows, size = known, size_of(known)
        self._held |= rows
        self._held_bytes += size
        keys = list(self._held)
        for begin in range(0, len(keys), _JOURNALED_AT_ONCE):
            some = keys[begin : begin + _JOURNALED_AT_ONCE]
            try:
                self._journal.append({key: self._held[key] for key in some})
            except OSError as error:
                if not self._journal_failed:
                    self._journal_failed = True
                    log.error("the store's journal cannot be written (%s); what waits is in memory", error)
                self._held_bytes = size_of(self._held) if begin else self._held_bytes
                return
            for key in some:
                del self._held[key]
        self._held_bytes = 0
        self._journal_failed = False

    def _shed(self, rows: int) -> None:
        if not self._full and rows:
            self._full = True
            log.error("the store has no room left: new rows are lost until its database or the disk is back")
        self._lost += rows

    @property
    def _unsaved(self) -> bool:
        return bool(self._pending or self._in_flight is not None or self._held or self.away)

    def _answer(self) -> None:
        if not self._flushes or any(pen.account.dirty for pen in self._pens):
            return
        busy = bool(self._pending) or self._in_flight is not None
        safe = not self._unsaved
        journaled = not self._pending and not self._held and (self._in_flight is None or self._set_aside)
        for flush in list(self._flushes):
            if safe or (not flush.committed and journaled and (self.away or not busy)):
                flush.safe.set()
                self._flushes.remove(flush)


def _what(error: Exception) -> str:
    if isinstance(error, StoreError):
        return str(error)
    return said(error) if is_away(error) else f"{type(error).__name__}: {error}"
