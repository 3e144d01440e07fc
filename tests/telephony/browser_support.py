"""What the tests of the page's server side share: the messages of its page."""

import json
from typing import Any

from telephony.browser.config import BrowserConfig

PASSWORD = "correct horse battery"
PUBLIC_URL = "https://maya.example.com"
EPOCH_S = 1_800_000_000.0
START = json.dumps({"event": "start", "version": 1})
STOP = json.dumps({"event": "stop"})


def config(**changes: Any) -> BrowserConfig:
    """Behind a login, at a public URL."""
    return BrowserConfig(**({"public_url": PUBLIC_URL, "password": PASSWORD} | changes))


def local_config(**changes: Any) -> BrowserConfig:
    return BrowserConfig(**({"public_url": "http://127.0.0.1:8080"} | changes))


def media(n: int, mulaw: bytes = b"\xff" * 160, first: int | None = None) -> bytes:
    """The n-th packet of 160 samples, or one that begins at sample `first`."""
    return (160 * n if first is None else first).to_bytes(4, "big") + mulaw


def key(digit: str) -> str:
    return json.dumps({"event": "key", "digit": digit})


def mark_return(message: str | bytes, heard: bool = True) -> str:
    fields = json.loads(message)
    assert fields["event"] == "mark"
    return json.dumps({**fields, "heard": heard})
