"""Whether a finished call did what its scenario's `expect` steps want, and if not, what happened instead."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.line import LINE_RATE_HZ
from telephony.simulator.caller import Ending, Hearing, Referent
from telephony.simulator.expect import Expect, words
from telephony.simulator.measure import UTTERANCE_PAUSE_S
from telephony.simulator.scenario import Scenario

if TYPE_CHECKING:
    from telephony.simulator.report import OverlapReport, ServerTurn, TurnReport

NO_ACCOUNT = (
    "the server's account of the call is not known: start it on this machine with the same calls_dir, "
    "or give `transcripts`"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation of one run. `where` is `hours.yaml:9`, `expectation` is `reply: noon`; `message` says
    in some lines what happened instead, and where in the recording (empty when it passed)."""

    where: str
    expectation: str
    passed: bool
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("where", "expectation", "passed", "message")}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a call when its expectations are judged. `server` holds the server's turns by the
    number of the caller's turn (-1: before the first), None without an account of the server's."""

    hearing: Hearing
    turns: Sequence["TurnReport"]
    """One for each turn of the caller."""
    overlaps: Sequence["OverlapReport"]
    server: Mapping[int, "ServerTurn"] | None
    ending: Ending
    violations: Sequence[str]
    recording: Path | None


def judge(scenario: Scenario, referents: Mapping[int, Referent], evidence: Evidence) -> tuple[Verdict, ...]:
    """A verdict for each expectation: those of the whole call, then those of the steps in their order."""
    verdicts = _judge_throughout(scenario, evidence) if scenario.expect else []
    for number, step in enumerate(scenario.steps):
        if not isinstance(step, Expect):
            continue
        case = _Case(evidence, referents.get(number))
        for name, wanted in step.wanted().items():
            complaint = case.complaint(name, wanted)
            where, expectation = scenario.where(number), f"{name}: {_as_written(wanted)}"
            message = "" if complaint is None else f"{where}: {complaint}{case.background(name)}"
            verdicts.append(Verdict(where, expectation, complaint is None, message))
    return tuple(verdicts)


def _judge_throughout(scenario: Scenario, evidence: Evidence) -> list[Verdict]:
    verdicts = []
    where = scenario.where(None)
    for name, wanted in scenario.expect.wanted().items() if scenario.expect else ():
        complaints = list(_complaints_throughout(name, wanted, evidence))
        message = f"{where}: {complaints[0]}" if complaints else ""
        if len(complaints) > 1:
            message += f"\n    and in {len(complaints) - 1} more"
        verdicts.append(Verdict(where, f"{name}: {_as_written(wanted)}", not complaints, message))
    return verdicts


def _complaints_throughout(name: str, wanted: Any, evidence: Evidence) -> Iterator[str]:
    if name == "ending":
        if evidence.ending != wanted:
            yield f"expected the call to end with: {wanted}, but it was: {evidence.ending}"
        return
    if name == "no_violations":
        yield from (f"expected no violation of the protocol, but {what}" for what in evidence.violations)
        return
    for referent in _those_meant(name, wanted, evidence):
        case = _Case(evidence, referent)
        complaint = case.complaint(name, wanted)
        if complaint is not None:
            yield complaint + case.background(name)


def _those_meant(name: str, wanted: Any, evidence: Evidence) -> Iterator[Referent]:
    """Every turn or overlap that an expectation of the whole call is about."""
    if name in ("no_stop", "stop_within"):
        for number, overlap in enumerate(evidence.overlaps):
            if overlap.placed and (overlap.kind == "interrupt") == (name == "stop_within"):
                yield Referent(overlap.turn, number)
        return
    for number, turn in enumerate(evidence.turns):
        unanswered = name in ("gap", "edge_gap") and turn.gap_ms is None
        if not unanswered or _waited_s(evidence.hearing, number) > _limit(wanted)[1] + UTTERANCE_PAUSE_S:
            yield Referent(number, None)


def _waited_s(hearing: Hearing, number: int) -> float:
    """How long the caller gave the agent to answer a turn."""
    last_s = hearing.at_ear[number].last_voiced_s
    following = hearing.turns[number + 1].start / LINE_RATE_HZ if number + 1 < len(hearing.turns) else None
    return (hearing.duration_s if following is None else following) - (last_s or 0.0)


def says(text: str, wanted: str) -> bool:
    """Whether `text` holds the words of `wanted`, or matches it as `/regular expression/`."""
    if len(wanted) > 2 and wanted.startswith("/") and wanted.endswith("/"):
        return re.search(wanted[1:-1], text, re.IGNORECASE) is not None
    return words(wanted).removesuffix(" ") in words(text)


class _Case:
    """The turn or overlap that one `expect` is about."""

    def __init__(self, evidence: Evidence, referent: Referent | None) -> None:
        self._evidence = evidence
        self._reached = referent is not None
        self._number, overlap = referent or Referent(-1, None)
        self._turn = evidence.turns[self._number] if self._number >= 0 else None
        self._overlap = None if overlap is None else evidence.overlaps[overlap]
        server = evidence.server
        self._account = None if server is None else server.get(self._number)

    def complaint(self, name: str, wanted: Any) -> str | None:
        """What is wrong, in a sentence; None if nothing is."""
        if not self._reached:
            ending, end_s = self._evidence.ending, self._evidence.hearing.duration_s
            return (
                f"expected {name}: {_as_written(wanted)}, but the call was over ({ending} at {end_s:.1f} s)"
            )
        judges: Mapping[str, Callable[[Any], str | None]] = {
            "transcript": lambda text: self._text("the transcript", "caller", "it was", text),
            "reply": lambda text: self._text("the reply", "agent", "the agent said", text),
            "heard": lambda text: self._text("what was heard of the reply", "heard", "it was", text),
            "gap": lambda limit: self._gap("", "gap_ms", limit),
            "edge_gap": lambda limit: self._gap(" at the server's edge", "edge_gap_ms", limit),
            "no_stop": self._no_stop,
            "stop_within": self._stop_within,
            "no_cut_off": self._no_cut_off,
        }
        return judges[name](wanted)

    def background(self, name: str) -> str:
        """Lines on what was going on, and where to listen to it."""
        lines = []
        onset_s = None
        hearing = self._evidence.hearing
        if self._turn is not None:
            measures = hearing.at_ear[self._number]
            onset_s = measures.first_voiced_s
            if onset_s is not None and measures.last_voiced_s is not None:
                until_s = measures.last_voiced_s
                said = f'the caller said "{self._turn.caller}" from {onset_s:.1f} to {until_s:.1f} s'
                understood = self._turn.transcript
                lines.append(said if understood is None else f'{said}, understood as "{understood}"')
        if self._overlap is not None and self._overlap.kind != "interrupt":
            onset_s = self._overlap.at_s
            if self._overlap.placed:
                lines.append(f'the {self._overlap.kind} "{self._overlap.text}" began at {onset_s:.1f} s')
            if self._overlap.transcript:
                taken = f'it was taken for a turn, understood as "{self._overlap.transcript}"'
                lines.append(f'{taken} and answered "{self._overlap.agent or ""}"')
        if self._account is not None and name not in ("reply", "transcript"):
            lines.append(f'the agent said "{self._account.agent}"')
        if self._account is not None and self._account.heard != self._account.agent and name != "heard":
            lines.append(f'of which the caller heard "{self._account.heard}"')
        if self._evidence.recording is not None:
            lines.append(f"recording: {self._evidence.recording}, from {max(0.0, (onset_s or 0.0)):.1f} s")
        return "".join(f"\n    {line}" for line in lines)

    def _text(self, what: str, field: str, intro: str, wanted: str) -> str | None:
        expected = f"expected {what} to {'match' if wanted.startswith('/') else 'say'} {_quoted(wanted)}"
        if self._evidence.server is None:
            return f"{expected}, but {NO_ACCOUNT}"
        text = getattr(self._account, field) if self._account is not None else ""
        if says(text, wanted):
            return None
        return f'{expected}, but {intro} "{text}"' if text else f"{expected}, but there was none"

    def _gap(self, place: str, field: str, limit: float | str) -> str | None:
        relation, seconds = _limit(limit)
        expected = f"expected a gap{place} {_RELATIONS[relation]} {seconds:g} s"
        if self._turn is None:
            return f"{expected}, but no turn of the caller stands before it"
        gap_ms = getattr(self._turn, field)
        if gap_ms is None:
            return f"{expected}, but the turn was not answered"
        gap_s = gap_ms / 1000
        held = {
            "<": gap_s < seconds,
            "<=": gap_s <= seconds,
            ">": gap_s > seconds,
            ">=": gap_s >= seconds,
        }[relation]
        return None if held else f"{expected}, but it was {gap_s:.2f} s"

    def _no_stop(self, wanted: bool) -> str | None:
        expected = f"expected the agent {'to talk on' if wanted else 'to stop'}"
        overlap = self._overlap
        if overlap is None:
            return f"{expected}, but no overlap stands before it"
        if not overlap.placed:
            return f"{expected}, but {_not_placed(overlap)}"
        if overlap.stopped != wanted:
            return None
        return f"{expected} over the {overlap.kind}, but it " + (
            f"stopped after {_seconds(overlap.stop_ms)}" if wanted else "talked on"
        )

    def _stop_within(self, limit_s: float) -> str | None:
        expected = f"expected the agent to stop within {limit_s:g} s"
        overlap = self._overlap
        if overlap is None:
            return f"{expected}, but no overlap stands before it"
        if not overlap.placed:
            return f"{expected}, but {_not_placed(overlap)}"
        if overlap.stop_ms is None:
            finished = overlap.kind == "interrupt"
            did = "had just finished" if finished else f"talked on over the {overlap.kind}"
            return f"{expected}, but it {did}"
        if overlap.stop_ms <= limit_s * 1000:
            return None
        return f"{expected}, but it was audible for {_seconds(overlap.stop_ms)} more"

    def _no_cut_off(self, wanted: bool) -> str | None:
        expected = f"expected the agent {'to wait for the end of' if wanted else 'to cut into'} the turn"
        if self._turn is None:
            return f"{expected}, but no turn of the caller stands before it"
        if self._turn.cut_off != wanted:
            return None
        return f"{expected}, but it {'began to speak within it' if wanted else 'waited'}"


_RELATIONS = {"<": "below", "<=": "of at most", ">": "above", ">=": "of at least"}


def _limit(limit: float | str) -> tuple[str, float]:
    """("<", 1.5) of "< 1.5"; a plain number is the most it may be."""
    if not isinstance(limit, str):
        return "<=", float(limit)
    relation, number = re.fullmatch(r"\s*([<>]?=?)\s*([\d.]+)\s*s?\s*", limit).groups()  # type: ignore[union-attr]
    return relation or "<=", float(number)


def _not_placed(overlap: "OverlapReport") -> str:
    at = f"the agent was not audible at {overlap.at_s:.1f} s"
    return f'the {overlap.kind} "{overlap.text}" met silence: {at}'


def _seconds(ms: float | None) -> str:
    return "an unknown time" if ms is None else f"{ms / 1000:.2f} s"


def _quoted(wanted: str) -> str:
    return wanted if wanted.startswith("/") else f'"{wanted}"'


def _as_written(wanted: Any) -> str:
    return str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
