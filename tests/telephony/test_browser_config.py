import re

import pytest

from telephony.browser.config import BrowserConfig
from telephony.browser.errors import BrowserConfigError
from tests.telephony.browser_support import PASSWORD


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"])
def test_on_this_machine_the_page_is_on_without_a_password(url: str) -> None:
    config = BrowserConfig(url)
    assert config.on
    assert config.loopback


def test_elsewhere_it_is_off_until_there_is_a_password() -> None:
    assert not BrowserConfig("https://maya.example.com").on
    assert BrowserConfig("https://maya.example.com", PASSWORD).on
    assert not BrowserConfig("https://maya.example.com", PASSWORD, enabled=False).on
    assert not BrowserConfig("http://127.0.0.1:8080", enabled=False).on


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("https://maya.example.com", {"enabled": True}, "Set MAYA_TALK_PASSWORD"),
        ("https://maya.example.com", {"password": "short"}, "too short. Set MAYA_TALK_PASSWORD"),
        ("http://maya.example.com", {"password": PASSWORD}, "MAYA_PUBLIC_URL=https://"),
        ("ftp://maya.example.com", {}, "must look like https://"),
        ("https://", {}, "must look like https://"),
        ("https://maya.example.com:port", {}, "cannot be read"),
        ("https://maya.example.com", {"session_s": 0}, "session_s must be more than 0"),
        ("https://maya.example.com", {"max_calls": 0}, "max_calls must be more than 0"),
    ],
)
def test_what_would_be_unsafe_says_what_to_set(url: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(BrowserConfigError, match=re.escape(message)):
        BrowserConfig(url, **options)  # type: ignore[arg-type]


def test_a_page_that_is_off_has_nothing_to_complain_of() -> None:
    assert not BrowserConfig("http://maya.example.com", "short", enabled=False).on


def test_a_password_from_a_file_may_end_with_a_newline() -> None:
    assert BrowserConfig("https://maya.example.com", PASSWORD + "\n").password == PASSWORD


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://maya.example.com/", "https://maya.example.com"),
        ("https://Maya.Example.com:443", "https://maya.example.com"),
        ("https://maya.example.com:8443", "https://maya.example.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    assert BrowserConfig(url, PASSWORD).origin == origin
