"""How this server is reached by Twilio, and how it knows that Twilio it is."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from telephony.twilio.errors import TwilioConfigError

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class TwilioConfig:
    """Checked when it is made: raises `TwilioConfigError` with a sentence for the operator.

    `public_url` is where Twilio reaches us, such as "https://maya.example.com" (a path may follow), or
    "http://127.0.0.1:8080" on loopback: signatures are checked against it, never against what a
    request says about itself. `auth_tokens` holds the account's primary token, and during a rotation
    both. `insecure` takes calls that prove nothing, from this machine only.
    """

    public_url: str
    auth_tokens: tuple[str, ...] = ()
    account_sid: str = ""
    shared_keys: tuple[tuple[str, str], ...] = ()
    """(name, secret) of keys that sign instead of the auth token, where the account uses them."""
    insecure: bool = False
    max_pending_sockets: int = 32
    start_timeout_s: float = 5.0
    media_timeout_s: float = 10.0
    token_ttl_s: float = 60.0
    apology: str = "I am sorry, something went wrong at our end. Please call again in a moment."
    busy: str = "I am sorry, all our lines are busy. Please call again in a few minutes."

    def __post_init__(self) -> None:
        # A token read from a file or a variable often ends with a newline.
        tokens = tuple(token.strip() for token in self.auth_tokens)
        if not self.insecure and (not tokens or not all(tokens)):
            raise TwilioConfigError(
                "There is no Twilio auth token, so anybody could call. Set the account's primary auth token "
                "(console.twilio.com, Account Info), or start with --insecure to try it on this machine only."
            )
        object.__setattr__(self, "auth_tokens", tokens)
        object.__setattr__(self, "public_url", _checked_url(self.public_url, self.insecure))
        for name in ("max_pending_sockets", "start_timeout_s", "media_timeout_s", "token_ttl_s"):
            if getattr(self, name) <= 0:
                raise TwilioConfigError(f"{name} must be more than 0.")

    def webhook_url(self, path: str) -> str:
        """The absolute URL of one of our webhooks; `path` starts with a slash."""
        return self.public_url + path

    def socket_url(self, path: str) -> str:
        """The same over ws:// or wss://, as it stands in the TwiML and in the handshake's signature."""
        return "ws" + self.public_url.removeprefix("http") + path


def is_loopback(host: str | None) -> bool:
    return host is not None and host.lower() in LOOPBACK_HOSTS


def _checked_url(url: str, insecure: bool) -> str:
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise TwilioConfigError(f"The public URL {url!r} cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise TwilioConfigError(f"The public URL {url!r} must look like https://maya.example.com.")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise TwilioConfigError(f"The public URL {url!r} must be without user name, query and fragment.")
    if parts.scheme == "http" and not is_loopback(host):
        raise TwilioConfigError(
            f"The public URL {url!r} must start with https://: Twilio streams over TLS only."
        )
    if insecure and not is_loopback(host):
        raise TwilioConfigError(
            f"--insecure takes calls from this machine only, but the public URL is {url!r}. "
            "Set an auth token instead, or drop the public URL."
        )
    return url
