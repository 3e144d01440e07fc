"""Words and numbers as they stand in the database: readable, or sealed where recordings are encrypted.

Sealed with AES-256-GCM under a key that is derived (RFC 5869) from the recordings' key for each call alone,
so that random nonces of 96 bits never repeat for a key in practice. Where a value stands is authenticated
with it: it cannot be moved to another row or column. Of numbers there is also a tag, by which the calls of
one caller are found: the number itself, or, sealed, a keyed hash of it.
"""

import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from infra.records.keys import KEY_ID_BYTES, KeyRing, RecordingKey
from telephony.numbers import NotDialable, dialable

SEALED: Final = "sealed:1:"
"""What is sealed begins so."""
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_CIPHERS_KEPT: Final = 2_000
_LONGEST_NUMBER: Final = 256
"""Of what callers are found by; no number or SIP user that is one is longer, and an index takes no more."""
LOCKED: Final = "[sealed]"
"""Stands for words whose key is not at hand."""
LONGEST: Final = 100_000
"""Characters of one value; nothing that is said comes near it."""


def plain(text: str) -> str:
    """`text` as every database takes it: PostgreSQL stores no NUL, and neither stores half a surrogate."""
    if text.isascii():
        return text.replace("\0", "")[:LONGEST]
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:LONGEST]


def fold(text: str) -> str:
    """For comparing: without case and without differences of white space."""
    return " ".join(text.casefold().split())


def same_number(number: str) -> str:
    """One form for all ways to write a number: E.164 where it is one, else letters and digits as they are (an
    extension, a SIP user); "" stays ""."""
    try:
        return dialable(number)
    except NotDialable:
        bare = "".join(number.split())
        if bare.startswith("sip:"):
            bare = bare.removeprefix("sip:").partition(";")[0]
        digits = "".join(character for character in bare if character not in "-()./+")
        if not digits.isdigit():
            return bare.casefold()  # a SIP user, or a word such as "anonymous"
        return "+" + digits if bare.startswith("+") else digits


class Words:
    """Turns words to and from what is stored. `key` None stores them readable; `ring` unlocks. From any
    thread."""

    def __init__(
        self,
        key: RecordingKey | None = None,
        ring: KeyRing | None = None,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key = key
        self._ring = ring if ring is not None else KeyRing([key] if key is not None else [])
        self._random = random
        self._ciphers: OrderedDict[tuple[bytes, str], Any] = OrderedDict()
        if key is not None:
            self._cipher(key, "")  # without the package it fails here, not in a call

    @property
    def sealed(self) -> bool:
        return self._key is not None

    def stored(self, text: str, place: str, call_id: str) -> str:
        """`place` names the row and column."""
        text = plain(text)
        if self._key is None or not text:
            return text
        nonce = self._random(_NONCE_BYTES)
        locked = self._cipher(self._key, call_id).encrypt(nonce, text.encode(), place.encode())
        return SEALED + base64.b64encode(self._key.id + nonce + locked).decode("ascii")

    def read(self, stored: str, place: str, call_id: str) -> str:
        """`LOCKED` where the key is not at hand, or the value not as it was written."""
        if not self.is_sealed(stored):
            return stored
        try:
            data = base64.b64decode(stored.removeprefix(SEALED), validate=True)
        except (binascii.Error, ValueError):
            return LOCKED
        key = self._known(data[:KEY_ID_BYTES])
        if key is None or len(data) < KEY_ID_BYTES + _NONCE_BYTES + _TAG_BYTES:
            return LOCKED
        from cryptography.exceptions import InvalidTag

        nonce = data[KEY_ID_BYTES : KEY_ID_BYTES + _NONCE_BYTES]
        try:
            text = self._cipher(key, call_id).decrypt(
                nonce, data[KEY_ID_BYTES + _NONCE_BYTES :], place.encode()
            )
        except InvalidTag:
            return LOCKED
        return str(text.decode())

    @staticmethod
    def is_sealed(stored: str) -> bool:
        return stored.startswith(SEALED)

    def folded(self, *texts: str) -> str:
        """What searching compares; "" where words are sealed."""
        return "" if self.sealed else fold(" \n".join(map(plain, texts)))

    def tag(self, number: str) -> str:
        """By which calls of `number` are found."""
        same = same_number(plain(number)[:_LONGEST_NUMBER])
        return same if self._key is None or not same else _tag(self._key, same)

    def tags(self, number: str) -> list[str]:
        """All that `tag` may have been, whichever key was in use."""
        same = same_number(plain(number)[:_LONGEST_NUMBER])
        return [same, *(_tag(key, same) for key in self._ring)] if same else []

    def _known(self, key_id: bytes) -> RecordingKey | None:
        return next((key for key in self._ring if key.id == key_id), None)

    def _cipher(self, key: RecordingKey, call_id: str) -> Any:
        known = (key.id, call_id)
        cipher = self._ciphers.pop(known, None)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            info = b"maya store, version 1"
            cipher = AESGCM(HKDF(SHA256(), 32, salt=call_id.encode(), info=info).derive(key.secret))
            if len(self._ciphers) >= _CIPHERS_KEPT:
                self._ciphers.popitem(last=False)
        self._ciphers[known] = cipher
        return cipher


def _tag(key: RecordingKey, number: str) -> str:
    return "tag:" + hmac.digest(key.secret, b"maya store, number\0" + number.encode(), "sha256").hex()[:32]
