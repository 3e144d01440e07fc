"""Our WebSocket in uvicorn itself: byte by byte, and with a client of another make over the loopback
interface."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from telephony.socket import SocketClosed
from telephony.socket_starlette import StarletteSocket
from telephony.socket_uvicorn import MediaWebSocket

Handler = Callable[[StarletteSocket], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[ClientConnection]:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await handler(StarletteSocket(websocket))

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/", endpoint)]),
        ws=MediaWebSocket,
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as client:
            yield client
    finally:
        server.should_exit = True
        await serving
        listener.close()


def test_messages_of_every_length_arrive_as_they_were_sent_and_in_order() -> None:
    messages: list[str | bytes] = [
        "a", "é" * 62, "x" * 125, "x" * 126, "x" * 127, "é" * 30_000, "x" * 65_535, "x" * 65_536,
        "x" * 70_000, b"", b"\x00\xff" * 100, b"z" * 70_000,
    ]  # fmt: skip
    at_once: list[bool] = []

    async def handler(line: StarletteSocket) -> None:
        for message in messages:
            at_once.append(line.send_now(message))
            if not at_once[-1]:
                await line.send(message)
        await line.close()

    async def main() -> None:
        async with served(handler) as client:
            client.protocol.max_message_size = None
            got = [await client.recv() for _ in messages]
        assert got == messages

    asyncio.run(main())
    assert at_once[:7] == [True] * 7
    assert not any(at_once[i] for i in (7, 8, 11)), "those are uvicorn's"


@pytest.mark.parametrize("size", [10, 3_000, 30_000])
def test_what_arrives_faster_than_it_is_taken_waits_and_none_is_lost(size: int) -> None:
    count = 500
    waiting: list[int] = []
    begin = asyncio.Event()

    async def handler(line: StarletteSocket) -> None:
        await begin.wait()
        below = line._below
        assert below is not None
        waiting.append(below.queue.qsize())
        for number in range(count):
            assert await line.receive() == f"{number} ".ljust(size, "x")
        line.send_now("all")
        with pytest.raises(SocketClosed):
            await line.receive()

    async def main() -> None:
        async with served(handler) as client:

            async def flood() -> None:
                for number in range(count):
                    await client.send(f"{number} ".ljust(size, "x"))

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0.2)
            begin.set()
            assert await client.recv() == "all"
            await flooding

    asyncio.run(main())
    # One read of the socket may bring some 64 KiB of messages, and no other comes after it.
    assert 1 <= waiting[0] <= 16 + 65_536 * 4 // size


def test_nothing_is_sent_at_once_when_the_socket_is_closed_or_the_peer_takes_nothing() -> None:
    refused = asyncio.Event()
    closed: list[bool] = []

    async def handler(line: StarletteSocket) -> None:
        while line.send_now("x" * 60_000):
            pass
        refused.set()
        sending = asyncio.create_task(line.send("last"))
        await sending
        await line.close(1000, "done")
        closed.append(line.send_now("more"))

    async def main() -> None:
        async with served(handler) as client:
            await refused.wait()
            got = []
            with contextlib.suppress(ConnectionClosed):
                while True:
                    got.append(await client.recv())
            assert got[-1] == "last"
            assert client.close_code == 1000
            assert client.close_reason == "done"

    asyncio.run(main())
    assert closed == [False]


def test_text_that_is_not_utf_8_closes_the_connection() -> None:
    ended: list[SocketClosed] = []

    async def handler(line: StarletteSocket) -> None:
        try:
            while True:
                await line.receive()
        except SocketClosed as closed:
            ended.append(closed)

    async def main() -> None:
        async with served(handler) as client:
            await client.send(b"\xff\xfe", text=True)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1007

    asyncio.run(main())
    assert len(ended) == 1


_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: maya\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_OFFERS_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
_TEXT, _BINARY, _CONTINUATION, _CLOSE, _PING, _PONG = 1, 2, 0, 8, 9, 10
_MASK = bytes.fromhex("a51e7ff0")


def framed(
    message: str | bytes,
    kind: int | None = None,
    *,
    final: bool = True,
    masked: bool = True,
    mask: bytes = _MASK,
) -> bytes:
    """As a client writes it. RFC 6455 section 5.2."""
    data = message.encode() if isinstance(message, str) else message
    if kind is None:
        kind = _TEXT if isinstance(message, str) else _BINARY
    size = len(data)
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = bytes([126]) + size.to_bytes(2, "big")
    else:
        length = bytes([127]) + size.to_bytes(8, "big")
    head = bytes([kind | (0x80 if final else 0), length[0] | (0x80 if masked else 0)]) + length[1:]
    if not masked:
        return head + data
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def close_frame(code: int) -> bytes:
    return framed(code.to_bytes(2, "big"), _CLOSE)


class Network(asyncio.Transport):
    """Keeps what the server writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.paused = False
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def frames(self) -> list[tuple[int, bytes]]:
        """Kind and content of each; the server's are short here."""
        data = bytes(self.written).partition(b"\r\n\r\n")[2]
        found = []
        while data:
            size = data[1]
            assert size < 126
            found.append((data[0] & 0x0F, data[2 : 2 + size]))
            data = data[2 + size :]
        return found


class Answered:
    """An accepted WebSocket whose segments the test cuts. `got` is all that the application got, in its
    order; `taken` what of it was handed over directly, and `offered` what was refused too."""

    def __init__(self) -> None:
        self.network = Network()
        self.got: list[str | bytes] = []
        self.offered: list[str | bytes] = []
        self.taken: list[str | bytes] = []
        self.waiting_when_offered: list[int] = []
        self.closed: list[SocketClosed] = []
        self.refuses: Callable[[int], bool] = lambda count: False
        """Which offer, counted from 0."""
        self.line: StarletteSocket | None = None
        self.protocol: MediaWebSocket | None = None
        self.accepted = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.hangs_up = asyncio.Event()

    async def handle(self, websocket: WebSocket) -> None:
        await websocket.accept()
        line = self.line = StarletteSocket(websocket)
        line.deliver_to(self.take)
        self.accepted.set()
        await self.reads.wait()
        try:
            while True:
                self.got.append(await line.receive())
        except SocketClosed as closed:
            self.closed.append(closed)

    def take(self, message: str | bytes) -> bool:
        assert self.protocol is not None
        self.offered.append(message)
        self.waiting_when_offered.append(self.protocol.queue.qsize())
        if self.refuses(len(self.offered) - 1):
            return False
        self.taken.append(message)
        self.got.append(message)
        return True

    async def arrives(self, *segments: bytes, breaths: int = 3) -> None:
        """Each when the server reads, and some turns of the loop after the one before it."""
        assert self.protocol is not None
        for segment in segments:
            for _ in range(100):
                if not self.network.paused:
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("the server never reads on")
            if not self.network.closing:
                self.protocol.data_received(segment)
            await self.breathe(breaths)

    async def breathe(self, turns: int = 30) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def answered(*, deflate: bool = False) -> AsyncIterator[Answered]:
    peer = Answered()
    config = uvicorn.Config(
        Starlette(routes=[WebSocketRoute("/", peer.handle)]),
        ws=MediaWebSocket,
        ws_max_size=65_536,
        ws_per_message_deflate=deflate,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
    )
    config.load()
    protocol = peer.protocol = MediaWebSocket(config, ServerState(), {})
    protocol.connection_made(peer.network)
    protocol.data_received(_HANDSHAKE + (_OFFERS_DEFLATE if deflate else b"") + b"\r\n")
    try:
        await peer.accepted.wait()
        await peer.breathe()
        yield peer
        await peer.breathe()
    finally:
        protocol.connection_lost(None)
        peer.reads.set()
        await asyncio.gather(*protocol.tasks)
        if protocol.close_timer is not None:
            protocol.close_timer.cancel()


def run(main: Callable[[Answered], Awaitable[None]], *, deflate: bool = False) -> Answered:
    async def opened() -> Answered:
        async with answered(deflate=deflate) as peer:
            await main(peer)
        return peer

    return asyncio.run(opened())


_SIZES = (0, 1, 125, 126, 127, 4_096, 4_097, 65_535)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("text", [True, False])
def test_messages_of_every_length_come_once_and_small_ones_directly(size: int, text: bool) -> None:
    messages: list[str | bytes] = [f"{n}".ljust(size, "x")[:size] for n in range(3)]
    if not text:
        messages = [bytes([0xFF, n, 0x80] * size)[:size] for n in range(3)]

    async def main(peer: Answered) -> None:
        for message in messages:
            await peer.arrives(framed(message))
        await peer.arrives(framed("behind them"))

    peer = run(main)
    assert peer.got == [*messages, "behind them"]
    assert peer.taken == (peer.got if size <= 4_096 else ["behind them"])
    assert peer.network.frames() == []


@pytest.mark.parametrize("text", [True, False])
def test_messages_come_directly_over_the_loopback_interface(text: bool) -> None:
    sizes = (0, 125, 126, 4_096, 4_097)
    messages: list[str | bytes] = ["é" * (size // 2) + "x" * (size % 2) for size in sizes]
    if not text:
        messages = [bytes(range(256)) * 17 for size in sizes]
        messages = [bytes(message)[:size] for message, size in zip(messages, sizes, strict=True)]
    taken: list[str | bytes] = []
    received: list[str | bytes] = []

    async def handler(line: StarletteSocket) -> None:
        def take(message: str | bytes) -> bool:
            taken.append(message)
            return line.send_now("one more")

        line.deliver_to(take)
        await line.send("ready")
        received.append(await line.receive())
        await line.send("one more")
        with pytest.raises(SocketClosed):
            await line.receive()

    async def main() -> None:
        async with served(handler) as client:
            assert await client.recv() == "ready"
            for message in messages:
                await client.send(message)
                assert await client.recv() == "one more"

    asyncio.run(main())
    assert taken == messages[:-1]
    assert received == messages[-1:]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40, 300])
def test_of_one_segment_sixteen_come_directly_and_the_rest_behind_them(count: int) -> None:
    messages: list[str | bytes] = [f"{n}" if n % 3 else b"%d" % n for n in range(count)]

    async def main(peer: Answered) -> None:
        await peer.arrives(b"".join(map(framed, messages)))
        await peer.breathe(count)
        await peer.arrives(framed("behind them"))

    peer = run(main)
    assert peer.got == [*messages, "behind them"]
    assert peer.taken == [*messages[:16], "behind them"]


_CUT: list[str | bytes] = ["", "é" * 20, b"", b"\x00\xff" * 63, "x" * 125, "y" * 126, b"z" * 300, "end"]
_CUT_BYTES = b"".join(map(framed, _CUT))


@pytest.mark.parametrize("breaths", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 1])
def test_messages_cut_anywhere_come_once_and_in_order(breaths: int, start: int) -> None:
    """In each piece, every second position; one connection for all of them."""

    async def main(peer: Answered) -> None:
        for cut in range(start, len(_CUT_BYTES) + 1, 2):
            peer.got.clear()
            await peer.arrives(_CUT_BYTES[:cut], _CUT_BYTES[cut:], breaths=breaths)
            await peer.breathe()
            assert peer.got == _CUT, cut
        assert peer.network.frames() == []

    peer = run(main)
    assert len(peer.taken) > len(_CUT_BYTES), "most of them came directly"


@pytest.mark.parametrize("size", [1, 2, 5, 7, 40])
def test_messages_in_segments_of_any_size_come_once_and_in_order(size: int) -> None:
    segments = [_CUT_BYTES[at : at + size] for at in range(0, len(_CUT_BYTES), size)]

    async def main(peer: Answered) -> None:
        await peer.arrives(*segments, breaths=1)

    assert run(main).got == _CUT


_PIECES: dict[str, tuple[bytes, list[str | bytes]]] = {
    "text": (framed("hello"), ["hello"]),
    "binary": (framed(b"\x00\x01"), [b"\x00\x01"]),
    "empty": (framed(""), [""]),
    "large": (framed("x" * 5_000), ["x" * 5_000]),
    "fragments": (
        framed(b"he", _TEXT, final=False) + framed(b"l", 0, final=False) + framed(b"lo", 0),
        ["hello"],
    ),
    "fragments in a letter": (framed(b"\xc3", _TEXT, final=False) + framed(b"\xa9", 0), ["é"]),
    "fragments with a ping between": (
        framed(b"\x00", _BINARY, final=False) + framed(b"now", _PING) + framed(b"\x01", 0),
        [b"\x00\x01"],
    ),
    "ping": (framed(b"now", _PING), []),
    "pong of nobody": (framed(b"", _PONG), []),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(_PIECES)), max_size=30),
    st.lists(st.integers(1, 400), max_size=20),
    st.sets(st.integers(0, 40)),
    st.integers(0, 3),
)
def test_whatever_comes_between_messages_all_arrive_once_and_in_order(
    names: list[str], cuts: list[int], refused: set[int], breaths: int
) -> None:
    data = b"".join(_PIECES[name][0] for name in names)
    segments = []
    for size in cuts:
        segments.append(data[:size])
        data = data[size:]
    segments.append(data)

    async def main(peer: Answered) -> None:
        peer.refuses = lambda count: count in refused
        await peer.arrives(*filter(None, segments), breaths=breaths)
        await peer.breathe(60)
        await peer.arrives(close_frame(1000))

    peer = run(main)
    assert peer.got == [message for name in names for message in _PIECES[name][1]]
    assert not any(peer.waiting_when_offered), "nothing overtakes what waits to be received"
    pings = [(_PONG, b"now")] * sum("ping" in name for name in names)
    assert peer.network.frames() == [*pings, (_CLOSE, (1000).to_bytes(2, "big"))]
    assert [closed.code for closed in peer.closed] == [1000]


def test_what_take_refuses_is_received_and_what_follows_waits_behind_it() -> None:
    messages = [f"{n}" for n in range(10)]

    async def main(peer: Answered) -> None:
        peer.refuses = lambda count: count == 3
        await peer.arrives(b"".join(map(framed, messages[:6])), framed(messages[6]))
        await peer.arrives(*map(framed, messages[7:]))

    peer = run(main)
    assert peer.got == messages
    assert peer.offered == [*messages[:4], *messages[6:]], "4 and 5 were never offered"


def test_nothing_is_offered_while_something_waits_to_be_received() -> None:
    async def main(peer: Answered) -> None:
        assert peer.protocol is not None
        peer.refuses = lambda count: count == 0
        peer.protocol.data_received(framed("first"))
        peer.protocol.data_received(framed("second"))
        assert peer.protocol.queue.qsize() == 2
        peer.protocol.data_received(framed("third"))
        await peer.breathe()
        await peer.arrives(framed("fourth"))

    peer = run(main)
    assert peer.got == ["first", "second", "third", "fourth"]
    assert peer.offered == ["first", "fourth"]


@pytest.mark.parametrize("with_a_message", [True, False])
def test_a_close_behind_messages_ends_what_is_offered(with_a_message: bool) -> None:
    async def main(peer: Answered) -> None:
        assert peer.protocol is not None
        before = framed("last") if with_a_message else b""
        peer.protocol.data_received(before + close_frame(1001) + framed("too late"))
        peer.protocol.data_received(framed("later still"))
        await peer.breathe()
        peer.protocol.data_received(framed("much later"))

    peer = run(main)
    assert peer.got == peer.offered == (["last"] if with_a_message else [])
    assert [closed.code for closed in peer.closed] == [1001]
    assert peer.network.frames() == [(_CLOSE, (1001).to_bytes(2, "big"))]
    assert peer.network.closing


def test_nothing_is_offered_after_we_closed() -> None:
    async def main(peer: Answered) -> None:
        assert peer.line is not None
        await peer.arrives(framed("before"))
        await peer.line.close(1000, "done")
        await peer.arrives(framed("after") + framed(b"and more"), framed("later"))
        assert not peer.network.closing, "the peer's own close is still to come"
        await peer.arrives(framed("and") + close_frame(1000))
        assert peer.network.closing

    peer = run(main)
    assert peer.got == peer.offered == ["before"]
    assert peer.network.frames() == [(_CLOSE, (1000).to_bytes(2, "big") + b"done")]


def test_nobody_is_offered_anything_any_more() -> None:
    async def main(peer: Answered) -> None:
        assert peer.line is not None
        await peer.arrives(framed("directly"))
        peer.line.deliver_to(None)
        await peer.arrives(framed("received"))
        peer.line.deliver_to(peer.take)
        await peer.arrives(framed("directly again"))

    peer = run(main)
    assert peer.got == ["directly", "received", "directly again"]
    assert peer.taken == ["directly", "directly again"]


_BROKEN: dict[str, tuple[bytes, int]] = {
    "text that is not UTF-8": (framed(b"\xff\xfe", _TEXT), 1007),
    "text that ends within a letter": (framed(b"\xc3", _TEXT), 1007),
    "not masked": (framed("hello there", masked=False), 1002),
    "not masked and empty": (framed("", masked=False) + framed("x"), 1002),
    "a reserved bit": (bytes([framed("hello")[0] | 0x40]) + framed("hello")[1:], 1002),
    "a kind that is none": (framed("hello", 3), 1002),
    "a rest of nothing": (framed("hello", 0), 1002),
    "a message within a message": (framed("he", final=False) + framed("hello"), 1002),
    "a ping in pieces": (framed(b"x", _PING, final=False), 1002),
    "a long ping": (framed(b"x" * 126, _PING), 1002),
    "too long": (framed("x" * 65_537), 1009),
}


@pytest.mark.parametrize("behind", [0, 1, 5])
@pytest.mark.parametrize("what", sorted(_BROKEN))
def test_what_breaks_the_rules_closes_the_connection_behind_what_came_before(what: str, behind: int) -> None:
    data, code = _BROKEN[what]
    before = [f"{n}" for n in range(behind)]

    async def main(peer: Answered) -> None:
        assert peer.protocol is not None
        peer.protocol.data_received(b"".join(map(framed, before)) + data + framed("behind"))
        await peer.breathe()
        peer.protocol.data_received(framed("later"))

    peer = run(main)
    assert peer.got == peer.taken == before
    ((kind, content),) = peer.network.frames()
    assert (kind, int.from_bytes(content[:2], "big")) == (_CLOSE, code)
    assert [closed.code for closed in peer.closed] == [code]
    assert peer.network.closing


def test_a_message_within_another_breaks_the_rules_in_segments_of_their_own_too() -> None:
    async def main(peer: Answered) -> None:
        await peer.arrives(framed("he", final=False), framed("hello"), framed("lo", 0))

    peer = run(main)
    assert peer.got == peer.offered == []
    assert [closed.code for closed in peer.closed] == [1002]


def test_no_part_of_a_message_is_taken_for_another_one() -> None:
    """Each part of it, where a segment ends before it, looks like a message: the length, the mask, the
    content as it is written."""
    looks = framed("no") * 12
    mask = bytes([0x82, 0x80, 0x81, 0x80])
    messages: list[bytes] = []
    for size in (len(looks), 0x8180):
        written = (looks * size)[:size]
        messages.append(bytes(byte ^ mask[at % 4] for at, byte in enumerate(written)))

    async def main(peer: Answered) -> None:
        for message in messages:
            data = framed(message, mask=mask)
            for cut in range(1, 14):
                peer.got.clear()
                await peer.arrives(data[:cut], data[cut:])
                assert peer.got == [message], cut

    assert run(main).offered == []


def test_where_messages_may_be_compressed_none_is_handed_over_directly() -> None:
    async def main(peer: Answered) -> None:
        assert b"permessage-deflate" in peer.network.written
        await peer.arrives(framed("plain"), bytes([0xC1]) + framed(_HELLO_DEFLATED)[1:], framed("again"))

    peer = run(main, deflate=True)
    assert peer.got == ["plain", "Hello", "again"]
    assert peer.offered == []


_HELLO_DEFLATED = bytes.fromhex("f248cdc9c90700")
"""RFC 7692 section 7.2.3.1."""


@pytest.mark.parametrize("message", ["x" * 65_536, b"\xff\x80" * 32_768], ids=["text", "binary"])
def test_a_message_whose_length_takes_eight_bytes_is_received(message: str | bytes) -> None:
    async def main(peer: Answered) -> None:
        # A mask with which what stands behind the length reads as text.
        await peer.arrives(framed("before") + framed(message, mask=b"\x01\x02\x03\x04"), framed("behind"))

    peer = run(main)
    assert peer.got == ["before", message, "behind"]
    assert peer.taken == ["before", "behind"]


def test_a_binary_message_that_is_too_long_is_refused_and_no_part_of_it_taken() -> None:
    async def main(peer: Answered) -> None:
        await peer.arrives(framed(b"x" * 65_537))

    peer = run(main)
    assert peer.offered == peer.got == []
    assert [closed.code for closed in peer.closed] == [1009]
