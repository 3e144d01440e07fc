"""One dialog: who is at both ends, which way to them, and in what order (RFC 3261 section 12)."""

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from telephony.sip.errors import MalformedMessage
from telephony.sip.message import Draft, Request, Response
from telephony.sip.transactions import Flow
from telephony.sip.uri import Uri, literal, parse_address

_LOCAL_NETWORKS: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
DialogId = tuple[str, str, str]
"""Call-ID, our tag, their tag."""


class Dialog:
    """`local` and `remote` are the From and To of our requests, tags included. `flow` is where the peer's
    signalling really comes from."""

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        remote: str,
        local_tag: str,
        remote_tag: str,
        target: Uri,
        routes: list[str],
        flow: Flow,
        cseq: int,
        remote_cseq: int | None,
    ) -> None:
        self.call_id = call_id
        self.local_tag = local_tag
        self.remote_tag = remote_tag
        self.flow = flow
        self.cseq = cseq
        self.remote_cseq = remote_cseq
        self._local = local
        self._remote = remote
        self._target = target
        self._routes = routes

    @classmethod
    def of_request(cls, request: Request, flow: Flow, tag: str, cseq: int) -> "Dialog":
        """The dialog that an INVITE opens with us. Raises `MalformedMessage` without a usable Contact."""
        target = request.contact()
        if target is None:
            raise MalformedMessage("an INVITE without a Contact")
        routes = request.headers.listed("record-route")
        for route in routes:
            parse_address(route)
        return cls(
            call_id=request.call_id,
            local=f"{request.headers.get('to')};tag={tag}",
            remote=request.headers.get("from") or "",
            local_tag=tag,
            remote_tag=request.from_.tag,
            target=target,
            routes=routes,
            flow=flow,
            cseq=cseq,
            remote_cseq=request.cseq,
        )

    @classmethod
    def of_response(cls, draft: Draft, response: Response, flow: Flow) -> "Dialog":
        """The dialog that a 2xx to our INVITE opens. Raises `MalformedMessage`."""
        target = response.contact()
        if target is None or not response.to.tag:
            raise MalformedMessage("a 2xx without Contact or tag")
        routes = response.headers.listed("record-route")[::-1]
        for route in routes:
            parse_address(route)
        return cls(
            call_id=response.call_id,
            local=draft.header("from"),
            remote=response.headers.get("to") or "",
            local_tag=response.from_.tag,
            remote_tag=response.to.tag,
            target=target,
            routes=routes,
            flow=flow,
            cseq=draft.cseq,
            remote_cseq=None,
        )

    @property
    def id(self) -> DialogId:
        return self.call_id, self.local_tag, self.remote_tag

    @property
    def target_host(self) -> str:
        return self._target.host

    def draft(
        self,
        method: str,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        *,
        cseq: int | None = None,
    ) -> Draft:
        """The next request of ours. An ACK says whose `cseq` it has."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        uri, routes = self._target.text, self._routes
        if routes:
            first = parse_address(routes[0]).uri
            if "lr" not in first.parameters:
                # A strict router wants itself in the request line (section 12.2.1.1).
                routes = [*routes[1:], f"<{uri}>"]
                uri = first.text
        head = (
            *((("Route", ", ".join(routes)),) if routes else ()),
            ("From", self._local),
            ("To", self._remote),
            ("Call-ID", self.call_id),
        )
        return Draft(method, uri, cseq, head + headers, body)

    def destination(self) -> Flow:
        """Where our requests go: along the route, else to the peer's Contact; back to where its messages come
        from where that is no address, or one that cannot be reached from here (a phone behind a NAT)."""
        if self.flow.transport == "TCP":
            return self.flow
        hop = parse_address(self._routes[0]).uri if self._routes else self._target
        address = hop.literal
        over = (hop.parameters.get("transport") or "udp").lower()
        if address is None or over != "udp" or not _plausible(address, self.flow.host):
            return self.flow
        return Flow("UDP", str(address), hop.port or 5060)

    def takes(self, cseq: int) -> bool:
        """Whether a request of the peer is newer than those before it; it then counts as seen."""
        if self.remote_cseq is not None and cseq <= self.remote_cseq:
            return False
        self.remote_cseq = cseq
        return True

    def refresh(self, message: Request | Response, flow: Flow | None = None) -> None:
        """Follow the peer to the Contact of a re-INVITE or UPDATE (section 12.2.2) and to where it comes
        from."""
        target = message.contact()
        if target is not None:
            self._target = target
        if flow is not None:
            self.flow = flow


def _plausible(address: IPv4Address | IPv6Address, source: str) -> bool:
    if address.is_unspecified or address.is_multicast:
        return False
    came_from = literal(source)
    if came_from is None or came_from.version != address.version:
        return False
    if address.is_loopback != came_from.is_loopback:
        return False
    return _is_local(came_from) or not _is_local(address)


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _LOCAL_NETWORKS)
