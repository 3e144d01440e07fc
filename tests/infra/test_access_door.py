"""Who is let in: wrong, expired, reused; by key, by login, on this machine."""

import calendar
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from infra.access.door import Door, Visit
from infra.access.errors import AccessConfigError, AccessRefused
from infra.access.keys import digest_of, new_key
from infra.access.policy import AccessSettings

URL = "https://maya.example.com"
NOON = float(calendar.timegm((2026, 11, 28, 12, 0, 0)))
VIEWER, OPERATOR, ADMIN, OLD = (new_key()[0] for _ in range(4))
LINES = (
    f"vi:viewer:never:{digest_of(VIEWER)}",
    f"op:operator:2026-12-31:{digest_of(OPERATOR)}",
    f"ad:admin:never:{digest_of(ADMIN)}",
    f"old:admin:2026-11-27:{digest_of(OLD)}",
)


class House:
    """A door whose clocks stand until they are moved."""

    def __init__(
        self, *, url: str = URL, insecure: bool = False, lines: tuple[str, ...] = LINES, **more: object
    ):
        self.wall, self.now = NOON, 0.0
        self.door = Door(
            AccessSettings.model_validate({"keys": lines, **more}),
            public_url=url,
            insecure=insecure,
            wall=lambda: self.wall,
            monotonic=lambda: self.now,
        )
        self.url = url

    def visit(self, *, key: str = "", **more: object) -> Visit:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return replace(Visit(headers=headers, peer="203.0.113.9"), **more)  # type: ignore[arg-type]

    def form_visit(self, peer: str = "203.0.113.9", origin: str | None = None, browser: str = "b") -> Visit:
        headers = {"origin": self.url if origin is None else origin}
        return Visit(headers, peer, method="POST", cookies={self.door.form_cookie: browser})

    def log_in(self, key: str, **more: str) -> Visit:
        """The browser's next visit."""
        cookie, _ = self.door.log_in(self.form_visit(**more), key, self.door.new_form("b"))
        return Visit({}, "203.0.113.9", cookies={self.door.session_cookie: cookie})


def refused(status: int, act: object) -> str:
    with pytest.raises(AccessRefused) as caught:
        act()  # type: ignore[operator]
    assert caught.value.status == status
    return caught.value.why


def test_a_key_opens_what_its_role_may_and_no_more() -> None:
    house = House()
    assert house.door.admit(house.visit(key=VIEWER), "viewer").name == "vi"
    assert house.door.admit(house.visit(key=ADMIN, method="POST"), "operator").role == "admin"
    assert "needs the role operator" in refused(
        403, lambda: house.door.admit(house.visit(key=VIEWER), "operator")
    )


@pytest.mark.parametrize(
    "key", ["wrong", VIEWER + "x", VIEWER[:-1], OLD, "x" * 300, digest_of(VIEWER), "\udcff"]
)
def test_wrong_and_expired_keys_are_refused_alike(key: str) -> None:
    house = House()
    told = refused(401, lambda: house.door.admit(house.visit(key=key), "viewer"))
    assert told == refused(401, lambda: house.door.admit(house.visit(), "viewer"))


def test_a_key_ends_while_the_server_runs() -> None:
    house = House()
    house.door.admit(house.visit(key=OPERATOR), "operator")
    house.wall += 60 * 86_400
    refused(401, lambda: house.door.admit(house.visit(key=OPERATOR), "viewer"))


def test_each_key_is_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time tells nothing: counted, not timed."""
    import hmac

    compared: list[int] = []
    real = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(1)
        return real(one, other)

    house = House()
    monkeypatch.setattr("infra.access.keys.hmac.compare_digest", counting)
    counts = set()
    for key in (VIEWER, ADMIN, OLD, "wrong"):
        compared.clear()
        house.door.identify(house.visit(key=key))
        counts.add(len(compared))
    assert counts == {len(LINES)}


# Browsers


def test_a_browser_logs_in_and_out() -> None:
    house = House()
    visit = house.log_in(OPERATOR)
    assert house.door.admit(visit, "operator").name == "op"
    house.door.log_out(replace(visit, headers={"origin": URL}, method="POST"))
    refused(401, lambda: house.door.admit(visit, "viewer"))


def test_a_login_ends_with_its_time_whatever_the_clock_on_the_wall_does() -> None:
    house = House(session_s=3600.0)
    visit = house.log_in(ADMIN)
    for jump_s in (3600.0, -7200.0):
        house.wall += jump_s
        house.door.admit(visit, "viewer")
    house.now = 3600.0
    refused(401, lambda: house.door.admit(visit, "viewer"))


def test_a_login_ends_with_its_key() -> None:
    house = House()
    visit = house.log_in(OPERATOR)
    house.wall += 60 * 86_400
    refused(401, lambda: house.door.admit(visit, "viewer"))


def test_all_of_ones_logins_end_at_ones_word() -> None:
    house = House()
    visits = [house.log_in(OPERATOR) for _ in range(3)]
    other = house.log_in(ADMIN)
    assert house.door.log_out_everywhere(replace(visits[0], headers={"origin": URL}, method="POST")) == 3
    for visit in visits:
        refused(401, lambda visit=visit: house.door.admit(visit, "viewer"))  # type: ignore[misc]
    house.door.admit(other, "viewer")


@pytest.mark.parametrize("key", ["wrong", OLD, "", "é" * 1_000])
def test_a_wrong_login_tells_nothing_of_why(key: str) -> None:
    house = House()
    told = refused(401, lambda: house.log_in(key))
    assert told == "wrong key, or one that has expired"


def test_a_login_form_is_good_once() -> None:
    house = House()
    form = house.door.new_form("b")
    house.door.log_in(house.form_visit(), OPERATOR, form)
    assert "used already" in refused(403, lambda: house.door.log_in(house.form_visit(), OPERATOR, form))


def test_a_form_of_another_browser_or_page_is_refused() -> None:
    house = House()
    form = house.door.new_form("b")
    refused(403, lambda: house.door.log_in(house.form_visit(browser="attacker"), OPERATOR, form))
    house.now += 60.0
    for origin in ("https://evil.example", "null", "", "http://maya.example.com", URL + ".evil.example"):
        refused(403, lambda o=origin: house.door.log_in(house.form_visit(origin=o), OPERATOR, form))  # type: ignore[misc]


def test_logins_of_one_address_are_throttled_the_right_key_too_and_others_are_not() -> None:
    house = House()
    for _ in range(5):
        refused(401, lambda: house.log_in("wrong"))
    refused(429, lambda: house.log_in(OPERATOR))
    house.log_in(OPERATOR, peer="203.0.113.10")
    house.now += 10.0
    house.log_in(OPERATOR)


def test_wrong_logins_of_all_addresses_are_throttled_together_and_the_right_key_is_not() -> None:
    house = House()
    answers = []
    for number in range(60):
        with pytest.raises(AccessRefused) as caught:
            house.log_in("wrong", peer=f"198.51.100.{number}")
        answers.append(caught.value.status)
    assert answers.count(401) == 50
    assert answers.count(429) == 10
    assert caught.value.retry_after_s == pytest.approx(1.0)
    house.log_in(OPERATOR, peer="203.0.113.10")


def test_a_foreign_page_uses_up_no_visitors_tries() -> None:
    house = House()
    for _ in range(20):
        refused(403, lambda: house.log_in("wrong", origin="https://evil.example"))
    house.log_in(OPERATOR)


def test_a_cookie_does_nothing_from_another_page_and_a_key_does() -> None:
    house = House()
    visit = house.log_in(ADMIN)
    house.door.admit(visit, "viewer")
    for method in ("POST", "DELETE", ""):  # "" is a WebSocket
        refused(403, lambda m=method: house.door.admit(replace(visit, method=m), "viewer"))  # type: ignore[misc]
        ours = replace(visit, method=method, headers={"origin": URL})
        assert house.door.admit(ours, "admin").name == "ad"
        house.door.admit(house.visit(key=ADMIN, method=method), "admin")


# TLS


@pytest.mark.parametrize(
    ("peer", "scheme", "told", "status"),
    [
        ("203.0.113.9", "https", {}, 200),
        ("203.0.113.9", "wss", {}, 200),
        ("203.0.113.9", "http", {}, 403),
        ("203.0.113.9", "http", {"x-forwarded-proto": "https"}, 403),
        ("192.0.2.7", "http", {"x-forwarded-proto": "https"}, 200),  # named below
        ("127.0.0.1", "http", {}, 200),
        ("172.18.0.5", "http", {"x-forwarded-proto": "https"}, 200),
        ("172.18.0.5", "http", {"x-forwarded-proto": "http"}, 403),
        ("", "http", {}, 200),  # a Unix socket
    ],
)
def test_keys_are_not_taken_in_the_open(peer: str, scheme: str, told: dict[str, str], status: int) -> None:
    house = House(trusted_proxies=["192.0.2.0/24"])
    visit = house.visit(key=VIEWER, peer=peer, scheme=scheme)
    visit = replace(visit, headers={**visit.headers, **told})
    if status == 200:
        house.door.admit(visit, "viewer")
    else:
        assert "TLS" in refused(status, lambda: house.door.admit(visit, "viewer"))


# This machine


LOCAL = Visit({"host": "127.0.0.1:8080"}, "127.0.0.1", "http")


def test_insecure_lets_this_machine_in_without_a_key() -> None:
    house = House(url="http://127.0.0.1:8080", insecure=True, lines=())
    assert house.door.admit(LOCAL, "admin").name == "this machine"
    posting = replace(LOCAL, method="POST", headers={**LOCAL.headers, "origin": "http://127.0.0.1:8080"})
    house.door.admit(posting, "admin")
    refused(403, lambda: house.door.admit(replace(LOCAL, method="POST"), "admin"))


@pytest.mark.parametrize(
    "visit",
    [
        replace(LOCAL, peer="203.0.113.9"),
        replace(LOCAL, peer=""),
        replace(LOCAL, headers={"host": "rebound.example:8080"}),
        replace(LOCAL, headers={}),
        replace(LOCAL, headers={"host": "127.0.0.1", "x-forwarded-for": "203.0.113.9"}),
        replace(LOCAL, headers={"host": "127.0.0.1", "via": "1.1 proxy"}),
    ],
)
def test_whoever_is_not_at_this_machine_needs_a_key(visit: Visit) -> None:
    house = House(url="http://127.0.0.1:8080", insecure=True, lines=())
    refused(401, lambda: house.door.admit(visit, "viewer"))


def test_this_machine_needs_a_key_where_there_are_keys_or_signatures() -> None:
    url = "http://127.0.0.1:8080"
    for house in (House(url=url, insecure=True), House(url=url, lines=())):
        refused(401, lambda h=house: h.door.admit(LOCAL, "viewer"))  # type: ignore[misc]


# Addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger may say what it likes
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.1, 192.0.2.7", "198.51.100.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", ",,,", "127.0.0.1"),
        ("127.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_the_address_that_counts(peer: str, forwarded: str, counted: str) -> None:
    house = House(trusted_proxies=[ip_network("192.0.2.0/24")])
    visit = Visit({"x-forwarded-for": forwarded}, peer)
    assert house.door.address_of(visit) == counted


# The keys' file


def test_who_is_struck_from_the_file_is_out_and_so_are_their_logins(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(LINES[:2]))
    house = House(lines=(), keys_file=path)
    visit = house.log_in(OPERATOR)
    path.write_text(LINES[0])
    house.now += 1.0
    house.door.admit(visit, "operator")  # it was not looked at again yet
    house.now += 1.0
    refused(401, lambda: house.door.admit(visit, "viewer"))
    refused(401, lambda: house.door.admit(house.visit(key=OPERATOR), "viewer"))
    house.door.admit(house.visit(key=VIEWER), "viewer")


@pytest.mark.parametrize("text", ["nonsense", None, "\udcff"])
def test_a_file_that_has_become_wrong_changes_nothing_but_the_log(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(LINES[0])
    house = House(lines=(), keys_file=path)
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode(errors="surrogateescape"))
    for _ in range(3):
        house.now += 10.0
        house.door.admit(house.visit(key=VIEWER), "viewer")
    assert "the keys stay as they were" in caplog.text


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AccessConfigError, match=r"keys_file: .*No such file"):
        House(keys_file=tmp_path / "none")
    (tmp_path / "keys").write_text(f"\n{VIEWER}\n")
    with pytest.raises(AccessConfigError, match="line 2") as caught:
        House(keys_file=tmp_path / "keys")
    assert VIEWER not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "cookie"),
    [
        (URL, "__Host-maya_session"),
        (URL + "/voice", "__Secure-maya_session"),
        ("http://127.0.0.1:8080", "maya_session"),
    ],
)
def test_the_cookies_name_holds_browsers_to_tls(url: str, cookie: str) -> None:
    assert House(url=url).door.session_cookie == cookie
