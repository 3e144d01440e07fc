import pytest

from telephony.sip.config import networks, parse_bind, sip_config
from telephony.sip.errors import SipConfigError


def test_nobody_may_call_until_somebody_is_named() -> None:
    with pytest.raises(SipConfigError, match=r"nobody may call: list .* `allow`"):
        sip_config()
    for settings in (
        {"insecure": True},
        {"allow": ("192.168.1.0/24",)},
        {"users": {"ann": "secret"}},
        {"trunk": {"host": "sip.example.com"}},
    ):
        sip_config(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"insecure": True, "host": "0.0.0.0"}, "this machine only"),
        ({"insecure": True, "host": "localhost"}, "host must be an IP address"),
        ({"insecure": True, "public_address": "maya.example.com"}, "public_address must be an IP address"),
        ({"insecure": True, "udp": False, "tcp": False}, "udp and tcp are both off"),
        ({"insecure": True, "rtp_first_port": 40_000, "rtp_last_port": 40_000}, "rtp_last_port"),
        ({"users": {"ann": ""}}, "without a secret"),
        ({"insecure": True, "codecs": ("G729",)}, "codecs"),
        ({"insecure": True, "max_cals": 3}, "max_cals"),
        ({"insecure": True, "max_calls": 0}, "max_calls"),
        ({"insecure": True, "min_session_s": 10}, "min_session_s"),
        ({"allow": ("192.168.1.0/99",)}, "allow"),
    ],
)
def test_what_is_wrong_is_named(settings: dict[str, object], says: str) -> None:
    with pytest.raises(SipConfigError, match=says):
        sip_config(**settings)


def test_secrets_never_show() -> None:
    config = sip_config(users={"ann": "hunter2"}, trunk={"host": "sip.example.com", "secret": "hunter3"})
    assert "hunter" not in repr(config)
    assert config.secrets() == {"ann": "hunter2"}
    with pytest.raises(SipConfigError) as wrong:
        sip_config(users={"ann": "hunter2", "bob": ["hunter4"]})
    assert "hunter" not in str(wrong.value)


def test_where_to_bind() -> None:
    assert parse_bind("0.0.0.0:5060") == ("0.0.0.0", 5060)
    assert parse_bind("[::]:5070") == ("::", 5070)
    assert parse_bind("[::1]") == ("::1", 5060)
    assert parse_bind("192.0.2.1") == ("192.0.2.1", 5060)
    for wrong in ("", "maya.example.com:5060", "0.0.0.0:x", "0.0.0.0:70000", ":5060"):
        with pytest.raises(SipConfigError, match="must look like"):
            parse_bind(wrong)


def test_networks() -> None:
    assert [str(network) for network in networks("192.168.1.7/24", "2001:db8::1")] == [
        "192.168.1.0/24",
        "2001:db8::1/128",
    ]
    with pytest.raises(SipConfigError, match="write networks like"):
        networks("everybody")
