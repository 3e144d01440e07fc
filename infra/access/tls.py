"""This server's own certificate, where no proxy has TLS; and those of other front-ends."""

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from infra.access.door import known_keys
from infra.access.errors import AccessConfigError
from infra.access.policy import AccessSettings
from telephony.twilio.elsewhere import NeighbourTls

log = logging.getLogger(__name__)


def check_access(settings: AccessSettings, operator_hashes: Iterable[str] = ()) -> None:
    """What would otherwise be found out when the models have been loaded. Raises `AccessConfigError`."""
    known_keys(settings, operator_hashes)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        Certificate(settings.tls_certificate, settings.tls_key)
    neighbour_tls(settings, "")


def neighbour_tls(settings: AccessSettings, public_url: str) -> NeighbourTls:
    """How this front-end knows the others behind `public_url`. Raises `AccessConfigError`."""
    try:
        context = ssl.create_default_context(cafile=settings.tls_authority)
    except (OSError, ValueError) as error:
        raise AccessConfigError(f"[access] tls_authority: {_said(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return NeighbourTls(context, urlsplit(public_url).hostname or "")


def is_known(settings: AccessSettings, public_url: str) -> bool:
    """Whether the other front-ends would take this one's certificate, by what it says itself about them; the
    log says why not. Raises `AccessConfigError`."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return False
    own = Certificate(settings.tls_certificate, settings.tls_key)
    others = neighbour_tls(settings, public_url)
    to_own, to_others = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = others.context.wrap_bio(to_others, to_own, server_hostname=others.name)
    answering = own.context.wrap_bio(to_own, to_others, server_side=True)
    for side in (asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            log.warning(
                "other front-ends would not take the certificate %s for %s (%s): what Twilio brings to them "
                "about calls of this one is not passed on. Where it is of an authority of your own, name it "
                "in [access] tls_authority",
                *(settings.tls_certificate, others.name, getattr(error, "verify_message", error)),
            )
            return False
    return True


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
