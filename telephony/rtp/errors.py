"""What goes wrong with RTP, and whose fault it is."""


class RtpError(Exception):
    """Base of this package's errors."""


class MalformedPacket(RtpError):
    """A datagram is not what it should be: the peer's fault, or a stranger's. `reason` is a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoPortFree(RtpError):
    """Every port of the range is taken. The call cannot be had; refuse it (SIP 503)."""
