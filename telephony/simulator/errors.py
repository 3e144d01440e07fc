"""What can go wrong in a simulated call before it is one; the message tells the user what to do next."""


class SimulatorError(Exception):
    """Base of this package's errors."""


class CannotCall(SimulatorError):
    """The server could not be reached, refused the webhook or the stream, or answered no usable TwiML."""


class Unreachable(CannotCall):
    """Nothing answers there."""


class VoiceUnavailable(SimulatorError):
    """A line cannot be spoken: unknown voice, missing package or command, unreadable audio file."""
