"""A listening socket from whoever started us, and a word to them when we are ready: systemd's protocols,
which any parent can speak (sd_listen_fds(3), sd_notify(3)).

Two servers that were given the same socket share one queue of connections. The old one lets go of it when it
drains and nothing that waits in the queue is lost, as it is where each has a socket of its own on the port
(SO_REUSEPORT): there, connections that were queued for the old one are reset.
"""

import os
import re
import socket
from collections.abc import MutableMapping

_FIRST = 3
WEB = "web"
AUDIOSOCKET = "audiosocket"


class InheritedSocketError(Exception):
    """What we were given is no socket to listen on; the message is for the operator."""


def inherited_sockets(
    environ: MutableMapping[str, str], *, pid: int | None = None, first: int = _FIRST
) -> dict[str, socket.socket]:
    """By the names that the parent gave them (`FileDescriptorName=` of a systemd socket unit); the first one
    without a name known here is the web server's. Empty where there are none. Takes the variables out of
    `environ`, so that no child believes that they are for it. Raises `InheritedSocketError`."""
    told_pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count or _number("LISTEN_PID", told_pid) != (os.getpid() if pid is None else pid):
        return {}
    found: dict[str, socket.socket] = {}
    for number in range(_number("LISTEN_FDS", count)):
        name = names[number] if number < len(names) else ""
        name = name if name in (WEB, AUDIOSOCKET) else WEB
        if name in found:
            raise InheritedSocketError(f"two sockets are named {name!r}: name them by FileDescriptorName=")
        found[name] = _listening(first + number)
    return found


def _number(variable: str, text: str) -> int:
    # int() takes more than any parent means: signs, blanks, digits of other scripts, thousands of them.
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InheritedSocketError(
            f"{variable} is {text[:40]!r}, where a number must stand. Whoever hands over sockets sets "
            "it (systemd, from a .socket unit). If nobody does: unset LISTEN_PID LISTEN_FDS LISTEN_FDNAMES"
        )
    return int(text)


def _listening(descriptor: int) -> socket.socket:
    try:
        given = socket.socket(fileno=descriptor)
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InheritedSocketError(
            f"descriptor {descriptor} is no socket: {error.strerror or error}"
        ) from None
    if not listens or given.family not in (socket.AF_INET, socket.AF_INET6):
        raise InheritedSocketError(f"descriptor {descriptor} is no listening TCP socket (ListenStream=)")
    os.set_inheritable(descriptor, False)
    return given


def notify(message: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """`READY=1`, `STOPPING=1` to the service manager. Nothing where there is none; never raises."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.sendto(message.encode(), address)
    except OSError:
        return
