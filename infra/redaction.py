"""Takes callers' numbers (`infra.caller_numbers`) and secrets out of log lines. Pure.

Secrets are told by their form (credentials in addresses, `token=...`, authorization headers, Maya's keys) and
by their value, where `hide` was told it.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from infra.caller_numbers import mask_numbers

HIDDEN: Final = "***"
_SHORTEST_SECRET: Final = 6
"""Anything shorter occurs in words."""

_ADDRESS = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_PASSWORD = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|x-twilio-signature|cookie|set-cookie)(['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{8,}")
_NAMED = re.compile(
    r"(?i)\b([\w-]{0,40}(?:token|secret|passw(?:or)?d|passwd|api[_-]?key|signature|credential)s?)"
    r"(['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"'})\]]+)"
)
_SECRET_NAME = re.compile(r"(?i)token|secret|passw|api[_-]?key|signature|credential|authorization|cookie")
_MAYA_KEY = re.compile(r"\bmaya_[A-Za-z0-9_-]{20,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*")


class Redactor:
    """`redact(line)` for every line of a log; `hide` tells it secrets of this process by value."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._values: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """From any thread, at any time. Short ones are not hidden: they would be found in words."""
        self._secrets |= {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(self, line: str) -> str:
        if self._values is not None:
            line = self._values.sub(HIDDEN, line)
        if "://" in line:
            line = _ADDRESS.sub(rf"\1:{HIDDEN}@", line)
        line = _HEADER.sub(rf"\1\2{HIDDEN}", line)
        line = _BEARER.sub(rf"\1 {HIDDEN}", line)
        line = _NAMED.sub(_hide_value, line)
        line = _MAYA_KEY.sub(HIDDEN, line)
        line = _JWT.sub(HIDDEN, line)
        return mask_numbers(line)


REDACTOR: Final = Redactor()
"""The process's."""


def redact(line: str) -> str:
    """As the process's logs show it."""
    return REDACTOR.redact(line)


def hide(secrets: Iterable[str]) -> None:
    """These never show in this process's logs."""
    REDACTOR.hide(secrets)


def secrets_of(settings: Any) -> Iterator[str]:
    """Every secret in a model of settings, and the parts of those that are lists of `name:secret`."""
    if hasattr(settings, "get_secret_value"):
        secret = str(settings.get_secret_value())
        yield secret
        if "://" not in secret:
            yield from re.split(r"[,:]", secret)
        elif found := _PASSWORD.search(secret):
            yield found.group(1)
    elif hasattr(type(settings), "model_fields"):
        for name in type(settings).model_fields:
            yield from secrets_of(getattr(settings, name))
    elif isinstance(settings, dict):
        yield from (secret for held in settings.values() for secret in secrets_of(held))
    elif isinstance(settings, list | tuple):
        yield from (secret for held in settings for secret in secrets_of(held))


def redact_data(value: Any) -> Any:
    """The same for what lies within dicts and lists; what is named as a secret there is hidden whole. Other
    values than figures come back as text, for that is how they would be shown."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {
            redact(str(name)): HIDDEN if _SECRET_NAME.search(str(name)) else redact_data(held)
            for name, held in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_data(held) for held in value]
    return redact(str(value))


class RedactingFormatter(logging.Formatter):
    """Redacts whole lines, the tracebacks below them included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _hide_value(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    if value in (HIDDEN, f"'{HIDDEN}'", f'"{HIDDEN}"'):
        return found.group()
    quote = value[0] if value[0] in "\"'" else ""
    return f"{name}{between}{quote}{HIDDEN}{quote}"
