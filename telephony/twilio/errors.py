"""What goes wrong in this package, and whose fault it is."""

from telephony.pump import PeerFault


class TwilioError(Exception):
    """Base of this package's errors."""


class ProtocolError(TwilioError):
    """A Media Streams rule was broken."""


class LocalProtocolError(ProtocolError):
    """We asked for what the stream's state does not allow: a mistake in our code."""


class RemoteProtocolError(ProtocolError, PeerFault):
    """The peer broke a rule badly enough to end the stream."""


class StreamTimeout(RemoteProtocolError):
    """The peer fell silent: no `start`, or no more media."""


class TwilioConfigError(TwilioError):
    """The configuration would be unsafe or cannot work; the message tells the operator what to set."""


class AccessRefused(TwilioError):
    """A request did not prove that it comes from Twilio. `status` is the HTTP status to answer with;
    `why` is for the operator's log and says nothing that helps a forger."""

    def __init__(self, why: str, status: int = 403) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


class TokenRefused(TwilioError):
    """A stream's token is missing, forged, expired, used before, or belongs to another call."""


class TwilioAccountError(TwilioError):
    """Twilio's REST API did not do what we asked; the message tells the operator what to do next.
    `status` is the HTTP status, or 0 when no answer came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
