"""UDP ports for calls: an even one for RTP and the next for RTCP (RFC 3550 section 11), out of one range."""

import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from telephony.rtp.errors import NoPortFree

_RECEIVE_BUFFER_BYTES: Final = 256 * 1024
"""Some seconds of one call: nothing is lost while the process stands still."""
_EXPEDITED: Final = 0xB8
"""DSCP EF (RFC 4594), what telephones mark voice with."""
SO_TIMESTAMPNS: Final = 35
"""Linux's option (asm-generic/socket.h), which Python does not name: the kernel notes when one came."""


@dataclass(slots=True)
class Lease:
    """Two bound, non-blocking sockets. `close()` gives both ports back; a second call does nothing."""

    rtp: socket.socket
    rtcp: socket.socket
    port: int
    stamped: bool
    """Datagrams bear the kernel's time of arrival."""
    _ports: "RtpPorts"

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()
        self._ports.give_back(self)


class RtpPorts:
    """Even ports from `first` to `last`, both inclusive, with the odd ones behind them.

    Goes round the range, so that a port rests for as long as possible: packets that the last call's peer
    still sends are not the next call's. Raises `ValueError` for a range without an even port.
    """

    def __init__(self, host: str, first: int, last: int) -> None:
        first += first % 2
        if not 0 < first <= last <= 65_534:
            raise ValueError(f"no even port from {first} to {last}")
        self.host = str(ipaddress.ip_address(host))
        self._first = first
        self._count = (last - first) // 2 + 1
        self._next = 0
        self._leases: set[int] = set()

    @property
    def capacity(self) -> int:
        return self._count

    @property
    def in_use(self) -> int:
        return len(self._leases)

    def lease(self, local_ip: str | None = None) -> Lease:
        """The next free pair, bound to `local_ip`, a literal (default: `host`). Pairs of which another
        process holds one are passed over. Raises `NoPortFree`, and `ValueError` for what is no literal."""
        address = ipaddress.ip_address(local_ip or self.host)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        for step in range(self._count):
            place = (self._next + step) % self._count
            port = self._first + 2 * place
            if port in self._leases:
                continue
            pair = _bind_pair(family, str(address), port)
            if pair is not None:
                self._next = (place + 1) % self._count
                self._leases.add(port)
                return Lease(*pair, port, _stamp(pair[0]), self)
        raise NoPortFree(f"all {self._count} ports for calls are taken")

    def give_back(self, lease: Lease) -> None:
        """For `Lease.close`."""
        self._leases.discard(lease.port)


def _bind_pair(
    family: socket.AddressFamily, host: str, port: int
) -> tuple[socket.socket, socket.socket] | None:
    bound: list[socket.socket] = []
    try:
        for number in (port, port + 1):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            bound.append(sock)
            sock.setblocking(False)
            sock.bind((host, number))
    except OSError:
        for sock in bound:
            sock.close()
        if len(bound) == 2 or _worth_another_try(family, host):
            return None
        raise
    rtp, rtcp = bound
    rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    if family == socket.AF_INET:
        with contextlib.suppress(OSError):
            rtp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _EXPEDITED)
    return rtp, rtcp


def _worth_another_try(family: socket.AddressFamily, host: str) -> bool:
    """An address that is none of this machine's fails at every port: the operator should hear that."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _stamp(sock: socket.socket) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return hasattr(sock, "recvmsg")
