"""What a simulated call came to: the turns, the times and what the server did wrong."""

import hashlib
import json
import re
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.line import LINE_RATE_HZ
from telephony.simulator.caller import Ending, Hearing, StreamDrop
from telephony.simulator.expectations import Verdict
from telephony.simulator.measure import Summary, TurnMeasures, summarise
from telephony.simulator.overlaps import OverlapKind


@dataclass(frozen=True, slots=True)
class ServerTurn:
    """One turn by the server's own transcript, which the wire does not carry. `speech_end_s` is when the
    caller stopped speaking on the call's clock (sample n of the caller's audio arrives at n / 8000 s), if
    known; `stages_ms` what the server says the caller waited for (`pipeline.events.TurnTimes.stages_ms`)."""

    caller: str
    agent: str
    heard: str
    speech_end_s: float | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn of the caller and the agent's answer to it; `caller` is None for what the agent said before
    the caller's first word, which gets a turn only if it was interrupted.

    `transcript`, `agent`, `agent_heard` and `stages` (what the caller waited for, ms) are the server's own
    account, None or empty when the simulator cannot see it. `interrupted` and `stop_ms` are about the answer:
    whether the caller's next words came while it sounded, and how long it went on at the caller's ear.
    `edge_stop_ms` is the same at the server's edge, and not part of the JSON. `cut_off`: the agent began to
    speak within the turn, in a pause of the caller or over its last word, as its voice met at the server's
    edge.
    """

    caller: str | None
    transcript: str | None
    agent: str | None
    agent_heard: str | None
    gap_ms: float | None
    edge_gap_ms: float | None
    interrupted: bool
    stop_ms: float | None
    edge_stop_ms: float | None = None
    cut_off: bool = False
    stages: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        names = (
            "caller",
            "transcript",
            "agent",
            "agent_heard",
            "gap_ms",
            "edge_gap_ms",
            "interrupted",
            "stop_ms",
            "cut_off",
        )
        return {name: getattr(self, name) for name in names} | {"stages": dict(self.stages)}


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """What the caller let sound over the agent, and what the agent did.

    `at_s` is the first voiced sample in the recording. Not `placed`: the agent was not audible (an
    interruption is spoken all the same). The rest is measured at the server's edge, from that sample on, and
    None if it was not placed: `stopped`, the agent was cut off for good with `clear`; `stop_ms`, its last
    audible sample; `duck_ms`, the `clear` from which on it was 10 dB softer or silent; `restored`, whether it
    came back to its level after having been turned down, None if it was not turned down; `slip_ms`, what was
    lost (above 0) or repeated (below 0) of its words where it went on, None where nothing tells.

    `turn` is the number of the caller's turn that it began (an interruption) or that was before it, -1 if
    there was none. `transcript` and `agent` are the server's account of it, where it took a backchannel or a
    sound for a turn.
    """

    kind: OverlapKind
    text: str
    at_s: float
    placed: bool
    turn: int
    stopped: bool | None
    stop_ms: float | None
    duck_ms: float | None
    restored: bool | None
    slip_ms: float | None = None
    transcript: str | None = None
    agent: str | None = None

    def to_json(self) -> dict[str, Any]:
        names = (
            *("kind", "text", "at_s", "placed", "turn", "stopped", "stop_ms", "duck_ms", "restored"),
            *("slip_ms", "transcript", "agent"),
        )
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one simulated call; `to_json()` is what `maya simulate --json` prints."""

    turns: tuple[TurnReport, ...]
    violations: tuple[str, ...]
    recording: Path | None
    ending: Ending
    duration_s: float
    call_sid: str
    after_twiml: str | None = None
    """What the server wanted done after the stream, if Twilio would have asked (the agent hung up)."""
    hearing: Hearing | None = field(default=None, repr=False, compare=False)
    """Both channels, and the measures in seconds."""
    overlaps: tuple[OverlapReport, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    """On each expectation of the scenario, in order."""
    name: str = ""
    """The scenario's."""
    drops: tuple[StreamDrop, ...] = ()
    """Streams that the server closed, in order."""

    @property
    def failures(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    def check(self) -> "Report":
        """This report; raises `AssertionError` with all that is wrong if an expectation failed."""
        __tracebackhide__ = True  # pytest then shows the test's own line
        failures = self.failures
        if failures:
            head = f'{len(failures)} of {len(self.verdicts)} expectations of "{self.name}" failed'
            raise AssertionError("\n".join((head, *(failure.message for failure in failures))))
        return self

    @property
    def gap_ms(self) -> Summary:
        return _summary(turn.gap_ms for turn in self.turns)

    @property
    def edge_gap_ms(self) -> Summary:
        return _summary(turn.edge_gap_ms for turn in self.turns)

    @property
    def stop_ms(self) -> Summary:
        return _summary(turn.stop_ms for turn in self.turns)

    @property
    def edge_stop_ms(self) -> Summary:
        return _summary(turn.edge_stop_ms for turn in self.turns)

    def fingerprint(self) -> str:
        """Hexadecimal; the same for two calls that came to the same report and the same samples."""
        document = {**self.to_json(), "recording": None, "ending": self.ending, "call": self.call_sid}
        for verdict in document["expectations"]:
            verdict["message"] = ""  # it names the recording
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
        if self.hearing is not None:
            digest.update(self.hearing.caller.tobytes())
            digest.update(self.hearing.agent.tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Times in ms. `p95` is null for fewer than 60 values."""
        return {
            "turns": [turn.to_json() for turn in self.turns],
            "gap_ms": _summary_json(self.gap_ms),
            "edge_gap_ms": _summary_json(self.edge_gap_ms),
            "stop_ms": _summary_json(self.stop_ms),
            "violations": list(self.violations),
            "recording": str(self.recording) if self.recording is not None else None,
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
            "expectations": [verdict.to_json() for verdict in self.verdicts],
        }

    def json(self) -> str:
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Account:
    """The server's turns: by the number of the caller's turn they answer (-1: before the first), and by that
    of the backchannel or sound which the server took for a turn."""

    turns: Mapping[int, ServerTurn]
    overlaps: Mapping[int, ServerTurn]


def turn_reports(hearing: Hearing, server: Mapping[int, ServerTurn]) -> tuple[TurnReport, ...]:
    """Join what was measured with what the server says it understood and said (`Account.turns`)."""
    barge_ins = [_barge_in(hearing, number) for number in range(len(hearing.turns))]
    rows = []
    if barge_ins and barge_ins[0] is not None:
        rows.append(_row(None, None, server.get(-1), barge_ins[0], cut_off=False))
    for number, turn in enumerate(hearing.turns):
        following = barge_ins[number + 1] if number + 1 < len(barge_ins) else None
        measures = (hearing.at_ear[number], hearing.at_edge[number])
        cut_off = hearing.cut_off[number]
        rows.append(_row(turn.text, measures, server.get(number), following, cut_off=cut_off))
    return tuple(rows)


def overlap_reports(hearing: Hearing, server: Mapping[int, ServerTurn]) -> tuple[OverlapReport, ...]:
    """`server` is `Account.overlaps`."""
    rows = []
    for number, (overlap, onset_s, measures) in enumerate(
        zip(hearing.overlaps, hearing.overlap_onset_s, hearing.at_overlap, strict=True)
    ):
        account = server.get(number)
        rows.append(
            OverlapReport(
                kind=overlap.kind,
                text=overlap.text,
                at_s=round(onset_s, 4),
                placed=overlap.placed,
                turn=overlap.turn,
                stopped=measures.stopped if measures else None,
                stop_ms=_ms(measures.stop_s) if measures else None,
                duck_ms=_ms(measures.duck_s) if measures else None,
                restored=measures.restored if measures else None,
                slip_ms=_ms(measures.slip_s) if measures else None,
                transcript=account.caller if account else None,
                agent=account.agent if account else None,
            )
        )
    return tuple(rows)


def _barge_in(hearing: Hearing, number: int) -> tuple[float, float | None] | None:
    """Stop time at the ear and at the edge, in ms, of the speech that turn `number` interrupted; None if
    none."""
    at_ear, at_edge = hearing.at_ear[number].barge_in_s, hearing.at_edge[number].barge_in_s
    if at_ear is None or (at_ear == 0 and not hearing.turns[number].interrupts):
        return None
    return at_ear * 1000, None if at_edge is None else at_edge * 1000


def _row(
    caller: str | None,
    measures: tuple[TurnMeasures, TurnMeasures] | None,
    server: ServerTurn | None,
    barge_in: tuple[float, float | None] | None,
    *,
    cut_off: bool,
) -> TurnReport:
    at_ear, at_edge = measures or (None, None)
    return TurnReport(
        caller=caller,
        transcript=server.caller if server and caller is not None else None,
        agent=server.agent if server else None,
        agent_heard=server.heard if server else None,
        gap_ms=_ms(at_ear.gap_s) if at_ear else None,
        edge_gap_ms=_ms(at_edge.gap_s) if at_edge else None,
        interrupted=barge_in is not None,
        stop_ms=round(barge_in[0], 1) if barge_in else None,
        edge_stop_ms=round(barge_in[1], 1) if barge_in and barge_in[1] is not None else None,
        cut_off=cut_off,
        stages=server.stages_ms if server else {},
    )


def account_of(hearing: Hearing, server_turns: Sequence[ServerTurn] | None) -> Account:
    """Place the server's turns by time where the server tells it, so that a turn which the server split in
    two is joined again; else in order, the first without words of the caller being the greeting."""
    placed: dict[int, ServerTurn] = {}
    over: dict[int, ServerTurn] = {}
    expected = -1
    for turn in server_turns or ():
        number = None
        if turn.caller and turn.speech_end_s is not None:
            overlap = _overlap_at(hearing, turn.speech_end_s)
            if overlap is not None:
                over[overlap] = _joined(over[overlap], turn) if overlap in over else turn
                continue
            number = _turn_at(hearing, turn.speech_end_s)
        if number is None:
            number = max(expected, 0) if turn.caller else expected
        expected = number + 1
        placed[number] = _joined(placed[number], turn) if number in placed else turn
    return Account(placed, over)


def _turn_at(hearing: Hearing, speech_end_s: float) -> int:
    begun = [n for n, turn in enumerate(hearing.turns) if turn.start / LINE_RATE_HZ <= speech_end_s]
    return begun[-1] if begun else 0


def _overlap_at(hearing: Hearing, speech_end_s: float) -> int | None:
    """The backchannel or sound that was the caller's last before then, if a turn was not."""
    sample = speech_end_s * LINE_RATE_HZ
    begun = [
        (overlap.start, number)
        for number, overlap in enumerate(hearing.overlaps)
        if overlap.stop > overlap.start and overlap.kind != "interrupt" and overlap.start <= sample
    ]
    if not begun or any(begun[-1][0] <= turn.start <= sample for turn in hearing.turns):
        return None
    return begun[-1][1]


def _joined(first: ServerTurn, second: ServerTurn) -> ServerTurn:
    return ServerTurn(
        f"{first.caller} {second.caller}".strip(),
        f"{first.agent} {second.agent}".strip(),
        f"{first.heard} {second.heard}".strip(),
        second.speech_end_s,
        second.stages_ms,
    )


@dataclass(frozen=True, slots=True)
class ServerTranscript:
    turns: tuple[ServerTurn, ...]
    complete: bool
    """The server has written how the call ended."""


ReadTranscript = Callable[[Path], Any]
"""The server's document about a call from the call's folder. May raise `OSError` and `ValueError`."""


def read_plain_transcript(call_folder: Path) -> Any:
    return json.loads((call_folder / "transcript.json").read_text(encoding="utf-8"))


def read_server_turns(
    call_folder: Path, read: ReadTranscript = read_plain_transcript
) -> ServerTranscript | None:
    """The server's own account of a call; None if there is none. Blocks."""
    try:
        document = read(call_folder)
        turns = document["turns"]
        return ServerTranscript(
            tuple(_server_turn(turn) for turn in turns), document.get("outcome") is not None
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _server_turn(turn: Mapping[str, Any]) -> ServerTurn:
    times = turn.get("times") or {}
    end_s = times.get("speech_end_s")
    return ServerTurn(
        caller=str(turn.get("caller") or ""),
        agent=str(turn.get("agent") or ""),
        heard=str(turn.get("heard") or ""),
        speech_end_s=float(end_s) if isinstance(end_s, int | float) else None,
        stages_ms={str(name): float(ms) for name, ms in (times.get("stages") or {}).items()},
    )


def write_recording(folder: Path, name: str, hearing: Hearing) -> Path:
    """Two channels (left caller, right agent) as 16-bit WAV at 8 kHz, `folder/<name>.wav`. Blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-.') or 'call'}.wav"
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(2)
        recording.setsampwidth(2)
        recording.setframerate(LINE_RATE_HZ)
        recording.writeframes(np.stack((hearing.caller, hearing.agent), axis=1).astype("<i2").tobytes())
    return path


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _summary(values: Any) -> Summary:
    return summarise([value for value in values if value is not None])


def _summary_json(summary: Summary) -> dict[str, float | int | None]:
    return {"p50": summary.p50, "p95": summary.p95, "max": summary.max, "n": summary.n}
