"""Why the server cannot be observed as it was told."""


class ObserveConfigError(Exception):
    """[observe] cannot work; the message tells the operator what to mend."""
