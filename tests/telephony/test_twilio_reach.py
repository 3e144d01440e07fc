"""Asking a running server over its public URL, as Twilio will."""

import asyncio
import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from telephony.twilio.config import TwilioConfig
from telephony.twilio.reach import Finding, look
from tests.telephony.test_twilio_live import serving
from tests.telephony.twilio_support import AUTH_TOKEN, OLD_TOKEN, Echo, config


async def found(config_: TwilioConfig) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(look(config_)))


async def test_a_server_that_twilio_will_find() -> None:
    async with serving(Echo()) as host:
        findings = await found(config(public_url=f"http://{host}"))
    assert [finding.good for finding in findings] == [True, True, True], findings
    assert findings[-1].text == "media streams are let in"


async def test_a_server_with_another_auth_token() -> None:
    async with serving(Echo(), auth_tokens=(OLD_TOKEN,)) as host:
        (only,) = await found(config(public_url=f"http://{host}"))
    assert not only.good
    assert "another auth token or another public URL" in only.text
    assert AUTH_TOKEN not in only.text


async def test_an_insecure_server_is_told_from_a_safe_one() -> None:
    async with serving(Echo(), insecure=True, auth_tokens=()) as host:
        findings = await found(config(public_url=f"http://{host}"))
    assert [finding.good for finding in findings] == [True, False, True]
    assert "--insecure" in findings[1].text


async def test_nobody_there() -> None:
    (only,) = await found(config(public_url="http://127.0.0.1:9"))
    assert not only.good
    assert "cannot be reached" in only.text


class _Other(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def other_server(certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Other)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


async def test_something_else_is_there() -> None:
    with other_server() as port:
        (only,) = await found(config(public_url=f"http://127.0.0.1:{port}"))
    assert not only.good
    assert "answers 404, not 204" in only.text


@pytest.fixture
def self_signed(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=5))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_a_certificate_of_ones_own_is_no_good(self_signed: tuple[Path, Path]) -> None:
    with other_server(self_signed) as port:
        (only,) = await found(config(public_url=f"https://localhost:{port}"))
    assert not only.good
    assert "not trusted" in only.text


async def test_a_certificate_that_ends_soon(
    self_signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed[0]))
    with other_server(self_signed) as port:
        (only,) = await found(config(public_url=f"https://localhost:{port}"))
    assert not only.good
    assert "ends in 5 days" in only.text or "ends in 4 days" in only.text


async def test_no_tls_behind_https() -> None:
    with other_server() as port:
        (only,) = await found(config(public_url=f"https://localhost:{port}"))
    assert not only.good
    assert "does not answer TLS" in only.text
