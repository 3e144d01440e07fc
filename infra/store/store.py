"""The store of calls: what a server writes of them while they are on, and what is asked of it.

    store = CallStore.open(settings.store, settings.calls_dir, settings.recording, keys)
    store.observer(info)                # one for each call; never blocks, never raises, loses nothing
    await asyncio.to_thread(store.calls, CallQuery(caller="+12025550123"))

The database may be away, locked or full at any time: calls go on, what they tell waits on disk, and questions
raise `StoreUnavailable`.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection, Engine, TextClause, bindparam, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError

from infra.daily import Daily
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.store.account import CallAccount, Leg
from infra.store.applying import written_out
from infra.store.database import Database, Done
from infra.store.engine import asking, database_time_s, is_away, open_engine, said, sqlite_file
from infra.store.errors import StoreError, StoreUnavailable
from infra.store.forgetting import forget
from infra.store.journal import FOLDER, Journal
from infra.store.leftovers import note, settle, try_again
from infra.store.migrate import migrate
from infra.store.reading import Reader
from infra.store.retention import tidy_daily
from infra.store.rows import (
    CallQuery,
    CallRow,
    Figures,
    Forgotten,
    FoundCall,
    LatencyRow,
    Leftover,
    SearchHit,
    StoredCall,
    Unfinished,
)
from infra.store.settings import StoreSettings
from infra.store.tables import LEG_BITS, calls, front_ends, nonces
from infra.store.words import Words
from infra.store.writer import Pen, Writer
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallerAudio,
    CallerSpeaks,
    CallEvent,
    CallGoesOn,
)
from pipeline.line import LineInfo
from pipeline.resuming import LOST_LINES

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_NOT_STORED: Final = frozenset({CallerAudio, CallerSpeaks, CallGoesOn, AgentTurnedDown})
_LEGS_REMEMBERED: Final = 10_000
_NONCE_SWEEP: Final = 200
"""Old ones are removed at every so manyth new one."""
_NONCE_KEPT_S: Final = 86_400.0
"""Longer than they are good, for clocks jump."""


class StoreObserver:
    """Observes one call. `observe` never blocks and never raises."""

    __slots__ = ("_pen", "_played", "_turn", "_writer")

    def __init__(self, writer: Writer, pen: Pen) -> None:
        self._writer = writer
        self._pen = pen
        self._turn: int | None = None
        """Of the reply under way."""
        self._played = 0

    def observe(self, event: CallEvent) -> None:
        # Sound comes twenty times a second: of it only how far the reply has got is of interest.
        kind = type(event)
        if kind in _NOT_STORED:
            return
        if isinstance(event, AgentAudio):
            if self._turn is not None:
                self._played += len(event.pcm)
                self._pen.playing = (self._turn, self._played)
            return
        if isinstance(event, AgentClause) and self._turn != event.turn:
            self._turn, self._played = event.turn, 0
        elif isinstance(event, AgentTurn):
            self._turn = self._pen.playing = None
        self._writer.hand_over(self._pen, event)


class CallStore:
    """One process's. From any thread; everything but `observer` blocks and may raise `StoreUnavailable`."""

    def __init__(
        self,
        words: Words,
        policy: RecordingPolicy,
        *,
        reading: Engine,
        writing: Engine,
        writer: Writer | None,
        journals: Path,
        front_end: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Use `open`."""
        self.front_end = front_end
        """This process's name among the front-ends."""
        self._host = socket.gethostname()
        self._words = words
        self._policy = policy
        self._writing = writing
        self._reading = reading
        self._reader = Reader(reading, words)
        self._writer = writer
        self._journals = journals
        self._wall = wall
        self._lock = threading.Lock()
        self._legs: OrderedDict[str, Leg] = OrderedDict()
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._to_sweep = 0
        self._retention: Daily | None = None

    @classmethod
    def open(
        cls,
        settings: StoreSettings,
        calls_dir: Path,
        policy: RecordingPolicy | None = None,
        keys: KeyRing | None = None,
        *,
        keep_words: bool = True,
        writing: bool = True,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """`policy` is that of recordings, which also says what may be stored; `keep_words=False` stores no
        words whatever it says. `writing=False` is for commands that only ask: it needs the database at once,
        and has no threads. Blocks while the tables are brought up to date.

        Raises `StoreError` for a database that cannot be used, `StoreUnavailable` (not `writing`) for one
        that is away, `RecordingKeyError` when the policy encrypts and `keys` are empty."""
        policy = policy or RecordingPolicy()
        keys = keys or KeyRing()
        if not (keep_words and policy.enabled):
            policy = policy.model_copy(update={"keep": "audio"})
        words = Words(keys.writing if policy.encrypt else None, keys)
        url = settings.database(calls_dir)
        journals = calls_dir / FOLDER
        file = sqlite_file(url)
        if file is not None and writing:
            _make_private(file)
        write_engine = open_engine(url, writing=True)
        name = settings.front_end or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        migrated = _prepare(write_engine, file, writing)
        writer: Writer | None = None
        if writing:
            beat = _Beat(name)

            def database(done: Callable[[Done], None]) -> Database:
                return Database(write_engine, journals, beat, done, migrated)

            limit = settings.journal_mib * 2**20
            writer = Writer(
                database, Journal(journals, name, limit), limit_bytes=limit, wall=wall, clock=clock
            )
            writer.open()
        store = cls(
            words,
            policy,
            reading=open_engine(url, writing=False),
            writing=write_engine if not writing else open_engine(url, writing=True),
            writer=writer,
            journals=journals,
            front_end=name,
            wall=wall,
        )
        days = settings.retention_days if settings.retention_days is not None else policy.retention_days
        if writing:
            host = store._host
            store._retention = tidy_daily(
                store._writing, days, wall, lambda: try_again(store._writing, words, keys, host)
            )
        return store

    def close(self, timeout_s: float = 5.0) -> None:
        """What is left is committed, or journaled for the next process. Blocks."""
        if self._retention is not None:
            self._retention.stop()
        if self._writer is not None:
            self._writer.close(timeout_s)
        self._reading.dispose()
        self._writing.dispose()

    # Writing

    def observer(self, info: LineInfo, place: Callable[[], Path | None] | None = None) -> StoreObserver:
        """For one call. `place` tells where it is recorded, as soon as that is known; from another thread.
        A call that was claimed goes on in a new leg."""
        if self._writer is None:
            raise StoreError("this store was opened to be read")
        with self._lock:
            leg = self._legs.get(info.call_id)
        account = CallAccount(
            info,
            self._words,
            self._policy,
            front_end=self.front_end,
            host=self._host,
            started_ms=round(1000 * self._wall()),
            leg=leg,
        )
        return StoreObserver(self._writer, Pen(account, place))

    @property
    def alive(self) -> bool:
        """Somebody writes what is observed, or nothing is to be written."""
        return self._writer is None or self._writer.alive

    @property
    def away(self) -> bool:
        """The database cannot be reached just now. Does not block."""
        return self._writer is not None and self._writer.away

    @property
    def waiting_bytes(self) -> int:
        """In the journal. Does not block."""
        return 0 if self._writer is None else self._writer.waiting_bytes

    @property
    def lost(self) -> int:
        """Rows that found room nowhere. Does not block."""
        return 0 if self._writer is None else self._writer.lost

    def flush(self, timeout_s: float = 10.0, *, committed: bool = True) -> bool:
        """Wait until what was observed is committed, or at least (not `committed`) in the journal."""
        return self._writer is None or self._writer.flush(timeout_s, committed=committed)

    # Reading

    def calls(self, query: CallQuery | None = None) -> list[CallRow]:
        """Newest first."""
        return self._reader.calls(query or CallQuery())

    def call(self, call_id: str) -> StoredCall | None:
        return self._reader.call(call_id)

    def every_call(self, query: CallQuery | None = None) -> Iterator[StoredCall]:
        """All that match, whole, newest first, without holding them all in memory; `limit=0`: no limit."""
        return self._reader.every_call(query or CallQuery(limit=0))

    def search(self, text: str, *, limit: int = 50) -> list[SearchHit]:
        """Turns and messages in which all words of `text` occur; case does not matter."""
        return self._reader.search(text, limit=limit)

    def find(self, text: str, query: CallQuery) -> list[FoundCall]:
        """Calls that match `query`, newest first, in which a turn or a message holds all words of `text`."""
        return self._reader.find(text, query)

    def figures(self, first: int, wide_s: int, now: float, *, last: int = 100) -> Figures:
        """What happened from `first` until `now` (seconds since 1970), in pieces of `wide_s`, counted in the
        database, however much it is; and the `last` answers one by one."""
        return self._reader.figures(first, wide_s, now, last=last)

    def latencies(self, since: float, *, limit: int = 100_000) -> list[LatencyRow]:
        """Answers since then (seconds since 1970), in order."""
        return self._reader.latencies(since, limit=limit)

    # A call that outlives its front-end

    def unfinished(self, call_id: str) -> Unfinished | None:
        """The call as it was committed last; None where it is not known, or was ended by caller or agent."""
        found = self._reader.unfinished(call_id)
        if found is not None:
            with self._lock:
                _remember(self._seen, call_id, found.leg)
        return found

    def claim(self, call_id: str, front_end: str = "") -> bool:
        """Take over a call as `unfinished` told of it last; of all front-ends that were told the same one
        gets it, and the observer that is asked for next writes its new leg. Whatever the front-end before
        still writes of the call's end counts no more. False where somebody else was quicker, or the call has
        ended, or is ours already."""
        with self._lock:
            leg = self._seen.get(call_id)
        if leg is None:
            found = self.unfinished(call_id)
            if found is None or found.front_end == (front_end or self.front_end):
                return False
            leg = found.leg
        lost = (calls.c.reason.startswith(reason, autoescape=True) for reason in LOST_LINES)
        open_or_lost = or_(calls.c.ended_ms.is_(None), *lost)
        taking = (
            update(calls)
            .where(calls.c.call_id == call_id, calls.c.leg == leg, open_or_lost)
            .values(
                leg=leg + 1,
                seq=(leg + 1) << LEG_BITS,
                front_end=front_end or self.front_end,
                ended_ms=None,
                outcome="",
                reason="",
            )
        )
        with asking("the call cannot be taken over"), self._writing.begin() as connection:
            taken = connection.execute(taking).rowcount == 1
            before = select(calls.c.started_ms, calls.c.duration_s, calls.c.turns, calls.c.faults)
            row = connection.execute(before.where(calls.c.call_id == call_id)).first()
        with self._lock:
            self._seen.pop(call_id, None)
            if taken and row is not None:
                _remember(self._legs, call_id, Leg(leg + 1, *row))
        return taken

    def use_once(self, nonce: str, until: float) -> bool:
        """True for the first that comes with `nonce`, on any front-end. It is remembered for a day beyond
        `until` (seconds since 1970)."""
        return nonce in self.use_each_once({nonce: until})

    def use_each_once(self, until: Mapping[str, float]) -> frozenset[str]:
        """`use_once` for many in one transaction: those of which we are the first."""
        # In order, so that two front-ends with the same ones do not wait for each other.
        rows = [{"nonce": nonce, "until_s": until[nonce]} for nonce in sorted(until)]
        if not rows:
            return frozenset()
        with asking("a token cannot be checked"), self._writing.begin() as connection:
            insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
            using = insert(nonces).values(rows).on_conflict_do_nothing()
            first = frozenset(connection.execute(using.returning(nonces.c.nonce)).scalars())
            self._to_sweep -= len(rows)
            if self._to_sweep <= 0:
                self._to_sweep = _NONCE_SWEEP
                old = database_time_s(connection) - _NONCE_KEPT_S
                connection.execute(delete(nonces).where(nonces.c.until_s < old))
        return first

    # Forgetting

    def forget(self, number: str) -> Forgotten:
        """Delete all of `number`'s calls and what they left, also what still waits in journals here. The
        recordings' files are for `infra.records`; the result says where they are, until `settle` is told
        that they are gone: meanwhile servers try to delete them, each on its machine, once a day. Doing it
        twice is fine. Raises `OSError` for journals."""
        with asking("the caller cannot be forgotten"):
            return forget(self._writing, self._words, self._journals, number)

    def settle(self, gone: Iterable[Leftover]) -> None:
        """Recordings of forgotten callers, as `forget` told of them, that are gone."""
        with asking("what was deleted cannot be noted"), self._writing.begin() as connection:
            settle(connection, gone)

    def leave(self, number: str, folder: Path) -> None:
        """Not all calls below `folder`, on this machine, could be looked into for those of `number`: the
        server tries again daily."""
        left = Leftover(self._host, str(folder.absolute()), self._words.tag(number), below=True)
        with asking("what is left cannot be noted"), self._writing.begin() as connection:
            note(connection, [left])


class _Beat:
    """Says with every commit that this front-end lives."""

    def __init__(self, front_end: str) -> None:
        self._front_end = front_end
        self._host = socket.gethostname()
        self._beats = 0

    def __call__(self, connection: Connection) -> None:
        self._beats += 1
        told = {"front_end": self._front_end, "host": self._host, "pid": os.getpid()}
        told |= {"beats": self._beats, "beat_s": database_time_s(connection)}
        connection.execute(_beat(), told)


@cache
def _beat() -> TextClause:
    own: dict[str, Any] = {column.name: bindparam(column.name) for column in front_ends.columns}
    statement = postgresql_insert(front_ends).values(own)
    told = {name: statement.excluded[name] for name in ("beats", "beat_s")}
    return written_out(statement.on_conflict_do_update(index_elements=["front_end"], set_=told))


def _prepare(engine: Engine, file: Path | None, writing: bool) -> bool:
    """Whether the tables are up to date. Raises `StoreError`; where the database is away, only if nobody is
    going to try again."""
    if file is not None and not writing and not file.exists():
        raise StoreError(f"no calls are stored yet: there is no {file}")
    try:
        migrate(engine)
    except (DBAPIError, OSError) as error:
        if not writing:
            raise StoreUnavailable(f"the store's database cannot be reached: {said(error)}") from error
        if not is_away(error):
            raise StoreError(f"the store's database cannot be used: {said(error)}") from error
        log.error("the store's database cannot be reached: %s", said(error))
        return False
    return True


def _make_private(file: Path) -> None:
    """What callers said is nobody else's to read. SQLite gives the files beside it the same mode."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        log.error("the store's database %s cannot be written: %s", file, error.strerror)


def _remember(kept: OrderedDict[str, _T], call_id: str, value: _T) -> None:
    kept.pop(call_id, None)
    kept[call_id] = value
    while len(kept) > _LEGS_REMEMBERED:
        kept.popitem(last=False)
