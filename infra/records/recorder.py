"""Writes calls while they happen, each into a folder of its own (`infra.records.folder` names the files).

One writer thread serves every call; a call only hands over its events. A disk that fails costs the
recording, never the call, and the operator hears of it once. Sound reaches the operating system at most a
second after it was played or heard, words at once: so much is lost when the process is killed.
"""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from infra.daily import Daily
from infra.records.folder import RECORDING, FolderLock, new_call_folder
from infra.records.keys import KeyRing, RecordingKey
from infra.records.notes import Notes
from infra.records.pauses import Pauses
from infra.records.policy import RecordingPolicy
from infra.records.retention import prune_daily
from infra.records.sound import AGENT, CALLER, Sound, Tracks
from infra.records.storage import PlainStorage, SealedStorage, Storage
from pipeline.events import AgentAudio, CallEnded, CallerAudio, CallerSpeaks, CallEvent, CallGoesOn
from pipeline.line import LineInfo, Pcm

log = logging.getLogger(__name__)

# A second of two hundred calls' sound, both sides: beyond it the disk has stalled.
_QUEUE_EVENTS = 4_000
_GATHER_S = 0.05
"""A writer that every event wakes would take the interpreter's lock from the event loop thousands of times a
second."""
_IDLE_S = 0.5
"""What a call has gathered is written when nothing came for so long: its line has stalled."""

_FOLDER, _TRANSCRIPT, _EVENTS = "folder", "transcript", "events"


class _Operator:
    """Tells whoever runs the server once that recordings fail, and once that they are written again."""

    def __init__(self) -> None:
        self._failed = 0

    def failure(self, call_id: str, what: str, error: Exception) -> None:
        self._failed += 1
        if self._failed == 1:
            log.error(
                "call %s: its %s cannot be written (%s); calls go on, and whatever else fails is told when "
                "recordings are written again", call_id, what, error
            )  # fmt: skip
        else:
            log.debug("call %s: its %s cannot be written (%s)", call_id, what, error)

    def whole_call(self) -> None:
        if self._failed:
            log.warning("recordings are written again; %d file(s) of calls failed meanwhile", self._failed)
            self._failed = 0


class _CallFiles:
    """One call's files; lives on the writer thread. Sound and events that cannot be written are given up,
    and the rest goes on."""

    def __init__(
        self,
        root: Path,
        info: LineInfo,
        started_at: str,
        policy: RecordingPolicy,
        key: RecordingKey | None,
        operator: _Operator,
    ) -> None:
        self._call_id = info.call_id
        self._operator = operator
        self._notes = Notes(info, started_at)
        self._pauses = Pauses(policy)
        self._broken: set[str] = set()
        self._sound: Sound | None = None
        self._tracks: Tracks | None = None
        self._lock: FolderLock | None = None
        self._storage: Storage | None = None
        self._closed = False
        self.folder: Path | None = None
        self._guard(_FOLDER, lambda: self._open(root, key))
        if self._storage is not None and policy.keeps_audio:
            self._guard(RECORDING, self._open_sound)

    def _open(self, root: Path, key: RecordingKey | None) -> None:
        folder = new_call_folder(root, self._call_id)
        self._lock = FolderLock(folder)
        self._storage = PlainStorage(folder) if key is None else SealedStorage(folder, key)
        self.folder = folder

    def _open_sound(self) -> None:
        assert self._storage is not None  # noqa: S101  whoever calls this looked
        self._sound = self._storage.open_sound()
        self._tracks = Tracks(self._sound)

    def _guard(self, what: str, action: Callable[[], None]) -> None:
        if what in self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken.add(what)
            self._operator.failure(self._call_id, what, error)

    def take(self, event: CallEvent) -> None:
        storage = self._storage
        if storage is None or self._closed:
            return
        match event:
            case CallerAudio():
                self._audio(CALLER, event.start_sample, event.pcm)
                return
            case AgentAudio():
                self._audio(AGENT, event.start_sample, event.pcm)
                return
            case CallerSpeaks() | CallGoesOn():
                return
        event = self._pauses.kept(event)
        line = json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False, default=str)
        self._guard(_EVENTS, lambda: storage.append_event(line))
        renew = self._notes.add(event)
        if isinstance(event, CallEnded):
            self.close()
        elif renew:
            self._write_transcript(storage)

    def _audio(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        tracks = self._tracks
        if tracks is not None:
            silenced = self._pauses.silenced(start_sample, pcm)
            self._guard(RECORDING, lambda: tracks.add(channel, start_sample, silenced))

    def _write_transcript(self, storage: Storage) -> None:
        """It is written whole each time: one that failed is whole again with the next."""
        try:
            whole = json.dumps(self._notes.document(), indent=1, ensure_ascii=False) + "\n"
            storage.replace_transcript(whole)
            self._broken.discard(_TRANSCRIPT)
        except Exception as error:
            if _TRANSCRIPT not in self._broken:
                self._broken.add(_TRANSCRIPT)
                self._operator.failure(self._call_id, _TRANSCRIPT, error)

    def flush(self) -> None:
        if self._tracks is not None and not self._closed:
            self._guard(RECORDING, self._tracks.flush)

    def close(self) -> None:
        """Also of a call that did not end: then the transcript says so."""
        storage = self._storage
        if storage is None or self._closed:
            return
        self.flush()
        self._closed = True
        if self._sound is not None:
            # Not guarded: a recording that failed is closed as well, and says by itself that it ended early.
            self._last(RECORDING, self._sound.close)
        self._write_transcript(storage)
        self._last(_EVENTS, storage.close)
        if self._lock is not None:
            self._lock.release()
        if not self._broken:
            self._operator.whole_call()

    def _last(self, what: str, close: Callable[[], None]) -> None:
        try:
            close()
        except Exception as error:
            if what not in self._broken:
                self._broken.add(what)
                self._operator.failure(self._call_id, what, error)


class CallRecorder:
    """Observes one call. `observe` never blocks and never raises."""

    def __init__(self, records: "CallRecords", info: LineInfo) -> None:
        self._records = records
        self._files: _CallFiles | None = None
        self._info = info
        self._started_at = records.now()
        self.idle = False
        """Nothing came since the writer thread last looked."""

    @property
    def folder(self) -> Path | None:
        """Where the call is kept; None until the writer has made it, and when it could not."""
        return self._files.folder if self._files is not None else None

    def observe(self, event: CallEvent) -> None:
        self._records.hand_over(self, event)

    def write(self, files_for: Callable[[LineInfo, str], _CallFiles], event: CallEvent) -> None:
        """On the writer thread."""
        self.idle = False
        if self._files is None:
            self._files = files_for(self._info, self._started_at)
        self._files.take(event)

    def flush(self) -> None:
        """On the writer thread: what has been gathered goes to disk."""
        if self._files is not None:
            self._files.flush()

    def finish(self) -> None:
        """On the writer thread: the same, and nothing more will come."""
        if self._files is not None:
            self._files.close()


class CallRecords:
    """The folder of all calls, the thread that writes them, and the one that deletes them in time.

    `records.observer` is what `CallService` wants as `observe`. With `inline=True` everything is written at
    once in the caller's thread (virtual time) and nothing is deleted; `clock` may be replaced for
    reproducible files. Raises `RecordingKeyError` when the policy encrypts and `keys` are empty.
    """

    def __init__(
        self,
        root: Path,
        policy: RecordingPolicy | None = None,
        keys: KeyRing | None = None,
        *,
        inline: bool = False,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._root = root
        self._policy = policy or RecordingPolicy()
        self._key = (keys or KeyRing()).writing if self._policy.encrypt else None
        self._clock = clock or (lambda: datetime.now(UTC))
        self._operator = _Operator()
        self._queue: queue.SimpleQueue[tuple[CallRecorder, CallEvent] | None] = queue.SimpleQueue()
        self._handed_over = self._written = self._dropped = 0
        self._open: set[CallRecorder] = set()
        self._thread: threading.Thread | None = None
        self._keeping: Daily | None = None
        if not inline:
            self._thread = threading.Thread(target=self._run, name="call-records", daemon=True)
            self._thread.start()
            if self._policy.retention_days is not None:
                self._keeping = prune_daily(root, self._policy.retention_days)

    def now(self) -> str:
        return self._clock().isoformat(timespec="seconds")

    def observer(self, info: LineInfo) -> CallRecorder:
        return CallRecorder(self, info)

    def hand_over(self, recorder: CallRecorder, event: CallEvent) -> None:
        if not self._policy.enabled:
            return
        if self._thread is None:
            self._write(recorder, event)
            return
        # Words are few and never dropped. Audio is dropped when the disk stalls: silence at its place.
        if isinstance(event, CallerAudio | AgentAudio) and self._queue.qsize() >= _QUEUE_EVENTS:
            if not self._dropped:
                log.error("the disk under %s is too slow: recordings have gaps", self._root)
            self._dropped += 1
            return
        self._handed_over += 1
        self._queue.put((recorder, event))

    @property
    def alive(self) -> bool:
        """Somebody writes what is handed over."""
        return self._thread is None or self._thread.is_alive()

    @property
    def dropped(self) -> int:
        """Audio events that a stalled disk cost."""
        return self._dropped

    @property
    def backlog(self) -> int:
        """Events that were handed over and not taken up by the writer yet."""
        return self._handed_over - self._written

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is left, also of calls that never ended. Blocks up to `timeout_s`."""
        if self._keeping is not None:
            self._keeping.stop()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)
        else:
            self._finish()

    def _run(self) -> None:
        look_at = time.monotonic() + _IDLE_S
        while True:
            try:
                item = self._queue.get(timeout=max(0.0, look_at - time.monotonic()))
                while item is not None:
                    self._write(*item)
                    self._written += 1
                    item = self._queue.get_nowait()
                break
            except queue.Empty:
                time.sleep(_GATHER_S)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _IDLE_S
                self._flush_idle()
        self._finish()

    def _flush_idle(self) -> None:
        for recorder in self._open:
            if recorder.idle:
                recorder.flush()
            recorder.idle = True

    def _write(self, recorder: CallRecorder, event: CallEvent) -> None:
        try:
            self._open.add(recorder)
            recorder.write(self._files, event)
        except Exception:
            log.exception("a call's event could not be written; the call goes on")
        if isinstance(event, CallEnded):
            self._open.discard(recorder)

    def _files(self, info: LineInfo, started_at: str) -> _CallFiles:
        return _CallFiles(self._root, info, started_at, self._policy, self._key, self._operator)

    def _finish(self) -> None:
        for recorder in self._open:
            recorder.finish()
        self._open.clear()
