"""Is this server where Twilio will look for it? Asks it over the public URL as Twilio would: certificate,
webhook with a right and with no signature, stream. Blocks."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests
from starlette.datastructures import FormData
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import MEDIA, STATUS

_TIMEOUT_S: Final = 10.0
_CERTIFICATE_DAYS: Final = 14
"""With fewer left, somebody should have renewed it."""
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """`good`: nothing to do. Otherwise `text` says what is wrong and what to do next."""

    good: bool
    text: str


def look(config: TwilioConfig, *, wall: Callable[[], float] = time.time) -> Iterator[Finding]:
    """One finding after another, as they are made; the first bad one of the way there is the last."""
    where = urlsplit(config.public_url)
    if where.scheme == "https":
        finding = _certificate(where.hostname or "", where.port or 443, wall())
        yield finding
        if not finding.good:
            return
    signed = RequestValidator(config.auth_tokens[0])
    form = {"CallSid": "maya-twilio-check", "CallStatus": "check", "CallDuration": "0"}
    url = config.webhook_url(STATUS)
    headers = {"X-Twilio-Signature": signed.compute_signature(url, FormData(form))}
    answer = _post(url, form, headers)
    if isinstance(answer, Finding):
        yield answer
        return
    if answer == 403:
        yield Finding(
            False,
            f"{url} refuses our signature: the running server has another auth token or another public URL "
            "(its log says which URL it expects); give both the same TWILIO_AUTH_TOKEN and MAYA_PUBLIC_URL",
        )
        return
    if answer != 204:
        yield Finding(
            False,
            f"{url} answers {answer}, not 204: something else than `maya serve` is there, or a proxy changes "
            "the path; it must hand on /twilio/... unchanged",
        )
        return
    yield Finding(True, f"webhooks reach this server at {config.public_url}, and their signatures fit")
    bare = _post(url, form, {})
    if isinstance(bare, Finding):
        yield bare
    elif bare == 403:
        yield Finding(True, "webhooks without a signature are refused")
    else:
        yield Finding(
            False, f"a webhook without a signature is answered with {bare}: run the server without --insecure"
        )
    yield _stream(config, signed.compute_signature(config.socket_url(MEDIA), FormData()))


def _certificate(host: str, port: int, now: float) -> Finding:
    try:
        told = ssl.get_server_certificate((host, port), timeout=_TIMEOUT_S)
    except OSError as error:
        return Finding(
            False,
            f"{host}:{port} does not answer TLS ({error}): is the server or the proxy in front of it up, and "
            "does the name point at it?",
        )
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as wrapped,
        ):
            certificate = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return Finding(
            False,
            f"the certificate of {host} is not trusted ({error.verify_message}): Twilio hangs up on it "
            f"(its {len(told)} characters were presented); get one from a public authority, with its chain",
        )
    except OSError as error:
        return Finding(False, f"{host}:{port} breaks TLS off ({error})")
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - now) / _DAY_S
    if days < _CERTIFICATE_DAYS:
        return Finding(False, f"the certificate of {host} ends in {days:.0f} days: renew it now")
    return Finding(True, f"the certificate of {host} is trusted, for {days:.0f} more days")


def _post(url: str, form: dict[str, str], headers: dict[str, str]) -> int | Finding:
    try:
        return requests.post(
            url, data=form, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
        ).status_code
    except requests.RequestException as error:
        return Finding(
            False,
            f"{url} cannot be reached ({type(error).__name__}): is `maya serve` running, and does the public "
            "URL lead to it?",
        )


def _stream(config: TwilioConfig, signature: str) -> Finding:
    url = config.socket_url(MEDIA)
    try:
        with connect(
            url,
            additional_headers={"X-Twilio-Signature": signature},
            open_timeout=_TIMEOUT_S,
            close_timeout=1,
            compression=None,
        ):
            return Finding(True, "media streams are let in")
    except InvalidStatus as refused:
        status = refused.response.status_code
        return Finding(
            False,
            f"{url} answers {status}, not 101: the proxy must hand on WebSocket upgrades"
            + (", and the signature must fit" if status == 403 else ""),
        )
    except (InvalidHandshake, WebSocketException, OSError, TimeoutError) as error:
        return Finding(
            False, f"{url} takes no WebSocket ({type(error).__name__}): check the proxy's settings"
        )
