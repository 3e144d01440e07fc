"""The user agent, without I/O: datagrams and the time go in, datagrams and events come out.

    agent = SipAgent(config, local=..., token=..., key=...)
    agent.receive(data, flow, now)
    for data, flow in agent.sends(): ...
    for event in agent.events(): ...           # telephony.sip.core
    ... at agent.next_deadline(): agent.handle_timer(now)

Nothing that a peer sends makes it raise, wait or look a name up.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from telephony.answer import Lines, WhileAccepting
from telephony.sip.call import Call
from telephony.sip.config import SipConfig, TrunkConfig
from telephony.sip.core import ACCEPT, ALLOW, SUPPORTED, SUPPORTED_OPTIONS, Core, SipEvent
from telephony.sip.dialog import DialogId
from telephony.sip.digest import DigestClient, DigestGate
from telephony.sip.errors import DialFailed, MalformedMessage, SdpRefused
from telephony.sip.guard import Guard, is_scanner
from telephony.sip.inbound import InboundCall
from telephony.sip.message import Request, Response, parse_message
from telephony.sip.numbers import refusal
from telephony.sip.outbound import OutboundCall
from telephony.sip.registration import Registration
from telephony.sip.session_timer import seconds, too_short
from telephony.sip.timers import Timers
from telephony.sip.transactions import Flow, ServerTransaction, TransactionLayer, reply_flow
from telephony.sip.uri import TOKEN, parse_uri

_RETRY_AFTER: Final = ("Retry-After", "5")
_RETRY_ELSEWHERE: Final = ("Retry-After", "30")
"""RFC 3261 section 21.5.4: until then a proxy goes to another of its servers."""
_LONGEST_REGISTRATION_S: Final = 600
Refused = tuple[int, tuple[tuple[str, str], ...]]
"""A status and its headers."""

_IN_DIALOG_ONLY: Final = frozenset({"BYE", "UPDATE", "INFO", "NOTIFY", "REFER"})


class SipAgent:
    """`local(flow)` gives the address and port that the peer of `flow` reaches us at; `token()` at least 16
    random hexadecimal digits; `key` signs nonces. `accepting()` says whether this server takes new calls
    at all, and `lines` has a place for each. `counters` tells what was refused, by reason."""

    def __init__(
        self,
        config: SipConfig,
        *,
        local: Callable[[Flow], tuple[str, int]],
        token: Callable[[], str],
        key: bytes,
        accepting: Callable[[], bool] = lambda: True,
        lines: Lines | None = None,
    ) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()
        self.guard = Guard(config)
        self.timers = Timers()
        self.calls: dict[str, Call] = {}
        self.layer = TransactionLayer(self.timers, self._send, local=local, token=token)
        self._gate = DigestGate(
            config.secrets(), realm=config.realm, key=key, random=token, algorithms=config.digest
        )
        self._accepting = accepting
        self._lines = lines or WhileAccepting(accepting)
        self._token = token
        self._dialogs: dict[DialogId, Call] = {}
        self._dialog_of: dict[str, DialogId] = {}
        self._dialled: dict[tuple[str, str], OutboundCall] = {}
        self._outbox: list[tuple[bytes, Flow]] = []
        self._events: list[SipEvent] = []
        self._core = Core(
            config=config,
            timers=self.timers,
            layer=self.layer,
            token=token,
            local=local,
            emit=self._events.append,
            changed=self._changed,
        )

    # For the shell

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one message of a stream."""
        if not data.strip(b"\r\n\0 \t"):
            return
        if not self.guard.hears(flow.host, now):
            self.counters["too many messages"] += 1
            return
        try:
            message = parse_message(data, stream=flow.transport == "TCP")
        except MalformedMessage as fault:
            self._malformed(fault, flow)
            return
        if isinstance(message, Response):
            self._take_response(message, now)
        else:
            self._take_request(message.seen_from(flow.host, flow.port), flow, now)

    def sends(self) -> list[tuple[bytes, Flow]]:
        """What is to be sent, in order; once."""
        going = self._outbox[:]
        self._outbox.clear()
        return going

    def events(self) -> list[SipEvent]:
        """What happened, in order; once."""
        happened = self._events[:]
        self._events.clear()
        return happened

    def next_deadline(self) -> float | None:
        return self.timers.next_deadline()

    def handle_timer(self, now: float) -> None:
        self.timers.run(now)

    def dial(
        self,
        target: str,
        *,
        flow: Flow,
        port: int,
        caller: str,
        now: float,
        headers: tuple[tuple[str, str], ...] = (),
        credentials: DigestClient | None = None,
    ) -> OutboundCall:
        """Call the URI `target` by way of `flow`, audio at `port` of ours, From the URI `caller`. Raises
        `DialFailed` where that is never dialled or no line is free, and `ValueError` for headers that would
        be none."""
        self.check_dial(target)
        check_headers(headers)
        if len(self.calls) >= self.config.max_calls:
            raise DialFailed(503, "every line is taken")
        call = OutboundCall(
            self._core,
            self._new_key(),
            target=target,
            flow=flow,
            port=port,
            caller=caller,
            headers=headers,
            credentials=credentials,
            now=now,
        )
        if call.over is None:
            self.calls[call.key] = call
            self._dialled[call.call_id, call.tag] = call
        return call

    def registration(
        self,
        trunk: TrunkConfig,
        flow: Flow,
        *,
        credentials: DigestClient | None,
        on_change: Callable[[bool, str], None],
    ) -> Registration:
        """With `trunk` over `flow`; `start` it."""
        return Registration(self._core, trunk, flow, credentials=credentials, on_change=on_change)

    def check_dial(self, target: str) -> None:
        """Raises `DialFailed` for a URI that is none, or a number that is never dialled."""
        try:
            uri = parse_uri(target)
        except MalformedMessage as fault:
            raise DialFailed(404, fault.reason) from None
        barred = refusal(uri.user, self.config.never_dial)
        if barred is not None:
            raise DialFailed(403, f"{barred} is never dialled")

    # What comes in

    def _send(self, data: bytes, flow: Flow) -> None:
        self._outbox.append((data, flow))

    def _malformed(self, fault: MalformedMessage, flow: Flow) -> None:
        self.counters["malformed"] += 1
        request = fault.request
        if request is None or request.method == "ACK" or not self._may_be_answered(flow.host):
            return
        request = request.seen_from(flow.host, flow.port)
        data = request.response(fault.status, tag=self._token())
        self._send(data, reply_flow(request, flow))

    def _may_be_answered(self, host: str) -> bool:
        return self.guard.trusts(host) or bool(self.config.users)

    def _take_response(self, response: Response, now: float) -> None:
        if self.layer.take_response(response, now):
            return
        if response.cseq_method == "INVITE" and 200 <= response.status < 300:
            call = self._dialled.get((response.call_id, response.from_.tag)) or self._dialogs.get(
                (response.call_id, response.from_.tag, response.to.tag)
            )
            if call is not None:
                call.take_repeated_success(response, now)
                return
        self.counters["stray responses"] += 1

    def _take_request(self, request: Request, flow: Flow, now: float) -> None:
        method = request.method
        call = (
            self._dialogs.get((request.call_id, request.to.tag, request.from_.tag))
            if request.to.tag
            else None
        )
        if call is None and (is_scanner(request) or not self._may_be_answered(flow.host)):
            self.counters["strangers"] += 1
            return
        if method == "ACK":
            if not self.layer.take_ack(request) and call is not None:
                call.acknowledge(request, now)
            return
        if self.layer.replay(request):
            return
        if method == "CANCEL":
            self._cancel(request, flow, now)
        elif call is not None:
            call.take(request, self.layer.open(request, flow), flow, now)
        elif self.layer.full:
            self.counters["too many transactions"] += 1
        elif self.layer.merged(request):
            self._answer(request, flow, 482)
        elif request.to.tag or method in _IN_DIALOG_ONLY:
            self._answer(request, flow, 481)
        elif method == "OPTIONS":
            self._answer(request, flow, 200, (ALLOW, ACCEPT, SUPPORTED, *self._core.product))
        elif method == "INVITE":
            self._take_invite(request, flow, now)
        elif method == "REGISTER":
            self._take_register(request, flow, now)
        else:
            self._answer(request, flow, 405, (ALLOW,))

    def _answer(
        self, request: Request, flow: Flow, status: int, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Without a transaction: the request may come again and is answered again."""
        self._send(request.response(status, tag=self._token(), headers=headers), reply_flow(request, flow))

    def _cancel(self, request: Request, flow: Flow, now: float) -> None:
        invite = self.layer.invite_of(request)
        transaction = self.layer.open(request, flow)
        status = 481 if invite is None else 200
        transaction.respond(request.response(status, tag=self._token()), status, now)
        if invite is not None:
            for call in list(self.calls.values()):
                if isinstance(call, InboundCall) and call.is_offered_by(invite):
                    call.cancelled(now)

    def _take_invite(self, request: Request, flow: Flow, now: float) -> None:
        trusted = self.guard.trusts(flow.host)
        user = ""
        if not trusted:
            proved = self._authenticate(request, flow, now)
            if proved is None:
                return
            user = proved
        if not self.guard.takes_invite(flow.host, now):
            self.counters["too many calls at once"] += 1
            self._answer(request, flow, 503, (_RETRY_AFTER,))
            return
        transaction = self.layer.open(request, flow)
        refused = self._refusal(request, flow) or self._offer(transaction, flow, now, user, trusted)
        if refused is not None:
            status, headers = refused
            transaction.respond(request.response(status, tag=self._token(), headers=headers), status, now)

    def _offer(
        self, transaction: ServerTransaction, flow: Flow, now: float, user: str, trusted: bool
    ) -> Refused | None:
        """Offer the call to whoever answers it, once it has its place. Why not, where it comes to nothing."""
        key = self._new_key()
        if not self._lines.take(key):
            return self._busy()
        try:
            call = InboundCall(self._core, key, transaction, flow, now, user=user, trusted=trusted)
        except SdpRefused as bad:
            self._lines.give_back(key)
            warning = ("Warning", f'399 {self._core.local(flow)[0]} "{bad.reason}"')
            return bad.status, (warning,)
        except MalformedMessage:
            self._lines.give_back(key)
            return 400, ()
        self.calls[call.key] = call
        self._changed(call)
        return None

    def _busy(self) -> Refused:
        self.counters["busy"] += 1
        return self.config.busy, (_RETRY_AFTER,)

    def _take_register(self, request: Request, flow: Flow, now: float) -> None:
        """Some phones do not call before they are registered. Whoever may call may register, and is told so;
        nothing is kept of it, for nothing is ever dialled there."""
        if not self.guard.trusts(flow.host) and self._authenticate(request, flow, now) is None:
            return
        contacts = [value for value in request.headers.listed("contact") if value != "*"][:4]
        asked = seconds(request.headers.get("expires"))
        expires = min(_LONGEST_REGISTRATION_S, _LONGEST_REGISTRATION_S if asked is None else asked)
        listed = tuple(("Contact", f"{_bare(value)};expires={expires}") for value in contacts if expires)
        self._answer(request, flow, 200, (*listed, ("Expires", str(expires))))

    def _refusal(self, request: Request, flow: Flow) -> Refused | None:
        """Why an INVITE that was let in is no call all the same."""
        unknown = sorted(request.tokens("require") - SUPPORTED_OPTIONS)
        if unknown:
            return 420, (("Unsupported", ", ".join(unknown)),)
        if request.uri.scheme == "tel" or request.uri.scheme == "sips":
            return 416, ()
        if request.body and request.content_type != "application/sdp":
            return 415, (("Accept", "application/sdp"),)
        if (request.headers.get("content-encoding") or "identity").lower() != "identity":
            return 415, (("Accept-Encoding", "identity"),)
        if too_short(request, self.config.min_session_s):
            return 422, (("Min-SE", str(self.config.min_session_s)),)
        if not self._accepting():
            self.counters["closing"] += 1
            return 503, (_RETRY_ELSEWHERE,)
        from_there = sum(call.flow.host == flow.host for call in self.calls.values())
        if len(self.calls) >= self.config.max_calls or from_there >= self.config.max_calls_per_source:
            return self._busy()
        return None

    def _authenticate(self, request: Request, flow: Flow, now: float) -> str | None:
        """The user whose secret the request shows. None: it was answered, or better not."""
        if not self.guard.may_ask(flow.host, now):
            self.counters["wrong credentials"] += 1
            return None
        verdict = self._gate.check(request, now)
        if verdict.user is not None:
            self.guard.proved(flow.host, now)
            return verdict.user
        if verdict.tried and not verdict.stale:
            self.counters["wrong credentials"] += 1
            self.guard.failed(flow.host, now)
        self._answer(request, flow, 401, self._gate.challenges(now, stale=verdict.stale))
        return None

    # Calls

    def _new_key(self) -> str:
        return f"sip-{self._token()}"

    def _changed(self, call: Call) -> None:
        """Keep the tables by which messages find their call."""
        known = self._dialog_of.pop(call.key, None)
        if known is not None:
            self._dialogs.pop(known, None)
        if call.over is None:
            if call.dialog is not None:
                self._dialogs[call.dialog.id] = call
                self._dialog_of[call.key] = call.dialog.id
            return
        self.calls.pop(call.key, None)
        self._lines.give_back(call.key)
        if isinstance(call, OutboundCall):
            self._dialled.pop((call.call_id, call.tag), None)


def check_headers(headers: tuple[tuple[str, str], ...]) -> None:
    """Raises `ValueError` for what would break out of its line, or change what the INVITE means."""
    for name, value in headers:
        if not TOKEN.fullmatch(name) or not name.lower().startswith("x-"):
            raise ValueError(f"only X- headers may be added to a call, not {name!r}")
        if len(value) > 1_000 or any(character < " " or character == "\x7f" for character in value):
            raise ValueError(f"{name} must be one line of at most 1000 characters")


def _bare(contact: str) -> str:
    """A Contact without the header's own parameters."""
    end = contact.rfind(">")
    return contact[: end + 1] if end >= 0 else f"<{contact.partition(';')[0]}>"
