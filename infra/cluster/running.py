"""Who is told which replicas Serve counts on. Of its own: the router's module is copied by Serve, this one
is not."""

import threading
from collections.abc import Callable, Sequence

Told = Callable[[str, Sequence[str]], None]

_watchers: list[Told] = []
_lock = threading.Lock()


def watch(told: Told) -> None:
    """`told(deployment, replicas)` from any thread, whenever Serve's account of who runs changes."""
    with _lock:
        _watchers.append(told)


def tell(deployment: str, replicas: Sequence[str]) -> None:
    with _lock:
        watchers = list(_watchers)
    for told in watchers:
        told(deployment, replicas)
