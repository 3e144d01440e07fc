"""A call that is up: what either end may say in its dialog, until one says BYE.

`InboundCall` and `OutboundCall` set one up. The peer may put us on hold and take us back (re-INVITE, UPDATE),
press keys (INFO), ask for a transfer (REFER, which we decline: whoever calls must not make us dial); we may
transfer it (REFER, then NOTIFY) and refresh the session. Everything else gets the status that RFC 3261 has
for it.
"""

import re
from collections.abc import Callable
from typing import Final

from telephony.sip.core import (
    ACCEPT,
    ALLOW,
    SDP_TYPE,
    SUPPORTED,
    CallOver,
    CallUp,
    Core,
    KeyByInfo,
    MediaAgreed,
    TransferNews,
)
from telephony.sip.dialog import Dialog
from telephony.sip.digest import DigestClient
from telephony.sip.errors import MalformedMessage, SdpRefused
from telephony.sip.message import Draft, Request, Response
from telephony.sip.sdp import MediaSession
from telephony.sip.session_timer import SessionTimer, Terms, seconds, terms_for, terms_of, too_short
from telephony.sip.timers import Timer
from telephony.sip.transactions import ClientTransaction, Flow, ServerTransaction

CALLER_HUNG_UP: Final = "caller hung up"
TRANSFERRED: Final = "transferred"
CONNECTION_LOST: Final = "connection lost"

_KEYS: Final = frozenset("0123456789*#ABCD")
_KEY_NUMBERS: Final = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
_SIGNAL: Final = re.compile(
    rb"^[ \t]*signal[ \t]*=[ \t]*([0-9A-Da-d*#]{1,2})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_SIPFRAG: Final = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})\b")
_GLARE_S: Final = (2.1, 0.5)
"""How long the owner of the Call-ID, and the other one, wait before they offer again (RFC 3261 section
14.1)."""


class Call:
    """One call. `key` is its name for everybody above; `over` why it ended, None while it lives."""

    def __init__(self, core: Core, key: str, *, inbound: bool, flow: Flow) -> None:
        self.key = key
        self.inbound = inbound
        self.flow = flow
        self.over: str | None = None
        self.up = False
        self.dialog: Dialog | None = None
        self.credentials: DigestClient | None = None
        """For a trunk that asks who we are in the middle of a call, too."""
        self._core = core
        self._session: MediaSession | None = None
        self._timer = SessionTimer(core.timers, on_refresh=self._refresh, on_expired=self._expired)
        self._peer_allows: set[str] = set()
        self._accepted: ServerTransaction | None = None
        """The peer's INVITE that we answered and that waits for its ACK; `_owed`: with an answer in it."""
        self._owed = False
        self._offering: ClientTransaction | None = None
        """Our own re-INVITE."""
        self._acks: dict[str, bytes] = {}
        """ACKs sent, by the tag of the peer: a 2xx that comes again gets them again."""
        self._transfer_deadline: Timer | None = None
        self._refer_taken = False
        self._handlers: dict[str, Callable[[Request, ServerTransaction, Flow, float], None]] = {
            "INVITE": self._on_reinvite,
            "UPDATE": self._on_update,
            "BYE": self._on_bye,
            "INFO": self._on_info,
            "NOTIFY": self._on_notify,
        }

    # For whoever holds the call

    def hang_up(self, now: float) -> None:
        """BYE, or what comes closest where the call is not up yet. Again: nothing."""
        self._bye("we hung up", now)

    def end(self, reason: str, now: float) -> None:
        """The same, with the reason for `CallOver`."""
        self._bye(reason, now)

    def transfer(self, target: str, now: float) -> None:
        """REFER the peer to the URI `target`, already checked; `TransferNews` tells how that goes."""
        if self.over is not None or self.dialog is None or self._transfer_deadline is not None:
            self._core.emit(TransferNews(self, 491, final=True))
            return
        self._refer_taken = False
        self._transfer_deadline = self._core.timers.at(
            now + self._core.config.transfer_timeout_s, self._transfer_late
        )
        draft = self.dialog.draft(
            "REFER",
            (
                ("Refer-To", f"<{target}>"),
                ("Referred-By", f"<{self._own_uri()}>"),
                self._core.contact(self.flow),
                *self._core.product,
            ),
        )

        def answered(response: Response, now: float) -> None:
            if response.status >= 300:
                self._transfer_done(response.status)
            else:
                self._refer_taken = True

        self._request(draft, now, answered, lambda now: self._transfer_done(408))

    @property
    def transferring(self) -> bool:
        return self._transfer_deadline is not None

    # What the peer says

    def take(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        """A request within the dialog, other than ACK and CANCEL."""
        dialog = self.dialog
        if dialog is None or self.over is not None:
            self._respond(transaction, 481, now)
        elif not dialog.takes(request.cseq):
            self._respond(transaction, 500, now, "CSeq Out Of Order")
        elif request.method == "REFER":
            self._respond(transaction, 603, now)
        elif request.method == "OPTIONS":
            self._respond(transaction, 200, now, headers=(ALLOW, ACCEPT, SUPPORTED))
        elif request.method in self._handlers:
            self._handlers[request.method](request, transaction, flow, now)
        else:
            self._respond(transaction, 405, now, headers=(ALLOW,))

    def acknowledge(self, request: Request, now: float) -> None:
        """The ACK of a 2xx of ours."""
        accepted = self._accepted
        if accepted is None or accepted.request.cseq != request.cseq:
            return
        accepted.acknowledged()
        self._accepted = None
        if self.over is not None:
            return
        if self._owed and not self._take_answer(request.body, now):
            return
        self._come_up(now)

    # For the two ways to set a call up

    def _come_up(self, now: float) -> None:
        if not self.up:
            self.up = True
            self._core.emit(CallUp(self))

    def _own_uri(self) -> str:
        return self._core.contact(self.flow)[1].strip("<>")

    def _respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        reason: str = "",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> None:
        tag = self.dialog.local_tag if self.dialog is not None else ""
        data = transaction.request.response(status, reason, tag=tag, headers=headers, body=body)
        transaction.respond(data, status, now)

    def _refuse_sdp(self, transaction: ServerTransaction, refused: SdpRefused, now: float) -> None:
        host, _ = self._core.local(self.flow)
        warning = ("Warning", f'399 {host} "{refused.reason}"')
        self._respond(transaction, refused.status, now, headers=(warning,))

    def _accept_invite(
        self, transaction: ServerTransaction, body: bytes, terms: Terms | None, now: float, *, owed: bool
    ) -> None:
        """200 with a description; `owed` when it is our offer."""
        self._accepted, self._owed = transaction, owed
        transaction.on_unacknowledged = self._unacknowledged
        headers = (
            self._core.contact(self.flow),
            ALLOW,
            SUPPORTED,
            *(terms.headers if terms is not None else ()),
            *self._core.product,
            SDP_TYPE,
        )
        self._respond(transaction, 200, now, headers=headers, body=body)
        self._timer.start(terms, ours="uas", now=now)

    def _take_answer(self, body: bytes, now: float) -> bool:
        """The answer to an offer of ours. Without a usable one there is no call."""
        self._owed = False
        assert self._session is not None  # noqa: S101
        try:
            plan = self._session.take_answer(body, source=self.flow.host)
        except SdpRefused as refused:
            self._bye(f"protocol error: {refused.reason}", now)
            return False
        self._core.emit(MediaAgreed(self, plan))
        return True

    def _unacknowledged(self, now: float) -> None:
        self._accepted = None
        self._bye(f"{CONNECTION_LOST}: our answer was never acknowledged", now)

    # Handlers

    def _on_reinvite(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        if self._offering is not None or self._accepted is not None:
            self._respond(transaction, 491, now)
            return
        body = self._answered_offer(request, transaction, flow, now)
        if body is None:
            return
        owed = not request.body
        assert self._session is not None  # noqa: S101
        config = self._core.config
        terms = terms_for(request, session_s=config.session_expires_s, min_s=config.min_session_s)
        self._accept_invite(transaction, self._session.offer() if owed else body, terms, now, owed=owed)

    def _on_update(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        if request.body and (self._offering is not None or self._owed):
            self._respond(transaction, 491, now)
            return
        body = self._answered_offer(request, transaction, flow, now)
        if body is None:
            return
        config = self._core.config
        terms = terms_for(request, session_s=config.session_expires_s, min_s=config.min_session_s)
        headers = (self._core.contact(self.flow), ALLOW, SUPPORTED, *(terms.headers if terms else ()))
        self._respond(transaction, 200, now, headers=(*headers, SDP_TYPE) if body else headers, body=body)
        if terms is not None:
            self._timer.start(terms, ours="uas", now=now)

    def _answered_offer(
        self, request: Request, transaction: ServerTransaction, flow: Flow, now: float
    ) -> bytes | None:
        """What stands in a re-INVITE or UPDATE, done: our answer, b"" where nothing was offered, None where
        it was refused. A refused offer changes nothing."""
        config = self._core.config
        if too_short(request, config.min_session_s):
            self._respond(transaction, 422, now, headers=(("Min-SE", str(config.min_session_s)),))
            return None
        if request.body and request.content_type != "application/sdp":
            self._respond(transaction, 415, now, headers=(("Accept", "application/sdp"),))
            return None
        assert self.dialog is not None  # noqa: S101
        answer = b""
        try:
            request.contact()
            if request.body:
                if self._session is None:
                    raise SdpRefused("an offer before the first was answered", 488)
                answer, plan = self._session.answer(request.body, source=flow.host)
        except SdpRefused as refused:
            self._refuse_sdp(transaction, refused, now)
            return None
        except MalformedMessage:
            self._respond(transaction, 400, now)
            return None
        self.dialog.refresh(request, flow)
        self.flow = flow
        if answer:
            self._core.emit(MediaAgreed(self, plan))
        return answer

    def _on_bye(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        self._respond(transaction, 200, now)
        # A peer that took our REFER may say BYE as soon as it is on its way.
        gone = self.transferring and self._refer_taken
        self._close(TRANSFERRED if gone else CALLER_HUNG_UP)

    def _on_info(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        kind = request.content_type
        if kind not in ("application/dtmf-relay", "application/dtmf"):
            if request.body or kind:
                self._respond(transaction, 415, now, headers=(ACCEPT,))
            else:
                self._respond(transaction, 200, now)
            return
        digit = _key_of(request.body, relay=kind == "application/dtmf-relay")
        if digit is None:
            self._respond(transaction, 400, now)
            return
        self._respond(transaction, 200, now)
        self._core.emit(KeyByInfo(self, digit))

    def _on_notify(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        event = (request.headers.get("event") or "").partition(";")[0].strip().lower()
        if event != "refer":
            self._respond(transaction, 489, now, "Bad Event", headers=(("Allow-Events", "refer"),))
            return
        if not self.transferring:
            self._respond(transaction, 481, now)
            return
        self._respond(transaction, 200, now)
        line = _SIPFRAG.match(request.body)
        status = int(line[1]) if line is not None and request.content_type == "message/sipfrag" else 100
        ended = (request.headers.get("subscription-state") or "").strip().lower().startswith("terminated")
        if status >= 200:
            self._transfer_done(status)
        elif ended:
            # It will never tell us how it went.
            self._transfer_done(480)
        else:
            self._core.emit(TransferNews(self, status, final=False))

    # Transfers

    def _transfer_done(self, status: int) -> None:
        if self._transfer_deadline is not None:
            self._transfer_deadline.cancel()
            self._transfer_deadline = None
            self._core.emit(TransferNews(self, status, final=True))

    def _transfer_late(self, now: float) -> None:
        self._transfer_done(408)

    # Refreshing

    def _refresh(self, now: float) -> None:
        dialog, session = self.dialog, self._session
        if self.over is not None or dialog is None or session is None or self._offering or self._accepted:
            return
        asked: tuple[tuple[str, str], ...] = (
            ("Session-Expires", f"{self._timer.interval_s};refresher=uac"),
            ("Min-SE", str(self._core.config.min_session_s)),
            self._core.contact(self.flow),
            SUPPORTED,
            ALLOW,
        )
        if "update" in self._peer_allows:
            self._request(dialog.draft("UPDATE", asked), now, self._refreshed, self._vanished)
        else:
            draft = dialog.draft("INVITE", (*asked, SDP_TYPE), session.offer())
            self._offering = self._request(draft, now, self._reoffered, self._vanished)

    def _refreshed(self, response: Response, now: float) -> None:
        if response.status in (408, 481):
            self._vanished(now)
        elif response.status == 422:
            terms = Terms(
                max(seconds(response.headers.get("min-se")) or 0, self._timer.interval_s, 90), "uac"
            )
            self._timer.start(terms, ours="uac", now=now)
        elif response.status == 491:
            self._core.timers.at(now + _GLARE_S[self.inbound], self._refresh)
        elif response.status < 300:
            self._timer.start(terms_of(response), ours="uac", now=now)

    def _reoffered(self, response: Response, now: float) -> None:
        self._offering = None
        if response.status < 300 and self.dialog is not None:
            draft = self.dialog.draft("ACK", cseq=response.cseq)
            self._acks[response.to.tag] = self._core.layer.send_ack(draft, self.dialog.destination())
            if not self._take_answer(response.body, now):
                return
        self._refreshed(response, now)

    def _vanished(self, now: float) -> None:
        self._offering = None
        self._bye(CONNECTION_LOST, now)

    def _expired(self, now: float) -> None:
        self._bye(f"{CONNECTION_LOST}: the session was not refreshed", now)

    # Requests of ours

    def take_repeated_success(self, response: Response, now: float) -> None:
        """A 2xx to an INVITE of ours that was acknowledged before: the ACK was lost."""
        ack = self._acks.get(response.to.tag)
        if ack is not None and self.dialog is not None:
            self._core.layer.send(ack, self.dialog.destination())

    def _request(
        self,
        draft: Draft,
        now: float,
        on_final: Callable[[Response, float], None],
        on_timeout: Callable[[float], None],
    ) -> ClientTransaction:
        """Send within the dialog; meets a challenge once where we have credentials."""
        assert self.dialog is not None  # noqa: S101
        dialog = self.dialog

        def answered(transaction: ClientTransaction, response: Response, now: float) -> None:
            if response.status < 200:
                return
            if response.status in (401, 407) and self.credentials is not None:
                again = self.credentials.authorize(transaction.draft, response)
                if again is not None:
                    dialog.cseq = max(dialog.cseq, again.cseq)
                    self._core.layer.request(
                        again, dialog.destination(), now, on_response=answered, on_timeout=late
                    )
                    return
            on_final(response, now)

        def late(transaction: ClientTransaction, now: float) -> None:
            on_timeout(now)

        return self._core.layer.request(
            draft, dialog.destination(), now, on_response=answered, on_timeout=late
        )

    # The end

    def _bye(self, reason: str, now: float) -> None:
        if self.over is not None or self.dialog is None:
            return
        draft = self.dialog.draft("BYE", self._core.product)
        self._close(reason)
        self._request(draft, now, lambda response, now: None, lambda now: None)

    def _close(self, reason: str, status: int = 0) -> None:
        if self.over is not None:
            return
        self.over = reason
        self._timer.stop()
        if self._transfer_deadline is not None:
            self._transfer_deadline.cancel()
            self._transfer_deadline = None
        self._core.emit(CallOver(self, reason, status))
        self._core.changed(self)


def _key_of(body: bytes, *, relay: bool) -> str | None:
    """The key in `Signal=5`, or in a body that is the key itself; numbers 10 to 15 mean * # A B C D."""
    if relay:
        match = _SIGNAL.search(body)
        text = match[1].decode("ascii") if match is not None else ""
    else:
        text = body[:16].strip().decode("ascii", "replace")
    text = _KEY_NUMBERS.get(text, text).upper()
    return text if text in _KEYS else None
