"""What an operator may set, and what they are told otherwise."""

import pytest

from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import AsteriskConfigError

SECRET = "5d0d0d8047bf685c3f0ff980fe62c123"


def test_by_default_only_this_machine_gets_in() -> None:
    config = AsteriskConfig.of()
    assert config.audiosocket_host == "127.0.0.1"
    assert all(network.is_loopback for network in config.networks)


def test_addresses_and_networks_are_read() -> None:
    config = AsteriskConfig.of(secret=SECRET + "\n", allowed=("10.0.0.5", " 10.1.0.0/16", "fd00::/8"))
    assert config.secret == SECRET
    assert config.allowed == ("10.0.0.5/32", "10.1.0.0/16", "fd00::/8")


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"secret": "short"}, "openssl rand -hex 24"),
        ({"secret": "a b" * 10}, "letters, digits"),
        ({"user": "a:b"}, "colon"),
        ({"allowed": ()}, "list the addresses"),
        ({"allowed": ("pbx.example.com",)}, "Names are not looked up"),
        ({"allowed": ("10.0.0.5/8",)}, "no host bits set"),
        ({"allowed": ("10.0.0.5",)}, "Set a secret"),
        ({"allowed": ("0.0.0.0/0",), "secret": SECRET}, "lets the whole world reach AudioSocket"),
        ({"asterisk_url": "10.0.0.5:8088"}, "must look like http://"),
        ({"asterisk_url": "http://10.0.0.5:99999"}, "must look like http://"),
        ({"audiosocket_port": 70_000}, "audiosocket_port"),
        ({"start_timeout_s": 0}, "start_timeout_s"),
        ({"secrets": SECRET}, "secrets"),
    ],
)
def test_what_is_wrong_is_told(settings: dict[str, object], advice: str) -> None:
    with pytest.raises(AsteriskConfigError) as caught:
        AsteriskConfig.of(**settings)
    assert advice in str(caught.value)


def test_the_whole_world_may_reach_it_when_each_call_is_announced() -> None:
    AsteriskConfig.of(allowed=("0.0.0.0/0",), secret=SECRET, announced_only=True)


def test_nothing_is_changed_later() -> None:
    config = AsteriskConfig.of()
    with pytest.raises(ValueError, match="frozen"):
        config.secret = SECRET  # type: ignore[misc]
