"""Why somebody is not let in, or the server not started."""


class AccessConfigError(Exception):
    """[access] cannot work; the message tells the operator what to mend."""


class AccessRefused(Exception):
    """`why` may be told to whoever asked; `status` is the HTTP status to answer with, `retry_after_s` when to
    come back (429)."""

    def __init__(self, why: str, status: int, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.retry_after_s = retry_after_s
