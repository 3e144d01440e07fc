"""Who gets in, by address, secret and way."""

import base64

import pytest

from telephony.asterisk.access import Doorkeeper
from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import AccessRefused
from tests.telephony.test_asterisk_config import SECRET

OPEN = Doorkeeper(AsteriskConfig())
LOCKED = Doorkeeper(AsteriskConfig(secret=SECRET, allowed=("10.0.0.0/24",)))
LOCAL = {"host": "127.0.0.1:8080"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.1.2.3"])
def test_this_machine(host: str) -> None:
    OPEN.check_peer(host)


@pytest.mark.parametrize("host", ["10.0.0.5", "::2", "::ffff:10.0.0.5", "localhost", "", None, "x" * 300])
def test_others(host: str | None) -> None:
    with pytest.raises(AccessRefused):
        OPEN.check_peer(host)


def test_the_secret_in_the_query_is_not_handed_on() -> None:
    told = LOCKED.check_request("10.0.0.7", f"caller=%2B15550100&token={SECRET}&n=1", {})
    assert told == {"caller": "+15550100", "n": "1"}


def test_basic_authentication() -> None:
    assert LOCKED.check_request("10.0.0.7", "", basic("asterisk", SECRET)) == {}


@pytest.mark.parametrize(
    ("host", "query", "headers"),
    [
        ("10.0.0.7", "", {}),
        ("10.0.0.7", "token=", {}),
        ("10.0.0.7", f"token={SECRET}x", {}),
        ("10.0.0.7", "token=ü", {}),
        ("10.0.1.7", f"token={SECRET}", {}),
        ("10.0.0.7", "", basic("other", SECRET)),
        ("10.0.0.7", "", basic("asterisk", "wrong")),
        ("10.0.0.7", "", {"authorization": "Basic !"}),
        ("10.0.0.7", "", {"authorization": "Basic ü"}),
        ("10.0.0.7", "", {"authorization": f"Bearer {SECRET}"}),
        ("10.0.0.7", "a=1&" * 100, {}),
    ],
)
def test_without_the_secret_or_from_elsewhere(host: str, query: str, headers: dict[str, str]) -> None:
    with pytest.raises(AccessRefused) as caught:
        LOCKED.check_request(host, query, headers)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1"])
def test_without_a_secret_this_machine_gets_in(origin: str | None) -> None:
    OPEN.check_request("127.0.0.1", "", LOCAL | ({"origin": origin} if origin else {}))


@pytest.mark.parametrize(
    "headers",
    [
        LOCAL | {"x-forwarded-for": "127.0.0.1"},
        LOCAL | {"forwarded": "for=127.0.0.1"},
        LOCAL | {"origin": "https://evil.example"},
        LOCAL | {"origin": "null"},
        {"host": "evil.example"},
        {"host": "[::1"},
        {},
    ],
)
def test_without_a_secret_no_proxy_and_no_web_page_gets_in(headers: dict[str, str]) -> None:
    with pytest.raises(AccessRefused):
        OPEN.check_request("127.0.0.1", "", headers)


def test_overlong_parameters_are_left_out() -> None:
    assert OPEN.check_request("127.0.0.1", f"a=1&b={'x' * 2000}", LOCAL) == {"a": "1"}
