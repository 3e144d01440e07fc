"""Whom we may call, and when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.policy import Dialled, OutboundSettings, Refused, permitted
from pipeline.routing import Hours

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)  # a Friday
NUMBER = "+12025550123"
SETTINGS = OutboundSettings(
    allowed_prefixes=("+1202", "+49"),
    caller_id="+12025550199",
    hours=Hours(timezone="UTC", weekdays="09:00-18:00"),
    per_number_daily=2,
    daily=4,
)


def ask(number: str = NUMBER, **changes: object) -> str:
    given: dict[str, object] = {"now": NOON, "before": [], "unwanted": frozenset()} | changes
    settings = given.pop("settings", SETTINGS)
    return permitted(number, settings, **given)  # type: ignore[arg-type]


def called(number: str, hours_ago: float) -> Dialled:
    return Dialled(number, NOON - timedelta(hours=hours_ago))


def test_a_number_that_may_be_called() -> None:
    assert ask("+1 (202) 555-0123") == NUMBER


@pytest.mark.parametrize(
    ("number", "changes", "reason", "status"),
    [
        ("911", {}, "emergency", 422),
        ("+19005551234", {}, "premium-rate", 422),
        ("+12125551234", {}, "allowed_prefixes", 403),
        (NUMBER, {"settings": OutboundSettings()}, "no call is allowed yet", 403),
        (NUMBER, {"unwanted": frozenset({NUMBER})}, "do-not-call list", 403),
        (NUMBER, {"settings": SETTINGS.model_copy(update={"hours": None})}, "no calling hours", 403),
        (NUMBER, {"now": NOON.replace(hour=20)}, "outside the calling hours", 409),
        (NUMBER, {"now": NOON + timedelta(days=1)}, "outside the calling hours", 409),
        (NUMBER, {"before": [called(NUMBER, 1), called(NUMBER, 23)]}, "called 2 times", 429),
        (NUMBER, {"before": [called(f"+4930{n}", 2) for n in range(4)]}, "that is the limit", 429),
    ],
)
def test_one_that_may_not(number: str, changes: dict[str, object], reason: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        ask(number, **changes)
    assert reason in refused.value.reason
    assert refused.value.status == status


def test_yesterdays_calls_do_not_count() -> None:
    assert ask(before=[called(NUMBER, 25), called(NUMBER, 24.1)] * 3) == NUMBER


# The files


def test_the_list_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "do-not-call.txt"
    unwanted = DoNotCall(path)
    assert unwanted.numbers() == frozenset()
    path.write_text("# our list\n+1 202 555 0123  # asked on Monday\n\nnot a number\n")
    assert NUMBER in unwanted.numbers()
    unwanted.add("+4930901820", "said: do not\ncall again")
    unwanted.add("+4930901820", "twice")
    assert {NUMBER, "+4930901820"} <= unwanted.numbers()
    assert path.read_text().count("+4930901820") == 1
    assert {NUMBER, "+4930901820"} <= DoNotCall(path).numbers()


def test_a_list_that_cannot_be_read_is_an_error_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    with pytest.raises(OSError, match="list"):
        DoNotCall(tmp_path / "list").numbers()


def test_the_ledger_outlives_the_process_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "dialled.jsonl"
    CallLedger(path).add(called(NUMBER, 1))
    with path.open("a") as file:
        file.write('{"number": "+1202555')
    again = CallLedger(path)
    assert again.recent(NOON) == [called(NUMBER, 1)]
    assert again.recent(NOON + timedelta(days=3)) == []


@pytest.mark.parametrize(
    ("field", "value", "advice"),
    [
        ("allowed_prefixes", ["0049"], r'write \+ and digits, such as "\+1202"'),
        ("caller_id", "Greenfield Clinic", "write your number with"),
        ("api_keys", ["the key itself"], "what `maya keys new` shows for maya.toml"),
    ],
)
def test_settings_that_could_never_work_say_what_to_write(field: str, value: object, advice: str) -> None:
    with pytest.raises(ValidationError, match=advice):
        OutboundSettings.model_validate({field: value})
