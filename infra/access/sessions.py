"""Logins of browsers, and the forms by which one logs in. Without clock or I/O: `now` is seconds on a clock
that does not run backwards, so a clock that is set neither ends a login nor prolongs one.

A cookie is a random number and our signature. What it stands for is kept here alone, so a login can be ended
from this side; the signature lets made-up cookies be refused before anything is looked up. Logins belong to
this process: a restart ends them.
"""

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MOST_SESSIONS: Final = 10_000
_MOST_USED: Final = 10_000
_FORM_S: Final = 600.0
"""How long a login form may stand open."""
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class Session:
    """`owner` is the hash of the key that logged in."""

    owner: str
    ends_at: float


class Signer:
    """Signs short texts, each for one purpose."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key if key is not None else secrets.token_bytes(32)

    def sign(self, purpose: str, text: str) -> str:
        return f"{text}.{self._signature(purpose, text)}"

    def read(self, purpose: str, signed: str) -> str | None:
        """The text, if the signature is ours."""
        text, _, signature = signed[:_LONGEST].rpartition(".")
        expected = self._signature(purpose, text).encode()
        return text if hmac.compare_digest(signature.encode(errors="surrogatepass"), expected) else None

    def _signature(self, purpose: str, text: str) -> str:
        signed = f"{purpose}\n{text}".encode(errors="surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed, hashlib.sha256)).rstrip(b"=").decode()


class Sessions:
    """Who is logged in. Of too many logins the oldest ends."""

    def __init__(self, signer: Signer, lasts_s: float, *, most: int = _MOST_SESSIONS) -> None:
        self._signer = signer
        self._lasts_s = lasts_s
        self._most = most
        self._live: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def open(self, owner: str, now: float) -> str:
        """The cookie of a new login."""
        self._forget_ended(now)
        number = secrets.token_urlsafe(24)
        self._live[number] = Session(owner, now + self._lasts_s)
        if len(self._live) > self._most:
            self._live.popitem(last=False)
        return self._signer.sign("session", number)

    def find(self, cookie: str, now: float) -> Session | None:
        number = self._signer.read("session", cookie)
        session = self._live.get(number) if number is not None else None
        if number is None or session is None:
            return None
        if now >= session.ends_at:
            del self._live[number]
            return None
        return session

    def close(self, cookie: str) -> bool:
        """Whether that login was live; it is not any more."""
        number = self._signer.read("session", cookie)
        return number is not None and self._live.pop(number, None) is not None

    def close_all_of(self, owner: str) -> int:
        """End the logins of one key. How many there were."""
        of = [number for number, session in self._live.items() if session.owner == owner]
        for number in of:
            del self._live[number]
        return len(of)

    def _forget_ended(self, now: float) -> None:
        # They end in the order in which they began, as each lasts equally long.
        while self._live and next(iter(self._live.values())).ends_at <= now:
            self._live.popitem(last=False)


class Forms:
    """Login forms: each is for the browser that was given it, and good for one try.

    Handing one out costs no memory, so that nobody fills it up; only those that were sent in are remembered,
    until they would have ended anyway.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._used: OrderedDict[str, float] = OrderedDict()

    def new(self, browser: str, now: float) -> str:
        """`browser` is what its own cookie says."""
        return self._signer.sign("form " + browser, f"{secrets.token_urlsafe(12)}.{now + _FORM_S:.0f}")

    def use(self, form: str, browser: str, now: float) -> bool:
        """Whether the form is ours, for this browser, not too old, and not used yet; now it is used."""
        text = self._signer.read("form " + browser, form) if browser else None
        if text is None:
            return False
        number, _, ends_at = text.rpartition(".")
        while self._used and next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
        if now >= float(ends_at) or number in self._used:
            return False
        self._used[number] = float(ends_at)
        if len(self._used) > _MOST_USED:
            self._used.popitem(last=False)
        return True
