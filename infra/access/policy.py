"""`[access]` of the server's settings."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from infra.access.keys import ApiKey, parse_key


def _line(text: str) -> str:
    return parse_key(text).line()


Rate = Annotated[float, Field(gt=0, le=100_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class AccessSettings(BaseModel):
    """Keys in `keys` and in `keys_file` count together, and so do those of `[outbound] api_keys`, as
    operators'."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    keys: tuple[Annotated[str, AfterValidator(_line)], ...] = ()
    """`name:role:last-day:hash`; `maya keys new` makes one. Two keys of one name are how a key is changed."""
    keys_file: Path | None = None
    """The same, one a line. It is read again within seconds of a change: whoever is struck from it is out."""
    session_s: Seconds = 12 * 3600.0
    """How long a browser's login is good."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose `X-Forwarded-For` is believed, besides this machine's: the networks of your reverse proxies."""
    requests_per_s: Rate = 20.0
    """Of one address that shows no key; four times as many at once."""
    key_requests_per_s: Rate = 100.0
    """With one key, or with its logins; twice as many at once."""
    strangers_per_s: Rate = 200.0
    """Of all addresses that show no key together; twice as many at once."""
    max_body_bytes: Annotated[int, Field(ge=4_096, le=1 << 30)] = 65_536
    """Longer requests are refused unread."""
    request_s: Seconds = 10.0
    """Within this time a request's head must be there, and then its body within the same again."""
    max_idle_connections: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Connections that have not yet shown a whole request."""
    max_idle_per_address: Annotated[int, Field(ge=1, le=100_000)] = 64
    tls_certificate: Path | None = None
    """A chain in PEM; with it the server speaks https itself. Files that change are read again."""
    tls_key: Path | None = None
    tls_authority: Path | None = None
    """In PEM: who signs the certificates of all front-ends, by which they know each other; None: whom this
    machine trusts."""

    @model_validator(mode="after")
    def _pair(self) -> "AccessSettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both")
        return self

    def listed(self) -> tuple[ApiKey, ...]:
        """Those of `keys`."""
        return tuple(parse_key(line) for line in self.keys)
