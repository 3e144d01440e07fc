"""A real uvicorn behind the front: connections that say nothing, ten megabytes, TLS."""

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.sync.client import connect

from infra.access.errors import AccessConfigError
from infra.access.front import Front
from infra.access.policy import AccessSettings
from infra.access.tls import Certificate, Neighbourhood, check_access
from infra.access.web import install
from tests.certificates import certificate

PATIENCE_S = 0.4
SOON_S = 5.0
"""Within which what must happen has happened, on a machine that is busy."""


@contextmanager
def serving(settings: AccessSettings) -> Iterator[int]:
    """The port of a server in a thread."""
    scheme = "https" if settings.tls_certificate else "http"
    app = FastAPI()
    install(app, settings, public_url=f"{scheme}://127.0.0.1")

    @app.get("/")
    async def root() -> str:
        return "here"

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    front = Front(app, settings)
    config = uvicorn.Config(
        front.app, http=front.protocol, ws="websockets-sansio", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            async with front.secured(config):
                await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(SOON_S * 2)
            assert not thread.is_alive()


def connected(port: int) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", port), timeout=SOON_S))


REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(AccessSettings(request_s=PATIENCE_S, max_idle_connections=4)) as port:
        yield port


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_head_that_does_not_come_is_not_waited_for(port: int, said: bytes) -> None:
    with connected(port) as one:
        one.sendall(said)
        assert one.recv(100) == b""


def test_nor_is_the_second_one_of_a_connection(port: int) -> None:
    with connected(port) as one:
        one.sendall(REQUEST)
        assert b"200 OK" in one.recv(1_000)
        one.sendall(b"GET /")
        rest = one.recv(1_000)
        assert rest == b"" or one.recv(100) == b""


def test_of_too_many_silent_connections_the_oldest_goes_and_who_asks_is_served(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port), timeout=SOON_S) for _ in range(8)]
    try:
        with connected(port) as one:
            one.sendall(REQUEST)
            assert b"200 OK" in one.recv(1_000)
        assert silent[0].recv(100) == b""
    finally:
        for one in silent:
            one.close()


def test_a_socket_may_be_silent_as_long_as_it_likes(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/echo") as call:
        threading.Event().wait(3 * PATIENCE_S)
        call.send("still here")
        assert call.recv(timeout=SOON_S) == "still here"


def test_ten_megabytes_are_answered_before_they_are_read(port: int) -> None:
    with connected(port) as one:
        one.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):  # closed under us
            for _ in range(640):
                one.sendall(b"x" * 16_384)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=SOON_S)) as web:
        web.putrequest("POST", "/")
        web.putheader("Content-Length", "10485760")
        web.endheaders()
        web.send(b"x" * 65_536)
        answer = web.getresponse()
        assert (answer.status, answer.getheader("connection")) == (413, "close")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 200 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
    ],
)
def test_garbage_is_closed_and_the_server_lives(port: int, garbage: bytes) -> None:
    with connected(port) as one:
        try:
            one.sendall(garbage)
            while one.recv(1_000):
                pass
        except ConnectionError:
            pass
    with connected(port) as one:
        one.sendall(REQUEST)
        assert b"200 OK" in one.recv(1_000)


# TLS


def test_the_server_speaks_tls_from_a_certificate(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "one")
    trusting = ssl.create_default_context(cafile=str(chain))
    with serving(AccessSettings(tls_certificate=chain, tls_key=key, request_s=SOON_S)) as port:
        with closing(http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=SOON_S)) as web:
            web.request("GET", "/")
            assert web.getresponse().read() == b'"here"'
        with connect(f"wss://127.0.0.1:{port}/echo", ssl=trusting) as call:
            call.send("hello")
            assert call.recv(timeout=SOON_S) == "hello"
        with connected(port) as plain:
            plain.sendall(REQUEST)
            with pytest.raises((ConnectionError, AssertionError)):
                assert b"200 OK" in plain.recv(1_000)


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "old")
    new_chain, new_key = certificate(tmp_path, "new")
    held = Certificate(chain, key)
    assert shown(held) == "old"
    assert not held.renew()
    chain.write_bytes(new_chain.read_bytes())  # its key comes later
    assert not held.renew()
    assert shown(held) == "old"
    key.write_bytes(new_key.read_bytes())
    assert held.renew()
    assert shown(held) == "new"
    chain.unlink()
    assert not held.renew()
    assert shown(held) == "new"


def shown(held: Certificate) -> str:
    """The common name that a client is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = held.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking, answering):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown_ = asking.getpeercert(binary_form=True)
    assert shown_ is not None
    return next(name for name in ("old", "new") if b"\x0c\x03" + name.encode() in shown_)


def test_files_that_are_no_certificate_stop_the_start(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "two")
    for pair in ((chain, other), (key, key), (tmp_path / "none", key)):
        with pytest.raises(AccessConfigError, match="tls_certificate"):
            check_access(AccessSettings(tls_certificate=pair[0], tls_key=pair[1]))
    check_access(AccessSettings(tls_certificate=chain, tls_key=key))
    for authority in (key, tmp_path / "none"):
        with pytest.raises(AccessConfigError, match="tls_authority"):
            check_access(AccessSettings(tls_certificate=chain, tls_key=key, tls_authority=authority))
    with pytest.raises(ValueError, match="belong together"):
        AccessSettings(tls_certificate=chain)


@pytest.mark.parametrize(
    ("url", "authority", "complaint"),
    [
        ("https://maya.example.com", "one", ""),
        ("https://maya.example.com:8443/twilio", "one", ""),
        ("https://maya.example.com.", "one", ""),
        ("https://maya..example.com", "one", "maya..example.com"),
        ("https://other.example.com", "one", "Hostname mismatch"),
        ("https://maya.example.com", "two", "self-signed certificate"),
        ("https://maya.example.com", "", "self-signed certificate"),
    ],
)
def test_a_certificate_that_other_front_ends_would_not_take_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, authority: str, complaint: str
) -> None:
    own = Certificate(*certificate(tmp_path, "one", "DNS:maya.example.com"))
    certificate(tmp_path, "two", "DNS:maya.example.com")
    settings = AccessSettings(tls_authority=tmp_path / f"{authority}.pem" if authority else None)
    assert Neighbourhood(settings, url).knows(own) == (not complaint)
    assert complaint in caplog.text
    assert ("It must be for" in caplog.text) == bool(complaint)


def test_of_an_authority_that_changes_both_are_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Front-ends change theirs one after another."""
    chain, key = certificate(tmp_path, "own", "DNS:maya.example.com")
    next_chain, next_key = certificate(tmp_path, "next", "DNS:maya.example.com")
    before, after = Certificate(chain, key), Certificate(next_chain, next_key)
    others = Neighbourhood(AccessSettings(tls_authority=chain), "https://maya.example.com")
    assert not others.renew()
    assert not others.knows(after)
    chain.write_bytes(next_chain.read_bytes())
    assert others.renew()
    assert others.knows(after)
    assert others.knows(before)
    chain.write_text("nothing")
    assert not others.renew()
    assert "stays as it was" in caplog.text
    assert others.knows(after)
    chain.unlink()
    assert not others.renew()
