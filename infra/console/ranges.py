"""Which bytes of a file a request asks for: RFC 9110, section 14."""

import re
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRange(Exception):
    """None of the bytes that are asked for exist: status 416."""


def range_of(header: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one behind the last; None for the whole file. What is no range of bytes counts as
    none, and so do several (section 14.2 allows both). Raises `UnsatisfiableRange`."""
    found = _ONE_RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        if int(last) == 0 or size == 0:
            raise UnsatisfiableRange
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise UnsatisfiableRange
    return int(first), min(size, int(last) + 1) if last else size
