"""Whether what the process lives by is alive, and whether new calls are welcome.

Each part tells how it is when asked: "" when it is well, else what is wrong, in words that anybody may read.
"""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

Check = Callable[[], str]


class Checks:
    """`watch` parts, then ask for their `faults`. On the event loop; a check takes microseconds."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def watch(self, part: str, check: Check) -> None:
        """`part` is asked from now on; one of the same name is asked no more."""
        self._checks[part] = check

    def forget(self, part: str) -> None:
        self._checks.pop(part, None)

    def faults(self) -> dict[str, str]:
        """What is wrong, by part; empty when all is well."""
        found = {}
        for part, check in list(self._checks.items()):
            try:
                wrong = check()
            except Exception as error:
                log.exception("%s cannot be asked how it is", part)
                wrong = f"cannot be asked: {type(error).__name__}"
            if wrong:
                found[part] = wrong
        return found


def lives(alive: Callable[[], bool], wrong: str = "dead") -> Check:
    """A check of something that is either well or `wrong`."""
    return lambda: "" if alive() else wrong
