"""The audio formats that an Asterisk channel may be dialled with, by Asterisk's names; 8 kHz all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.line import Pcm
from telephony import g711

_LITTLE_ENDIAN: Final = np.dtype("<i2")


@dataclass(frozen=True, slots=True)
class Codec:
    """`encode` takes (n,) int16 at 8 kHz; `decode` gives it back, from a whole number of samples."""

    name: str
    bytes_per_sample: int
    encode: Callable[[Pcm], bytes]
    decode: Callable[[bytes], Pcm]


def encode_slin(pcm: Pcm) -> bytes:
    """Signed linear, 16 bits, little-endian, whatever this machine is."""
    return pcm.astype(_LITTLE_ENDIAN, copy=False).tobytes()


def decode_slin(data: bytes) -> Pcm:
    """(n,) int16 of 2 n bytes. Raises `ValueError` for an odd number of bytes."""
    return np.frombuffer(data, _LITTLE_ENDIAN).astype(np.int16, copy=False)


CODECS: Final[dict[str, Codec]] = {
    codec.name: codec
    for codec in (
        Codec("ulaw", 1, g711.encode, g711.decode),
        Codec("alaw", 1, g711.encode_alaw, g711.decode_alaw),
        Codec("slin", 2, encode_slin, decode_slin),
    )
}
