"""A call to us, from INVITE to ACK."""

from typing import Final

from telephony.sip.call import CALLER_HUNG_UP, Call
from telephony.sip.core import CallOffered, Core, MediaAgreed
from telephony.sip.dialog import Dialog
from telephony.sip.errors import MalformedMessage, SdpRefused
from telephony.sip.message import Request, shown
from telephony.sip.sdp import MediaSession
from telephony.sip.session_timer import terms_for
from telephony.sip.transactions import Flow, ServerTransaction
from telephony.sip.uri import parse_address

_DRY_RUN_PORT: Final = 9


class InboundCall(Call):
    """Made by the agent for an INVITE that was let in. Raises `MalformedMessage` and `SdpRefused` before
    anybody hears of it; then emits `CallOffered` and waits for `accept` or `refuse`. `user` is whose secret
    it had; `trusted` says that its source may say who is calling."""

    def __init__(
        self,
        core: Core,
        key: str,
        transaction: ServerTransaction,
        flow: Flow,
        now: float,
        *,
        user: str,
        trusted: bool,
    ) -> None:
        super().__init__(core, key, inbound=True, flow=flow)
        request = transaction.request
        tag = core.token()
        self.user = user
        self.invite = request
        self._transaction = transaction
        self._peer_allows = request.tokens("allow")
        self._trusted = trusted
        self._gone = ""
        dialog = Dialog.of_request(request, flow, tag, cseq=0)
        if request.body:
            # Whether it can be answered is said at once, not when a port was opened for it.
            self._media(_DRY_RUN_PORT).answer(request.body, source=flow.host)
        self.dialog = dialog
        self._respond(transaction, 100, now)
        core.emit(CallOffered(self))

    def accept(self, port: int, now: float) -> None:
        """Take the call, its audio at `port` of ours. Nothing where the caller has left meanwhile."""
        transaction = self._transaction
        if self.over is not None or transaction.answered:
            return
        request = transaction.request
        session = self._session = self._media(port)
        config = self._core.config
        terms = terms_for(request, session_s=config.session_expires_s, min_s=config.min_session_s)
        if not request.body:
            self._accept_invite(transaction, session.offer(), terms, now, owed=True)
            return
        try:
            answer, plan = session.answer(request.body, source=self.flow.host)
        except SdpRefused as refused:
            # Not reached: the dry run said the same.
            self._refuse_sdp(transaction, refused, now)
            self._close(refused.reason)
            return
        self._accept_invite(transaction, answer, terms, now, owed=False)
        self._core.emit(MediaAgreed(self, plan))

    def ring(self, now: float) -> None:
        """180, where taking the call takes a while."""
        if self.over is None and not self._transaction.answered:
            self._respond(self._transaction, 180, now, headers=(self._core.contact(self.flow),))

    def refuse(self, status: int, now: float) -> None:
        if self.over is None and not self._transaction.answered:
            self._respond(self._transaction, status, now)
            self._close(f"refused with {status}")

    def is_offered_by(self, transaction: ServerTransaction) -> bool:
        return transaction is self._transaction

    def cancelled(self, now: float) -> None:
        """The caller's CANCEL."""
        if self.over is None and not self._transaction.answered:
            self._respond(self._transaction, 487, now)
            self._close(CALLER_HUNG_UP)

    def end(self, reason: str, now: float) -> None:
        if not self._transaction.answered:
            self.refuse(480, now)
        elif self._accepted is not None and not self.up:
            # A BYE must not overtake the 2xx (RFC 3261 section 15): it goes when the ACK is here.
            self._gone = self._gone or reason
        else:
            super().end(reason, now)

    def hang_up(self, now: float) -> None:
        self.end("we hung up", now)

    def acknowledge(self, request: Request, now: float) -> None:
        # Whoever wanted it gone need not hear that it is up.
        self.up = self.up or bool(self._gone)
        super().acknowledge(request, now)
        if self._gone and self._accepted is None:
            self._bye(self._gone, now)

    def _media(self, port: int) -> MediaSession:
        host, _ = self._core.local(self.flow)
        return MediaSession(
            (host, port), codecs=self._core.config.codecs, session_id=int(self._core.token()[:8], 16)
        )

    # Who is calling

    @property
    def caller(self) -> str:
        """The caller's number or name; that of the trunk's P-Asserted-Identity where there is one."""
        for value in self.invite.headers.listed("p-asserted-identity") if self._trusted else ():
            try:
                user = parse_address(value).uri.user
            except MalformedMessage:
                continue
            if user:
                return shown(user)
        uri = self.invite.from_.uri
        return shown(uri.user or uri.host)

    @property
    def called(self) -> str:
        return shown(self.invite.uri.user or self.invite.to.uri.user)

    @property
    def parameters(self) -> dict[str, str]:
        """What the INVITE tells beyond numbers: X- headers, the dialled user, the account, the Call-ID."""
        told = {"sip_user": shown(self.invite.uri.user), "sip_call_id": shown(self.invite.call_id)}
        if self.user:
            told["sip_account"] = self.user
        if self.invite.from_.display:
            told["sip_display_name"] = shown(self.invite.from_.display)[:256]
        for key, value in self.invite.headers.keyed():
            if key.startswith("x-") and len(key) <= 64 and len(told) < 64:
                told.setdefault("sip_header_" + key.replace("-", "_"), shown(value)[:1_000])
        return told
