"""SIP messages: bytes to `Request` or `Response` and back (RFC 3261 sections 7 and 25).

    message = parse_message(data)       # raises MalformedMessage: answer its `status`, or drop it
    data = message.response(200).to_bytes()

A parser of our own: it caps header bytes, header lines and bodies before it looks at them, takes time in
proportion to the size of the message, and fails in one way only. (`sipmessage` 0.7.1 was tried: it cannot
read `qop="auth,auth-int"`, and its pattern for credentials takes twice as long for each quoted parameter.)
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from telephony.sip.errors import MalformedMessage
from telephony.sip.uri import (
    TOKEN,
    Address,
    Uri,
    Via,
    parse_address,
    parse_uri,
    parse_via,
    split_outside_quotes,
)

MAX_HEADER_BYTES: Final = 16_384
MAX_HEADER_LINES: Final = 128
MAX_BODY_BYTES: Final = 16_384
_MAX_CALL_ID_CHARS: Final = 256
_MAX_CSEQ: Final = 2**31 - 1
_VERSION: Final = "SIP/2.0"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CSEQ: Final = re.compile(r"([0-9]{1,10})[ \t]+([A-Za-z0-9\-.!%*_+`'~]{1,32})", re.ASCII)
_STATUS: Final = re.compile(r"[1-6][0-9]{2}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)

_COMPACT: Final = {
    "b": "referred-by",
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
}
_ONCE: Final = ("from", "to", "call-id", "cseq", "content-length", "content-type", "max-forwards")
"""Headers whose second copy would let two readers see two messages."""

REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    503: "Service Unavailable",
    505: "Version Not Supported",
    603: "Decline",
}


class Headers:
    """Name and value pairs in their order; names compare without case, compact forms as the long ones."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: "list[tuple[str, str]] | None" = None) -> None:
        self._pairs: list[tuple[str, str, str]] = []
        for name, value in pairs or []:
            self.add(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.keyed() == other.keyed()

    __hash__ = None  # type: ignore[assignment]

    def add(self, name: str, value: str) -> None:
        key = name.lower()
        self._pairs.append((_COMPACT.get(key, key), name, value))

    def get(self, name: str) -> str | None:
        """The first value of `name`, given in lower case."""
        return next((value for key, _, value in self._pairs if key == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of `name`, one for each header line."""
        return [value for key, _, value in self._pairs if key == name]

    def listed(self, name: str) -> list[str]:
        """Every element of a comma-separated header, over all its lines."""
        return [part for value in self.all(name) for part in split_outside_quotes(value, ",")]

    def pairs(self) -> list[tuple[str, str]]:
        return [(name, value) for _, name, value in self._pairs]

    def keyed(self) -> list[tuple[str, str]]:
        """The same with long names in lower case."""
        return [(key, value) for key, _, value in self._pairs]


@dataclass(frozen=True, slots=True)
class _Message:
    headers: Headers
    body: bytes
    via: Via
    from_: Address
    to: Address
    call_id: str
    cseq: int
    cseq_method: str

    @property
    def content_type(self) -> str:
        """Lower case, without parameters; "" where there is none."""
        return (self.headers.get("content-type") or "").partition(";")[0].strip().lower()

    def tokens(self, name: str) -> set[str]:
        """A header that lists words, such as `Supported`, in lower case."""
        return {part.lower() for part in self.headers.listed(name)}

    def contact(self) -> Uri | None:
        """The first Contact. Raises `MalformedMessage` where it cannot be read."""
        contacts = self.headers.listed("contact")
        return parse_address(contacts[0]).uri if contacts and contacts[0] != "*" else None


@dataclass(frozen=True, slots=True)
class Request(_Message):
    method: str
    uri: Uri

    def response(
        self,
        status: int,
        reason: str = "",
        *,
        tag: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> bytes:
        """The bytes of a response (RFC 3261 section 8.2.6). `tag` is added to a To that has none."""
        lines = [f"{_VERSION} {status} {reason or REASONS.get(status, 'Response')}"]
        lines += [f"Via: {value}" for value in self.headers.all("via")]
        if status < 300:
            lines += [f"Record-Route: {value}" for value in self.headers.all("record-route")]
        to = self.headers.get("to") or ""
        lines += [
            f"From: {self.headers.get('from')}",
            f"To: {to};tag={tag}" if tag and not self.to.tag else f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} {self.cseq_method}",
        ]
        lines += [f"{name}: {value}" for name, value in headers]
        return _joined(lines, body)

    def seen_from(self, host: str, port: int) -> "Request":
        """The same request with `received` and `rport` filled in at the top Via."""
        headers = Headers()
        fresh = True
        for key, value in self.headers.keyed():
            if key == "via" and fresh:
                rest = split_outside_quotes(value, ",")[1:]
                headers.add("Via", ", ".join([self.via.from_source(host, port), *rest]))
                fresh = False
            else:
                headers.add(key, value)
        return replace(self, headers=headers)


@dataclass(frozen=True, slots=True)
class Response(_Message):
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A request of ours before it gets its Via. `headers` holds From, To and Call-ID too."""

    method: str
    uri: str
    cseq: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def to_bytes(self, via: str) -> bytes:
        lines = [f"{self.method} {self.uri} {_VERSION}", f"Via: {via}", "Max-Forwards: 70"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"CSeq: {self.cseq} {self.method}")
        return _joined(lines, self.body)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def with_headers(self, *headers: tuple[str, str]) -> "Draft":
        """The same with these headers in place of those of the same names."""
        names = {name.lower() for name, _ in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + headers)


def parse_message(data: bytes, *, stream: bool = False) -> Request | Response:
    """One whole datagram, or one message of a stream as `StreamSplitter` cuts it (`stream`).

    Raises `MalformedMessage` and nothing else. Bytes behind the body that Content-Length states are left
    out in a datagram (RFC 3261 section 18.3)."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        raise MalformedMessage("no empty line behind the headers")
    if len(head) > MAX_HEADER_BYTES:
        raise MalformedMessage("headers too long")
    # Bytes that are no UTF-8 travel through unchanged: what we echo must be what came.
    lines = _unfolded(head.decode("utf-8", "surrogateescape"))
    if len(lines) > MAX_HEADER_LINES:
        raise MalformedMessage("too many headers")
    headers = Headers()
    fault: MalformedMessage | None = None
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t")
        if not colon or not TOKEN.fullmatch(name) or _CONTROL.search(value):
            fault = MalformedMessage("a header line that is none")
            continue
        headers.add(name, value.strip(" \t"))
    for name in _ONCE:
        if len(headers.all(name)) > 1:
            raise MalformedMessage(f"two headers {name}")
    length = headers.get("content-length")
    if length is not None and not _DIGITS.fullmatch(length):
        fault, length = MalformedMessage("an odd Content-Length"), None
    elif length is not None and int(length) > len(body):
        fault = MalformedMessage("a body shorter than Content-Length says")
    elif length is not None:
        body = body[: int(length)]
    elif stream:
        raise MalformedMessage("no Content-Length on a stream")
    if len(body) > MAX_BODY_BYTES:
        body, fault = b"", MalformedMessage("body too long", 413)
    return _typed(lines[0], headers, body, fault)


def _typed(first: str, headers: Headers, body: bytes, fault: MalformedMessage | None) -> Request | Response:
    vias = headers.listed("via")
    if not vias:
        raise MalformedMessage("no Via")
    call_id = headers.get("call-id") or ""
    if not 1 <= len(call_id) <= _MAX_CALL_ID_CHARS or " " in call_id:
        raise MalformedMessage("an odd Call-ID")
    cseq = _CSEQ.fullmatch(headers.get("cseq") or "")
    if cseq is None or int(cseq[1]) > _MAX_CSEQ:
        raise MalformedMessage("an odd CSeq")
    via = parse_via(vias[0])
    from_ = parse_address(headers.get("from") or "")
    to = parse_address(headers.get("to") or "")
    words = first.split(" ")
    if words[0] == _VERSION:
        if len(words) < 2 or not _STATUS.fullmatch(words[1]):
            raise MalformedMessage("an odd status line")
        if fault is not None:
            raise fault
        reason = " ".join(words[2:])[:128]
        return Response(headers, body, via, from_, to, call_id, int(cseq[1]), cseq[2], int(words[1]), reason)
    if len(words) != 3 or not TOKEN.fullmatch(words[0]) or len(words[0]) > 32:
        raise MalformedMessage("an odd request line")
    method, uri_text, version = words
    try:
        uri = parse_uri(uri_text)
    except MalformedMessage as odd:
        uri = Uri("sip", "", "invalid.invalid", None, {}, "sip:invalid.invalid")
        fault = fault or odd
    request = Request(headers, body, via, from_, to, call_id, int(cseq[1]), cseq[2], method, uri)
    if version.upper() != _VERSION:
        fault = MalformedMessage("another version of SIP", 505)
    elif cseq[2] != method:
        fault = MalformedMessage("a CSeq of another method")
    elif not from_.tag and fault is None:
        # RFC 2543 clients left it out; a dialog cannot be told apart without.
        fault = MalformedMessage("a From without a tag")
    if fault is not None:
        fault.request = request
        raise fault
    return request


def _unfolded(head: str) -> list[str]:
    """Header lines; one that begins with a space goes on the one before (RFC 3261 section 7.3.1)."""
    lines: list[str] = []
    for line in head.split("\r\n"):
        if line[:1] in (" ", "\t") and len(lines) > 1:
            lines[-1] += " " + line.strip(" \t")
        else:
            lines.append(line)
    return lines


def _joined(lines: list[str], body: bytes) -> bytes:
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def shown(text: str) -> str:
    """Text of a message made fit for logs and files: what is no UTF-8 becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class StreamSplitter:
    """Cuts a TCP stream into messages by Content-Length (RFC 3261 section 18.3). Raises `MalformedMessage`
    where the stream cannot be followed any more: close the connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.pings = 0
        """Keep-alives (two line ends between messages, RFC 5626 section 3.5.1) that wait for their answer."""

    def feed(self, data: bytes) -> list[bytes]:
        """Whole messages, in order."""
        self._buffer += data
        messages: list[bytes] = []
        while True:
            self._skip_line_ends()
            end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
            if end < 0:
                if len(self._buffer) > MAX_HEADER_BYTES:
                    raise MalformedMessage("headers too long")
                return messages
            size = end + 4 + _content_length(bytes(self._buffer[:end]))
            if len(self._buffer) < size:
                return messages
            messages.append(bytes(self._buffer[:size]))
            del self._buffer[:size]

    def _skip_line_ends(self) -> None:
        while self._buffer.startswith(b"\r\n\r\n"):
            del self._buffer[:4]
            self.pings += 1
        if self._buffer.startswith(b"\r\n") and not b"\r\n\r\n".startswith(self._buffer):
            del self._buffer[:2]


def _content_length(head: bytes) -> int:
    """Raises `MalformedMessage` unless there is exactly one."""
    found: int | None = None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() in (b"content-length", b"l"):
            text = value.strip()
            if found is not None or not 1 <= len(text) <= 9 or not text.isdigit():
                raise MalformedMessage("an odd Content-Length")
            found = int(text)
    if found is None:
        raise MalformedMessage("no Content-Length on a stream")
    if found > MAX_BODY_BYTES:
        raise MalformedMessage("body too long", 413)
    return found
