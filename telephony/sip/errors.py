"""What goes wrong in this package, and whose fault it is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telephony.sip.message import Request


class SipError(Exception):
    """Base of this package's errors."""


class MalformedMessage(SipError):
    """The peer sent what is no SIP message, or one that breaks a rule. `request` is what could be read of it,
    where that is enough to answer with `status`; None means that it can only be dropped."""

    def __init__(self, reason: str, status: int = 400, request: "Request | None" = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.request = request


class SdpRefused(SipError):
    """A session description cannot be read (400) or offers nothing that we take (488)."""

    def __init__(self, reason: str, status: int = 488) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class SipConfigError(SipError):
    """The configuration would be unsafe or cannot work; the message tells the operator what to set."""


class DialFailed(SipError):
    """Nobody answered a call of ours. `code` is the SIP status that ended it: the peer's, or 408 when none
    came, 403 when we refuse to dial the number, 404 when its host would have to be looked up."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class TransferRefused(SipError):
    """The peer did not take our REFER, or its new call failed. `code` is the SIP status that says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason
