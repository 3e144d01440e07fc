"""Who answers which number, and when: one TOML file of routes. Pure.

    [[routes]]
    called = "+15551230001"             # the number that was dialled, or the user of a SIP address
    persona = "clinic.toml"             # beside this file
    after_hours = "clinic-closed.toml"
    hours = { timezone = "America/New_York", weekdays = "08:00-18:00", saturday = "09:00-12:00" }

    [[routes]]
    line = "sip"                        # only calls that come in this way
    parameters = { sip_header_x_account = "acme" }
    persona = "acme.toml"

The first route that fits counts; where none does, the server's own persona answers.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.line import LineInfo

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_SPACING = re.compile(r"[\s().-]")

Span = tuple[time, time]


class Hours(BaseModel):
    """When somebody is there, in local time. A day without hours is closed; a day's own hours replace those
    of `weekdays`. Hours are spans such as "08:00-12:00 13:00-18:00"; 24:00 ends a day."""

    model_config = _FROZEN
    timezone: Annotated[str, Field(min_length=1)]
    """A name of the IANA database, such as Europe/Berlin."""
    weekdays: str = ""
    """Monday to Friday."""
    monday: str | None = None
    tuesday: str | None = None
    wednesday: str | None = None
    thursday: str | None = None
    friday: str | None = None
    saturday: str | None = None
    sunday: str | None = None
    closed: tuple[str, ...] = ()
    """Dates, such as "2026-12-25"."""

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no such time zone: {name!r}; write one such as America/New_York") from None
        return name

    @field_validator("weekdays", *_DAYS)
    @classmethod
    def _are_spans(cls, hours: str | None) -> str | None:
        if hours:
            _spans(hours)
        return hours

    @field_validator("closed")
    @classmethod
    def _are_dates(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        for day in days:
            try:
                known = date.fromisoformat(day).isoformat() == day
            except ValueError:
                known = False
            if not known:
                raise ValueError(f"{day!r} is no date; write it as 2026-12-25")
        return days

    def are_open(self, now: datetime) -> bool:
        """At `now`, which knows its own time zone."""
        local = now.astimezone(ZoneInfo(self.timezone))
        if local.date().isoformat() in self.closed:
            return False
        own: str | None = getattr(self, _DAYS[local.weekday()])
        if own is None:
            own = self.weekdays if local.weekday() < 5 else ""
        moment = local.time()
        # 24:00 is not a time of the day: such a span has no end in it.
        return any(start <= moment and (end == time(0) or moment < end) for start, end in _spans(own))


def _spans(hours: str) -> tuple[Span, ...]:
    spans = []
    for text in hours.split():
        found = _SPAN.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            hour, minute, end_hour, end_minute = map(int, found.groups())
            start = time(hour, minute)
            if (end_hour, end_minute) == (24, 0):
                end = time(0)
            elif (end := time(end_hour, end_minute)) <= start:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"{text!r} are no hours; write 08:00-18:00, and two spans for a night: 22:00-24:00 here, "
                "00:00-06:00 on the next day"
            ) from None
        spans.append((start, end))
    return tuple(spans)


class Route(BaseModel):
    """Which calls one persona takes. What is left out fits every call."""

    model_config = _FROZEN
    called: str = ""
    """Spaces, dots, dashes and brackets do not count; a star at the end stands for any rest."""
    caller: str = ""
    """The same for who calls."""
    line: Literal["", "twilio", "sip", "asterisk", "audiosocket", "browser"] = ""
    """The way in."""
    parameters: Mapping[str, str] = {}
    """What the way in tells beyond the numbers, such as `sip_header_x_account`; all of them must fit."""
    persona: Annotated[str, Field(min_length=1)]
    """Path of a persona's TOML file, relative to the file of routes."""
    hours: Hours | None = None
    after_hours: str = ""
    """Who answers outside `hours`."""

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if bool(self.after_hours) != (self.hours is not None):
            raise ValueError("hours and after_hours belong together: when, and who answers at other times")
        return self

    def fits(self, info: LineInfo) -> bool:
        told = info.parameters
        return (
            _matches(self.called, info.called)
            and _matches(self.caller, info.caller)
            and self.line in ("", info.kind)
            and all(told.get(name) == value for name, value in self.parameters.items())
        )

    def persona_at(self, now: datetime) -> str:
        if self.hours is not None and not self.hours.are_open(now):
            return self.after_hours
        return self.persona


class Routes(BaseModel):
    """The content of a file of routes."""

    model_config = _FROZEN
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]

    def persona_for(self, info: LineInfo, now: datetime) -> str | None:
        """The path that the first fitting route gives at `now` (aware); None where none fits."""
        return next((route.persona_at(now) for route in self.routes if route.fits(info)), None)

    def personas(self) -> Iterator[str]:
        """Every path once, in the order of the file."""
        named = (path for route in self.routes for path in (route.persona, route.after_hours) if path)
        yield from dict.fromkeys(named)


def _matches(pattern: str, number: str) -> bool:
    if not pattern:
        return True
    wanted, number = _SPACING.sub("", pattern), _SPACING.sub("", number)
    return number.startswith(wanted[:-1]) if wanted.endswith("*") else number == wanted
