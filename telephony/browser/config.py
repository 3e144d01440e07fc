"""Who may talk through the page."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from telephony.browser.errors import BrowserConfigError

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
SHORTEST_PASSWORD: Final = 10
_PASSWORD_ADVICE: Final = "Set MAYA_TALK_PASSWORD to a password of at least 10 characters"  # noqa: S105


@dataclass(frozen=True, slots=True)
class BrowserConfig:
    """Checked when it is made: raises `BrowserConfigError` with a sentence for the operator.

    `public_url` is where browsers reach this server: "https://maya.example.com" (a path may follow), or
    "http://127.0.0.1:8080". `enabled` None: on where only this machine reaches the page,
    and elsewhere where there is a `password`. On loopback a password is asked for only where one is set.
    `title` is what the page calls the agent.
    """

    public_url: str
    password: str = ""
    enabled: bool | None = None
    title: str = "Maya"
    session_s: float = 12 * 3600.0
    """How long a login is good."""
    max_calls: int = 16
    """Calls through the page at once."""
    max_pending_sockets: int = 512
    start_timeout_s: float = 10.0
    media_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", self.password.strip())
        object.__setattr__(self, "public_url", self.public_url.strip().rstrip("/"))
        if self.enabled is False:
            return
        if self.password and len(self.password) < SHORTEST_PASSWORD:
            raise BrowserConfigError(f"The password of the page /talk is too short. {_PASSWORD_ADVICE}.")
        parts = _parts(self.public_url)
        if self.on and parts.scheme != "https" and not self.loopback:
            raise BrowserConfigError(
                f"The page /talk cannot work at {self.public_url!r}: browsers give a microphone to https:// "
                "pages only, and the password would travel in the open. Put TLS in front and set "
                "MAYA_PUBLIC_URL=https://..., or leave MAYA_TALK_PASSWORD unset."
            )
        if self.enabled and not self.loopback and not self.password:
            raise BrowserConfigError(
                f"The page /talk would let anybody talk to the agent at {self.public_url!r}. "
                f"{_PASSWORD_ADVICE}, or leave the page off outside this machine."
            )
        for name in ("session_s", "max_calls", "max_pending_sockets", "start_timeout_s", "media_timeout_s"):
            if getattr(self, name) <= 0:
                raise BrowserConfigError(f"{name} must be more than 0.")

    @property
    def loopback(self) -> bool:
        """Only this machine reaches the page."""
        return _parts(self.public_url).hostname in LOOPBACK_HOSTS

    @property
    def on(self) -> bool:
        """Whether the page is served at all."""
        if self.enabled is None:
            return self.loopback or bool(self.password)
        return self.enabled

    @property
    def path(self) -> str:
        """What stands before /talk in the addresses that browsers see; "" as a rule."""
        return _parts(self.public_url).path

    @property
    def origin(self) -> str:
        """Scheme, host and port of the page, as browsers write it in `Origin`: RFC 6454 section 6.2."""
        parts = _parts(self.public_url)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        standard = {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, standard) else "")


@dataclass(frozen=True, slots=True)
class _Parts:
    scheme: str
    hostname: str
    port: int | None
    path: str


def _parts(url: str) -> _Parts:
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        raise BrowserConfigError(f"The public URL {url!r} cannot be read.") from None
    if parts.scheme not in ("http", "https") or not hostname:
        raise BrowserConfigError(f"The public URL {url!r} must look like https://maya.example.com.")
    return _Parts(parts.scheme, hostname, port, parts.path)
