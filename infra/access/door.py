"""Decides who asks, and whether they may: by a key, by a browser's login, or on this machine alone.

No FastAPI in here: requests come as `Visit`s. The keys' file is the one thing that is read.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from infra.access.errors import AccessConfigError, AccessRefused
from infra.access.keys import LONGEST_KEY, ApiKey, KeyBook, Principal, Role, digest_of, parse_key_file
from infra.access.limits import Buckets, counted_as
from infra.access.policy import AccessSettings
from infra.access.sessions import Forms, Sessions, Signer

log = logging.getLogger(__name__)

THIS_MACHINE: Final = Principal("this machine", "admin")
_LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_FORWARDED: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
    "cf-connecting-ip",
)
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TRIES_AT_ONCE: Final = 5
_TRIES_PER_S: Final = 0.1
"""Logins of one address; wrong keys of all together ten times as often."""
_TOO_MANY: Final = "too many logins tried"
_LOOK_S: Final = 2.0
"""How often the keys' file is looked at, at most."""
_PRIVATE: Final = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 1918 and RFC 4193. Python's own `is_private` also has networks that are in nobody's house."""
_EVERYBODY: Final = "everybody"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, or a WebSocket's handshake (whose `method` is ""). `headers` have names in lower case;
    `peer` is the other end's address, "" for a Unix socket."""

    headers: Mapping[str, str]
    peer: str
    scheme: str = "https"
    method: str = "GET"
    cookies: Mapping[str, str] | None = None


class Door:
    """`operator_hashes` are keys of operators that have neither name nor end ([outbound] api_keys). Raises
    `AccessConfigError` where the keys' file cannot be read."""

    def __init__(
        self,
        settings: AccessSettings,
        *,
        public_url: str,
        insecure: bool = False,
        operator_hashes: Iterable[str] = (),
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(public_url)
        self._settings = settings
        self._insecure = insecure
        self._origin = _origin(public_url)
        self._loopback = (parts.hostname or "") in _LOOPBACK_HOSTS
        self._wall = wall
        self._monotonic = monotonic
        self._fixed = (*settings.listed(), *_operators(operator_hashes))
        self._file = _KeysFile(settings.keys_file) if settings.keys_file is not None else None
        self._book = KeyBook((*self._fixed, *(self._file.keys if self._file is not None else ())))
        self._looked_at = monotonic()
        signer = Signer()
        self._sessions = Sessions(signer, settings.session_s)
        self._forms = Forms(signer)
        self._tries = Buckets(_TRIES_PER_S, _TRIES_AT_ONCE)
        self._wrong_tries = Buckets(10 * _TRIES_PER_S, 10 * _TRIES_AT_ONCE)
        self.turned_away: Counter[int] = Counter()
        """Requests that the guard answered before the application was asked, by the answer's status."""
        self.secure = parts.scheme == "https"
        """Browsers reach us over TLS: cookies are kept to it."""
        self.path = parts.path.rstrip("/")
        """What stands before our paths in the addresses that browsers see."""
        # A browser takes a cookie of such a name only with Secure, without Domain, and for the whole host.
        prefix = "" if not self.secure else "__Secure-" if self.path else "__Host-"
        self.session_cookie = prefix + "maya_session"
        self.form_cookie = prefix + "maya_form"

    @property
    def session_s(self) -> float:
        return self._settings.session_s

    # Who asks

    def identify(self, visit: Visit) -> Principal | None:
        """Whose request this is; None for a stranger's."""
        key = self._key_of(visit)
        if key is not None:
            return key.principal
        return THIS_MACHINE if self._is_this_machine(visit) else None

    def admit(self, visit: Visit, role: Role) -> Principal:
        """Whoever asks, who has `role` at least. Raises `AccessRefused`, 401 or 403."""
        bearer = _bearer(visit) is not None
        if (bearer or self.session_cookie in (visit.cookies or {})) and not self._private(visit):
            raise AccessRefused("keys and logins are taken over TLS only, and this came in the open", 403)
        principal = self.identify(visit)
        if principal is None:
            raise AccessRefused("a key is needed: Authorization: Bearer KEY", 401)
        if not bearer and visit.method not in _SAFE:
            # A browser sends its cookie wherever a page makes it: what does something must come from our own.
            self._check_origin(visit)
        if not principal.may(role):
            raise AccessRefused(f"this needs the role {role}, and {principal.name} is {principal.role}", 403)
        return principal

    def _key_of(self, visit: Visit) -> ApiKey | None:
        if (shown := _bearer(visit)) is not None:
            return self._find(digest_of(shown))
        cookie = (visit.cookies or {}).get(self.session_cookie)
        session = self._sessions.find(cookie, self._monotonic()) if cookie else None
        return self._find(session.owner) if session is not None else None

    def _find(self, digest: str) -> ApiKey | None:
        if self._file is not None and self._monotonic() - self._looked_at >= _LOOK_S:
            self._looked_at = self._monotonic()
            if self._file.changed():
                self._book = KeyBook((*self._fixed, *self._file.keys))
        return self._book.find(digest, self._wall())

    def _is_this_machine(self, visit: Visit) -> bool:
        """With --insecure whoever sits at this machine may do all. A request that names another host (a name
        that was pointed at 127.0.0.1 to get at us) or came through a proxy is somebody else's."""
        return (
            self._insecure
            and not len(self._book)
            and is_loopback(visit.peer)
            and _host(visit.headers.get("host", "")) in _LOOPBACK_HOSTS
            and not any(name in visit.headers for name in _FORWARDED)
        )

    def _private(self, visit: Visit) -> bool:
        """Whether nobody on the way could read it: TLS, or a plain connection within this house."""
        if visit.scheme in ("https", "wss"):
            return True
        if not self.trusts(visit.peer) and not is_private(visit.peer):
            return False
        # What a proxy of ours says it was asked over.
        asked = visit.headers.get("x-forwarded-proto", "https").split(",")[0].strip().lower()
        return asked in ("https", "wss") or not self.secure

    def _check_origin(self, visit: Visit) -> None:
        origin = visit.headers.get("origin", "")
        if origin == self._origin:
            return
        host = visit.headers.get("host", "")
        # On this machine the page may be open under another of its names.
        if (
            self._loopback
            and _host(host) in _LOOPBACK_HOSTS
            and origin in (f"http://{host}", f"https://{host}")
        ):
            return
        raise AccessRefused("this must come from our own page", 403)

    # Where from

    def trusts(self, peer: str) -> bool:
        """Whether `peer` is a reverse proxy whose word on addresses is taken."""
        if not peer or is_loopback(peer):
            return True
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._settings.trusted_proxies)

    def address_of(self, visit: Visit) -> str:
        """Under which name whoever asks is counted. Of `X-Forwarded-For` only the last address counts that
        none of our own proxies has: what stands before it anybody may have written."""
        address = visit.peer
        if self.trusts(address):
            hops = visit.headers.get("x-forwarded-for", "").split(",")
            for hop in reversed(hops[-8:]):
                if not (hop := hop.strip()):
                    break
                address = hop
                if not self.trusts(hop):
                    break
        return counted_as(address)

    # Logins of browsers

    def new_browser(self) -> str:
        """The cookie that tells one login form's browser from others."""
        return secrets.token_urlsafe(18)

    def new_form(self, browser: str) -> str:
        """What a login form carries, good for one try of this browser."""
        return self._forms.new(browser, self._monotonic())

    def log_in(self, visit: Visit, key: str, form: str) -> tuple[str, Principal]:
        """The session's cookie. Raises `AccessRefused`: 429 too many tries, 403 not from our form, 401 wrong
        or expired key. Which of the two it was is not told."""
        now = self._monotonic()
        address = self.address_of(visit)
        if not self._private(visit):
            raise AccessRefused("logins are taken over TLS only, and this came in the open", 403)
        # Before anything is counted: a foreign page must not use up its visitor's tries.
        self._check_origin(visit)
        if wait_s := self._tries.take(address, now):
            raise AccessRefused(_TOO_MANY, 429, wait_s)
        if not self._forms.use(form, (visit.cookies or {}).get(self.form_cookie, ""), now):
            raise AccessRefused("this form was used already, or is too old: load the page again", 403)
        digest = digest_of(key.strip()[:LONGEST_KEY])
        found = self._find(digest)
        if found is None:
            # The right key is let in however many wrong ones others try: else anybody could keep all out.
            if wait_s := self._wrong_tries.take(_EVERYBODY, now):
                raise AccessRefused(_TOO_MANY, 429, wait_s)
            log.warning("a login from %s was refused: no such key, or it has ended", address)
            raise AccessRefused("wrong key, or one that has expired", 401)
        log.info("%s, %s, has logged in from %s", found.name, found.role, address)
        return self._sessions.open(digest, now), found.principal

    def log_out(self, visit: Visit) -> None:
        """Ends the visit's login, if there is one. Raises `AccessRefused`."""
        self._check_origin(visit)
        self._sessions.close((visit.cookies or {}).get(self.session_cookie, ""))

    def log_out_everywhere(self, visit: Visit) -> int:
        """Ends all logins by the visit's key. How many there were. Raises `AccessRefused`."""
        self._check_origin(visit)
        key = self._key_of(visit)
        return self._sessions.close_all_of(key.digest) if key is not None else 0


def known_keys(settings: AccessSettings, operator_hashes: Iterable[str] = ()) -> tuple[ApiKey, ...]:
    """All keys that a server with these settings begins with. Raises `AccessConfigError`."""
    file = _KeysFile(settings.keys_file) if settings.keys_file is not None else None
    return (*settings.listed(), *_operators(operator_hashes), *(file.keys if file is not None else ()))


def _operators(hashes: Iterable[str]) -> Iterator[ApiKey]:
    for number, digest in enumerate(hashes, 1):
        yield ApiKey(f"outbound-{number}", "operator", None, digest)


class _KeysFile:
    """A file of keys, read again when it has changed. One that has become wrong changes nothing but the
    log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._seen = self._look()
            self.keys = self._read()
        except (OSError, ValueError) as error:
            raise AccessConfigError(f"[access] keys_file: {_said(error)}") from None

    def changed(self) -> bool:
        """Whether there are other keys now."""
        try:
            seen = self._look()
            if seen == self._seen:
                return False
            self._seen = seen
            self.keys = self._read()
        except (OSError, ValueError) as error:
            log.error("the keys stay as they were: %s", _said(error))
            return False
        log.info("%s was read again: %d key(s)", self._path, len(self.keys))
        return True

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[ApiKey, ...]:
        try:
            return parse_key_file(self._path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None


def _said(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def is_loopback(peer: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False


def is_private(peer: str) -> bool:
    """A container's or a local network's address, where a proxy of ours may stand; this machine's too."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in _PRIVATE)


def _bearer(visit: Visit) -> str | None:
    scheme, _, key = visit.headers.get("authorization", "").partition(" ")
    key = key.strip()
    return key if scheme.lower() == "bearer" and 0 < len(key) <= LONGEST_KEY else None


def _host(authority: str) -> str:
    """The host of `host:port`, without brackets; "" for what is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _origin(url: str) -> str:
    """Scheme, host and port as browsers write them in `Origin`: RFC 6454 section 6.2."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, standard) else "")
