"""Settings of outbound calls that could not work are refused before any model is loaded."""

from pathlib import Path
from typing import Any

import pytest

from infra.outbound.office import check_outbound
from infra.settings import Settings, SettingsError

TRUNK = {"trunk": {"host": "192.0.2.1"}}


def settings(changes: dict[str, Any] | None = None, **others: Any) -> Settings:
    outbound = {
        "allowed_prefixes": ["+1202"],
        "caller_id": "+12025550199",
        "via": "sip",
        "do_not_call": Path("none.txt"),
        "hours": {"timezone": "UTC", "weekdays": "09:00-17:00"},
        "api_keys": ["0" * 64],
    } | (changes or {})
    return Settings.model_validate({"sip": TRUNK, "outbound": outbound, **others})


def test_what_can_work_passes() -> None:
    check_outbound(settings())
    check_outbound(settings({"via": "twilio"}, account_sid="AC", auth_token="token"))


def test_a_server_that_makes_no_calls_needs_nothing() -> None:
    check_outbound(Settings())


@pytest.mark.parametrize(
    ("changes", "others", "advice"),
    [
        ({"api_keys": []}, {}, "maya keys new"),
        ({"hours": None}, {}, r"\[outbound.hours\]"),
        ({"caller_id": ""}, {}, "caller_id is missing"),
        ({"via": "twilio"}, {}, "TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"),
        ({}, {"sip": None}, r"\[sip.trunk\]"),
        ({}, {"sip": {"insecure": True}}, r"\[sip.trunk\]"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], others: dict[str, Any], advice: str) -> None:
    with pytest.raises(SettingsError, match=advice):
        check_outbound(settings(changes, **others))


def test_a_do_not_call_list_that_cannot_be_read_stops_all_calls(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nobody may be called"):
        check_outbound(settings({"do_not_call": tmp_path}))
