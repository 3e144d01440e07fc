"""Sockets, clock and loop around `SipAgent`: one UDP socket, one TCP listener, one timer.

Everything happens in one turn of the loop: a datagram goes in, what follows from it goes out, and the events
go to `on_event`. A message that makes our own code fail is logged and dropped; the next one is served.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar, cast

from telephony.sip.agent import SipAgent
from telephony.sip.config import SipConfig
from telephony.sip.core import SipEvent
from telephony.sip.errors import MalformedMessage, SipConfigError
from telephony.sip.message import StreamSplitter
from telephony.sip.transactions import Flow
from telephony.sip.uri import literal

logger = logging.getLogger(__name__)
T = TypeVar("T")

_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_ROUTES_KEPT: Final = 1_000
_CONNECT_TIMEOUT_S: Final = 5.0
_SILENT_CONNECTION_S: Final = 10.0
"""A connection that has not sent one whole message by then is closed."""
_IDLE_CONNECTION_S: Final = 900.0
_CONNECTIONS_PER_SOURCE: Final = 32
_MOST_UNSENT_BYTES: Final = 1 << 20
_MOST_QUEUED: Final = 64
_TRIES_FOR_A_FREE_PORT: Final = 16
"""With the port left open, the system picks one for UDP that TCP may be using."""


class SipShell:
    """`start` binds; `close` lets go. `agent` is set before `start`. `run(action)` does something to the
    agent and sends what follows."""

    def __init__(self, config: SipConfig, on_event: Callable[[SipEvent], None]) -> None:
        self.agent: SipAgent
        self.port = 0
        self.connections = 0
        self._config = config
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._streams: dict[Flow, _Stream] = {}
        self._connecting: dict[Flow, list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._routes: OrderedDict[str, str] = OrderedDict()
        self._closed = False

    async def start(self) -> None:
        """Bind UDP and TCP to one port; where the configuration leaves the port open (0), to one that is
        free for both. Raises `SipConfigError` where the address or port cannot be had."""
        config = self._config
        tries = 1 if config.port else _TRIES_FOR_A_FREE_PORT
        for left in reversed(range(tries)):
            try:
                await self._bind(config.port)
                return
            except OSError as wrong:
                if self._udp is not None:
                    self._udp.abort()
                    self._udp = None
                if left and wrong.errno == errno.EADDRINUSE:
                    continue
                await self.close()
                raise SipConfigError(
                    f"SIP: cannot bind {config.host}:{config.port}: {wrong.strerror or wrong}. Another "
                    "server may have the port: stop it, or choose another one."
                ) from None

    async def _bind(self, port: int) -> None:
        config = self._config
        if config.udp:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(config.host, port)
            )
            self._udp = transport
            sock = transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            port = sock.getsockname()[1]
        if config.tcp:
            self._tcp = await self._loop.create_server(lambda: _Stream(self), config.host, port)
            port = self._tcp.sockets[0].getsockname()[1]
        self.port = port

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        for stream in list(self._streams.values()):
            stream.close()
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            await self._tcp.wait_closed()

    @property
    def listening(self) -> bool:
        """Every socket that the configuration wants is open."""
        udp = not self._config.udp or (self._udp is not None and not self._udp.is_closing())
        tcp = not self._config.tcp or (self._tcp is not None and self._tcp.is_serving())
        return udp and tcp

    def now(self) -> float:
        return self._loop.time()

    def local(self, flow: Flow) -> tuple[str, int]:
        """The address and port that the peer of `flow` reaches us at."""
        config, peer = self._config, literal(flow.host)
        at_home = (
            peer is None or peer.is_loopback or any(peer in network for network in config.local_networks)
        )
        if config.public_address and not at_home:
            return config.public_address, self.port
        return self._own_address(flow.host), self.port

    def run(self, action: Callable[[float], T]) -> T:
        """Do `action(now)` and return what it does; then, in this turn of the loop or at once within one,
        what follows is sent and told."""
        try:
            return action(self.now())
        finally:
            self._flush()

    def receive(self, data: bytes, flow: Flow) -> None:
        """What a socket read."""
        if self._closed:
            return
        try:
            self.agent.receive(data, flow, self.now())
        except Exception:
            # Ours, not the peer's: the agent is made not to raise. The other calls must not pay for it.
            logger.exception("a SIP message from %s could not be handled", flow.host)
        self._flush()

    def forget(self, stream: "_Stream") -> None:
        if self._streams.get(stream.flow) is stream:
            del self._streams[stream.flow]

    def adopt(self, stream: "_Stream") -> bool:
        """Whether one more connection may stay."""
        host = stream.flow.host
        if len(self._streams) >= self._config.max_connections:
            return False
        if sum(flow.host == host for flow in self._streams) >= _CONNECTIONS_PER_SOURCE:
            return False
        self._streams[stream.flow] = stream
        return True

    # Sending

    def _flush(self) -> None:
        agent = self.agent
        while True:
            sends, events = agent.sends(), agent.events()
            if not sends and not events:
                break
            for data, flow in sends:
                self._send(data, flow)
            for event in events:
                try:
                    self._on_event(event)
                except Exception:
                    logger.exception("%s could not be handled", type(event).__name__)
        self._arm()

    def _send(self, data: bytes, flow: Flow) -> None:
        if flow.transport == "UDP":
            if self._udp is not None and not self._udp.is_closing():
                # Errors come by `error_received`, and the transaction sends again.
                self._udp.sendto(data, (flow.host, flow.port))
            return
        stream = self._streams.get(flow)
        if stream is not None:
            stream.send(data)
        elif flow in self._connecting:
            queued = self._connecting[flow]
            if len(queued) < _MOST_QUEUED:
                queued.append(data)
        elif not self._closed:
            self._connecting[flow] = [data]
            task = self._loop.create_task(self._connect(flow), name=f"sip-connect-{flow.host}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, flow: Flow) -> None:
        """A connection of ours, with what waits for it; where there is none the transactions time out."""
        stream: _Stream | None = None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, stream = await self._loop.create_connection(lambda: _Stream(self), flow.host, flow.port)
        except (OSError, TimeoutError):
            logger.info("no SIP connection to %s port %d", flow.host, flow.port)
        finally:
            queued = self._connecting.pop(flow, [])
        if stream is not None:
            for data in queued:
                stream.send(data)

    # Time

    def _arm(self) -> None:
        deadline = None if self._closed else self.agent.next_deadline()
        if deadline == self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._armed_for = self._timer = None
        try:
            # A loop may fire a moment early; what was due then is due now.
            deadline = self.agent.next_deadline()
            self.agent.handle_timer(max(self.now(), deadline or 0.0))
        except Exception:
            logger.exception("a SIP timer failed")
        self._flush()

    # Addresses

    def _own_address(self, peer: str) -> str:
        """Of this machine, on the way to `peer`. Asks the kernel's routing table; sends nothing."""
        if not self._config.bound_to_all:
            return self._config.host
        known = self._routes.get(peer)
        if known is None:
            known = _route_to(peer) or "127.0.0.1"
            self._routes[peer] = known
            if len(self._routes) > _ROUTES_KEPT:
                self._routes.popitem(last=False)
        return known


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, shell: SipShell) -> None:
        self._shell = shell

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._shell.receive(data, Flow("UDP", addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: some peer's port is closed. Its transactions time out."""


class _Stream(asyncio.Protocol):
    """One TCP connection, whoever opened it."""

    def __init__(self, shell: SipShell) -> None:
        self.flow = Flow("TCP", "", 0)
        self._shell = shell
        self._splitter = StreamSplitter()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer is None:
            self.close()
            return
        self.flow = Flow("TCP", peer[0], peer[1])
        if not self._shell.adopt(self):
            self.close()
            return
        self._wait(_SILENT_CONNECTION_S)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._splitter.feed(data)
        except MalformedMessage:
            self.close()
            return
        for _ in range(self._splitter.pings):
            self.send(b"\r\n")
        if messages or self._splitter.pings:
            self._wait(_IDLE_CONNECTION_S)
        self._splitter.pings = 0
        for message in messages:
            self._shell.receive(message, self.flow)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._shell.forget(self)

    def send(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self.close()
            return
        self._transport.write(data)
        if self._patience is not None:
            self._wait(_IDLE_CONNECTION_S)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _wait(self, patience_s: float) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(patience_s, self.close)


def _route_to(peer: str) -> str | None:
    address = literal(peer)
    if address is None:
        return None
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
            return str(probe.getsockname()[0])
        except OSError:
            return None
