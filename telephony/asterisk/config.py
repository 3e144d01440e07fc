"""How this server knows its Asterisk, and where the two meet."""

import ipaddress
import re
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from telephony.asterisk.errors import AsteriskConfigError

MIN_SECRET_CHARS: Final = 16
_URL_SAFE: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Seconds = Annotated[float, Field(gt=0, le=3600)]


class AsteriskConfig(BaseModel):
    """Make it with `AsteriskConfig.of(...)`, which raises `AsteriskConfigError` with a sentence for the
    operator; the constructor itself raises pydantic's error with the same sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: Annotated[str, Field(repr=False)] = ""
    """What Asterisk shows to `WS /asterisk/media` and `POST /asterisk/calls`: `token=` in the query, or the
    password of basic authentication."""
    user: str = "asterisk"
    """The user name of basic authentication."""
    allowed: tuple[str, ...] = _LOOPBACK
    """Addresses and networks that Asterisk may come from, over either protocol."""
    audiosocket_host: str = "127.0.0.1"
    """Where AudioSocket listens."""
    audiosocket_port: Annotated[int, Field(ge=0, le=65_535)] = 9019
    """0: any free one."""
    announced_only: bool = False
    """AudioSocket takes only the UUIDs that `POST /asterisk/calls` announced, each once."""
    asterisk_url: str = ""
    """Asterisk's own web server, such as "http://10.0.0.5:8088", when it is we who connect."""
    max_pending_sockets: Annotated[int, Field(ge=1, le=10_000)] = 1_024
    """Of addresses that are allowed: hundreds of calls may come at once, and each is to hear that no line is
    free."""
    start_timeout_s: Seconds = 5.0
    media_timeout_s: Seconds = 30.0
    """A phone that suppresses silence may send nothing for long."""
    announced_for_s: Seconds = 60.0

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """Raises `AsteriskConfigError`."""
        try:
            return cls(**settings)
        except ValidationError as error:
            raise AsteriskConfigError(" ".join(_sentence(dict(fault)) for fault in error.errors())) from None

    @field_validator("secret")
    @classmethod
    def _is_secret(cls, secret: str) -> str:
        secret = secret.strip()  # one read from a file often ends with a newline
        if secret and len(secret) < MIN_SECRET_CHARS:
            raise ValueError(
                f"The Asterisk secret is too short to be one: use at least {MIN_SECRET_CHARS} characters, "
                "such as what `openssl rand -hex 24` prints."
            )
        if secret and not _URL_SAFE.fullmatch(secret):
            raise ValueError(
                "The Asterisk secret must be made of letters, digits and . _ ~ -, because it travels in a "
                "query string; `openssl rand -hex 24` prints such a one."
            )
        return secret

    @field_validator("user")
    @classmethod
    def _is_user(cls, user: str) -> str:
        if not user or ":" in user or not user.isprintable():
            raise ValueError("The user name for Asterisk must not be empty, and must not hold a colon.")
        return user

    @field_validator("allowed")
    @classmethod
    def _are_networks(cls, allowed: tuple[str, ...]) -> tuple[str, ...]:
        if not allowed:
            raise ValueError(
                'Nobody may call: list the addresses of your Asterisk, such as allowed = ["10.0.0.5"].'
            )
        return tuple(str(_network(text)) for text in allowed)

    @field_validator("asterisk_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not url:
            return url
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ValueError(
                f"The URL of Asterisk's web server, {url!r}, must look like http://10.0.0.5:8088 "
                "(bindaddr and bindport in http.conf)."
            )
        return url

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        abroad = [str(net) for net in self.networks if not net.is_loopback]
        if abroad and not self.secret:
            raise ValueError(
                f"Anybody in {', '.join(abroad)} could call through the WebSocket. Set a secret (`openssl "
                "rand -hex 24`) here and in Asterisk's websocket_client.conf, or allow this machine only."
            )
        open_to_all = [str(net) for net in self.networks if not net.prefixlen]
        if open_to_all and not self.announced_only:
            raise ValueError(
                f"{open_to_all[0]} lets the whole world reach AudioSocket, which knows no password. List the "
                "addresses of your Asterisk in `allowed`, or set announced_only and announce each call."
            )
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(_network(text) for text in self.allowed)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no address: write one such as 10.0.0.5, or a network such as 10.0.0.0/24 (no host "
            "bits set). Names are not looked up."
        ) from None


def _sentence(fault: dict[str, Any]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    place = ".".join(str(step) for step in fault["loc"])
    return message if fault["type"] == "value_error" else f"{place}: {message}."
