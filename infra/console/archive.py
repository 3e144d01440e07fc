"""Calls that were, for the page: asked of the store's read side and put into the page's words.

Everything blocks on the database and the disk: call it in a thread. Raises `StoreUnavailable` where the
database is away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from infra.console.charts import LAST_ANSWERS, Chart, bucket_s_of, chart_of, first_of
from infra.console.one_call import page_of
from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.reader import CallFolder, RecordingError
from infra.store.rows import CallQuery, CallRow, CallState, Figures, FoundCall, SearchHit, StoredCall, TurnRow

Outcome = Literal["", "completed", "failed", "unfinished", "live"]
PER_PAGE: Final = 50
_SNIPPET: Final = 160
"""Characters shown of what was found, around the first place."""


class ReadSide(Protocol):
    """What is asked of `infra.store.store.CallStore`."""

    def calls(self, query: CallQuery) -> Sequence[CallRow]: ...

    def call(self, call_id: str) -> StoredCall | None: ...

    def find(self, text: str, query: CallQuery) -> Sequence[FoundCall]: ...

    def figures(self, first: int, wide_s: int, now: float, *, last: int = ...) -> Figures: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: all that is given must hold. `before` is the number of the last call seen."""

    words: str = ""
    number: str = ""
    persona: str = ""
    outcome: Outcome = ""
    since: float | None = None
    until: float | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """One part of a call: on one front-end, with a clock and a recording of its own."""

    page: dict[str, Any]
    folder: Path | None
    no_sound: str
    """Why `folder` is None."""


class Archive:
    """`folder` is where recordings lie: what the store says lies elsewhere is not read."""

    def __init__(self, store: ReadSide, folder: Path, keys: KeyRing) -> None:
        self._store = store
        self._folder = folder
        self._keys = keys

    def find(self, wanted: Wanted) -> dict[str, Any]:
        """`{calls, more}`, newest first."""
        query = _query(wanted)
        found = (
            self._store.find(wanted.words, query)
            if wanted.words
            else [FoundCall(row, ()) for row in self._store.calls(query)]
        )
        shown: list[dict[str, Any]] = []
        for one in found[:PER_PAGE]:
            hits = [_hit(hit, wanted.words) for hit in one.hits]
            shown.append(_shown(one.call) | ({"hits": hits} if hits else {}))
        return {"calls": shown, "more": len(found) > PER_PAGE}

    def leg(self, call_id: str, leg: int | None = None) -> Leg | None:
        """One call's page; None where there is no such call. `leg` None is the first."""
        stored = self._store.call(call_id)
        if stored is None:
            return None
        legs = sorted({turn.leg for turn in stored.turns} | {r.leg for r in stored.recordings}) or [0]
        chosen = legs[0] if leg not in legs else leg
        assert chosen is not None  # noqa: S101  one of `legs`
        folder, why = self._recording(stored, chosen)
        document = _document(stored, chosen)
        if folder is not None:
            document["utterances"] = self._utterances(folder)
        page = page_of(document)
        page |= {"legs": legs, "leg": chosen, "sound": folder is not None, "no_sound": why}
        page["call"]["outcome"], page["call"]["reason"] = _outcome(stored.call), stored.call.reason
        return Leg(page, folder, why)

    def charts(self, hours: int, now: float, ahead_min: int = 0) -> Chart:
        """Of the last `hours`, in pieces of a clock that is `ahead_min` ahead of UTC."""
        first, wide_s = first_of(hours, now, ahead_min), bucket_s_of(hours)
        return chart_of(self._store.figures(first, wide_s, now, last=LAST_ANSWERS), hours, now)

    # One call

    def _recording(self, stored: StoredCall, leg: int) -> tuple[Path | None, str]:
        row = next((r for r in stored.recordings if r.leg == leg), None)
        if row is None:
            return None, "This call was not recorded."
        root = self._folder.resolve()
        folder = Path(row.folder)
        try:
            # The folder may have been moved as a whole.
            for path in (folder.resolve(), root / folder.name):
                if path.is_relative_to(root) and CallFolder(path).is_call:
                    return path, ""
        except (OSError, ValueError):
            pass
        return None, f"The recording is not here; it was made on {row.host}, and may have been deleted since."

    def _utterances(self, folder: Path) -> Sequence[Mapping[str, float]]:
        """When the caller spoke; nothing where that cannot be read."""
        try:
            document = CallFolder(folder, self._keys).transcript()
        except (RecordingError, RecordingKeyError):
            return ()
        found = document.get("utterances")
        return found if isinstance(found, list) else ()


def _query(wanted: Wanted) -> CallQuery:
    """One more than a page shows, so that it is known whether there are more."""
    states: dict[str, CallState] = {"live": "live", "unfinished": "lost"}
    return CallQuery(
        party=wanted.number,  # whoever types a number means either end
        persona=wanted.persona,
        state=states.get(wanted.outcome),
        outcome="" if wanted.outcome in states else wanted.outcome,
        since=wanted.since,
        until=wanted.until,
        before=wanted.before,
        limit=PER_PAGE + 1,
    )


def _outcome(row: CallRow) -> str:
    if row.state == "ended":
        return row.outcome
    return "live" if row.state == "live" else "unfinished"


def _shown(row: CallRow) -> dict[str, Any]:
    return {
        "id": row.call_id,
        "number": row.number,
        "began": _iso(row.started_at),
        "caller": row.caller,
        "called": row.called,
        "persona": row.persona,
        "way": row.way,
        "duration_s": row.duration_s if row.state == "ended" else None,
        "turns": row.turns,
        "faults": row.faults,
        "outcome": _outcome(row),
        "reason": row.reason,
    }


def _hit(hit: SearchHit, words: str) -> dict[str, Any]:
    """Where it was found: `parts` alternate between what is beside and what was found."""
    text = " ".join(hit.text.split())
    lower, wanted = text.lower(), " ".join(words.split()).lower()
    place = lower.find(wanted) if len(lower) == len(text) else -1
    found = len(wanted)
    if place < 0:
        place, found = next(
            ((at, len(word)) for word in wanted.split() if (at := lower.find(word)) >= 0), (0, 0)
        )
    start = max(0, place - _SNIPPET // 3)
    stop = min(len(text), start + _SNIPPET)
    before = ("… " if start else "") + text[start:place]
    after = text[place + found : stop] + (" …" if stop < len(text) else "")
    return {"who": hit.who, "turn": hit.turn, "parts": [before, text[place : place + found], after]}


def _document(stored: StoredCall, leg: int) -> dict[str, Any]:
    """As `infra.records.notes` writes it."""
    call = stored.call
    notes = [note for note in stored.notes if note.leg == leg]
    pauses: list[dict[str, Any]] = []
    for note in notes:
        if note.kind == "paused":
            pauses.append({"from_s": note.at_s, "to_s": None})
        elif note.kind == "resumed" and pauses:
            pauses[-1]["to_s"] = note.at_s
    passed = next((note for note in notes if note.kind == "transferred"), None)
    return {
        "call": {
            "id": call.call_id,
            "line": call.way,
            "caller": call.caller,
            "called": call.called,
            "persona": call.persona,
            "started_at": _iso(call.started_at),
            "duration_s": call.duration_s if call.state == "ended" else None,
        },
        "turns": [_turn(turn) for turn in stored.turns if turn.leg == leg],
        "utterances": [],
        "tools": [asdict(tool) for tool in stored.tools if tool.leg == leg],
        "messages": [asdict(message) for message in stored.messages if message.leg == leg],
        "entered": [{"at_s": note.at_s, "digits": note.text} for note in notes if note.kind == "keys"],
        "faults": [{"at_s": n.at_s, "where": n.text, "detail": ""} for n in notes if n.kind == "fault"],
        "pauses": pauses,
        "transferred": None if passed is None else {"at_s": passed.at_s, "name": passed.text},
    }


def _turn(row: TurnRow) -> dict[str, Any]:
    began = row.began_at_s
    return {
        "turn": row.turn,
        "caller": row.caller,
        "agent": row.text,
        "heard": row.heard,
        "interrupted": row.interrupted,
        "caller_at_s": row.caller_at_s,
        "agent_done_s": row.done_at_s,
        "clauses": [{"at_s": began, "text": text} for text in row.clauses if began is not None],
        "times": {**row.times, "stages": dict(row.stages)},
    }


def _iso(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")
