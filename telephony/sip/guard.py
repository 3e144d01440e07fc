"""Who may send what: an open SIP port is scanned within minutes, and misused for toll fraud within hours.

Sources that are listed (`allow`, the trunk, this machine with `insecure`) may call. Others must know a secret
of `users`; where there are none, they get no answer at all, so that a scan finds nothing here.
"""

from collections import OrderedDict
from typing import Final

from telephony.sip.config import SipConfig
from telephony.sip.message import Request
from telephony.sip.uri import literal

_SCANNERS: Final = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipscan",
    "sundayddr",
    "vaxsipuseragent",
    "vaxipuseragent",
    "pplsip",
    "iwar",
    "smap",
    "siparmyknife",
    "sipptk",
    "voip-scan",
    "eyebeam release 3003z stamp",
    "gulp",
    "scan",
)
_SOURCES_KEPT: Final = 10_000
_BURST: Final = 2.0
"""Seconds' worth of messages that may come at once."""
_STRANGER_BURST: Final = 3.0
_PROVEN_S: Final = 3_600.0
_FAILURES_PER_S: Final = 0.1
_FAILURE_BURST: Final = 10.0


class Buckets:
    """A token bucket for each source: `burst` at once, then `per_s`. Sources not seen for longest are
    forgotten."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = max(1.0, burst)
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str, now: float) -> bool:
        """Take one; False where none is left."""
        left = self.left(source, now)
        taken = left >= 1.0
        self._sources[source] = (left - 1.0 if taken else left, now)
        self._sources.move_to_end(source)
        if len(self._sources) > _SOURCES_KEPT:
            self._sources.popitem(last=False)
        return taken

    def left(self, source: str, now: float) -> float:
        left, at = self._sources.get(source, (self._burst, now))
        return min(self._burst, left + max(0.0, now - at) * self._per_s)


class Guard:
    def __init__(self, config: SipConfig) -> None:
        self.trunk_hosts: frozenset[str] = frozenset()
        """Addresses of the trunk, once they are known."""
        self._config = config
        self._known = Buckets(config.messages_per_s, config.messages_per_s * _BURST)
        rate = config.stranger_messages_per_s
        self._strangers = Buckets(rate, rate * _STRANGER_BURST)
        self._invites = Buckets(config.invites_per_s, config.invites_per_s * _BURST)
        self._failures = Buckets(_FAILURES_PER_S, _FAILURE_BURST)
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._verdicts: OrderedDict[str, bool] = OrderedDict()

    def trusts(self, host: str) -> bool:
        """Whether this source may call without a secret."""
        if host in self.trunk_hosts:
            return True
        known = self._verdicts.get(host)
        if known is None:
            address = literal(host)
            known = address is not None and (
                (self._config.insecure and address.is_loopback)
                or any(address in network for network in self._config.allow)
            )
            self._verdicts[host] = known
            if len(self._verdicts) > _SOURCES_KEPT:
                self._verdicts.popitem(last=False)
        return known

    def hears(self, host: str, now: float) -> bool:
        """Whether a message of this source is looked at; asked before it is parsed."""
        if self.trusts(host) or self._proven.get(host, 0.0) > now:
            return self._known.take(host, now)
        return self._strangers.take(host, now)

    def may_ask(self, host: str, now: float) -> bool:
        """Whether a stranger is told to prove itself: not where nobody could, nor after many failures."""
        return bool(self._config.users) and self._failures.left(host, now) >= 1.0

    def failed(self, host: str, now: float) -> None:
        """Wrong credentials."""
        self._failures.take(host, now)

    def proved(self, host: str, now: float) -> None:
        """Right credentials: several phones may stand behind this address."""
        self._proven[host] = now + _PROVEN_S
        self._proven.move_to_end(host)
        if len(self._proven) > _SOURCES_KEPT:
            self._proven.popitem(last=False)

    def takes_invite(self, host: str, now: float) -> bool:
        return self._invites.take(host, now)


def is_scanner(request: Request) -> bool:
    """Whether the request says of itself that it is a scan. Most do not bother to hide."""
    product = (request.headers.get("user-agent") or "").lower()
    return any(product.startswith(name) for name in _SCANNERS) or "sipvicious" in request.from_.text.lower()
