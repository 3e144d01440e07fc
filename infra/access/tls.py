"""This server's own certificate, where no proxy has TLS; and those of other front-ends."""

import logging
import ssl
from collections.abc import Iterable
from contextlib import suppress
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
    Certificate.of(settings)
    Neighbourhood(settings, "")


class Neighbourhood:
    """By what front-ends with TLS know each other: each shows a certificate for the host of `public_url`, of
    an authority that all of them trust. `tls` is for `telephony.twilio.routes`. Raises `AccessConfigError`
    where the authority's file does not do."""

    def __init__(self, settings: AccessSettings, public_url: str) -> None:
        self._authority = settings.tls_authority
        self._seen = None if self._authority is None else _stat(self._authority)
        try:
            context = ssl.create_default_context(cafile=self._authority)
        except (OSError, ValueError) as error:
            said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise AccessConfigError(
                f"[access] tls_authority: {self._authority} holds no certificate in PEM ({said})"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.tls = NeighbourTls(context, (urlsplit(public_url).hostname or "").rstrip("."))

    def renew(self) -> bool:
        """Trust what the authority's file says now, too, if it has changed; what it said before stays good,
        for front-ends change theirs one after another. Whether it was read. Ask now and then."""
        seen = None if self._authority is None else _stat(self._authority)
        if seen is None or seen == self._seen:
            return False
        self._seen = seen
        try:
            self.tls.context.load_verify_locations(self._authority)
        except (OSError, ValueError) as error:
            log.error("the authority stays as it was: %s: %s", self._authority, error)
            return False
        log.info("%s was read again", self._authority)
        return True

    def knows(self, own: "Certificate") -> bool:
        """Whether the others would take our `own`, if they trust whom we trust; the log says why not."""
        to_own, to_others = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            asking = self.tls.context.wrap_bio(to_others, to_own, server_hostname=self.tls.name)
            answering = own.context.wrap_bio(to_own, to_others, server_side=True)
            for side in (asking, answering, asking):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        except (ssl.SSLError, ValueError) as error:
            log.warning(
                "other front-ends would not take the certificate %s (%s): what Twilio brings to them about "
                "calls of this one is not passed on. It must be for %s, and of an authority that their "
                "machines trust or that [access] tls_authority names",
                *(own, getattr(error, "verify_message", error), self.tls.name or "the public URL's host"),
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

    @classmethod
    def of(cls, settings: AccessSettings) -> "Certificate | None":
        """The server's own, where it has one. Raises `AccessConfigError`."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key)

    def __str__(self) -> str:
        return str(self._certificate)

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
