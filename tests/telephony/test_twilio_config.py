import pytest

from telephony.twilio.config import TwilioConfig
from telephony.twilio.errors import TwilioConfigError


@pytest.mark.parametrize("tokens", [(), ("",), ("good", ""), (" \n",)])
def test_without_a_token_there_is_no_server(tokens: tuple[str, ...]) -> None:
    with pytest.raises(TwilioConfigError, match=r"auth token.*--insecure"):
        TwilioConfig(public_url="https://maya.example.com", auth_tokens=tokens)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "must look like"),
        ("maya.example.com", "must look like"),
        ("ftp://maya.example.com", "must look like"),
        ("https://", "must look like"),
        ("http://maya.example.com", "https://"),
        ("http://192.168.1.5:8080", "https://"),
        ("https://me:secret@maya.example.com", "without user name"),
        ("https://maya.example.com?x=1", "without user name, query"),
        ("https://maya.example.com#rc=2", "query and fragment"),
        ("https://maya.example.com:port", "cannot be read"),
        ("https://[::1", "cannot be read"),
    ],
)
def test_urls_that_cannot_work(url: str, complaint: str) -> None:
    with pytest.raises(TwilioConfigError, match=complaint):
        TwilioConfig(public_url=url, auth_tokens=("t",))


def test_insecure_is_for_this_machine_only() -> None:
    with pytest.raises(TwilioConfigError, match="this machine only"):
        TwilioConfig(public_url="https://maya.example.com", insecure=True)
    assert TwilioConfig(public_url="http://localhost:8080", insecure=True).auth_tokens == ()


@pytest.mark.parametrize(
    ("public", "webhook", "socket"),
    [
        ("https://maya.example.com/", "https://maya.example.com/x", "wss://maya.example.com/x"),
        ("https://h.example:8443/maya", "https://h.example:8443/maya/x", "wss://h.example:8443/maya/x"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/x", "ws://127.0.0.1:8080/x"),
        ("http://[::1]:8080", "http://[::1]:8080/x", "ws://[::1]:8080/x"),
    ],
)
def test_urls(public: str, webhook: str, socket: str) -> None:
    config = TwilioConfig(public_url=public, auth_tokens=(" t\n",))
    assert (config.webhook_url("/x"), config.socket_url("/x")) == (webhook, socket)
    assert config.auth_tokens == ("t",)


@pytest.mark.parametrize("name", ["max_pending_sockets", "start_timeout_s", "media_timeout_s", "token_ttl_s"])
def test_limits_must_be_positive(name: str) -> None:
    with pytest.raises(TwilioConfigError, match=name):
        TwilioConfig(public_url="https://maya.example.com", auth_tokens=("t",), **{name: 0})
