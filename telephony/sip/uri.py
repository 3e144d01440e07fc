"""SIP and tel URIs, addresses (`From`, `Contact`, ...) and their parameters (RFC 3261 section 25, RFC 3966).

Strict in what decides where something is sent, lenient in what is only shown. Nothing here looks a name up.
Every parser is one pass over the text: no pattern that could be made to backtrack.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

from telephony.sip.errors import MalformedMessage

TOKEN: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,253})", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAX_PARAMETERS: Final = 64

Parameters = dict[str, str | None]
"""Names in lower case; None for one without a value."""


@dataclass(frozen=True, slots=True)
class Uri:
    """`text` is the URI as it came. `host` is without brackets, "" for tel; `user` is decoded."""

    scheme: str
    user: str
    host: str
    port: int | None
    parameters: Parameters
    text: str

    @property
    def literal(self) -> IPv4Address | IPv6Address | None:
        """The host as an address; None for a name, which nobody here looks up."""
        return literal(self.host)


@dataclass(frozen=True, slots=True)
class Address:
    """A name-addr or addr-spec. `display` is unquoted; `text` the whole as it came."""

    uri: Uri
    display: str
    parameters: Parameters = field(default_factory=dict)
    text: str = ""

    @property
    def tag(self) -> str:
        return self.parameters.get("tag") or ""


@dataclass(frozen=True, slots=True)
class Via:
    transport: str
    host: str
    port: int | None
    parameters: Parameters
    text: str

    @property
    def branch(self) -> str:
        return self.parameters.get("branch") or ""

    def from_source(self, host: str, port: int) -> str:
        """The header's value with where the request really came from (RFC 3261 section 18.2.1, RFC 3581)."""
        kept = "".join(
            f";{name}" if value is None else f";{name}={value}"
            for name, value in self.parameters.items()
            if name not in ("received", "rport")
        )
        sent_by = bracketed(self.host) if self.port is None else f"{bracketed(self.host)}:{self.port}"
        rport = f";rport={port}" if "rport" in self.parameters else ""
        return f"SIP/2.0/{self.transport} {sent_by}{kept};received={host}{rport}"


def literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_uri(text: str) -> Uri:
    """Raises `MalformedMessage`: 416 for another scheme."""
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or not TOKEN.fullmatch(scheme):
        raise MalformedMessage("a URI without a scheme")
    if any(character <= " " or character in '<>"\x7f' for character in rest):
        raise MalformedMessage("a URI with characters that must be escaped")
    if scheme == "tel":
        number, _, parameters = rest.partition(";")
        if not number:
            raise MalformedMessage("a tel URI without a number")
        return Uri(scheme, unquote(number), "", None, parse_parameters(parameters), text)
    if scheme not in ("sip", "sips"):
        raise MalformedMessage("a URI of a scheme that is not understood", 416)
    user, at, rest = rest.rpartition("@")
    if at and (not user or "@" in user):
        raise MalformedMessage("a URI with an odd user")
    rest = rest.partition("?")[0]
    hostport, _, parameters = rest.partition(";")
    host, port = parse_hostport(hostport)
    # The password part is nobody's business.
    return Uri(scheme, unquote(user.partition(":")[0]), host, port, parse_parameters(parameters), text)


def parse_hostport(text: str) -> tuple[str, int | None]:
    """Host (brackets off) and port. Raises `MalformedMessage`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        address = literal(host)
        if not bracket or not isinstance(address, IPv6Address) or "%" in host:
            raise MalformedMessage("a host with odd brackets")
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
        if not _HOST.fullmatch(host):
            raise MalformedMessage("a host that is neither name nor address")
    if not rest:
        return host, None
    if rest[0] != ":" or not _PORT.fullmatch(rest[1:]) or not 1 <= int(rest[1:]) <= 65_535:
        raise MalformedMessage("an odd port")
    return host, int(rest[1:])


def parse_parameters(text: str) -> Parameters:
    """`a=1;b;c="x;y"`. Of a name that comes twice the first counts."""
    parameters: Parameters = {}
    for part in split_outside_quotes(text, ";"):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not name:
            continue
        if len(parameters) >= _MAX_PARAMETERS:
            raise MalformedMessage("too many parameters")
        parameters.setdefault(name, unquoted(value.strip()) if equals else None)
    return parameters


def parse_address(text: str) -> Address:
    """`"Ann" <sip:ann@host;p>;tag=1` or `sip:ann@host;tag=1`. Raises `MalformedMessage`."""
    text = text.strip()
    start = _find_outside_quotes(text, "<")
    if start < 0:
        # Without brackets every parameter belongs to the header (RFC 3261 section 20.10).
        uri, _, rest = text.partition(";")
        return Address(parse_uri(uri.strip()), "", parse_parameters(rest), text)
    end = text.find(">", start)
    if end < 0:
        raise MalformedMessage("an address without its closing bracket")
    rest = text[end + 1 :].strip()
    if rest and not rest.startswith(";"):
        raise MalformedMessage("an address with something behind it")
    display = unquoted(text[:start].strip())
    return Address(parse_uri(text[start + 1 : end]), display, parse_parameters(rest[1:]), text)


def parse_via(text: str) -> Via:
    """Raises `MalformedMessage`."""
    head, _, rest = text.partition(";")
    words = head.replace("/", " / ").split()
    # SIP / 2.0 / UDP host:port
    if (
        len(words) != 6
        or words[1] != "/"
        or words[3] != "/"
        or words[0].upper() != "SIP"
        or words[2] != "2.0"
    ):
        raise MalformedMessage("an odd Via")
    host, port = parse_hostport(words[5])
    if not TOKEN.fullmatch(words[4]):
        raise MalformedMessage("an odd Via")
    parameters = parse_parameters(rest)
    for value in parameters.values():
        # These are written back in the response, unquoted.
        if value is not None and any(character in ' ",;' for character in value):
            raise MalformedMessage("an odd Via parameter")
    return Via(words[4].upper(), host, port, parameters, text)


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at `separator` outside of quotes and angle brackets; stripped, the empty parts left out."""
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator) if part.strip()]
    parts: list[str] = []
    start = 0
    quoted = escaped = bracket = False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == "<":
            bracket = True
        elif character == ">":
            bracket = False
        elif character == separator and not bracket:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _find_outside_quotes(text: str, wanted: str) -> int:
    if '"' not in text:
        return text.find(wanted)
    inside = escaped = False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif inside:
            escaped = character == "\\"
            inside = character != '"'
        elif character == '"':
            inside = True
        elif character == wanted:
            return at
    return -1
