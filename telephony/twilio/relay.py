"""A stream that came to the wrong front-end, carried to the right one.

Behind a load balancer streams come anywhere. Most calls are held where their stream arrives; one whose order,
or whose waiting agent, is at another front-end is carried there, message by message and unread.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from telephony.socket import Socket, SocketClosed
from telephony.socket_client import ClientSocket
from telephony.twilio.elsewhere import SIGNATURES, NeighbourTls, not_known
from telephony.twilio.protocol import StreamStarted

logger = logging.getLogger(__name__)

_OPENED_WITHIN_S: Final = 1.5
_LARGEST_MESSAGE_BYTES: Final = 2**21
_NOT_SENT: Final = frozenset({1005, 1006, 1015})
"""Codes that tell of a close without one (RFC 6455 section 7.4.1)."""
_FAR_SIDE_GONE: Final = 1011


async def reach(
    front_end: str,
    path: str,
    headers: Mapping[str, str],
    started: StreamStarted,
    tls: NeighbourTls | None = None,
) -> ClientSocket | None:
    """The stream that has `started` here, begun once more at `front_end` ("http://10.0.0.5:8080", or https://
    where there is `tls`). `headers` are those of Twilio's handshake, whose signature is good there too. None
    where nobody answers."""
    url = f"ws{front_end.removeprefix('http')}{path}"
    if url.startswith("ws:"):
        tls = None
    elif tls is None:
        return None
    signed = {name: headers[name] for name in SIGNATURES if name in headers}
    try:
        connection = await connect(
            url,
            additional_headers=signed,
            compression=None,
            proxy=None,
            ping_interval=None,
            open_timeout=_OPENED_WITHIN_S,
            max_size=_LARGEST_MESSAGE_BYTES,
            ssl=tls.context if tls is not None else None,
            server_hostname=tls.name if tls is not None else None,
        )
    except (OSError, ValueError, WebSocketException) as error:
        why = not_known(error) or error
        logger.warning("call %s: front-end %s takes no stream: %s", started.call_sid, front_end, why)
        return None
    socket = ClientSocket(connection)
    try:
        await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        await socket.send(_start(started))
    except SocketClosed as closed:
        logger.warning("call %s: front-end %s refused its stream: %s", started.call_sid, front_end, closed)
        return None
    return socket


async def relay(ours: Socket, theirs: ClientSocket) -> None:
    """Carry what comes on either to the other, until one closes; the other is closed as that one was. Raises
    nothing but cancellation, at which both are closed."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(ours, theirs), name="relay/in")
            group.create_task(_carry(theirs, ours), name="relay/out")
    finally:
        theirs.abort()


async def _carry(source: Socket, sink: Socket) -> None:
    try:
        while True:
            await sink.send(await source.receive())
    except SocketClosed as closed:
        # Whichever of them it was: whoever is closed already takes no harm.
        lost = closed.code in _NOT_SENT
        if lost and isinstance(sink, ClientSocket):
            sink.abort()
        await sink.close(_FAR_SIDE_GONE if lost else closed.code, closed.reason)


def _start(started: StreamStarted) -> str:
    body = {
        "accountSid": started.account_sid,
        "streamSid": started.stream_sid,
        "callSid": started.call_sid,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": started.parameters,
    }
    return json.dumps(
        {"event": "start", "sequenceNumber": "1", "start": body, "streamSid": started.stream_sid}
    )
