"""What logs must not show."""

import logging
from pathlib import Path

import pytest

from infra.redaction import RedactingFormatter, Redactor, hide, redact, redact_data, secrets_of
from infra.settings import SettingsError, load_settings

KEY = "maya_" + "Ab3_" * 10


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("call from +12025550123 ended", "call from +12*******23 ended"),
        ("call from +49 30 1234-5678.", "call from +49 ** ****-**78."),
        ("sip:2025550123@10.0.0.7:5060", "sip:20******23@10.0.0.7:5060"),
        ("'From: <sip:+12025550123@x>'", "'From: <sip:+12*******23@x>'"),
        ("caller='2025550123'", "caller='20******23'"),
        ("(202) 555-0123 rang", "(20*) ***-**23 rang"),
        ("tel:5550123", "tel:55***23"),
    ],
)
def test_numbers_keep_their_ends(line: str, shown: str) -> None:
    assert redact(line) == shown


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("postgresql+psycopg://maya:hunter22@db/maya is away", "hunter22"),
        ("GET /asterisk/media?token=abcDEF123&x=1", "abcDEF123"),
        ("{'password': 'p4ss word', 'user': 'ann'}", "p4ss word"),
        ("Authorization: Basic bWF5YTpzZWNyZXQ=", "bWF5YTpzZWNyZXQ="),
        ("sent Bearer abcdefgh12345678", "abcdefgh12345678"),
        ('X-Twilio-Signature: "RSOYDt4T1cUTdK1PDd93/VVr8B8="', "RSOYDt4T1cUTdK1PDd93"),
        ("Cookie: maya=0123456789", "0123456789"),
        (f"the key {KEY} was refused", KEY),
        ("TWILIO_AUTH_TOKEN=0123abcd0123abcd", "0123abcd0123abcd"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIiOiIxIn0"),
    ],
)
def test_secrets_are_known_by_their_form(line: str, secret: str) -> None:
    assert secret not in redact(line)
    assert "***" in redact(line)


def test_secrets_are_known_by_their_value() -> None:
    redactor = Redactor()
    redactor.hide(["correct horse", "", "abc"])
    assert redactor.redact("it said: correct horse, abc") == "it said: ***, abc"
    redactor.hide(["correct horse battery"])
    assert redactor.redact("correct horse battery") == "***", "the longer one goes first"


def test_a_harmless_word_before_a_secret_name_stays() -> None:
    assert redact("tokens_evaluated 512, 3 tokens a second") == "tokens_evaluated 512, 3 tokens a second"


def test_nested_data_is_redacted() -> None:
    data = {"caller": "+12025550123", "auth_token": 5, "list": ["token=abcdef"], "n": 12345678901}
    shown = {"caller": "+12*******23", "auth_token": "***", "list": ["token=***"], "n": 12345678901}
    assert redact_data(data) == shown


def test_whatever_is_shown_of_data_is_redacted() -> None:
    data = {"+12025550123": {"+12025550124"}, "where": Path("/calls/+12025550125"), "on": True, "n": None}
    shown = {"+12*******23": ["+12*******24"], "where": "/calls/+12*******25", "on": True, "n": None}
    assert redact_data(data) == shown


def test_tracebacks_are_redacted_too() -> None:
    hide(["s3cret-value-of-mine"])
    formatter = RedactingFormatter("%(message)s")
    try:
        raise ValueError("s3cret-value-of-mine for +12025550123")
    except ValueError as error:
        exc_info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "from %s", ("+12025550123",), exc_info)
    line = formatter.format(record)
    assert "from +12*******23" in line
    assert "ValueError: *** for +12*******23" in line


def test_all_secrets_of_the_settings_are_found() -> None:
    settings = load_settings(
        {
            "TWILIO_AUTH_TOKEN": "the-auth-token",
            "TWILIO_SHARED_KEYS": "ann:the-shared-key",
            "MAYA_STORE_URL": "postgresql://maya:the-password@db/maya",
            "MAYA_SIP_USERS": "bob:the-sip-secret",
        }
    )
    found = set(secrets_of(settings))
    assert {"the-auth-token", "the-shared-key", "the-password", "the-sip-secret"} <= found


def test_a_wrong_address_of_the_store_shows_no_password() -> None:
    with pytest.raises(SettingsError) as wrong:
        load_settings({"MAYA_STORE_URL": "mysql://maya:the-password@db/maya"})
    assert "MAYA_STORE_URL" in str(wrong.value)
    assert "the-password" not in str(wrong.value)
