"""G.711 at 8 kHz, one byte a sample: mu-law (ITU-T G.711 tables 2a/2b), the only encoding of a Twilio stream,
and A-law (tables 1a/1b), which telephones outside North America and Japan prefer."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from pipeline.line import Pcm

with warnings.catch_warnings():
    # PEP 594 removes audioop from 3.13, where the audioop-lts package brings it back; until then it warns.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

SILENCE = 0xFF
"""Positive zero in mu-law."""
ALAW_SILENCE = 0xD5
"""The smallest positive value in A-law, which has no zero: it decodes to 8."""


def encode(pcm: Pcm) -> bytes:
    """Mu-law bytes, one a sample, of (n_samples,) int16. Raises `TypeError` for another dtype, whose
    bytes would be heard as noise."""
    if pcm.dtype != np.int16:
        raise TypeError(f"mu-law encodes int16 samples, not {pcm.dtype}")
    encoded: bytes = audioop.lin2ulaw(pcm.tobytes(), 2)
    return encoded


def decode(mulaw: bytes) -> Pcm:
    """(n_samples,) int16, read-only, of n mu-law bytes. Every byte is valid."""
    return np.frombuffer(audioop.ulaw2lin(mulaw, 2), dtype=np.int16)


def encode_alaw(pcm: Pcm) -> bytes:
    """A-law bytes, one a sample, of (n_samples,) int16. Raises `TypeError` as `encode` does."""
    if pcm.dtype != np.int16:
        raise TypeError(f"A-law encodes int16 samples, not {pcm.dtype}")
    encoded: bytes = audioop.lin2alaw(pcm.tobytes(), 2)
    return encoded


def decode_alaw(alaw: bytes) -> Pcm:
    """(n_samples,) int16, read-only, of n A-law bytes. Every byte is valid."""
    return np.frombuffer(audioop.alaw2lin(alaw, 2), dtype=np.int16)


CodecName = Literal["PCMU", "PCMA"]


@dataclass(frozen=True, slots=True)
class Codec:
    """One of G.711's two laws, by its RTP name; `payload_type` is the static one of RFC 3551 section 6."""

    name: CodecName
    payload_type: int
    silence: int
    encode: Callable[[Pcm], bytes]
    decode: Callable[[bytes], Pcm]


PCMU: Final = Codec("PCMU", 0, SILENCE, encode, decode)
PCMA: Final = Codec("PCMA", 8, ALAW_SILENCE, encode_alaw, decode_alaw)
CODECS: Final[dict[CodecName, Codec]] = {"PCMU": PCMU, "PCMA": PCMA}
