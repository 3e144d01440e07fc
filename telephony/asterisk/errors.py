"""What goes wrong in this package, and whose fault it is."""

from telephony.pump import PeerFault


class AsteriskError(Exception):
    """Base of this package's errors."""


class ProtocolError(AsteriskError):
    """A rule of AudioSocket or of chan_websocket was broken."""


class LocalProtocolError(ProtocolError):
    """We asked for what the call's state does not allow: a mistake in our code."""


class RemoteProtocolError(ProtocolError, PeerFault):
    """The peer broke a rule badly enough to end the call. `close_code` is the WebSocket code to close with
    (RFC 6455 section 7.4.1); AudioSocket has none. `reason` is a sentence that fits a close frame."""


class WrongAudio(RemoteProtocolError):
    """Asterisk is set to an audio format that we would play as noise. `advice` tells its operator what to
    write instead."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, 1003)
        self.advice = advice


class StreamTimeout(RemoteProtocolError):
    """The peer fell silent: no beginning, or no more audio."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 1008)


class AsteriskConfigError(AsteriskError):
    """The configuration would be unsafe or cannot work; the message tells the operator what to set."""


class AccessRefused(AsteriskError):
    """Somebody who is not our Asterisk. The message is for the operator's log."""


class CannotJoin(AsteriskError):
    """Asterisk did not let us take a channel that waits for us; the message tells the operator what to do.
    `status` is the HTTP status, or 0 when no answer came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
