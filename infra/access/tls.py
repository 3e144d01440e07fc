"""This server's own certificate, where no proxy has TLS."""

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from infra.access.door import known_keys
from infra.access.errors import AccessConfigError
from infra.access.policy import AccessSettings

log = logging.getLogger(__name__)


def check_access(settings: AccessSettings, operator_hashes: Iterable[str] = ()) -> None:
    """What would otherwise be found out when the models have been loaded. Raises `AccessConfigError`."""
    known_keys(settings, operator_hashes)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        Certificate(settings.tls_certificate, settings.tls_key)


class Certificate:
    """A context for TLS servers. Raises `AccessConfigError` where the two files do not do."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        # HTTP/1.1 alone is spoken here.
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._look()
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise AccessConfigError(f"[access] tls_certificate, tls_key: {_said(error)}") from None

    def renew(self) -> bool:
        """Take the files' present content for connections from now on, if it has changed. Whether it was
        taken. Ask now and then: who renews certificates replaces the files. A pair that does not fit changes
        nothing but the log."""
        seen = self._look()
        if seen == self._seen or None in seen:
            return False
        self._seen = seen
        try:
            # Tried on another context first: loading half a pair would leave this one without either.
            Certificate(self._certificate, self._key)
            self._load()
        except (OSError, ValueError, AccessConfigError) as error:
            log.error("the certificate stays as it was: %s", error)
            return False
        log.info("%s was read again", self._certificate)
        return True

    def _load(self) -> None:
        # A key with a passphrase would ask for it at the terminal.
        self.context.load_cert_chain(self._certificate, self._key, password=lambda: "")

    def _look(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        return _stat(self._certificate), _stat(self._key)


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _said(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"they are no certificate and its key in PEM ({error.reason or 'unreadable'})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
