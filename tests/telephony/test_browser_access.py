"""Who may talk: origins, hosts, logins."""

import pytest

from telephony.browser.access import PageDoor
from telephony.browser.config import BrowserConfig
from telephony.browser.errors import AccessRefused
from tests.telephony.browser_support import EPOCH_S, PASSWORD, PUBLIC_URL, config, local_config


class Clocks:
    def __init__(self) -> None:
        self.wall_s = EPOCH_S
        self.monotonic_s = 0.0


def door(of: BrowserConfig, clocks: Clocks | None = None) -> PageDoor:
    clocks = clocks or Clocks()
    return PageDoor(of, wall=lambda: clocks.wall_s, monotonic=lambda: clocks.monotonic_s)


def refused(call: object, *arguments: object) -> AccessRefused:
    with pytest.raises(AccessRefused) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


# Origins and hosts


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"])
def test_this_machine_may_call_itself_by_any_of_its_names(host: str) -> None:
    door(local_config()).check_origin({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example:8080", "origin": "http://evil.example:8080"},
        {"host": "127.0.0.1.evil.example", "origin": "http://127.0.0.1.evil.example"},
        {"host": "127.0.0.1:8080"},
        {"host": "127.0.0.1:8080", "origin": "null"},
        {"host": "127.0.0.1:8080", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:9999"},
        {"host": "127.0.0.1:8080", "origin": "https://127.0.0.1:8080"},
        {"host": "[::1", "origin": "http://[::1"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "x-forwarded-for": "1.2.3.4"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "via": "1.1 proxy"},
    ],
)
def test_other_pages_names_and_proxies_are_refused_on_this_machine(headers: dict[str, str]) -> None:
    assert refused(door(local_config()).check_origin, headers).status == 403


def test_with_a_password_a_proxy_may_stand_in_front() -> None:
    headers = {"host": "127.0.0.1:8080", "origin": PUBLIC_URL, "x-forwarded-for": "1.2.3.4"}
    door(config()).check_origin(headers)
    door(config()).check_visit(headers)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://maya.example.com", PUBLIC_URL + ".evil.example"]
)
def test_other_pages_are_refused_at_the_public_url(origin: str) -> None:
    assert refused(door(config()).check_origin, {"host": "maya.example.com", "origin": origin}).status == 403


# Logins


def test_the_right_password_is_good_until_it_expires() -> None:
    clocks = Clocks()
    entrance = door(config(session_s=3600), clocks)
    cookie = entrance.log_in(PASSWORD, "1.2.3.4")
    entrance.check_session(cookie)
    clocks.wall_s += 3599
    entrance.check_session(cookie)
    clocks.wall_s += 1
    assert refused(entrance.check_session, cookie).why == "the login has expired"


def test_without_a_password_nobody_logs_in_and_everybody_may_talk() -> None:
    entrance = door(local_config())
    entrance.check_session(None)
    assert refused(entrance.log_in, "", "127.0.0.1").status == 401


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", PASSWORD[:-1], "\ud800"])
def test_a_wrong_password(password: str) -> None:
    assert refused(door(config()).log_in, password, "1.2.3.4").status == 401


def test_forged_cookies() -> None:
    entrance = door(config())
    cookie = entrance.log_in(PASSWORD, "1.2.3.4")
    _, expiry, nonce, signature = cookie.split(".")
    forged = [
        None,
        "",
        "1",
        "1...",
        f"2.{expiry}.{nonce}.{signature}",
        f"1.{int(expiry) + 1}.{nonce}.{signature}",
        f"1.{expiry}.{nonce}x.{signature}",
        f"1.{expiry}.{nonce}.{signature[:-1]}",
        f"1.{expiry}.{nonce}.",
        f"1.{expiry}.{nonce}.\udc80",
        f"1.{'9' * 400}.{nonce}.{signature}",
        f"1.٣.{nonce}.{signature}",
        cookie + ".x",
    ]
    assert [refused(entrance.check_session, one).status for one in forged] == [401] * len(forged)


def test_a_login_is_worth_nothing_to_another_process() -> None:
    cookie = door(config()).log_in(PASSWORD, "1.2.3.4")
    assert refused(door(config()).check_session, cookie).why == "not our login"


def test_five_tries_and_then_one_in_ten_seconds() -> None:
    clocks = Clocks()
    entrance = door(config(), clocks)
    assert [refused(entrance.log_in, "wrong", "1.2.3.4").status for _ in range(6)] == [401] * 5 + [429]
    late = refused(entrance.log_in, PASSWORD, "1.2.3.4")
    assert late.status == 429
    assert late.retry_after_s == pytest.approx(10.0)
    entrance.log_in(PASSWORD, "5.6.7.8")
    clocks.monotonic_s += 10.1
    entrance.log_in(PASSWORD, "1.2.3.4")


def test_many_addresses_together_are_slowed_down_too() -> None:
    clocks = Clocks()
    entrance = door(config(), clocks)
    statuses = [refused(entrance.log_in, "wrong", f"10.0.{n // 256}.{n % 256}").status for n in range(3_000)]
    assert statuses.count(401) == 50
    assert len(entrance._addresses) == 1_000
