"""API keys: made here, kept as hashes, each with a name, a role and the day on which it ends.

A key is 32 random bytes, so SHA-256 is enough to keep it by: nobody can try 2**256 inputs, and what makes
scrypt worth its cost are passwords that people think of. A slow hash would turn each request with a wrong key
into work for the attacked.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, get_args

Role = Literal["metrics", "viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may: read the metrics, and nothing of any call; look, listen and download;
order calls and end them; whatever else may come to need a key."""

KEY_PREFIX: Final = "maya_"
"""By which scanners, and people who find one in a paste, know what it is."""
LONGEST_KEY: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks: the key's name and role."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether it has `role`, or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the settings keep of a key. `last_day` is the last on which it is good, in UTC; None: for ever."""

    name: str
    role: Role
    last_day: date | None
    digest: str

    @property
    def principal(self) -> Principal:
        return Principal(self.name, self.role)

    def expired(self, wall: float) -> bool:
        """`wall` is the time of day in seconds since the epoch."""
        return self.last_day is not None and datetime.fromtimestamp(wall, UTC).date() > self.last_day

    def line(self) -> str:
        """As it stands in the settings, and as `parse_key` reads it."""
        return f"{self.name}:{self.role}:{self.last_day or 'never'}:{self.digest}"


def new_key() -> tuple[str, str]:
    """A key, and its hash."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, digest_of(key)


def digest_of(key: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def last_day_after(days: int, wall: float) -> date:
    return datetime.fromtimestamp(wall, UTC).date() + timedelta(days=days)


def parse_key(line: str) -> ApiKey:
    """Raises `ValueError`, whose message shows nothing of what stood in the line: it may be a key."""
    parts = [part.strip() for part in line.split(":")]
    if len(parts) != 4:
        raise ValueError(
            "this is no line of a key: write name:role:last-day:hash, as `maya keys new` shows it"
        )
    name, role, last_day, digest = parts
    if not _NAME.fullmatch(name):
        raise ValueError("a key's name has up to 32 letters, digits, dots and hyphens")
    if role not in ROLES:
        raise ValueError(f"a key's role is one of {', '.join(ROLES)}")
    if not _HASH.fullmatch(digest.lower()):
        raise ValueError("this is no hash of a key: write the line that `maya keys new` shows, not the key")
    try:
        until = None if last_day == "never" else date.fromisoformat(last_day)
    except ValueError:
        raise ValueError('a key ends on a day such as 2027-02-26, or "never"') from None
    return ApiKey(name, role, until, digest.lower())


def parse_key_file(text: str) -> tuple[ApiKey, ...]:
    """One key a line; what follows `#` is a remark. Raises `ValueError` with the line's number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if told := line.partition("#")[0].strip():
            try:
                found.append(parse_key(told))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return tuple(found)


class KeyBook:
    """The keys that are known."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[ApiKey]:
        return iter(self._keys)

    def find(self, digest: str, wall: float) -> ApiKey | None:
        """The key of this hash that is still good. It takes as long whether there is one or not: each is
        compared, in constant time."""
        given = digest.encode()
        known = [key for key in self._keys if hmac.compare_digest(given, key.digest.encode())]
        return next((key for key in known if not key.expired(wall)), None)
