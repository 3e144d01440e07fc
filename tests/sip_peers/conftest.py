"""For all tests beside SIP peers: nobody here may look a name up."""

import socket
from collections.abc import Iterator

import pytest

_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn")


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that were looked up while the test ran, asyncio's too: it asks `socket` for them."""
    asked: list[str] = []

    def refuse(host: object, *arguments: object, **settings: object) -> None:
        asked.append(str(host))
        raise OSError("a name was looked up")

    for name in _LOOKUPS:
        monkeypatch.setattr(socket, name, refuse)
    yield asked
