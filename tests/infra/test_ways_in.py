"""What is found out about the ways in before any model is loaded."""

import socket
from collections.abc import Iterator

import pytest

from infra.settings import Settings, SettingsError
from infra.ways_in import check_ways_in


@pytest.fixture(params=[socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket(socket.AF_INET, request.param) as other:
        other.bind(("127.0.0.1", 0))
        if request.param is socket.SOCK_STREAM:
            other.listen()
        yield other.getsockname()[1]


def settings(**tables: object) -> Settings:
    return Settings.model_validate({"profile": "scripted", **tables})


def sip(**changes: object) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": 0, "allow": ["10.0.0.0/8"], **changes}


def test_ports_that_are_free_are_left_alone() -> None:
    config = settings(sip=sip(), asterisk={"audiosocket_port": 0}, talk=True)
    check_ways_in(config)
    check_ways_in(config)


def test_a_sip_port_that_is_taken_is_named(taken: int) -> None:
    with pytest.raises(SettingsError, match=rf"\[sip\] port: port {taken} on 127.0.0.1 is taken"):
        check_ways_in(settings(sip=sip(port=taken)))


@pytest.mark.parametrize("taken", [socket.SOCK_STREAM], indirect=True)
def test_an_audiosocket_port_that_is_taken_is_named(taken: int) -> None:
    with pytest.raises(SettingsError, match=r"\[asterisk\] audiosocket_port: port .* choose another port"):
        check_ways_in(settings(asterisk={"audiosocket_port": taken}))


@pytest.mark.parametrize("taken", [socket.SOCK_DGRAM], indirect=True)
def test_a_port_that_is_taken_for_udp_is_free_for_tcp(taken: int) -> None:
    check_ways_in(settings(sip=sip(port=taken, udp=False)))


def test_an_address_of_another_machine_is_no_place_to_listen() -> None:
    with pytest.raises(SettingsError, match=r"203.0.113.7 is no address of this machine.*public_address"):
        check_ways_in(settings(sip=sip(host="203.0.113.7")))
