"""G.711 mu-law (ITU-T G.711 table 2a/2b), the only encoding of a Twilio stream: 8 kHz, one byte a sample."""

import warnings

import numpy as np

from pipeline.line import Pcm

with warnings.catch_warnings():
    # PEP 594 removes audioop from 3.13, where the audioop-lts package brings it back; until then it warns.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

SILENCE = 0xFF
"""Positive zero."""


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
