"""A load balancer in front of several servers that share one public URL, as far as a caller must know."""

from collections.abc import Sequence
from urllib.parse import urlsplit


class Balancer:
    """Takes each connection to the next of `front_ends` ("http://127.0.0.1:8081") in turn, past those that
    refuse it. What is signed stays the public URL. Without `front_ends` the URL itself is the way."""

    def __init__(self, front_ends: Sequence[str] = ()) -> None:
        self._hosts = [urlsplit(base).netloc for base in front_ends]
        self._next = 0

    def ways(self, url: str) -> list[str]:
        """Where to try, in this order. One more connection counts."""
        if not self._hosts:
            return [url]
        first, self._next = self._next, (self._next + 1) % len(self._hosts)
        parts = urlsplit(url)
        return [parts._replace(netloc=host).geturl() for host in self._hosts[first:] + self._hosts[:first]]
