"""Stored calls as CSV and JSON, line by line. Pure."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from infra.store.reading import STAGES
from infra.store.rows import CallRow, StoredCall

CALL_COLUMNS: Final = (
    *("call_id", "way", "caller", "called", "persona", "front_end", "started_at", "ended_at"),
    *("duration_s", "state", "outcome", "reason"),
)
TURN_COLUMNS: Final = (
    *("leg", "turn", "caller_at_s", "caller_said", "began_at_s", "agent_said", "agent_heard"),
    *("interrupted", "done_at_s", "gap_ms", *(f"{stage}_ms" for stage in STAGES)),
)
_FORMULA: Final = re.compile(r"(^\s*|[;\t\r\n]\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])|^(?=[\t\r\n])")
"""Where a formula begins, in East Asian signs too; also behind what ends a cell in places where lists are
separated by semicolons, for there our commas and quotes end none."""


def jsonl_lines(calls: Iterable[StoredCall]) -> Iterator[str]:
    """A document a line."""
    for call in calls:
        yield json.dumps(document(call), ensure_ascii=False) + "\n"


def csv_lines(calls: Iterable[StoredCall]) -> Iterator[str]:
    """RFC 4180 with a header, a line for each turn; a call without turns has one line too. Words that a
    spreadsheet would take for a formula begin with an apostrophe, so that a caller cannot run one."""
    yield _line([*CALL_COLUMNS, *TURN_COLUMNS])
    for call in calls:
        told = call_document(call.call)
        head = [told[name] for name in CALL_COLUMNS]
        if not call.turns:
            yield _line([*head, *([None] * len(TURN_COLUMNS))])
        for turn in call.turns:
            stages = [turn.stages.get(f"{stage}_ms") for stage in STAGES]
            gap_ms = round(sum(turn.stages.values()), 1) if turn.stages else None
            yield _line([
                *head, turn.leg, turn.turn, turn.caller_at_s, turn.caller, turn.began_at_s, turn.text,
                turn.heard, turn.interrupted, turn.done_at_s, gap_ms, *stages,
            ])  # fmt: skip


def document(call: StoredCall) -> dict[str, Any]:
    return {
        "call": call_document(call.call),
        "turns": [asdict(turn) for turn in call.turns],
        "tools": [asdict(tool) for tool in call.tools],
        "messages": [asdict(message) for message in call.messages],
        "notes": [asdict(note) for note in call.notes],
        "recordings": [asdict(place) for place in call.recordings],
    }


def call_document(row: CallRow) -> dict[str, Any]:
    """Moments are ISO 8601, in UTC."""
    told = asdict(row)
    for name in ("started_at", "updated_at", "ended_at"):
        moment = told[name]
        if moment is not None:
            told[name] = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return told


def _line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_cell(cell) for cell in cells])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and not _is_number(value):
        return _FORMULA.sub(r"\1'", value)
    return value


def _is_number(text: str) -> bool:
    """A telephone number, which no spreadsheet can run."""
    return text[:1] == "+" and text[1:].isdigit()
