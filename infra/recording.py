"""What stays of a call: `calls/<id>/` with recording.wav, transcript.json and events.jsonl.

One writer thread serves every call; a call only hands over its events. A disk that fails costs the
recording, never the call. The recording has two channels (left caller, right agent) at 8 kHz; every
sample is written at its place on the call's clock, so gaps are silence and nothing drifts, and the header
is valid after every write, so a crash leaves a file that plays.
"""

import json
import logging
import queue
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
)
from pipeline.line import LINE_RATE_HZ, LineInfo, Pcm

log = logging.getLogger(__name__)

RECORDING = "recording.wav"
TRANSCRIPT = "transcript.json"
EVENTS = "events.jsonl"
CALLER, AGENT = 0, 1
_HEADER_BYTES = 44
_SAMPLE_BYTES = 4  # two channels of int16
_LONGEST_SAMPLES = 24 * 3600 * LINE_RATE_HZ
_FLUSH_SAMPLES = LINE_RATE_HZ // 2
# About half a minute of one call's events, or half a second of sixty calls': beyond it the disk has stalled.
_QUEUE_EVENTS = 6_000


class TwoChannelWav:
    """A WAV file written at any position, two channels of (n,) int16 at 8 kHz. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb+", buffering=0)
        self._samples = 0
        self._write_header()

    def write(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        """Place `pcm` on one channel; the other keeps what it has. Samples before 0 are cut off."""
        if start_sample < 0:
            pcm, start_sample = pcm[-start_sample:], 0
        pcm = pcm[: max(0, _LONGEST_SAMPLES - start_sample)]
        if not len(pcm):
            return
        offset = _HEADER_BYTES + start_sample * _SAMPLE_BYTES
        self._file.seek(offset)
        there = self._file.read(len(pcm) * _SAMPLE_BYTES)
        both = np.zeros((len(pcm), 2), dtype="<i2")
        both.reshape(-1)[: len(there) // 2] = np.frombuffer(there, dtype="<i2")
        both[:, channel] = pcm
        self._file.seek(offset)
        self._file.write(both.tobytes())
        if start_sample + len(pcm) > self._samples:
            self._samples = start_sample + len(pcm)
            self._write_header()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> None:
        size = self._samples * _SAMPLE_BYTES
        form = struct.pack("<HHIIHH", 1, 2, LINE_RATE_HZ, LINE_RATE_HZ * _SAMPLE_BYTES, _SAMPLE_BYTES, 16)
        self._file.seek(0)
        self._file.write(
            b"RIFF" + struct.pack("<I", _HEADER_BYTES - 8 + size) + b"WAVEfmt " + struct.pack("<I", 16)
            + form + b"data" + struct.pack("<I", size)
        )  # fmt: skip


class _Track:
    """Gathers one channel's consecutive samples, so that the disk is touched about twice a second."""

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.start = 0
        self.end = 0
        self.chunks: list[Pcm] = []

    def add(self, wav: TwoChannelWav, start_sample: int, pcm: Pcm) -> None:
        if start_sample != self.end:
            self.flush(wav)
        if not self.chunks:
            self.start = self.end = start_sample
        self.chunks.append(pcm)
        self.end += len(pcm)
        if self.end - self.start >= _FLUSH_SAMPLES:
            self.flush(wav)

    def flush(self, wav: TwoChannelWav) -> None:
        if self.chunks:
            chunks, self.chunks = self.chunks, []
            wav.write(self.channel, self.start, np.concatenate(chunks))


class Notes:
    """Builds transcript.json's content from the events of one call."""

    def __init__(self, info: LineInfo, started_at: str) -> None:
        self._call: dict[str, Any] = {
            "id": info.call_id,
            "line": info.kind,
            "caller": info.caller,
            "called": info.called,
            "persona": "",
            "started_at": started_at,
            "duration_s": None,
        }
        self._outcome: dict[str, Any] | None = None
        self._turns: dict[int, dict[str, Any]] = {}
        self._utterances: list[dict[str, float]] = []
        self._levels: list[dict[str, Any]] = []
        self._keys: list[dict[str, Any]] = []
        self._faults: list[dict[str, Any]] = []

    def _turn(self, turn: int) -> dict[str, Any]:
        blank: dict[str, Any] = {
            "turn": turn,
            "caller": "",
            "agent": "",
            "heard": "",
            "interrupted": False,
            "caller_at_s": None,
            "agent_done_s": None,
            "clauses": [],
            "times": {},
        }
        return self._turns.setdefault(turn, blank)

    def add(self, event: CallEvent) -> bool:
        """Take one event in; True when the transcript on disk should be renewed."""
        match event:
            case CallStarted():
                self._call["persona"] = event.persona
            case CallerSpoke():
                self._utterances.append({"start_s": event.start_s, "end_s": event.end_s})
                return False
            case CallerTurn():
                # A turn that the caller takes up again comes once more under its number.
                self._turn(event.turn).update(caller=event.text, caller_at_s=event.at_s)
            case AgentClause():
                self._turn(event.turn)["clauses"].append({"at_s": event.at_s, "text": event.text})
                return False
            case AgentTurn():
                times = asdict(event.times)
                times.pop("turn")
                times["stages"] = event.times.stages_ms()
                self._turn(event.turn).update(
                    agent=event.text,
                    heard=event.heard,
                    interrupted=event.interrupted,
                    agent_done_s=event.at_s,
                    times=times,
                )
            case AgentTurnedDown():
                self._levels.append({"at_s": event.at_s, "down": event.down})
                return False
            case KeyReceived():
                self._keys.append({"at_s": event.at_s, "digit": event.digit})
            case Fault():
                self._faults.append(asdict(event))
            case CallEnded():
                self._call["duration_s"] = event.at_s
                self._outcome = {
                    "outcome": event.outcome,
                    "reason": event.reason,
                    "counters": dict(event.counters),
                }
            case _:
                return False
        return True

    def document(self) -> dict[str, Any]:
        return {
            "call": self._call,
            "outcome": self._outcome,
            "turns": [self._turns[turn] for turn in sorted(self._turns)],
            "utterances": self._utterances,
            "turned_down": self._levels,
            "keys": self._keys,
            "faults": self._faults,
        }


class _CallFiles:
    """One call's files; lives on the writer thread. A file that fails is given up, and the rest goes on."""

    def __init__(self, root: Path, info: LineInfo, started_at: str) -> None:
        self._notes = Notes(info, started_at)
        self._broken: set[str] = set()
        self._call_id = info.call_id
        self._wav: TwoChannelWav | None = None
        self._tracks = (_Track(CALLER), _Track(AGENT))
        self.folder: Path | None = None
        self._guard("folder", lambda: self._open(root))

    def _open(self, root: Path) -> None:
        self.folder = new_call_folder(root, self._call_id)
        self._wav = TwoChannelWav(self.folder / RECORDING)

    def _guard(self, what: str, action: Callable[[], None]) -> None:
        if what in self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken.add(what)
            log.error("call %s: its %s cannot be written (%s); the call goes on", self._call_id, what, error)

    def take(self, event: CallEvent) -> None:
        if self.folder is None:
            return
        match event:
            case CallerAudio():
                self._guard(RECORDING, lambda: self._audio(CALLER, event.start_sample, event.pcm))
                return
            case AgentAudio():
                self._guard(RECORDING, lambda: self._audio(AGENT, event.start_sample, event.pcm))
                return
        self._guard(EVENTS, lambda: self._append(event))
        if self._notes.add(event):
            self._guard(TRANSCRIPT, self._write_transcript)
        if isinstance(event, CallEnded):
            self.close()

    def _audio(self, channel: int, start_sample: int, pcm: Pcm) -> None:
        if self._wav is not None:
            self._tracks[channel].add(self._wav, start_sample, pcm)

    def _append(self, event: CallEvent) -> None:
        assert self.folder is not None  # noqa: S101  `take` looked
        line = json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False, default=str)
        with (self.folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _write_transcript(self) -> None:
        assert self.folder is not None  # noqa: S101  `take` looked
        path = self.folder / TRANSCRIPT
        part = path.with_suffix(".part")
        part.write_text(
            json.dumps(self._notes.document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        part.replace(path)  # readers see the old or the new one, never half of it

    def flush(self) -> None:
        wav = self._wav
        if wav is not None:
            for track in self._tracks:
                self._guard(RECORDING, lambda track=track: track.flush(wav))  # type: ignore[misc]

    def close(self) -> None:
        self.flush()
        wav, self._wav = self._wav, None
        if wav is not None:
            self._guard(RECORDING, wav.close)
        if self.folder is not None and TRANSCRIPT not in self._broken:
            self._guard(TRANSCRIPT, self._write_transcript)


def new_call_folder(root: Path, call_id: str) -> Path:
    """Make `root/<call_id>`; another number is added when it exists. The id cannot leave `root`."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:100] or "call"
    root.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 1000):
        folder = root / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root / name} and its 999 successors exist")


class CallRecorder:
    """Observes one call. `observe` never blocks and never raises."""

    def __init__(self, records: "CallRecords", files: "_CallFiles | None", info: LineInfo) -> None:
        self._records = records
        self._files = files
        self._info = info
        self._started_at = records.now()

    @property
    def folder(self) -> Path | None:
        """Where the call is kept; None until the writer has made it, and when it could not."""
        return self._files.folder if self._files is not None else None

    def observe(self, event: CallEvent) -> None:
        self._records.hand_over(self, event)

    def write(self, root: Path, event: CallEvent) -> None:
        """On the writer thread."""
        if self._files is None:
            self._files = _CallFiles(root, self._info, self._started_at)
        self._files.take(event)

    def finish(self) -> None:
        """On the writer thread: what has been gathered goes to disk."""
        if self._files is not None:
            self._files.close()


class CallRecords:
    """The folder of all calls, and the thread that writes them.

    `records.observer` is what `CallService` wants as `observe`. With `inline=True` everything is written at
    once in the caller's thread (virtual time), and `clock` may be replaced for reproducible files.
    """

    def __init__(
        self, root: Path, *, inline: bool = False, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._root = root
        self._clock = clock or (lambda: datetime.now(UTC))
        self._queue: queue.SimpleQueue[tuple[CallRecorder, CallEvent] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._open: set[CallRecorder] = set()
        self._thread: threading.Thread | None = None
        if not inline:
            self._thread = threading.Thread(target=self._run, name="call-records", daemon=True)
            self._thread.start()

    def now(self) -> str:
        return self._clock().isoformat(timespec="seconds")

    def observer(self, info: LineInfo) -> CallRecorder:
        return CallRecorder(self, None, info)

    def hand_over(self, recorder: CallRecorder, event: CallEvent) -> None:
        if self._thread is None:
            self._write(recorder, event)
            return
        # Words are few and never dropped. Audio is dropped when the disk stalls: silence at its place.
        if isinstance(event, CallerAudio | AgentAudio) and self._queue.qsize() >= _QUEUE_EVENTS:
            if not self._dropped:
                log.error("the disk under %s is too slow: recordings have gaps", self._root)
            self._dropped += 1
            return
        self._queue.put((recorder, event))

    @property
    def dropped(self) -> int:
        """Audio events that a stalled disk cost."""
        return self._dropped

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is left, also of calls that never ended. Blocks up to `timeout_s`."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)
        else:
            self._finish()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._write(*item)
        self._finish()

    def _write(self, recorder: CallRecorder, event: CallEvent) -> None:
        try:
            self._open.add(recorder)
            recorder.write(self._root, event)
        except Exception:
            log.exception("a call's event could not be written; the call goes on")
        if isinstance(event, CallEnded):
            self._open.discard(recorder)

    def _finish(self) -> None:
        for recorder in self._open:
            recorder.finish()
        self._open.clear()
