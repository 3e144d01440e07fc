"""Who may open the page's socket: browsers that show our own page, logged in where a login is asked for.

A page of somebody else's must not talk through a visitor's browser, so the handshake's `Origin` must be ours.
Without a password only this machine is served: a request that names another host (a name that was pointed at
127.0.0.1 to get at us) or that came through a proxy is refused.
"""

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from telephony.allowance import Allowance
from telephony.browser.config import LOOPBACK_HOSTS, BrowserConfig
from telephony.browser.errors import AccessRefused

COOKIE: Final = "maya_talk"
_FORWARDED: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
    "cf-connecting-ip",
)
_TRIES_AT_ONCE: Final = 5
_TRIES_PER_S: Final = 0.1
"""Of one address. Of all together ten times as often: at 1 per second, ten random letters last for ever."""
_ADDRESSES_KEPT: Final = 1_000


class PageDoor:
    """Checks requests and issues logins. `wall()` is the time of day in seconds since the epoch,
    `monotonic()` seconds on any origin. Logins are signed with a key of this process: a restart ends them."""

    def __init__(
        self, config: BrowserConfig, *, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._config = config
        self._wall = wall
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._password = _digest(config.password)
        self._everybody = Allowance(10 * _TRIES_PER_S, 10 * _TRIES_AT_ONCE, monotonic())
        self._addresses: OrderedDict[str, Allowance] = OrderedDict()

    @property
    def login_needed(self) -> bool:
        return bool(self._config.password)

    def check_visit(self, headers: Mapping[str, str]) -> None:
        """Any request; `headers` have names in lower case. Raises `AccessRefused`."""
        if self.login_needed:
            return
        host = headers.get("host", "")
        if _host(host) not in LOOPBACK_HOSTS:
            raise AccessRefused(f"without a password only this machine is served, not {host[:80]!r}")
        through = [name for name in _FORWARDED if name in headers]
        if through:
            raise AccessRefused(f"without a password no proxy is served ({through[0]} is there)")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """A request that does something: from our own page. Raises `AccessRefused`."""
        self.check_visit(headers)
        origin = headers.get("origin", "")
        if origin == self._config.origin:
            return
        # On this machine the page may be open under another of its names.
        local = _host(origin.partition("://")[2]) in LOOPBACK_HOSTS
        if not (local and origin == f"http://{headers.get('host')}"):
            raise AccessRefused(f"the page is not ours: origin {origin[:80]!r}")

    def check_session(self, cookie: str | None) -> None:
        """Raises `AccessRefused` with status 401 where a login is needed and `cookie` is none."""
        if not self.login_needed:
            return
        version, _, rest = (cookie or "").partition(".")
        expiry, _, rest = rest.partition(".")
        nonce, _, signature = rest.partition(".")
        if version != "1" or not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 15):
            raise AccessRefused("not logged in", 401)
        expected = self._signature(int(expiry), nonce)
        if not hmac.compare_digest(signature.encode(errors="surrogatepass"), expected.encode()):
            raise AccessRefused("not our login", 401)
        if self._wall() >= int(expiry):
            raise AccessRefused("the login has expired", 401)

    def log_in(self, password: str, address: str) -> str:
        """The cookie's value for the right password. Raises `AccessRefused`, 401 or 429."""
        now = self._monotonic()
        own = self._of(address, now)
        for allowance in (own, self._everybody):
            if not allowance.take(now):
                raise AccessRefused("too many passwords tried", 429, allowance.wait_s(now))
        # Digests are of one length, so the comparison's time tells nothing.
        if not self.login_needed or not hmac.compare_digest(_digest(password), self._password):
            raise AccessRefused("wrong password", 401)
        expiry = int(self._wall() + self._config.session_s)
        nonce = secrets.token_urlsafe(12)
        return f"1.{expiry}.{nonce}.{self._signature(expiry, nonce)}"

    def _of(self, address: str, now: float) -> Allowance:
        """The address's own allowance. Of many, those that asked longest ago are forgotten."""
        own = self._addresses.pop(address, None) or Allowance(_TRIES_PER_S, _TRIES_AT_ONCE, now)
        self._addresses[address] = own
        if len(self._addresses) > _ADDRESSES_KEPT:
            self._addresses.popitem(last=False)
        return own

    def _signature(self, expiry: int, nonce: str) -> str:
        signed = f"{expiry}\n{nonce}".encode(errors="surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed, hashlib.sha256)).rstrip(b"=").decode()


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode(errors="surrogatepass")).digest()


def _host(authority: str) -> str:
    """The host of `host:port`, without brackets; "" for what is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""
