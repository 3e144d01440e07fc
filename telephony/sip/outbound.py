"""A call of ours, from INVITE to the 2xx of whoever answers, or to why nobody did."""

from typing import Final

from telephony.sip.call import Call
from telephony.sip.core import ALLOW, SDP_TYPE, SUPPORTED, CallRinging, CallUp, Core
from telephony.sip.dialog import Dialog
from telephony.sip.digest import DigestClient
from telephony.sip.errors import MalformedMessage
from telephony.sip.message import Draft, Response
from telephony.sip.sdp import MediaSession
from telephony.sip.session_timer import seconds, terms_of
from telephony.sip.timers import Timer
from telephony.sip.transactions import TIMEOUT, ClientTransaction, Flow

_MOST_TRIES: Final = 4
"""A challenge by the proxy, one by the far end, one longer session."""


class OutboundCall(Call):
    """Sends its INVITE when it is made. `target` is a URI that was checked, `flow` where it goes; `caller`
    the URI that stands in From. `headers` are more lines of the INVITE, checked too."""

    def __init__(
        self,
        core: Core,
        key: str,
        *,
        target: str,
        flow: Flow,
        port: int,
        caller: str,
        headers: tuple[tuple[str, str], ...],
        credentials: DigestClient | None,
        now: float,
    ) -> None:
        super().__init__(core, key, inbound=False, flow=flow)
        self.credentials = credentials
        self.tag = core.token()
        host, _ = core.local(flow)
        self.call_id = f"{core.token()}@{host}"
        self._session = MediaSession(
            (host, port), codecs=core.config.codecs, session_id=int(core.token()[:8], 16)
        )
        self._early: bytes = b""
        self._tries = 0
        self._cancel_wanted = False
        self._transaction: ClientTransaction | None = None
        self._no_answer: Timer = core.timers.at(now + core.config.answer_timeout_s, self._nobody_answered)
        config = core.config
        self._invite(
            Draft(
                "INVITE",
                target,
                1,
                (
                    ("From", f"<{caller}>;tag={self.tag}"),
                    ("To", f"<{target}>"),
                    ("Call-ID", self.call_id),
                    core.contact(flow),
                    ALLOW,
                    SUPPORTED,
                    ("Session-Expires", str(config.session_expires_s)),
                    ("Min-SE", str(config.min_session_s)),
                    *core.product,
                    *headers,
                    SDP_TYPE,
                ),
                self._session.offer(),
            ),
            now,
        )

    def cancel(self, now: float, reason: str = "we hung up", status: int = 487) -> None:
        """Nobody waits for the answer any more: CANCEL, and BYE to whoever answers all the same."""
        if self.over is not None or self.up:
            return
        self._cancel_wanted = True
        transaction = self._transaction
        self._close(reason, status)
        if transaction is not None and transaction.provisional:
            transaction.cancel(now)
        if transaction is not None:
            self._core.timers.at(now + TIMEOUT, transaction.abandon)

    def end(self, reason: str, now: float) -> None:
        if self.up:
            super().end(reason, now)
        else:
            self.cancel(now, reason)

    def hang_up(self, now: float) -> None:
        self.end("we hung up", now)

    def take_repeated_success(self, response: Response, now: float) -> None:
        tag = response.to.tag
        if self.dialog is None or tag in self._acks:
            super().take_repeated_success(response, now)
        elif tag != self.dialog.remote_tag and self._transaction is not None:
            # A proxy rang several phones, and a second one answered (RFC 3261 section 13.2.2.4).
            self._thank_and_leave(self._transaction.draft, response, now)

    def _invite(self, draft: Draft, now: float) -> None:
        self._tries += 1
        self._transaction = self._core.layer.request(
            draft, self.flow, now, on_response=self._answered, on_timeout=self._timed_out
        )

    def _answered(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        status = response.status
        if self._cancel_wanted:
            if 100 <= status < 200:
                # A CANCEL may go only once something came back (section 9.1).
                transaction.cancel(now)
            elif status < 300:
                self._thank_and_leave(transaction.draft, response, now)
        elif status < 200:
            if status > 100:
                if response.content_type == "application/sdp":
                    self._early = response.body
                self._core.emit(CallRinging(self, status))
        elif status < 300:
            self._taken(transaction, response, now)
        elif not self._again(transaction.draft, response, now):
            self._fail(status, response.reason or "no reason given")

    def _again(self, draft: Draft, response: Response, now: float) -> bool:
        """Try once more where the response says how."""
        if self._tries >= _MOST_TRIES:
            return False
        again: Draft | None = None
        if response.status in (401, 407) and self.credentials is not None:
            again = self.credentials.authorize(draft, response)
        elif response.status == 422:
            least = seconds(response.headers.get("min-se"))
            if least is not None and least > (seconds(draft.header("session-expires")) or 0):
                longer = draft.with_headers(("Session-Expires", str(least)), ("Min-SE", str(least)))
                again = Draft(draft.method, draft.uri, draft.cseq + 1, longer.headers, draft.body)
        if again is None:
            return False
        self._invite(again, now)
        return True

    def _taken(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self._no_answer.cancel()
        try:
            self.dialog = Dialog.of_response(transaction.draft, response, self.flow)
        except MalformedMessage as fault:
            self._fail(500, f"protocol error: {fault.reason}")
            return
        self._acknowledge(self.dialog, response)
        self._peer_allows = response.tokens("allow")
        self._core.changed(self)
        if not self._take_answer(response.body or self._early, now):
            return
        self._timer.start(terms_of(response), ours="uac", now=now)
        self.up = True
        self._core.emit(CallUp(self))

    def _acknowledge(self, dialog: Dialog, response: Response) -> None:
        draft = dialog.draft("ACK", cseq=response.cseq)
        self._acks[response.to.tag] = self._core.layer.send_ack(draft, dialog.destination())

    def _thank_and_leave(self, draft: Draft, response: Response, now: float) -> None:
        """ACK and BYE to one whose answer comes too late."""
        try:
            dialog = Dialog.of_response(draft, response, self.flow)
        except MalformedMessage:
            return
        self._acknowledge(dialog, response)
        self._core.layer.request(
            dialog.draft("BYE"),
            dialog.destination(),
            now,
            on_response=lambda *_: None,
            on_timeout=lambda *_: None,
        )

    def _timed_out(self, transaction: ClientTransaction, now: float) -> None:
        self._fail(408, "no answer to our INVITE")

    def _nobody_answered(self, now: float) -> None:
        self.cancel(now, "no answer", 408)

    def _fail(self, status: int, reason: str) -> None:
        self._no_answer.cancel()
        self._close(reason, status)
