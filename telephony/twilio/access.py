"""Who may talk to our webhooks and our socket.

Twilio signs with the account's auth token: https://www.twilio.com/docs/usage/security. The URL it
signed is rebuilt from the configured public URL, for the Host and X-Forwarded-* headers are whatever
the sender wrote. Without a token (`insecure`) only this machine gets in, and nothing that came through a
proxy or from a page in a browser.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlsplit

from starlette.datastructures import FormData, UploadFile
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from telephony.twilio.config import TwilioConfig, is_loopback
from telephony.twilio.errors import AccessRefused

_SIGNATURE: Final = "x-twilio-signature"
_SIGNED_WITH: Final = "x-twilio-webhooks-signature-settings"
"""Names the account's shared key that signed in the auth token's place: `key=..,algorithm=HMAC_SHA256`."""
_SHARED_ALGORITHM: Final = "HMAC_SHA256"
_MAX_FIELDS: Final = 500
_FORWARDED: Final = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip", "true-client-ip"}
)


class Doorkeeper:
    """Checks requests against one configuration. `headers` must look names up in lower case."""

    def __init__(self, config: TwilioConfig) -> None:
        self._config = config
        self._validators = [RequestValidator(token) for token in config.auth_tokens]

    def check_webhook(self, path: str, query: str, headers: Mapping[str, str], body: bytes) -> FormData:
        """The parameters of a POST that Twilio signed, form or JSON; raises `AccessRefused`.

        `path` is the endpoint's below the public URL, `query` and `body` are as sent. Form parameters
        keep their duplicates, empty values and spaces: each counts in the signature.
        """
        if self._config.insecure:
            self._check_local(headers)
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        form = FormData() if is_json else _form(body)
        if not self._config.insecure:
            self._check_body(query, body, required=is_json)
            self._check_signature(self._config.webhook_url(path), query, form, headers)
        return _json_fields(body) if is_json else form

    def check_handshake(self, path: str, query: str, headers: Mapping[str, str]) -> None:
        """A WebSocket's upgrade request, before it is accepted; raises `AccessRefused`."""
        if self._config.insecure:
            self._check_local(headers)
        else:
            self._check_signature(self._config.socket_url(path), query, FormData(), headers)

    def _check_body(self, query: str, body: bytes, *, required: bool) -> None:
        """A JSON body is not part of the signature; its digest in the signed URL is."""
        digests = parse_qs(query).get("bodySHA256")
        if digests is None and not required:
            return
        expected = hashlib.sha256(body).hexdigest()
        given = (digests or [""])[0].lower().encode()
        if not hmac.compare_digest(expected.encode(), given):
            raise AccessRefused("the body is not the one that was signed (bodySHA256)")

    def _check_signature(self, url: str, query: str, form: FormData, headers: Mapping[str, str]) -> None:
        signature = headers.get(_SIGNATURE, "")
        if not signature:
            raise AccessRefused("no X-Twilio-Signature")
        suffix = f"?{query}" if query else ""
        if _SIGNED_WITH in headers:
            self._check_shared_key(url, suffix, form, headers[_SIGNED_WITH], signature)
            return
        for candidate in _spellings(url):
            for validator in self._validators:
                if validator.validate(candidate + suffix, form, signature):
                    return
        raise AccessRefused(
            f"X-Twilio-Signature does not fit {url}: check that the public URL is the one Twilio calls "
            "and that the auth token is the account's primary one"
        )

    def _check_shared_key(self, url: str, suffix: str, form: FormData, settings: str, signature: str) -> None:
        """SharedKey signing, in public beta since September 2026: what is signed is the same."""
        told = dict(part.strip().partition("=")[::2] for part in settings.split(","))
        key, algorithm = told.get("key", ""), told.get("algorithm", "")
        secret = dict(self._config.shared_keys).get(key)
        if secret is None:
            raise AccessRefused(
                f"signed with the shared key {key[:64]!r}, which is not in TWILIO_SHARED_KEYS: "
                "add it there as name:secret, or turn shared-key signing off in Twilio's console"
            )
        if algorithm != _SHARED_ALGORITHM:
            raise AccessRefused(f"signed with {algorithm[:64]!r}; only {_SHARED_ALGORITHM} is taken")
        for candidate in _spellings(url):
            if hmac.compare_digest(
                shared_key_signature(candidate + suffix, form, secret).encode(),
                signature.encode(errors="surrogatepass"),
            ):
                return
        raise AccessRefused(f"the signature of shared key {key[:64]!r} does not fit {url}")

    def _check_local(self, headers: Mapping[str, str]) -> None:
        for name in headers:
            if name in _FORWARDED or name.startswith("x-forwarded-"):
                raise AccessRefused(f"--insecure takes nothing that came through a proxy ({name})")
        if not is_loopback(_host("//" + headers.get("host", ""))):
            raise AccessRefused("--insecure answers to loopback host names only")
        # A page of any site may open a WebSocket to this machine, or post a form; the browser names it.
        origin = headers.get("origin")
        if origin is not None and not is_loopback(_host(origin)):
            raise AccessRefused("--insecure takes nothing from a web page of elsewhere")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def shared_key_signature(url: str, form: FormData, secret: str) -> str:
    """Base64 of HMAC-SHA256 over the URL and the form's parameters, sorted by name, then by value."""
    signed = url + "".join(
        name + value
        for name in sorted(set(form))
        for value in sorted({str(value) for value in form.getlist(name)})
    )
    digest = hmac.digest(secret.encode(), signed.encode(errors="surrogatepass"), hashlib.sha256)
    return base64.b64encode(digest).decode()


def _spellings(url: str) -> list[str]:
    """The ways in which Twilio may have written a URL of ours when it signed.

    The validator itself tries with and without the port, but takes 80 for the port of wss.
    """
    parts = urlsplit(url)
    bases = [url]
    if parts.scheme == "wss" and parts.port is None:
        bases.append(parts._replace(netloc=f"{parts.netloc}:443").geturl())
    return bases + [base + "/" for base in bases]


def _form(body: bytes) -> FormData:
    try:
        text = body.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:  # UnicodeDecodeError is one
        raise AccessRefused("the form cannot be read", 400) from None
    return FormData(list[tuple[str, str | UploadFile]](pairs))


def _json_fields(body: bytes) -> FormData:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise AccessRefused("the JSON body cannot be read", 400) from None
    if not isinstance(fields, dict):
        raise AccessRefused("the JSON body is not an object", 400)
    return FormData(
        [(name, str(value)) for name, value in fields.items() if isinstance(value, str | int | float)]
    )
