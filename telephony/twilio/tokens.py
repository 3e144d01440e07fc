"""Tokens that let one stream in: signed, bound to a CallSid, short-lived, good for one use.

They travel as a `<Parameter>` of the TwiML that answers the webhook, and come back in `start`. Any process
with the same auth token takes them. Each remembers those that it has taken; that a token is good for one use
at all of them together is up to what they share (`telephony.twilio.elsewhere`).
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from telephony.twilio.errors import TokenRefused

TOKEN_PARAMETER: Final = "token"  # noqa: S105  (a name, not a secret)
_VERSION: Final = "1"
_REMEMBERED_S: Final = 86_400.0
"""Longer than they are good, for clocks jump, and may jump back."""
_MOST_REMEMBERED: Final = 50_000
_PURPOSE: Final = b"maya stream token v1"


class StreamTokens:
    """Issues and redeems. `auth_tokens`: the first signs, all verify, so a rotation breaks no call.
    `wall()` is the time of day in seconds since the epoch, `clock()` monotonic: those that are issued here
    are good here for `ttl_s` though the time of day is set meanwhile."""

    def __init__(
        self,
        auth_tokens: tuple[str, ...],
        ttl_s: float,
        wall: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A key of its own, so that what is signed here can never pass as a webhook's signature.
        self._keys = [hmac.digest(token.encode(), _PURPOSE, hashlib.sha256) for token in auth_tokens]
        self._ttl_s = ttl_s
        self._wall = wall
        self._clock = clock
        self._own: OrderedDict[str, float] = OrderedDict()
        """Until when, on the clock, those are good that were issued here and not used yet."""
        self._used: OrderedDict[str, int] = OrderedDict()
        """Until when each is good, in the order in which they came."""

    def issue(self, call_sid: str) -> str:
        expiry = int(self._wall() + self._ttl_s)
        nonce = secrets.token_urlsafe(12)
        self._own[nonce] = self._clock() + self._ttl_s
        if len(self._own) > _MOST_REMEMBERED:
            self._own.popitem(last=False)
        return f"{_VERSION}.{expiry}.{nonce}.{_signature(self._keys[0], call_sid, expiry, nonce)}"

    def redeem(self, token: str | None, call_sid: str) -> tuple[str, float]:
        """Raises `TokenRefused`; returning, it has used the token up here. Returns what names the token, and
        until when it is good (seconds since 1970)."""
        if not token:
            raise TokenRefused("no token")
        parts = token.split(".")
        if len(parts) != 4 or parts[0] != _VERSION or not (parts[1].isascii() and parts[1].isdigit()):
            raise TokenRefused("not a token")
        expiry, nonce = int(parts[1][:15]), parts[2]
        # JSON may carry lone surrogates, which plain UTF-8 refuses.
        signature = parts[3].encode(errors="surrogatepass")
        expected = [_signature(key, call_sid, expiry, nonce).encode() for key in self._keys]
        if not any(hmac.compare_digest(signature, one) for one in expected):
            raise TokenRefused("token forged, or of another call")
        now = self._wall()
        if nonce in self._used:
            raise TokenRefused("token used before")
        if now >= expiry and self._clock() >= self._own.pop(nonce, 0.0):
            raise TokenRefused("token expired")
        self._own.pop(nonce, None)
        self._used[nonce] = expiry
        while len(self._used) > _MOST_REMEMBERED or next(iter(self._used.values())) + _REMEMBERED_S < now:
            self._used.popitem(last=False)
        return nonce, float(expiry)


def _signature(key: bytes, call_sid: str, expiry: int, nonce: str) -> str:
    digest = hmac.digest(key, f"{call_sid}\n{expiry}\n{nonce}".encode(errors="surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
