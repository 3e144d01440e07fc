from telephony.sip.config import sip_config
from telephony.sip.guard import Buckets, Guard, is_scanner
from telephony.sip.message import Request, parse_message
from tests.telephony.sip_support import Phone, open_config


def test_a_bucket_is_emptied_and_filled() -> None:
    buckets = Buckets(2.0, 3.0)
    assert [buckets.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b", 0.0)
    assert [buckets.take("a", 0.5) for _ in range(2)] == [True, False]
    assert buckets.left("a", 100.0) == 3.0
    # Time that runs backwards fills nothing.
    assert not Buckets(2.0, 1.0).left("a", 0.0) > 1.0


def test_a_million_sources_do_not_fill_the_memory() -> None:
    buckets = Buckets(1.0, 1.0)
    for number in range(30_000):
        buckets.take(str(number), 0.0)
    assert len(buckets._sources) == 10_000


def test_who_is_trusted() -> None:
    guard = Guard(open_config(allow=("198.51.100.0/24", "2001:db8::/32")))
    assert guard.trusts("198.51.100.200")
    assert guard.trusts("2001:db8::7")
    for host in (
        "198.51.101.1",
        "127.0.0.1",
        "2001:db9::1",
        "::ffff:198.51.100.200",
        "phone.example.com",
        "",
    ):
        assert not guard.trusts(host), host
    guard.trunk_hosts = frozenset({"203.0.113.1"})
    assert guard.trusts("203.0.113.1")


def test_insecure_is_this_machine_only() -> None:
    guard = Guard(sip_config(insecure=True))
    assert guard.trusts("127.0.0.1")
    assert guard.trusts("127.9.9.9")
    assert not guard.trusts("192.168.1.2")


def test_who_proved_itself_may_say_more() -> None:
    guard = Guard(open_config(users={"ann": "secret"}, stranger_messages_per_s=1.0))
    host = "203.0.113.5"
    assert [guard.hears(host, 0.0) for _ in range(4)] == [True, True, True, False]
    guard.proved(host, 0.0)
    assert all(guard.hears(host, 1.0) for _ in range(100))
    # An hour later it is a stranger again.
    assert [guard.hears(host, 4_000.0) for _ in range(4)] == [True, True, True, False]


def test_failures_are_forgiven_slowly() -> None:
    guard = Guard(open_config(users={"ann": "secret"}))
    for _ in range(10):
        assert guard.may_ask("203.0.113.5", 0.0)
        guard.failed("203.0.113.5", 0.0)
    assert not guard.may_ask("203.0.113.5", 9.0)
    assert guard.may_ask("203.0.113.5", 10.0)
    assert not Guard(open_config()).may_ask("203.0.113.5", 0.0)


def test_scanners_by_their_own_words() -> None:
    def asked(agent: str) -> bool:
        message = parse_message(Phone().request("OPTIONS", User_Agent=agent).encode())
        assert isinstance(message, Request)
        return is_scanner(message)

    assert all(map(asked, ("friendly-scanner", "SIPVicious 0.3", "sipcli/v1.8", "VaxSIPUserAgent/3.1")))
    assert not any(map(asked, ("Linphone/4.4", "Zoiper", "baresip v1.0.0", "sipsak 0.9.8", "")))
    message = parse_message(Phone().request("OPTIONS").replace('"Ann"', '"sipvicious"').encode())
    assert isinstance(message, Request)
    assert is_scanner(message)
