"""How a simulated call comes in: straight to a stream's WebSocket, or as Twilio does it, through the voice
webhook.

The webhook gets the form that Twilio posts, signed with the account's auth token; its TwiML names the
stream, the stream's `<Parameter>`s, and what to do once the server has closed it. The opening handshake is
signed over the stream's URL. See https://www.twilio.com/docs/usage/security and
https://www.twilio.com/docs/voice/twiml/stream
"""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode, urljoin, urlsplit
from xml.etree import ElementTree

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from telephony.simulator.balancer import Balancer
from telephony.simulator.errors import CannotCall, Unreachable

VOICE_PATH = "/twilio/voice"
MEDIA_PATH = "/twilio/media"
SIGNATURE_HEADER = "X-Twilio-Signature"
_HTTP_TIMEOUT_S = 15.0
_PARAMETER_LIMIT = 500
"""Name and value of one `<Parameter>` together (Twilio's page on `<Stream>`)."""
_XML_TYPES = ("text/xml", "application/xml")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the TwiML connects the call. `then` is what it wants done after the stream."""

    url: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    status_callback: str | None = None
    then: tuple[ElementTree.Element, ...] = ()
    violations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """Twilio's side of one call: who calls whom, with which token requests are signed (None: not at all), and
    which way they go."""

    account_sid: str
    call_sid: str
    stream_sid: str
    caller: str
    called: str
    auth_token: str | None
    balancer: Balancer = field(default_factory=Balancer)

    def form(self, status: str) -> dict[str, str]:
        return {
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.call_sid,
            "CallStatus": status,
            "Called": self.called,
            "Caller": self.caller,
            "Direction": "inbound",
            "From": self.caller,
            "To": self.called,
        }

    def signature(self, url: str, form: Mapping[str, str]) -> dict[str, str]:
        """The signature header of one request; none without a token."""
        if self.auth_token is None:
            return {}
        return {SIGNATURE_HEADER: RequestValidator(self.auth_token).compute_signature(url, dict(form))}


def webhook_of(url: str, *, signed: bool) -> str | None:
    """The voice webhook to call for `url`, or None when `url` is a stream to be called directly.

    A signed call to our own stream's path goes through the webhook all the same: a server that checks
    signatures takes no stream without the token that only its TwiML holds. Raises `CannotCall` for any
    other URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise CannotCall(
            f"cannot call {url!r}: it must be ws://HOST/PATH (a stream) or http://HOST (a webhook)"
        )
    if parts.scheme in ("http", "https"):
        return url if parts.path not in ("", "/") else parts._replace(path=VOICE_PATH).geturl()
    if signed and parts.path == MEDIA_PATH:
        return parts._replace(scheme=parts.scheme.replace("ws", "http"), path=VOICE_PATH).geturl()
    return None


async def ask_for_stream(webhook: str, account: Account) -> Stream:
    """Let the call ring: post the webhook, read its TwiML. Raises `CannotCall`."""
    return read_twiml(await _post(webhook, account, account.form("ringing")), webhook)


async def follow_up(webhook: str, stream: Stream, account: Account) -> str | None:
    """What Twilio does when the server has closed the stream: the TwiML behind `</Connect>`, followed
    through one `<Redirect>`. None when nothing stands there. Raises `CannotCall`."""
    if not stream.then:
        return None
    first = stream.then[0]
    if first.tag != "Redirect":
        return "".join(ElementTree.tostring(verb, encoding="unicode") for verb in stream.then)
    url = urljoin(webhook, (first.text or "").strip())
    return await _post(url, account, account.form("in-progress"))


def next_stream(twiml: str, webhook: str) -> Stream | None:
    """Where the TwiML behind `</Connect>` connects the call again; None where it does something else."""
    try:
        return read_twiml(twiml, webhook)
    except CannotCall:
        return None


async def report_stream_status(webhook: str, stream: Stream, account: Account, event: str) -> str | None:
    """Post `stream-started` or `stream-stopped` where the TwiML wants it; returns a violation or None."""
    if stream.status_callback is None:
        return None
    form = {
        "AccountSid": account.account_sid,
        "CallSid": account.call_sid,
        "StreamEvent": event,
        "StreamName": stream.name,
        "StreamSid": account.stream_sid,
        "Timestamp": datetime.now(UTC).isoformat(),
    }
    try:
        await _post(urljoin(webhook, stream.status_callback), account, form)
    except CannotCall as failure:
        return f"statusCallback: {failure}"
    return None


def read_twiml(twiml: str, webhook: str) -> Stream:
    """The `<Stream>` of a `<Connect>`. Raises `CannotCall` when there is none."""
    try:
        # The document comes from the server under test; expat bounds entity expansion by itself.
        response = ElementTree.fromstring(twiml)  # noqa: S314
    except ElementTree.ParseError as error:
        raise CannotCall(
            f"{webhook} answered no TwiML ({error}; Twilio error 12100): {twiml[:200]!r}"
        ) from None
    verbs = list(response)
    at = next((number for number, verb in enumerate(verbs) if verb.tag == "Connect"), None)
    element = verbs[at].find("Stream") if at is not None else None
    if response.tag != "Response" or at is None or element is None:
        raise CannotCall(f"{webhook} connects no stream; its TwiML is {twiml[:400]}")
    violations = []
    url = element.get("url", "")
    parts = urlsplit(urljoin(webhook.replace("http", "ws", 1), url))
    if parts.query:
        violations.append(f"<Stream url> has a query string (Twilio error 31920): {url}")
    if parts.scheme != "wss" and parts.hostname not in _LOOPBACK:
        violations.append(f"<Stream url> is not wss:// (Twilio error 31922): {url}")
    parameters = {}
    for parameter in element.findall("Parameter"):
        name, value = parameter.get("name", ""), parameter.get("value", "")
        parameters[name] = value
        if len(name) + len(value) >= _PARAMETER_LIMIT:
            violations.append(
                f"<Parameter name={name!r}> is longer than Twilio's {_PARAMETER_LIMIT} characters"
            )
    if not verbs[at + 1 :]:
        violations.append("nothing stands behind </Connect>: a crash of the server would drop the caller")
    return Stream(
        url=parts.geturl(),
        parameters=parameters,
        name=element.get("name", ""),
        status_callback=element.get("statusCallback"),
        then=tuple(verbs[at + 1 :]),
        violations=tuple(violations),
    )


async def _post(url: str, account: Account, form: Mapping[str, str]) -> str:
    signed = account.signature(url, form)
    *others, last = account.balancer.ways(url)
    for way in others:
        try:
            return await asyncio.to_thread(_post_blocking, way, form, signed)
        except Unreachable:
            continue
    return await asyncio.to_thread(_post_blocking, last, form, signed)


def _post_blocking(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise CannotCall(f"cannot post to {url!r}")
    headers = {"User-Agent": "TwilioProxy/1.1", **headers}
    request = urllib.request.Request(url, urlencode(form).encode(), headers, method="POST")  # noqa: S310
    # A proxy for the internet is no way to a server on this machine.
    proxies = urllib.request.ProxyHandler({} if parts.hostname in _LOOPBACK else None)
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=_HTTP_TIMEOUT_S) as response:
            body: str = response.read().decode("utf-8", "replace")
            kind = response.headers.get_content_type()
    except urllib.error.HTTPError as refusal:
        hint = " (is the auth token the server's?)" if refusal.code == 403 else ""
        raise CannotCall(f"{url} answered {refusal.code} {refusal.reason}{hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unreachable(f"{url} cannot be reached: {reason}; is the server running?") from None
    if body.strip() and kind not in _XML_TYPES:
        raise CannotCall(f"{url} answered {kind}, not TwiML (Twilio error 12300)")
    return body
