"""SIP conversations in virtual time: the agent, and a phone whose messages are written by hand."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from telephony.sip.agent import SipAgent
from telephony.sip.config import SipConfig, sip_config
from telephony.sip.core import CallOffered, SipEvent
from telephony.sip.message import Request, Response, parse_message
from telephony.sip.transactions import Flow

OUR_HOST = "192.0.2.1"
PEER_HOST = "198.51.100.9"
PEER = Flow("UDP", PEER_HOST, 5060)
RTP_PORT = 40_000

OFFER = (
    "v=0\r\n"
    "o=ann 1 1 IN IP4 198.51.100.9\r\n"
    "s=-\r\n"
    "c=IN IP4 198.51.100.9\r\n"
    "t=0 0\r\n"
    "m=audio 20000 RTP/AVP 8 0 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\n"
)


def open_config(**settings: object) -> SipConfig:
    """Takes calls from the peer."""
    return sip_config(**{"host": OUR_HOST, "allow": ("198.51.100.0/24",), **settings})


def counted_tokens(prefix: str = "") -> Callable[[], str]:
    """Random text that is the same in every run."""
    counter = itertools.count(1)
    return lambda: f"{prefix}{next(counter):016x}"


class Places:
    """`left` places; who has one."""

    def __init__(self, left: int = 1_000) -> None:
        self.left = left
        self.taken: list[str] = []

    def take(self, call_id: str, *, goes_on: bool = False) -> bool:
        if len(self.taken) < self.left:
            self.taken.append(call_id)
            return True
        return False

    def give_back(self, call_id: str) -> None:
        if call_id in self.taken:
            self.taken.remove(call_id)


class World:
    """One agent under test. `say` what a peer sends; `sent` is what the agent sent, parsed, since last asked;
    `events` likewise. Calls are taken as they come unless `take_calls` is False."""

    def __init__(
        self,
        config: SipConfig | None = None,
        *,
        host: str = OUR_HOST,
        tokens: str = "",
        take_calls: bool = True,
    ) -> None:
        self.now = 100.0
        self.raw: list[tuple[bytes, Flow]] = []
        self.seen: list[SipEvent] = []
        self.accepting = True
        self.lines = Places()
        self.take_calls = take_calls
        self.agent = SipAgent(
            config or open_config(),
            local=lambda flow: (host, 5060),
            token=counted_tokens(tokens),
            key=b"key",
            accepting=lambda: self.accepting,
            lines=self.lines,
        )

    def say(self, data: str | bytes, flow: Flow = PEER) -> list[Request | Response]:
        """One message of a peer; what the agent sent at once."""
        self.agent.receive(data.encode() if isinstance(data, str) else data, flow, self.now)
        self.collect()
        return self.sent()

    def do(self, action: Callable[[float], object]) -> list[Request | Response]:
        action(self.now)
        self.collect()
        return self.sent()

    def wait(self, seconds: float) -> list[Request | Response]:
        """Let time pass, timers and all; what was sent meanwhile."""
        end = self.now + seconds
        while (deadline := self.agent.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.agent.handle_timer(self.now)
            self.collect()
        self.now = end
        return self.sent()

    def collect(self) -> None:
        while True:
            self.raw += self.agent.sends()
            events = self.agent.events()
            self.seen += events
            if not events:
                return
            for event in events:
                if isinstance(event, CallOffered) and self.take_calls:
                    event.call.accept(RTP_PORT, self.now)

    def sent(self) -> list[Request | Response]:
        return [parse_message(data) for data, _ in self.sent_raw()]

    def sent_raw(self) -> list[tuple[bytes, Flow]]:
        going = [pair for pair in self.raw if pair[0].strip()]
        self.raw.clear()
        return going

    def events(self) -> list[SipEvent]:
        happened = self.seen[:]
        self.seen.clear()
        return happened

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events()]


def statuses(messages: Iterable[Request | Response]) -> list[int]:
    return [message.status for message in messages if isinstance(message, Response)]


def methods(messages: Iterable[Request | Response]) -> list[str]:
    return [message.method for message in messages if isinstance(message, Request)]


@dataclass
class Phone:
    """Writes a caller's messages. `answer` what the agent said so that later requests are in the dialog."""

    host: str = PEER_HOST
    port: int = 5060
    call_id: str = "call-1"
    tag: str = "ann"
    user: str = "maya"
    to_tag: str = ""
    cseq: int = 0
    contact: str = ""
    routes: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    branches: "itertools.count[int]" = field(default_factory=itertools.count)

    def request(
        self,
        method: str,
        body: str = "",
        *,
        kind: str = "application/sdp",
        cseq: int | None = None,
        branch: str = "",
        **headers: str,
    ) -> str:
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        branch = branch or f"z9hG4bK{self.call_id}{next(self.branches)}"
        to = f"<sip:{self.user}@{OUR_HOST}>" + (f";tag={self.to_tag}" if self.to_tag else "")
        lines = [
            f"{method} sip:{self.user}@{OUR_HOST}:5060 SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch};rport",
            "Max-Forwards: 70",
            f'From: "Ann" <sip:ann@{self.host}>;tag={self.tag}',
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: {self.contact or f'<sip:ann@{self.host}:{self.port}>'}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in {**self.headers, **headers}.items()]
        if body:
            lines.append(f"Content-Type: {kind}")
        lines.append(f"Content-Length: {len(body.encode())}")
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def invite(self, body: str = OFFER, **headers: str) -> str:
        return self.request("INVITE", body, **headers)

    def ack(self, body: str = "", **headers: str) -> str:
        return self.request("ACK", body, cseq=self.cseq, **headers)

    def learn(self, messages: Iterable[Request | Response]) -> None:
        """The agent's tag, from a response."""
        for message in messages:
            if message.to.tag:
                self.to_tag = message.to.tag

    def call(self, world: World, body: str = OFFER, **headers: str) -> list[Request | Response]:
        """INVITE, 200, ACK; the responses."""
        responses = world.say(self.invite(body, **headers))
        self.learn(responses)
        world.say(self.ack())
        return responses


def reply(request: Request, status: int, *, tag: str = "bob", body: str = "", **headers: str) -> str:
    """A peer's response to a request of the agent's."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    if body:
        named += (("Content-Type", "application/sdp"),)
    return request.response(status, tag=tag, headers=named, body=body.encode()).decode()
