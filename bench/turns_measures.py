"""From played calls to the figures of `maya bench turns`.

Everything a caller feels is measured in the audio at the server's edge (`telephony.simulator`); only
`speculation_hits`, `token_waste` and `stage_sum_error_ms` read the server's own account.

- A turn is cut off when the agent becomes audible inside it. It also counts as cut off when the server took
  one of its pauses for its end and the answer to that part was heard, if only after the last word: so says
  the server's account (`answers_to_part` counts these).
- A gap runs from the last voiced sample of a turn to the first of the answer. A turn that was cut off has
  none: what follows it is not the answer to all of it.
- `cutoff_rate` is of the turns with pauses inside. Cut-offs of the others (over the last word) are counted
  too.
- An interruption yields if the agent's speech was stopped by a `clear`. One that came when the agent was
  done, or whose agent was done by itself within `_DONE_S`, shows nothing and is left out
  (`yield_left_out`).
- A sound is kept if the agent talked on, be it in a lower voice for a moment.
- A duck is the first `clear` behind which the agent was 10 dB softer or silent. An interruption that was
  never ducked counts with the time at which the agent ended.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.corpus import Overlap, Turn
from bench.report import percentile, rate, spread
from bench.turns_calls import PlannedCall
from pipeline.line import LINE_RATE_HZ
from telephony.simulator import Report as CallReport
from telephony.simulator.report import OverlapReport

_DONE_S = 0.45
_SAME_TURN_S = 0.7
"""How far the server's account of when a turn ended may lie beside the measured one."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One turn of a conversation call. Times in ms; None where there was none. `stages` are the server's
    account of the same wait, empty where it has none."""

    turn: Turn
    gap_ms: float | None
    ear_gap_ms: float | None
    cut_off: bool
    answered_part: bool
    transcript: str
    agent: str
    stages: Mapping[str, float]
    wait_ms: float | None
    """From the end of the caller's voice to the decision that the turn is over, by the server's account."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.turn.id,
            "kind": self.turn.kind,
            "voice": self.turn.voice,
            "pauses_s": [round(pause, 2) for pause in self.turn.pauses_s],
            "caller": self.turn.text,
            "transcript": self.transcript,
            "agent": self.agent,
            "edge_gap_ms": self.gap_ms,
            "cut_off": self.cut_off,
            "answered_part": self.answered_part,
            "stages": dict(self.stages),
        }


@dataclass(frozen=True, slots=True)
class OverlapResult:
    overlap: Overlap
    report: OverlapReport

    def to_json(self) -> dict[str, Any]:
        measured = self.report.to_json()
        names = ("placed", "stopped", "stop_ms", "duck_ms", "restored")
        return {
            "id": self.overlap.id,
            "kind": self.overlap.kind,
            "text": self.overlap.text or self.overlap.voice,
            "level_db": self.overlap.level_db,
            **{name: measured[name] for name in names},
        }


@dataclass(frozen=True, slots=True)
class CallResult:
    """One played call. `counters` are the server's own, empty where it writes none."""

    name: str
    turns: tuple[TurnResult, ...]
    overlaps: tuple[OverlapResult, ...]
    violations: tuple[str, ...]
    counters: Mapping[str, int]


def result_of(call: PlannedCall, report: CallReport, calls_dir: Path | None) -> CallResult:
    """Join what was planned with what was measured and with the server's transcript. Blocks."""
    document = _transcript(calls_dir, report.call_sid)
    outcome = document.get("outcome")
    # Another server may tell its outcome in a word.
    counters = outcome.get("counters") if isinstance(outcome, dict) else None
    return CallResult(
        name=call.scenario.name,
        turns=tuple(_turn_results(call, report, document.get("turns") or [])),
        # A call that ended early has fewer.
        overlaps=tuple(
            OverlapResult(overlap, seen)
            for overlap, seen in zip(call.overlaps, report.overlaps, strict=False)
        ),
        violations=tuple(report.violations),
        counters={name: int(count) for name, count in (counters or {}).items()},
    )


def _transcript(calls_dir: Path | None, call_sid: str) -> dict[str, Any]:
    if calls_dir is None:
        return {}
    try:
        document = json.loads((calls_dir / call_sid / "transcript.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _turn_results(
    call: PlannedCall, report: CallReport, accounts: Sequence[Mapping[str, Any]]
) -> Iterable[TurnResult]:
    if report.hearing is None or not call.turns:
        return
    heard = report.hearing
    rows = [row for row in report.turns if row.caller is not None]
    for turn, row, at_edge in zip(call.turns, rows, heard.at_edge, strict=False):
        times = _times_near(accounts, at_edge.last_voiced_s)
        part = _answered_part(turn, accounts, at_edge.first_voiced_s)
        cut_off = row.cut_off or part
        yield TurnResult(
            turn=turn,
            gap_ms=None if cut_off else row.edge_gap_ms,
            ear_gap_ms=None if cut_off else row.gap_ms,
            cut_off=cut_off,
            answered_part=part,
            transcript=row.transcript or "",
            agent=row.agent or "",
            stages=times.get("stages") or {},
            wait_ms=_wait_ms(times),
        )


def _answered_part(turn: Turn, accounts: Sequence[Mapping[str, Any]], begins_s: float | None) -> bool:
    """Whether an answer was heard to what the server took for a turn, and was this one up to a pause."""
    if begins_s is None:
        return False
    ends_s = [begins_s + stop / LINE_RATE_HZ for _, stop in turn.spans]
    for account in accounts:
        ended = _ended_s(account.get("times") or {})
        if ended is None or not account.get("heard") or not begins_s < ended < ends_s[-1]:
            continue
        # Accounts are some hundredths of a second beside the truth; spans are tenths apart.
        if min(ends_s, key=lambda end_s: abs(end_s - ended)) != ends_s[-1]:
            return True
    return False


def _times_near(accounts: Sequence[Mapping[str, Any]], end_s: float | None) -> Mapping[str, Any]:
    """The stage times of the server's turn that ended where this one did."""
    if end_s is None:
        return {}
    best: Mapping[str, Any] = {}
    nearest = _SAME_TURN_S
    for account in accounts:
        times = account.get("times") or {}
        ended = _ended_s(times)
        if ended is not None and abs(ended - end_s) < nearest:
            best, nearest = times, abs(ended - end_s)
    return best


def _ended_s(times: Mapping[str, Any]) -> float | None:
    for name in ("audible_end_s", "speech_end_s"):
        if isinstance(times.get(name), int | float):
            return float(times[name])
    return None


def _wait_ms(times: Mapping[str, Any]) -> float | None:
    ended, committed = _ended_s(times), times.get("committed_s")
    return None if ended is None or committed is None else (float(committed) - ended) * 1000


def turn_figures(results: Sequence[CallResult], prefix: str = "") -> dict[str, object]:
    """Gaps and cut-offs of conversation calls, their names led by `prefix`."""
    turns = [turn for result in results for turn in result.turns]
    paused = [turn for turn in turns if turn.turn.pauses_s]
    figures: dict[str, object] = {
        **spread(f"{prefix}edge_gap", [turn.gap_ms for turn in turns if turn.gap_ms is not None]),
        **spread(f"{prefix}ear_gap", [turn.ear_gap_ms for turn in turns if turn.ear_gap_ms is not None]),
    }
    if paused:
        figures |= rate(f"{prefix}cutoff_rate", sum(turn.cut_off for turn in paused), len(paused))
        figures[f"{prefix}turns_with_pauses"] = round(len(paused) / len(turns), 3)
    if len(turns) > len(paused):
        others = [turn for turn in turns if not turn.turn.pauses_s]
        figures[f"{prefix}cutoffs_without_pauses"] = sum(turn.cut_off for turn in others)
    figures[f"{prefix}answers_to_part"] = sum(turn.answered_part for turn in turns)
    figures[f"{prefix}unanswered"] = sum(turn.gap_ms is None and not turn.cut_off for turn in turns)
    figures[f"{prefix}violations"] = sum(len(result.violations) for result in results)
    return figures


def account_figures(results: Sequence[CallResult], prefix: str = "") -> dict[str, object]:
    """What the server's counters and stage times say; only those figures for which it has them."""
    figures: dict[str, object] = {}
    totals: dict[str, int] = {}
    for result in results:
        for name, count in result.counters.items():
            totals[name] = totals.get(name, 0) + count
    if totals.get("turns"):
        confirmed = min(totals.get("speculations_confirmed", 0), totals["turns"])
        figures |= rate(f"{prefix}speculation_hits", confirmed, totals["turns"])
    if totals.get("tokens_needed"):
        waste = totals.get("tokens_evaluated", 0) / totals["tokens_needed"]
        figures[f"{prefix}token_waste"] = round(waste, 3)
    errors = [
        abs(sum(turn.stages.values()) - turn.gap_ms)
        for result in results
        for turn in result.turns
        if turn.stages and turn.gap_ms is not None
    ]
    return figures | spread(f"{prefix}stage_sum_error", errors, digits=1)


def overlap_figures(results: Sequence[CallResult], prefix: str = "") -> dict[str, object]:
    """Who stopped the agent, how fast, and who did not."""
    seen = [overlap for result in results for overlap in result.overlaps]
    figures: dict[str, object] = {}
    taking = [each for each in seen if each.overlap.takes_floor]
    telling = [each for each in taking if each.report.placed and not _done_by_itself(each.report)]
    if telling:
        stopped = [each for each in telling if each.report.stopped]
        figures |= rate(f"{prefix}yield_rate", len(stopped), len(telling))
        figures[f"{prefix}yield_left_out"] = len(taking) - len(telling)
        figures |= spread(
            f"{prefix}stop", [each.report.stop_ms for each in stopped if each.report.stop_ms is not None]
        )
        figures |= spread(
            f"{prefix}duck", [duck for each in telling if (duck := _duck_ms(each.report)) is not None]
        )
    for name, kinds in _KEPT.items():
        through = [each for each in seen if each.overlap.kind in kinds and each.report.placed]
        if through:
            figures |= rate(f"{prefix}{name}", sum(not each.report.stopped for each in through), len(through))
    turned_down = [
        each.report for each in seen if not each.overlap.takes_floor and each.report.restored is not None
    ]
    if turned_down:
        figures |= rate(
            f"{prefix}restored", sum(bool(report.restored) for report in turned_down), len(turned_down)
        )
    return figures


_KEPT = {
    "backchannel_kept": ("backchannel",),
    "noise_kept": ("cough", "line_noise"),
    "sidetalk_kept": ("side_talk",),
}


def _done_by_itself(report: OverlapReport) -> bool:
    return not report.stopped and (report.stop_ms is None or report.stop_ms <= _DONE_S * 1000)


def _duck_ms(report: OverlapReport) -> float | None:
    return report.duck_ms if report.duck_ms is not None else report.stop_ms


def wait_in_force_ms(results: Sequence[CallResult], longest_ms: float) -> float | None:
    """Median of what the server waited until it declared a turn over, by its own account; a decision that
    came late because a model was slow counts with `longest_ms`, the policy's longest."""
    waits = [
        min(turn.wait_ms, longest_ms)
        for result in results
        for turn in result.turns
        if turn.wait_ms is not None
    ]
    return percentile(waits, 50) if waits else None


def ratio(figures: Mapping[str, object], over: str, under: str) -> float | None:
    """One figure over another, to three digits; None where one is missing."""
    above, below = figures.get(over), figures.get(under)
    if not isinstance(above, int | float) or not isinstance(below, int | float) or not below:
        return None
    quotient = above / below
    return round(quotient, 3) if math.isfinite(quotient) else None
