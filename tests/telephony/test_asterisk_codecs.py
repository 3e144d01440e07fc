"""Asterisk's formats, by name."""

import numpy as np
import pytest

from telephony.asterisk.codecs import CODECS, decode_slin, encode_slin

PCM = (12_000 * np.sin(np.arange(800) / 7)).astype(np.int16)


@pytest.mark.parametrize("name", CODECS)
def test_there_and_back(name: str) -> None:
    codec = CODECS[name]
    data = codec.encode(PCM)
    assert len(data) == len(PCM) * codec.bytes_per_sample
    back = codec.decode(data).astype(float)
    noise = np.sqrt(np.mean((back - PCM) ** 2)) / np.sqrt(np.mean(PCM.astype(float) ** 2))
    assert noise < 0.02


def test_formats_are_not_mixed_up() -> None:
    wrong = CODECS["alaw"].decode(CODECS["ulaw"].encode(PCM)).astype(float)
    assert np.sqrt(np.mean((wrong - PCM) ** 2)) > 1000


def test_slin_is_little_endian() -> None:
    assert encode_slin(np.array([1, -2], np.int16)) == b"\x01\x00\xfe\xff"
    decoded = decode_slin(b"\x01\x00\xfe\xff")
    assert decoded.tolist() == [1, -2]
    assert decoded.dtype == np.int16
    with pytest.raises(ValueError, match="size"):
        decode_slin(b"\x01")
