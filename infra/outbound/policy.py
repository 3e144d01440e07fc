"""Whom we may call, and when. Pure: the time and what was dialled before are arguments."""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.routing import Hours
from telephony.numbers import NotDialable, dialable

_DAY = timedelta(days=1)


def _prefix(text: str) -> str:
    if not re.fullmatch(r"\+[0-9]{1,14}", text):
        raise ValueError('write + and digits, such as "+1202"')
    return text


def _caller(text: str) -> str:
    if text and not re.fullmatch(r"\+?[0-9]{2,15}", text):
        raise ValueError('write your number with + and the country\'s code, such as "+12025550123"')
    return text


def _hash(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("this is no hash of a key: write what `maya keys new` shows for maya.toml")
    return text.lower()


AnsweringMachinePolicy = Literal["hang_up", "leave_message", "talk"]


class OutboundSettings(BaseModel):
    """`[outbound]` of the server's settings. Nothing is dialled before `allowed_prefixes` says where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    allowed_prefixes: tuple[Annotated[str, AfterValidator(_prefix)], ...] = ()
    """Such as "+1202", or "+49" for a whole country."""
    caller_id: Annotated[str, AfterValidator(_caller)] = ""
    """The number of ours that is shown, in E.164 form."""
    via: Literal["twilio", "sip"] = "twilio"
    do_not_call: Path = Path("do-not-call.txt")
    """Numbers that are never dialled, one a line. Whoever says on a call that they want none is added."""
    hours: Hours | None = None
    """When calls are made; without it, none are."""
    per_number_daily: Annotated[int, Field(ge=1, le=100)] = 2
    daily: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Calls in any 24 hours: to one number, and altogether."""
    calls_per_s: Annotated[float, Field(gt=0, le=100)] = 1.0
    """What the carrier takes; an account of Twilio has 1 to begin with."""
    most_at_once: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Calls of ours that ring or talk at the same time: no more than the models hold beside those that come
    in."""
    most_waiting: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Calls that may wait for their turn."""
    ring_s: Annotated[int, Field(ge=5, le=120)] = 30
    answering_machine: AnsweringMachinePolicy = "leave_message"
    """What is done when a machine answers; personas without a message hang up. "talk": nobody looks who
    answers."""
    api_keys: tuple[Annotated[str, AfterValidator(_hash)], ...] = ()
    """SHA-256 of the keys that may order calls, in hexadecimal: `maya keys new` makes one."""


class Refused(Exception):
    """This call is not made. `reason` is for whoever ordered it; `status` the HTTP status that fits."""

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class Dialled:
    """A call that was made, or tried."""

    number: str
    at: datetime


def permitted(
    number: str, settings: OutboundSettings, *, now: datetime, before: Iterable[Dialled], unwanted: Set[str]
) -> str:
    """The number in E.164 form. `now` is aware; `before` are at least the calls of the last 24 hours,
    `unwanted` the do-not-call list. Raises `Refused`."""
    try:
        wanted = dialable(number)
    except NotDialable as refused:
        raise Refused(str(refused), 422) from None
    if not settings.allowed_prefixes:
        raise Refused('no call is allowed yet: say where to, [outbound] allowed_prefixes = ["+1202"]')
    if not wanted.startswith(settings.allowed_prefixes):
        raise Refused(f"{wanted} begins with none of [outbound] allowed_prefixes")
    if wanted in unwanted:
        raise Refused(f"{wanted} is on the do-not-call list")
    if settings.hours is None:
        raise Refused('no calling hours: [outbound.hours] timezone = "...", weekdays = "09:00-18:00"')
    if not settings.hours.are_open(now):
        raise Refused(f"outside the calling hours ({settings.hours.timezone})", 409)
    recent = [call for call in before if now - call.at < _DAY]
    if len(recent) >= settings.daily:
        raise Refused(f"{settings.daily} calls were made in 24 hours, and that is the limit", 429)
    if sum(call.number == wanted for call in recent) >= settings.per_number_daily:
        raise Refused(f"{wanted} was called {settings.per_number_daily} times in 24 hours already", 429)
    return wanted
