"""Which persona takes a call: by number, by way in, by what the way in tells, and by the hour."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.documents import DocumentError, parse_toml
from pipeline.line import LineInfo
from pipeline.routing import Hours, Route, Routes

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # a Friday


def routes(text: str) -> Routes:
    return parse_toml(text, Routes, path=Path("routes.toml"))


def called(number: str, kind: str = "twilio", **parameters: str) -> LineInfo:
    return LineInfo("CA1", kind, caller="+15550009999", called=number, parameters=parameters)


TWO = """
[[routes]]
called = "+1 (555) 123-0001"
persona = "clinic.toml"

[[routes]]
called = "+1555123*"
line = "sip"
persona = "sip.toml"

[[routes]]
parameters = { sip_header_x_account = "acme" }
persona = "acme.toml"
"""


@pytest.mark.parametrize(
    ("info", "persona"),
    [
        (called("+15551230001"), "clinic.toml"),
        (called("+15551230001", "sip"), "clinic.toml"),
        (called("+15551230002", "sip"), "sip.toml"),
        (called("+15551230002"), None),
        (called("reception", "sip", sip_header_x_account="acme"), "acme.toml"),
        (called("reception", "sip", sip_header_x_account="other"), None),
        (called(""), None),
    ],
)
def test_the_first_route_that_fits_counts(info: LineInfo, persona: str | None) -> None:
    assert routes(TWO).persona_for(info, NOON) == persona


def test_callers_are_told_apart() -> None:
    route = Route(caller="+1555000*", persona="a.toml")
    assert route.fits(called("1"))
    assert not route.fits(LineInfo("CA1", "sip", caller="+4930123456", called="1"))


OFFICE = Hours(
    timezone="America/New_York",
    weekdays="08:00-12:00 13:00-18:00",
    wednesday="",
    saturday="22:00-24:00",
    closed=("2026-12-25",),
)


@pytest.mark.parametrize(
    ("utc", "is_open"),
    [
        ("2026-11-27T12:59:59", False),
        ("2026-11-27T13:00:00", True),  # 8 in New York
        ("2026-11-27T17:00:00", False),  # noon
        ("2026-11-27T18:00:00", True),
        ("2026-11-27T22:59:59", True),
        ("2026-11-27T23:00:00", False),
        ("2026-07-24T12:00:00", True),  # in summer an hour earlier
        ("2026-11-25T15:00:00", False),  # Wednesday
        ("2026-11-29T03:30:00", True),  # Saturday, late
        ("2026-11-29T05:00:00", False),  # Sunday has begun
        ("2026-12-25T15:00:00", False),  # a Friday, but a holiday
    ],
)
def test_hours_are_local(utc: str, is_open: bool) -> None:
    assert OFFICE.are_open(datetime.fromisoformat(utc).replace(tzinfo=UTC)) is is_open


def test_somebody_else_answers_after_hours() -> None:
    document = routes("""
[[routes]]
persona = "clinic.toml"
after_hours = "closed.toml"
hours = { timezone = "Europe/Berlin", weekdays = "08:00-18:00" }
""")
    assert document.persona_for(called("1"), NOON) == "clinic.toml"
    assert document.persona_for(called("1"), NOON.replace(hour=20)) == "closed.toml"
    assert list(document.personas()) == ["clinic.toml", "closed.toml"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('hours = { timezone = "Mars/North", weekdays = "08:00-18:00" }', "no such time zone: 'Mars/North'"),
        ('hours = { timezone = "UTC", weekdays = "8-18" }', "'8-18' are no hours; write 08:00-18:00"),
        ('hours = { timezone = "UTC", sunday = "22:00-06:00" }', "two spans for a night"),
        ('hours = { timezone = "UTC", closed = ["Christmas"] }', "'Christmas' is no date"),
        (
            'hours = { timezone = "UTC", closed = ["20261225"] }',
            "'20261225' is no date; write it as 2026-12-25",
        ),
        ('hours = { timezone = "UTC", sunday = "00:00-00:00" }', "'00:00-00:00' are no hours"),
        ('line = "SIP"\nhours = { timezone = "UTC" }', "line"),
        ('hours = { timezone = "UTC", moonday = "08:00-18:00" }', 'did you mean "monday"?'),
    ],
)
def test_complaints_name_file_line_and_remedy(line: str, complaint: str) -> None:
    with pytest.raises(DocumentError) as raised:
        routes(f'[[routes]]\npersona = "a.toml"\nafter_hours = "b.toml"\n{line}\n')
    assert str(raised.value).startswith("routes.toml:")
    assert complaint in str(raised.value)


def test_hours_without_an_answer_outside_them_are_refused() -> None:
    with pytest.raises(DocumentError, match="hours and after_hours belong together"):
        routes('[[routes]]\npersona = "a.toml"\nafter_hours = "b.toml"\n')
