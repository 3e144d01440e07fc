"""Registering with a trunk or PBX, so that its calls come here (RFC 3261 section 10). No clock, no I/O."""

from collections.abc import Callable
from typing import Final

from telephony.sip.config import TrunkConfig
from telephony.sip.core import ALLOW, Core
from telephony.sip.digest import DigestClient
from telephony.sip.errors import MalformedMessage
from telephony.sip.message import Draft, Response
from telephony.sip.session_timer import seconds
from telephony.sip.timers import Timer
from telephony.sip.transactions import ClientTransaction, Flow
from telephony.sip.uri import parse_address

KEEP_ALIVE: Final = b"\r\n\r\n"
_KEEP_ALIVE_S: Final = 25.0
"""NATs forget a UDP binding after 30 s."""
_FIRST_RETRY_S: Final = 5.0
_LONGEST_RETRY_S: Final = 600.0
_SHORTEST_S: Final = 30.0


class Registration:
    """`start`, and it stays registered; `stop` unregisters. `on_change(registered, why)` is called when that
    changes. Failures are tried again after 5 s, then ever more rarely up to 10 minutes."""

    def __init__(
        self,
        core: Core,
        trunk: TrunkConfig,
        flow: Flow,
        *,
        credentials: DigestClient | None,
        on_change: Callable[[bool, str], None] = lambda registered, why: None,
    ) -> None:
        self.registered = False
        self._core = core
        self._trunk = trunk
        self._flow = flow
        self._credentials = credentials
        self._on_change = on_change
        self._call_id = core.token()
        self._tag = core.token()
        self._cseq = 0
        self._expires_s = trunk.expires_s
        self._retry_s = _FIRST_RETRY_S
        self._tries = 0
        self._stopped = False
        self._next: Timer | None = None
        self._ping: Timer | None = None

    def start(self, now: float) -> None:
        self._register(now, self._expires_s)
        if self._ping is None:
            self._ping = self._core.timers.at(now + _KEEP_ALIVE_S, self._keep_alive)

    def stop(self, now: float) -> None:
        """Unregister; whether that arrives nobody waits for."""
        if self._stopped:
            return
        self._stopped = True
        for timer in (self._next, self._ping):
            if timer is not None:
                timer.cancel()
        if self.registered:
            self._register(now, 0)

    def _register(self, now: float, expires_s: int) -> None:
        self._cseq += 1
        self._tries = 0
        trunk = self._trunk
        address = f"<sip:{trunk.user}@{trunk.at}>"
        contact = self._core.contact(self._flow, trunk.user)
        headers = (
            ("From", f"{address};tag={self._tag}"),
            ("To", address),
            ("Call-ID", self._call_id),
            contact,
            ("Expires", str(expires_s)),
            ALLOW,
            *self._core.product,
        )
        self._send(Draft("REGISTER", f"sip:{trunk.at}", self._cseq, headers), now)

    def _send(self, draft: Draft, now: float) -> None:
        self._cseq = draft.cseq
        self._tries += 1
        self._core.layer.request(
            draft,
            self._flow,
            now,
            on_response=self._answered,
            on_timeout=lambda _, now: self._failed("no answer", now),
        )

    def _answered(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        status = response.status
        if status < 200:
            return
        if status < 300:
            if not self._stopped:
                self._succeeded(response, now)
            return
        if status in (401, 407) and self._credentials is not None and self._tries < 3:
            again = self._credentials.authorize(transaction.draft, response)
            if again is not None:
                self._send(again, now)
                return
        least = seconds(response.headers.get("min-expires"))
        if status == 423 and least is not None and least > self._expires_s and not self._stopped:
            self._expires_s = least
            self._register(now, least)
            return
        self._failed(f"{status} {response.reason}", now)

    def _succeeded(self, response: Response, now: float) -> None:
        granted = _granted(response, self._core.contact(self._flow, self._trunk.user)[1]) or self._expires_s
        # Early enough to try again before it lapses.
        again = max(_SHORTEST_S, granted * 0.8 if granted < 300 else granted - 60.0)
        self._next = self._core.timers.at(
            now + min(again, granted), lambda now: self._register(now, self._expires_s)
        )
        self._retry_s = _FIRST_RETRY_S
        if not self.registered:
            self.registered = True
            self._on_change(True, f"for {granted} s")

    def _failed(self, why: str, now: float) -> None:
        if self._stopped:
            return
        self._next = self._core.timers.at(
            now + self._retry_s, lambda now: self._register(now, self._expires_s)
        )
        self._retry_s = min(self._retry_s * 2, _LONGEST_RETRY_S)
        self.registered = False
        self._on_change(False, why)

    def _keep_alive(self, now: float) -> None:
        self._core.layer.send(KEEP_ALIVE, self._flow)
        self._ping = self._core.timers.at(now + _KEEP_ALIVE_S, self._keep_alive)


def _granted(response: Response, contact: str) -> int | None:
    """For how long: a registrar lists every Contact of the account, with how long each still holds."""
    ours = parse_address(contact).uri
    for value in response.headers.listed("contact"):
        try:
            address = parse_address(value)
        except MalformedMessage:
            continue
        if (address.uri.host, address.uri.port) == (ours.host, ours.port):
            found = seconds(address.parameters.get("expires"))
            if found is not None:
                return found
    return seconds(response.headers.get("expires"))
