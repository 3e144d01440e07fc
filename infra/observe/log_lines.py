"""Log records as lines: text for people, JSON for machines; either with the id of the call, and redacted."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from infra.observe.context import current_call
from infra.redaction import RedactingFormatter, redact, redact_data

_CLOCK = "%H:%M:%S"


class TextLines(RedactingFormatter):
    """One line a record; the call's id stands behind it unless it stands in it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s", _CLOCK)

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        call_id = call_of(record)
        return line if not call_id or call_id in line else f"{line}  [call {call_id}]"


class JsonLines(logging.Formatter):
    """One object a line: `ts` (UTC), `level`, `logger`, `message`; `call_id` and `trace_id` where a call is
    meant; `error`, the traceback, where there is one; and what `extra={"data": {...}}` gave."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if call_id := call_of(record):
            line["call_id"] = call_id
        call = current_call()
        if call is not None and call.call_id == call_id and call.trace_id:
            line["trace_id"] = call.trace_id
        if isinstance(data := getattr(record, "data", None), dict):
            line["data"] = redact_data(data)
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def call_of(record: logging.LogRecord) -> str:
    """The id of the call that a record is about: what its `extra={"call_id": ...}` says, or else the call for
    which the code that logged it works; "" where there is none."""
    told = getattr(record, "call_id", "")
    if told:
        return str(told)
    call = current_call()
    return call.call_id if call is not None else ""
