import socket

import pytest

from telephony.rtp.errors import NoPortFree
from telephony.rtp.ports import RtpPorts

HOST = "127.0.0.1"


def free_range(pairs: int) -> int:
    """The first of so many even ports in a row of which nobody has any, nor the odd ones behind them."""
    for first in range(20_000, 60_000, 2 * pairs):
        bound = []
        try:
            for port in range(first, first + 2 * pairs):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                bound.append(sock)
                sock.bind((HOST, port))
            return first
        except OSError:
            continue
        finally:
            for sock in bound:
                sock.close()
    raise AssertionError("no ports on this machine")


def test_pairs_are_even_and_odd_and_none_is_given_twice() -> None:
    first = free_range(4)
    ports = RtpPorts(HOST, first, first + 7)
    leases = [ports.lease() for _ in range(4)]
    assert sorted(lease.port for lease in leases) == [first, first + 2, first + 4, first + 6]
    for lease in leases:
        assert lease.rtp.getsockname() == (HOST, lease.port)
        assert lease.rtcp.getsockname() == (HOST, lease.port + 1)
    with pytest.raises(NoPortFree, match="all 4 ports"):
        ports.lease()
    assert (ports.in_use, ports.capacity) == (4, 4)
    leases[2].close()
    leases[2].close()
    again = ports.lease()
    assert again.port == leases[2].port
    for lease in [*leases, again]:
        lease.close()
    assert ports.in_use == 0


def test_a_port_rests_as_long_as_possible() -> None:
    first = free_range(3)
    ports = RtpPorts(HOST, first, first + 4)
    used = []
    for _ in range(6):
        lease = ports.lease()
        used.append(lease.port)
        lease.close()
    assert used == [first, first + 2, first + 4] * 2


@pytest.mark.parametrize("offset", [0, 1])
def test_a_pair_of_which_another_process_has_one_is_passed_over(offset: int) -> None:
    first = free_range(2)
    ports = RtpPorts(HOST, first, first + 3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, first + offset))
        lease = ports.lease()
        assert lease.port == first + 2
        with pytest.raises(NoPortFree):
            ports.lease()
        lease.close()
    assert ports.in_use == 0


def test_an_odd_beginning_is_made_even_and_an_empty_range_refused() -> None:
    first = free_range(2)
    lease = RtpPorts(HOST, first + 1, first + 3).lease()
    assert lease.port == first + 2
    lease.close()
    for bad in ((first, first - 1), (first + 1, first + 1), (0, 0), (65_535, 65_536)):
        with pytest.raises(ValueError, match="no even port"):
            RtpPorts(HOST, *bad)


def test_names_are_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*name: object) -> None:
        raise AssertionError(f"{name} was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket, "gethostbyname", asked)
    with pytest.raises(ValueError, match="localhost"):
        RtpPorts("localhost", 20_000, 20_100)
    with pytest.raises(ValueError, match="example"):
        RtpPorts(HOST, 20_000, 20_100).lease("example.com")


def test_an_address_of_another_machine_is_said_to_be_one() -> None:
    ports = RtpPorts(HOST, 20_000, 20_100)
    with pytest.raises(OSError, match="assign"):
        ports.lease("192.0.2.1")
    assert ports.in_use == 0
