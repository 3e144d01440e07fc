"""Who may reach the WebSocket and the AudioSocket port.

By address first: the peer of the connection itself, never what a header says. Then, over HTTP, by the shared
secret. Without a secret only this machine gets in, and nothing that came through a proxy or from a page in a
browser.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from telephony.asterisk.config import AsteriskConfig
from telephony.asterisk.errors import AccessRefused

TOKEN_PARAMETER: Final = "token"  # noqa: S105  the name of the parameter
MAX_PARAMETERS: Final = 64
MAX_PARAMETER_CHARS: Final = 1_000
_FORWARDED: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"}
)


class Doorkeeper:
    """Checks peers against one configuration."""

    def __init__(self, config: AsteriskConfig) -> None:
        self._networks = config.networks
        self._secret = config.secret.encode()
        self._user = config.user.encode()

    def check_peer(self, host: str | None) -> None:
        """The address at the other end. Raises `AccessRefused`."""
        try:
            address = ipaddress.ip_address((host or "").partition("%")[0])
        except ValueError:
            raise AccessRefused(f"a peer without an address: {host!r}") from None
        mapped = getattr(address, "ipv4_mapped", None)
        if not any((mapped or address) in network for network in self._networks):
            raise AccessRefused(
                f"{mapped or address} is not in `allowed`; add it there if it is your Asterisk"
            )

    def check_request(self, host: str | None, query: str, headers: Mapping[str, str]) -> dict[str, str]:
        """One HTTP request or WebSocket handshake, with its headers in lower case. Returns the query's
        parameters without the token. Raises `AccessRefused`."""
        self.check_peer(host)
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise AccessRefused("the query has too many parameters") from None
        parameters = {name: value for name, value in pairs if len(name) + len(value) <= MAX_PARAMETER_CHARS}
        token = parameters.pop(TOKEN_PARAMETER, "")
        if not self._secret:
            _check_local(headers)
        elif not (self._is_secret(token.encode()) or self._is_authorised(headers.get("authorization", ""))):
            raise AccessRefused(
                "the secret is missing or wrong: write it into websocket_client.conf (username, password), "
                "or into the dial string, v(token=...)"
            )
        return parameters

    def _is_secret(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._secret)

    def _is_authorised(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        # Both are compared, whatever comes of the first.
        return hmac.compare_digest(user, self._user) & self._is_secret(password)


def _check_local(headers: Mapping[str, str]) -> None:
    for name in headers:
        if name in _FORWARDED or name.startswith("x-forwarded-"):
            raise AccessRefused(f"without a secret nothing gets in that came through a proxy ({name})")
    if not _is_loopback("//" + headers.get("host", "")):
        raise AccessRefused("without a secret only loopback host names are answered")
    # A page of any site may open a WebSocket to this machine; the browser names it.
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(origin):
        raise AccessRefused("without a secret nothing gets in from a web page of elsewhere")


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
