"""Transactions: retransmissions, replays and time-outs (RFC 3261 section 17, RFC 6026).

    if not layer.replay(request):               # else: seen before, and dealt with
        transaction = layer.open(request, flow)
        transaction.respond(data, status, now)
    layer.request(draft, flow, now, on_response=..., on_timeout=...)
    layer.take_response(response, now)

A request that comes again is answered with what it was answered before; nobody above sees it twice. Over TCP
nothing is repeated, and everything else is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from telephony.sip.message import Draft, Request, Response
from telephony.sip.timers import Timer, Timers
from telephony.sip.uri import bracketed

T1: Final = 0.5
"""Estimate of a round trip; the first retransmission comes after it."""
T2: Final = 4.0
T4: Final = 5.0
TIMEOUT: Final = 64 * T1
"""Timers B, F, H, J and the 2xx of an INVITE: 32 s."""
BRANCH_COOKIE: Final = "z9hG4bK"

Transport = Literal["UDP", "TCP"]


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a message came from, or goes to: over TCP the connection with that peer."""

    transport: Transport
    host: str
    port: int


Send = Callable[[bytes, Flow], None]
OnResponse = Callable[["ClientTransaction", Response, float], None]
OnTimeout = Callable[["ClientTransaction", float], None]
ServerKey = tuple[str, str, str, str, int]
ClientKey = tuple[str, str]


def reply_flow(request: Request, flow: Flow) -> Flow:
    """Where responses go: the source address always, and its port too where `rport` asks for that (RFC 3581),
    else the port of the Via. What a Via says about hosts is never followed."""
    if flow.transport == "TCP" or "rport" in request.via.parameters:
        return flow
    return Flow(flow.transport, flow.host, request.via.port or 5060)


class ServerTransaction:
    """One request of the peer. `on_unacknowledged` is called when a final response to an INVITE was not
    acknowledged for 32 s."""

    def __init__(self, layer: "TransactionLayer", request: Request, flow: Flow, key: ServerKey) -> None:
        self.request = request
        self.flow = reply_flow(request, flow)
        self.status = 0
        self.on_unacknowledged: Callable[[float], None] = lambda now: None
        self._layer = layer
        self._key = key
        self._last: bytes | None = None
        self._acknowledged = False
        self._retransmit: Timer | None = None
        self._interval = T1

    @property
    def answered(self) -> bool:
        """Whether a final response was sent."""
        return self.status >= 200

    def respond(self, data: bytes, status: int, now: float) -> None:
        """Send a response. Only the first final one counts."""
        if self.answered:
            return
        self.status = status
        self._last = data
        self._layer.send(data, self.flow)
        if status < 200:
            return
        if self.request.method == "INVITE":
            # A 2xx is repeated over every transport: it must get to the other end (section 13.3.1.4).
            if self.flow.transport == "UDP" or status < 300:
                self._retransmit = self._layer.timers.at(now + T1, self._repeat)
            self._layer.timers.at(now + TIMEOUT, self._give_up)
        else:
            self._layer.timers.at(now + TIMEOUT, self._forget)

    def replay(self) -> None:
        """The request came again."""
        if self._last is not None and not (self._acknowledged and self.status < 300):
            self._layer.send(self._last, self.flow)

    def acknowledged(self) -> None:
        """The ACK came."""
        self._acknowledged = True
        if self._retransmit is not None:
            self._retransmit.cancel()

    def _repeat(self, now: float) -> None:
        if self._acknowledged or self._last is None:
            return
        self._layer.send(self._last, self.flow)
        self._interval = min(self._interval * 2, T2)
        self._retransmit = self._layer.timers.at(now + self._interval, self._repeat)

    def _give_up(self, now: float) -> None:
        self._forget(now)
        if not self._acknowledged:
            self._acknowledged = True
            self.on_unacknowledged(now)

    def _forget(self, now: float) -> None:
        self._layer.forget_server(self._key)


class ClientTransaction:
    """One request of ours. Responses go to `on_response`: all provisional ones, then one final one."""

    def __init__(
        self,
        layer: "TransactionLayer",
        draft: Draft,
        flow: Flow,
        branch: str,
        on_response: OnResponse,
        on_timeout: OnTimeout,
    ) -> None:
        self.draft = draft
        self.flow = flow
        self.branch = branch
        self.provisional = False
        self.final = False
        self._layer = layer
        self._on_response = on_response
        self._on_timeout = on_timeout
        self._data = draft.to_bytes(layer.via(flow, branch))
        self._ack: bytes | None = None
        self._interval = T1
        self._timeout: Timer | None = None

    @property
    def key(self) -> ClientKey:
        return self.branch, self.draft.method

    def start(self, now: float) -> None:
        self._layer.send(self._data, self.flow)
        if self.flow.transport == "UDP":
            self._layer.timers.at(now + T1, self._repeat)
        self._timeout = self._layer.timers.at(now + TIMEOUT, self._time_out)

    def take(self, response: Response, now: float) -> None:
        if self.final:
            if self._ack is not None and response.status >= 300:
                self._layer.send(self._ack, self.flow)
            return
        invite = self.draft.method == "INVITE"
        if response.status < 200:
            self.provisional = True
            if invite and self._timeout is not None:
                # Somebody's phone rings: from here on the caller of `request` decides how long.
                self._timeout.cancel()
            self._on_response(self, response, now)
            return
        self.final = True
        if self._timeout is not None:
            self._timeout.cancel()
        if invite and response.status >= 300:
            self._ack = self._acknowledgement(response)
            self._layer.send(self._ack, self.flow)
        self._layer.timers.at(now + TIMEOUT, self._forget)
        self._on_response(self, response, now)

    def abandon(self, now: float) -> None:
        """Nobody waits for the response any more."""
        if not self.final:
            self.final = True
            self._forget(now)

    def cancel(self, now: float) -> None:
        """Send a CANCEL for this INVITE (section 9.1): same branch, same CSeq number."""
        kept = ("from", "to", "call-id", "route", "max-forwards")
        headers = tuple(pair for pair in self.draft.headers if pair[0].lower() in kept)
        draft = Draft("CANCEL", self.draft.uri, self.draft.cseq, headers)
        self._layer.start(draft, self.flow, now, self.branch, lambda *_: None, lambda *_: None)

    def _acknowledgement(self, response: Response) -> bytes:
        """The ACK to a response that is no 2xx (section 17.1.1.3)."""
        kept = tuple(pair for pair in self.draft.headers if pair[0].lower() in ("from", "call-id", "route"))
        headers = (*kept, ("To", response.headers.get("to") or ""))
        draft = Draft("ACK", self.draft.uri, self.draft.cseq, headers)
        return draft.to_bytes(self._layer.via(self.flow, self.branch))

    def _repeat(self, now: float) -> None:
        invite = self.draft.method == "INVITE"
        if self.final or (invite and self.provisional):
            return
        self._layer.send(self._data, self.flow)
        # An INVITE doubles without end, others up to T2, and stay at T2 once a 1xx came.
        self._interval = self._interval * 2 if invite else min(self._interval * 2, T2)
        if not invite and self.provisional:
            self._interval = T2
        self._layer.timers.at(now + self._interval, self._repeat)

    def _time_out(self, now: float) -> None:
        if not self.final:
            self.final = True
            self._forget(now)
            self._on_timeout(self, now)

    def _forget(self, now: float) -> None:
        self._layer.forget_client(self.key)


class TransactionLayer:
    """All transactions of one user agent. `local(flow)` is the address and port that the peer of `flow`
    reaches us at; `token()` gives random text for branches; `limit` caps how many requests are remembered."""

    def __init__(
        self,
        timers: Timers,
        send: Send,
        *,
        local: Callable[[Flow], tuple[str, int]],
        token: Callable[[], str],
        limit: int = 20_000,
    ) -> None:
        self.timers = timers
        self.send = send
        self._local = local
        self._token = token
        self._limit = limit
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._merge: dict[tuple[str, str, int, str], ServerKey] = {}

    @property
    def full(self) -> bool:
        return len(self._servers) >= self._limit

    @property
    def waiting(self) -> bool:
        """Whether some request of ours has no final response yet."""
        return any(not transaction.final for transaction in self._clients.values())

    def via(self, flow: Flow, branch: str) -> str:
        host, port = self._local(flow)
        return f"SIP/2.0/{flow.transport} {bracketed(host)}:{port};branch={branch};rport"

    # Requests of the peer

    def replay(self, request: Request) -> bool:
        """Answer a request that was seen before as it was answered then. False where it is new."""
        known = self._servers.get(_server_key(request))
        if known is None or request.method == "ACK":
            return False
        known.replay()
        return True

    def take_ack(self, request: Request) -> bool:
        """Whether this ACK belongs to a refusal, and nobody else need see it. An old client's ACK to a 2xx
        has the branch of its INVITE; it is the dialog's all the same."""
        known = self._servers.get(_server_key(request))
        if known is None:
            return False
        known.acknowledged()
        return known.status >= 300

    def open(self, request: Request, flow: Flow) -> ServerTransaction:
        """A transaction for a request that `replay` does not know."""
        key = _server_key(request)
        transaction = ServerTransaction(self, request, flow, key)
        self._servers[key] = transaction
        self._merge.setdefault(_merge_key(request), key)
        return transaction

    def merged(self, request: Request) -> bool:
        """Whether this request reached us over another path as well (section 8.2.2.2)."""
        first = self._merge.get(_merge_key(request))
        return first is not None and first != _server_key(request)

    def invite_of(self, cancel: Request) -> ServerTransaction | None:
        """The INVITE that a CANCEL means."""
        branch, sent_by, call_id, _, cseq = _server_key(cancel)
        return self._servers.get((branch, sent_by, call_id, "INVITE", cseq))

    def forget_server(self, key: ServerKey) -> None:
        gone = self._servers.pop(key, None)
        if gone is not None and self._merge.get(_merge_key(gone.request)) == key:
            del self._merge[_merge_key(gone.request)]

    # Requests of ours

    def request(
        self, draft: Draft, flow: Flow, now: float, *, on_response: OnResponse, on_timeout: OnTimeout
    ) -> ClientTransaction:
        return self.start(draft, flow, now, BRANCH_COOKIE + self._token(), on_response, on_timeout)

    def start(
        self,
        draft: Draft,
        flow: Flow,
        now: float,
        branch: str,
        on_response: OnResponse,
        on_timeout: OnTimeout,
    ) -> ClientTransaction:
        transaction = ClientTransaction(self, draft, flow, branch, on_response, on_timeout)
        self._clients[transaction.key] = transaction
        transaction.start(now)
        return transaction

    def send_ack(self, draft: Draft, flow: Flow) -> bytes:
        """Send the ACK of a 2xx, which has no transaction; the bytes, to be sent again with each 2xx that
        comes again."""
        data = draft.to_bytes(self.via(flow, BRANCH_COOKIE + self._token()))
        self.send(data, flow)
        return data

    def take_response(self, response: Response, now: float) -> bool:
        """False where it belongs to no request of ours."""
        transaction = self._clients.get((response.via.branch, response.cseq_method))
        if transaction is None or transaction.draft.cseq != response.cseq:
            return False
        if response.call_id != transaction.draft.header("call-id"):
            return False
        repeated_success = transaction.final and 200 <= response.status < 300
        transaction.take(response, now)
        # The dialog must acknowledge a 2xx again.
        return not (repeated_success and response.cseq_method == "INVITE")

    def forget_client(self, key: ClientKey) -> None:
        self._clients.pop(key, None)


def _server_key(request: Request) -> ServerKey:
    via = request.via
    method = "INVITE" if request.method == "ACK" else request.method
    # RFC 2543 has no branch to go by (section 17.2.3).
    old = not via.branch.startswith(BRANCH_COOKIE)
    branch = f"{request.uri.text} {request.from_.tag}" if old else via.branch
    return branch, f"{via.host}:{via.port}", request.call_id, method, request.cseq


def _merge_key(request: Request) -> tuple[str, str, int, str]:
    return request.call_id, request.from_.tag, request.cseq, request.method
