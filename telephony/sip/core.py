"""What a call needs of the user agent around it, and what it tells the shell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from telephony.sip.config import SipConfig
from telephony.sip.sdp import MediaPlan
from telephony.sip.timers import Timers
from telephony.sip.transactions import Flow, TransactionLayer
from telephony.sip.uri import bracketed

if TYPE_CHECKING:
    from telephony.sip.call import Call
    from telephony.sip.inbound import InboundCall
    from telephony.sip.outbound import OutboundCall

ALLOW: Final = ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY, REFER")
SUPPORTED: Final = ("Supported", "timer")
SUPPORTED_OPTIONS: Final = frozenset({"timer"})
ACCEPT: Final = ("Accept", "application/sdp, application/dtmf-relay, application/dtmf, message/sipfrag")
SDP_TYPE: Final = ("Content-Type", "application/sdp")


@dataclass(frozen=True, slots=True)
class CallOffered:
    """Somebody calls: open media, then `call.accept`, or `call.refuse`."""

    call: "InboundCall"


@dataclass(frozen=True, slots=True)
class CallRinging:
    """A phone that we dial rings, or its network says something (1xx)."""

    call: "OutboundCall"
    status: int


@dataclass(frozen=True, slots=True)
class MediaAgreed:
    """An offer was answered; again for each re-offer. Comes before `CallUp`."""

    call: "Call"
    plan: MediaPlan


@dataclass(frozen=True, slots=True)
class CallUp:
    """Both ends are there."""

    call: "Call"


@dataclass(frozen=True, slots=True)
class KeyByInfo:
    call: "Call"
    digit: str


@dataclass(frozen=True, slots=True)
class TransferNews:
    """How our REFER fares. `status` is that of the call that the peer makes for us; nothing follows a `final`
    one, and 2xx is success."""

    call: "Call"
    status: int
    final: bool


@dataclass(frozen=True, slots=True)
class CallOver:
    """The last of a call. `status` is the SIP status of a call of ours that nobody took; else 0."""

    call: "Call"
    reason: str
    status: int = 0


SipEvent = CallOffered | CallRinging | MediaAgreed | CallUp | KeyByInfo | TransferNews | CallOver


@dataclass(slots=True)
class Core:
    """Shared by all calls of one user agent. `local(flow)` is the address and port that the peer of `flow`
    reaches us at."""

    config: SipConfig
    timers: Timers
    layer: TransactionLayer
    token: Callable[[], str]
    local: Callable[[Flow], tuple[str, int]]
    emit: Callable[[SipEvent], None]
    changed: Callable[["Call"], None]
    """The call has another dialog, or is over."""

    def contact(self, flow: Flow, user: str = "maya") -> tuple[str, str]:
        host, port = self.local(flow)
        transport = ";transport=tcp" if flow.transport == "TCP" else ""
        return "Contact", f"<sip:{user}@{bracketed(host)}:{port}{transport}>"

    @property
    def product(self) -> tuple[tuple[str, str], ...]:
        return (("User-Agent", self.config.user_agent),) if self.config.user_agent else ()
