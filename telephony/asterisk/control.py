"""The text messages of chan_websocket, both ways, in both forms. Pure.

Plain: a word, then `name:value` pairs or one bare argument. JSON: an object with `event` or `command`. Which
of the two a channel speaks is set in the dialplan, `f(json)`, or in chan_websocket.conf; the first character
tells.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_COMMAND_BYTES: Final = 128
"""Asterisk ignores longer ones."""
ARGUMENT: Final = "correlation_id"
"""What JSON calls the one argument of a command, and what comes back with its event."""

_EVENT: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_FREE_TEXT: Final = " error_text:"
"""The value that may hold spaces; it comes last."""


class MalformedControl(Exception):
    """This one message is wrong. The argument says how, in a few words."""


@dataclass(frozen=True, slots=True)
class Control:
    """An event's name and its fields. `is_json` is the form it came in."""

    event: str
    fields: Mapping[str, Any]
    is_json: bool

    def text(self, name: str) -> str:
        """A field as text; "" where it is missing or no scalar."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return ""
        return str(value)

    def number(self, name: str) -> int | None:
        """A field as a whole number below 10**9; None where it is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def parse(text: str) -> Control:
    """Raises `MalformedControl`."""
    text = text.strip()
    return _parse_json(text) if text.startswith("{") else _parse_plain(text)


def _parse_json(text: str) -> Control:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedControl("bad JSON") from None
    if not isinstance(fields, dict):
        raise MalformedControl("not a JSON object")
    event = fields.get("event")
    if not isinstance(event, str) or not _EVENT.fullmatch(event):
        raise MalformedControl("no event name")
    return Control(event, fields, is_json=True)


def _parse_plain(text: str) -> Control:
    text, _, free = text.partition(_FREE_TEXT)
    event, *words = text.split() or [""]
    if not _EVENT.fullmatch(event):
        raise MalformedControl("no event name")
    fields: dict[str, Any] = {}
    for word in words:
        name, colon, value = word.partition(":")
        if colon:
            fields.setdefault(name, value)
        else:
            fields.setdefault(ARGUMENT, word)
    if free:
        fields["error_text"] = free
    return Control(event, fields, is_json=False)


def command(name: str, argument: str = "", *, as_json: bool) -> str:
    """One command. `argument` must keep it within `MAX_COMMAND_BYTES`, and be without spaces."""
    if not as_json:
        return f"{name} {argument}" if argument else name
    fields = {"command": name} | ({ARGUMENT: argument} if argument else {})
    return json.dumps(fields, separators=(",", ":"))
