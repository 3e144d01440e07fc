"""What goes wrong on the way in through the browser, and whose fault it is."""

from telephony.pump import PeerFault


class BrowserError(Exception):
    """Base of this package's errors."""


class BrowserConfigError(BrowserError):
    """The configuration would be unsafe or cannot work; the message tells the operator what to set."""


class LocalProtocolError(BrowserError):
    """We asked for what the call's state does not allow: a mistake in our code."""


class RemoteProtocolError(BrowserError, PeerFault):
    """The page broke a rule badly enough to end the call."""


class PageSilent(RemoteProtocolError):
    """No `start`, or no more media."""


class AccessRefused(BrowserError):
    """Not from our page, or not logged in. `status` is the HTTP status to answer with, `why` is for the
    operator's log, `retry_after_s` when to come back (429)."""

    def __init__(self, why: str, status: int = 403, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.retry_after_s = retry_after_s
