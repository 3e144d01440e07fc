"""Session timers (RFC 4028): a call whose other end vanished ends by itself, and proxies forget it too."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from telephony.sip.message import Request, Response
from telephony.sip.timers import Timer, Timers

Refresher = Literal["uac", "uas"]
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_LONGEST_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Terms:
    interval_s: int
    refresher: Refresher
    """Who of this transaction's two ends refreshes."""
    peer_knows: bool = True

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """For a 2xx of ours (RFC 4028 section 9)."""
        value = ("Session-Expires", f"{self.interval_s};refresher={self.refresher}")
        return (value, ("Require", "timer")) if self.refresher == "uac" else (value,)


def seconds(header: str | None) -> int | None:
    """The delta-seconds of `Session-Expires` or `Min-SE`; None where there are none."""
    text = (header or "").partition(";")[0].strip()
    return min(int(text), _LONGEST_S) if _SECONDS.fullmatch(text) else None


def too_short(request: Request, min_s: int) -> bool:
    """Whether to answer 422 with our Min-SE: what is asked for would keep the line busy with refreshing."""
    asked = seconds(request.headers.get("session-expires"))
    return asked is not None and asked < min_s and _knows_timers(request)


def terms_for(request: Request, *, session_s: int, min_s: int) -> Terms | None:
    """What we answer to an INVITE or UPDATE. None: the peer neither asks nor knows timers."""
    asked = seconds(request.headers.get("session-expires"))
    knows = _knows_timers(request)
    if asked is None and not knows:
        return None
    least = max(min_s, seconds(request.headers.get("min-se")) or 0)
    interval = max(least, min(asked, session_s) if asked is not None else session_s)
    wish = _refresher(request.headers.get("session-expires"))
    refresher: Refresher = (wish or "uac") if knows else "uas"
    return Terms(interval, refresher, knows)


def terms_of(response: Response) -> Terms | None:
    """What a 2xx to a request of ours says; None: no timer."""
    interval = seconds(response.headers.get("session-expires"))
    if interval is None:
        return None
    return Terms(max(interval, 90), _refresher(response.headers.get("session-expires")) or "uac")


class SessionTimer:
    """Runs by the last terms. `on_refresh` when it is time for ours, `on_expired` when none came."""

    def __init__(
        self, timers: Timers, *, on_refresh: Callable[[float], None], on_expired: Callable[[float], None]
    ) -> None:
        self.interval_s = 0
        self._timers = timers
        self._on_refresh = on_refresh
        self._on_expired = on_expired
        self._running: list[Timer] = []

    def start(self, terms: Terms | None, *, ours: Refresher, now: float) -> None:
        """Begin anew; `ours` is our side of the transaction that agreed on `terms`."""
        self.stop()
        if terms is None:
            self.interval_s = 0
            return
        self.interval_s = interval = terms.interval_s
        if terms.refresher == ours:
            self._running.append(self._timers.at(now + interval / 2, self._on_refresh))
        # BYE goes out a little before the end (section 10).
        self._running.append(self._timers.at(now + interval - min(32.0, interval / 3), self._on_expired))

    def stop(self) -> None:
        for timer in self._running:
            timer.cancel()
        self._running.clear()


def _knows_timers(request: Request) -> bool:
    return "timer" in request.tokens("supported") | request.tokens("require")


def _refresher(header: str | None) -> Refresher | None:
    parts = [part.strip().lower().replace(" ", "") for part in (header or "").split(";")[1:]]
    if "refresher=uac" in parts:
        return "uac"
    return "uas" if "refresher=uas" in parts else None
