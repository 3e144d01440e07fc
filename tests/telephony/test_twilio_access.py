"""Signatures as Twilio makes them, and as forgers would."""

import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.datastructures import FormData

from telephony.twilio.access import Doorkeeper, shared_key_signature
from telephony.twilio.errors import AccessRefused
from tests.telephony.twilio_support import (
    AUTH_TOKEN,
    OLD_TOKEN,
    PUBLIC_URL,
    config,
    insecure_config,
    signature,
)

VOICE = "/twilio/voice"
MEDIA = "/twilio/media"
FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"
FIELDS = [
    ("CallSid", "CA1"),
    ("From", "+15550100"),
    ("CallerName", " two  spaces "),
    ("Empty", ""),
    ("Ü", "ä&=+"),
]


def form_request(
    fields: list[tuple[str, str]], url: str = PUBLIC_URL + VOICE, token: str = AUTH_TOKEN, **headers: str
) -> tuple[dict[str, str], bytes]:
    params = FormData(fields)
    signed = {"content-type": FORM_TYPE, "x-twilio-signature": signature(url, params, token)}
    return signed | headers, urlencode(fields).encode()


def test_a_form_that_twilio_signed() -> None:
    headers, body = form_request(FIELDS)
    form = Doorkeeper(config()).check_webhook(VOICE, "", headers, body)
    assert form.multi_items() == FIELDS


def test_twilios_own_example() -> None:
    """https://www.twilio.com/docs/usage/security, "Explore the algorithm yourself"."""
    fields = [
        ("Digits", "1234"),
        ("To", "+18005551212"),
        ("From", "+14158675309"),
        ("Caller", "+14158675309"),
        ("CallSid", "CA1234567890ABCDE"),
    ]
    door = Doorkeeper(config(public_url="https://mycompany.com", auth_tokens=("12345",)))
    headers = {"content-type": FORM_TYPE, "x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}
    # The path there is /myapp.php?foo=1&bar=2, with the query signed as it was sent.
    signed = door.check_webhook("/myapp.php", "foo=1&bar=2", headers, urlencode(fields).encode())
    assert signed["Digits"] == "1234"
    with pytest.raises(AccessRefused):
        door.check_webhook("/myapp.php", "bar=2&foo=1", headers, urlencode(fields).encode())


def test_duplicates_count_in_the_signature() -> None:
    headers, body = form_request([("CallSid", "CA1"), ("MediaUrl", "b"), ("MediaUrl", "a")])
    form = Doorkeeper(config()).check_webhook(VOICE, "", headers, body)
    assert form.getlist("MediaUrl") == ["b", "a"]
    with pytest.raises(AccessRefused):
        Doorkeeper(config()).check_webhook(VOICE, "", headers, body.replace(b"&MediaUrl=a", b""))


@pytest.mark.parametrize(
    "change",
    [
        lambda headers, body: (headers, body + b"&From=%2B1"),
        lambda headers, body: (headers, body.replace(b"CA1", b"CA2")),
        lambda headers, body: (headers, body.replace(b"&Empty=", b"")),
        lambda headers, body: (headers, body.replace(b"two++spaces", b"two+spaces")),
        lambda headers, body: (headers, b""),
        lambda headers, body: (headers | {"x-twilio-signature": ""}, body),
        lambda headers, body: (headers | {"x-twilio-signature": "x" * 28}, body),
        lambda headers, body: (headers | {"x-twilio-signature": "\xe4"}, body),
        lambda headers, body: ({"content-type": FORM_TYPE}, body),
        lambda headers, body: (headers | {"content-type": "application/json"}, body),
        lambda headers, body: (headers | {"content-type": "application/json"}, b"{}"),
    ],
)
def test_anything_changed_is_refused(change: Any) -> None:
    headers, body = change(*form_request(FIELDS))
    with pytest.raises(AccessRefused) as caught:
        Doorkeeper(config()).check_webhook(VOICE, "", headers, body)
    assert caught.value.status == 403


def test_forwarded_headers_and_host_change_nothing() -> None:
    """The configured URL counts; what a proxy or a forger writes does not."""
    headers, body = form_request(FIELDS, **{"host": "evil.example", "x-forwarded-proto": "https,http"})
    Doorkeeper(config()).check_webhook(VOICE, "", headers, body)
    headers, body = form_request(
        FIELDS, url="https://evil.example/twilio/voice", **{"x-forwarded-host": "evil.example"}
    )
    with pytest.raises(AccessRefused):
        Doorkeeper(config()).check_webhook(VOICE, "", headers, body)


@pytest.mark.parametrize("token", [AUTH_TOKEN, OLD_TOKEN])
def test_two_tokens_during_rotation(token: str) -> None:
    door = Doorkeeper(config(auth_tokens=(AUTH_TOKEN, OLD_TOKEN)))
    headers, body = form_request(FIELDS, token=token)
    door.check_webhook(VOICE, "", headers, body)
    with pytest.raises(AccessRefused):
        door.check_webhook(VOICE, "", form_request(FIELDS, token="third")[0], body)


@pytest.mark.parametrize(
    ("public", "signed"),
    [
        ("https://h.example", "https://h.example/twilio/voice"),
        ("https://h.example", "https://h.example:443/twilio/voice"),
        ("https://h.example", "https://h.example/twilio/voice/"),
        ("https://h.example:8443", "https://h.example:8443/twilio/voice"),
        ("https://h.example:8443", "https://h.example/twilio/voice"),
        ("https://h.example/maya/", "https://h.example/maya/twilio/voice"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/twilio/voice"),
        ("http://[::1]:8080", "http://[::1]:8080/twilio/voice"),
    ],
)
def test_spellings_of_the_url(public: str, signed: str) -> None:
    headers, body = form_request(FIELDS, url=signed)
    Doorkeeper(config(public_url=public)).check_webhook(VOICE, "", headers, body)


def json_request(body: bytes, digest: str | None = None) -> tuple[str, dict[str, str]]:
    query = "bodySHA256=" + (hashlib.sha256(body).hexdigest() if digest is None else digest)
    url = f"{PUBLIC_URL}/twilio/status?{query}"
    return query, {"content-type": "application/json", "x-twilio-signature": signature(url)}


def test_json_is_signed_by_its_digest() -> None:
    body = json.dumps({"CallSid": "CA1", "n": 5, "deep": {}}).encode()
    query, headers = json_request(body)
    form = Doorkeeper(config()).check_webhook("/twilio/status", query, headers, body)
    assert form.multi_items() == [("CallSid", "CA1"), ("n", "5")]


@pytest.mark.parametrize("digest", ["", "0" * 64, hashlib.sha256(b"{}").hexdigest()])
def test_json_with_a_wrong_digest(digest: str) -> None:
    body = b'{"CallSid":"CA1"}'
    query, headers = json_request(body, digest)
    with pytest.raises(AccessRefused, match="bodySHA256"):
        Doorkeeper(config()).check_webhook("/twilio/status", query, headers, body)


def test_json_without_a_digest() -> None:
    headers = {"content-type": "application/json", "x-twilio-signature": signature(PUBLIC_URL + VOICE)}
    with pytest.raises(AccessRefused, match="bodySHA256"):
        Doorkeeper(config()).check_webhook(VOICE, "", headers, b"{}")


def test_a_digest_binds_a_form_too() -> None:
    """Else the signed URL of a JSON request would let any form through that signs as empty."""
    query, headers = json_request(b'{"CallSid":"CA1"}')
    with pytest.raises(AccessRefused, match="bodySHA256"):
        Doorkeeper(config()).check_webhook(
            "/twilio/status", query, headers | {"content-type": FORM_TYPE}, b""
        )


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_json_that_cannot_be_read(body: bytes) -> None:
    query, headers = json_request(body)
    with pytest.raises(AccessRefused) as caught:
        Doorkeeper(config()).check_webhook("/twilio/status", query, headers, body)
    assert caught.value.status == 400


@pytest.mark.parametrize("body", [b"\xff=1", b"&".join(b"a=1" for _ in range(501))])
def test_forms_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(AccessRefused) as caught:
        Doorkeeper(config()).check_webhook(VOICE, "", {"content-type": FORM_TYPE}, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("public", "signed"),
    [
        ("https://h.example", "wss://h.example/twilio/media"),
        ("https://h.example", "wss://h.example/twilio/media/"),
        ("https://h.example", "wss://h.example:443/twilio/media"),
        ("https://h.example:8443", "wss://h.example:8443/twilio/media"),
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/twilio/media"),
    ],
)
def test_the_handshake_is_signed_over_the_socket_url(public: str, signed: str) -> None:
    door = Doorkeeper(config(public_url=public))
    door.check_handshake(MEDIA, "", {"x-twilio-signature": signature(signed)})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-twilio-signature": ""},
        {"x-twilio-signature": signature("https://maya.example.com/twilio/media")},
        {"x-twilio-signature": signature("wss://evil.example/twilio/media")},
        {"x-twilio-signature": signature("wss://maya.example.com/twilio/media", token="other")},
    ],
)
def test_handshakes_that_are_not_twilios(headers: dict[str, str]) -> None:
    with pytest.raises(AccessRefused):
        Doorkeeper(config()).check_handshake(MEDIA, "", headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080"])
def test_insecure_takes_what_this_machine_asks(host: str) -> None:
    door = Doorkeeper(insecure_config())
    door.check_handshake(MEDIA, "", {"host": host})
    door.check_handshake(MEDIA, "", {"host": host, "origin": "http://localhost:3000"})
    form = door.check_webhook(VOICE, "", {"host": host, "content-type": FORM_TYPE}, b"CallSid=CA1")
    assert form["CallSid"] == "CA1"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "maya.example.com"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost@evil.example"},
        {"host": ""},
        {"host": "["},
        {},
        {"host": "localhost", "x-forwarded-for": "127.0.0.1"},
        {"host": "localhost", "x-forwarded-proto": "https"},
        {"host": "localhost", "x-forwarded-anything": ""},
        {"host": "localhost", "forwarded": "for=1.2.3.4"},
        {"host": "localhost", "via": "1.1 ngrok"},
        {"host": "localhost", "x-real-ip": "1.2.3.4"},
        {"host": "localhost", "origin": "https://evil.example"},
        {"host": "localhost", "origin": "null"},
    ],
)
def test_insecure_refuses_what_came_from_elsewhere(headers: dict[str, str]) -> None:
    door = Doorkeeper(insecure_config())
    with pytest.raises(AccessRefused):
        door.check_handshake(MEDIA, "", headers)
    with pytest.raises(AccessRefused):
        door.check_webhook(VOICE, "", headers | {"content-type": FORM_TYPE}, b"CallSid=CA1")


# Shared keys

SHARED = config(shared_keys=(("old", "former"), ("new", "secret")))
SIGNED_WITH = "x-twilio-webhooks-signature-settings"


def shared_request(key: str, secret: str, algorithm: str = "HMAC_SHA256") -> tuple[dict[str, str], bytes]:
    signed = shared_key_signature(PUBLIC_URL + VOICE, FormData(FIELDS), secret)
    headers = {
        "content-type": FORM_TYPE,
        "x-twilio-signature": signed,
        SIGNED_WITH: f"key={key},algorithm={algorithm}",
    }
    return headers, urlencode(FIELDS).encode()


@pytest.mark.parametrize(("key", "secret"), [("new", "secret"), ("old", "former")])
def test_a_shared_key_may_sign_where_one_is_configured(key: str, secret: str) -> None:
    headers, body = shared_request(key, secret)
    assert Doorkeeper(SHARED).check_webhook(VOICE, "", headers, body).multi_items() == FIELDS


@pytest.mark.parametrize(
    ("key", "secret", "algorithm", "why"),
    [
        ("new", "former", "HMAC_SHA256", "does not fit"),
        ("other", "secret", "HMAC_SHA256", "not in TWILIO_SHARED_KEYS"),
        ("new", "secret", "HMAC_SHA1", "only HMAC_SHA256 is taken"),
        ("", "", "", "not in TWILIO_SHARED_KEYS"),
    ],
)
def test_other_shared_keys_are_refused(key: str, secret: str, algorithm: str, why: str) -> None:
    headers, body = shared_request(key, secret, algorithm)
    with pytest.raises(AccessRefused, match=why):
        Doorkeeper(SHARED).check_webhook(VOICE, "", headers, body)


def test_the_auth_token_cannot_be_passed_off_as_a_shared_key() -> None:
    """Naming a key that nobody configured must not fall back to anything weaker."""
    headers, body = form_request(FIELDS)
    with pytest.raises(AccessRefused, match="not in TWILIO_SHARED_KEYS"):
        Doorkeeper(config()).check_webhook(VOICE, "", headers | {SIGNED_WITH: "key=x,algorithm=none"}, body)


def test_a_handshake_with_a_shared_key() -> None:
    url = PUBLIC_URL.replace("https", "wss") + MEDIA
    signed = {
        "x-twilio-signature": shared_key_signature(url, FormData(), "secret"),
        SIGNED_WITH: "key=new, algorithm=HMAC_SHA256",
    }
    Doorkeeper(SHARED).check_handshake(MEDIA, "", signed)
    with pytest.raises(AccessRefused):
        Doorkeeper(SHARED).check_handshake(MEDIA, "a=b", signed)
