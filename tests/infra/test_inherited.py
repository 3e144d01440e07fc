"""A socket from whoever started us."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.inherited import InheritedSocketError, inherited_sockets, notify

FIRST = 200
"""Descriptors that no test runner uses."""


@pytest.fixture
def given() -> Iterator[list[socket.socket]]:
    sockets = [socket.socket() for _ in range(2)]
    for number, each in enumerate(sockets):
        each.bind(("127.0.0.1", 0))
        each.listen()
        os.dup2(each.fileno(), FIRST + number)
    yield sockets
    for number, each in enumerate(sockets):
        each.close()
        with contextlib.suppress(OSError):
            os.close(FIRST + number)


def environ(count: int, names: str = "", pid: int | None = None) -> dict[str, str]:
    told = {"LISTEN_PID": str(os.getpid() if pid is None else pid), "LISTEN_FDS": str(count)}
    return told | ({"LISTEN_FDNAMES": names} if names else {})


def test_a_socket_without_a_name_is_the_web_servers(given: list[socket.socket]) -> None:
    variables = environ(1)
    found = inherited_sockets(variables, first=FIRST)
    assert found["web"].getsockname() == given[0].getsockname()
    assert variables == {}
    found["web"].detach()


def test_names_say_which_is_which(given: list[socket.socket]) -> None:
    found = inherited_sockets(environ(2, "audiosocket:web"), first=FIRST)
    assert {name: each.getsockname() for name, each in found.items()} == {
        "audiosocket": given[0].getsockname(),
        "web": given[1].getsockname(),
    }
    for each in found.values():
        each.detach()


def test_what_was_meant_for_another_process_is_left(given: list[socket.socket]) -> None:
    assert inherited_sockets(environ(1, pid=1), first=FIRST) == {}
    assert inherited_sockets({}, first=FIRST) == {}


def test_two_of_one_name_are_refused(given: list[socket.socket]) -> None:
    with pytest.raises(InheritedSocketError, match="two sockets"):
        inherited_sockets(environ(2), first=FIRST)


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as idle:
        os.dup2(idle.fileno(), FIRST)
        with pytest.raises(InheritedSocketError, match="no listening TCP socket"):
            inherited_sockets(environ(1), first=FIRST)
    with pytest.raises(InheritedSocketError, match="no socket"):
        inherited_sockets(environ(1), first=FIRST + 50)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LISTEN_FDS", "three"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "9" * 5_000),
        ("LISTEN_FDS", "\u0663"),
        ("LISTEN_PID", "me"),
        ("LISTEN_PID", ""),
    ],
)
def test_garbage_says_which_variable_and_what_to_do(variable: str, text: str) -> None:
    variables = environ(1) | {variable: text}
    with pytest.raises(InheritedSocketError, match=rf"{variable} is .*unset LISTEN_PID") as caught:
        inherited_sockets(variables, first=FIRST)
    assert len(str(caught.value)) < 300
    assert variables == {}, "no child is misled either"


def test_more_sockets_than_there_are_descriptors_are_refused() -> None:
    with pytest.raises(InheritedSocketError, match="no socket"):
        inherited_sockets(environ(999_999_999), first=FIRST + 50)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(64) == b"READY=1"
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notify("READY=1", {})
