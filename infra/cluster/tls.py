"""TLS between front-ends and replicas: a replica makes a key and a certificate of its own, and a front-end
trusts the certificate that Ray told it of, and no other."""

import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime

_NOT_BEFORE = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, 4.1.2.5, for certificates without an end: this one ends with its process, which may run for
years, and no clock that is wrong may end it earlier."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A replica's, for as long as its process lives."""

    certificate: str
    """PEM: what front-ends are told."""
    context: ssl.SSLContext = field(repr=False)
    """For its server. Nothing else holds the key."""


def make_identity() -> Identity:
    """A new key (P-256) and its self-signed certificate. Blocks for milliseconds. Raises `OSError` where no
    temporary file can be made, `ModuleNotFoundError` without `cryptography`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "maya replica")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        # Whoever trusts it trusts nothing that it might have signed.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Front-ends keep their connections: nobody resumes a session.
    context.num_tickets = 0
    # `load_cert_chain` reads files only. This one is 0600 and gone at once, and should it stay behind after
    # all, its key is encrypted with a password that no longer exists.
    password = secrets.token_hex(32)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    with tempfile.NamedTemporaryFile(prefix="maya-") as file:
        file.write(certificate + sealed)
        file.flush()
        context.load_cert_chain(file.name, password=password)
    return Identity(certificate.decode(), context)


def pinned(certificate: str) -> ssl.SSLContext:
    """For a client that takes this certificate (PEM) and no other. Raises `ssl.SSLError` for one that is
    none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Its only authority is this one certificate. That it is told apart by its key and not by a name is the
    # point: replicas have addresses that come and go.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    return context
