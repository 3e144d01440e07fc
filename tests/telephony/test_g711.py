import numpy as np
import pytest

from telephony import g711


def itu_decoded(code: int) -> int:
    """ITU-T G.711 table 2b, written as its formula: sign, segment, interval, bias 33 on 14 bits."""
    code = ~code & 0xFF
    segment, interval = (code >> 4) & 7, code & 15
    magnitude = (((2 * interval + 33) << segment) - 33) * 4
    return -magnitude if code & 0x80 else magnitude


def test_every_code_decodes_as_the_itu_table_says() -> None:
    decoded = g711.decode(bytes(range(256)))
    assert decoded.dtype == np.int16
    assert decoded.tolist() == [itu_decoded(code) for code in range(256)]


def test_every_code_survives_the_round_trip_but_negative_zero() -> None:
    codes = bytes(range(256))
    again = g711.encode(g711.decode(codes))
    assert [code for code, other in zip(codes, again, strict=True) if code != other] == [0x7F]
    assert again[0x7F] == g711.SILENCE


def test_encoding_stays_within_half_an_interval_and_clips() -> None:
    ramp = np.arange(-32768, 32768, dtype=np.int16)
    error = np.abs(g711.decode(g711.encode(ramp)).astype(int) - ramp.astype(int))
    # Half an interval (8 wide at the bottom, 1,024 at the top), and up to 3 more where audioop cuts 16 bits
    # down to 14.
    assert error[np.abs(ramp.astype(int)) < 124].max() <= 4 + 4 + 3
    assert error[np.abs(ramp.astype(int)) < 32_124].max() <= 516
    assert g711.decode(g711.encode(np.array([32767, -32768], dtype=np.int16))).tolist() == [32124, -32124]


def test_a_view_with_gaps_is_encoded_as_what_it_shows() -> None:
    pcm = np.arange(0, 3200, 10, dtype=np.int16)
    assert g711.encode(pcm[::2]) == g711.encode(pcm[::2].copy())


def test_silence_and_nothing() -> None:
    assert g711.encode(np.zeros(3, dtype=np.int16)) == bytes([g711.SILENCE] * 3)
    assert g711.encode(np.zeros(0, dtype=np.int16)) == b""
    assert len(g711.decode(b"")) == 0


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="float32"):
        g711.encode(np.zeros(160, dtype=np.float32))  # type: ignore[arg-type]


def itu_decoded_alaw(code: int) -> int:
    """ITU-T G.711 table 1b as a formula: even bits inverted, sign, segment, interval, on 13 bits."""
    code ^= 0x55
    segment, interval = (code >> 4) & 7, code & 15
    magnitude = (2 * interval + 1 if segment == 0 else (2 * interval + 33) << (segment - 1)) * 8
    return magnitude if code & 0x80 else -magnitude


def test_every_alaw_code_decodes_as_the_itu_table_says() -> None:
    decoded = g711.decode_alaw(bytes(range(256)))
    assert decoded.dtype == np.int16
    assert decoded.tolist() == [itu_decoded_alaw(code) for code in range(256)]


def test_every_alaw_code_survives_the_round_trip() -> None:
    codes = bytes(range(256))
    assert g711.encode_alaw(g711.decode_alaw(codes)) == codes


def test_alaw_stays_within_half_an_interval_and_clips() -> None:
    ramp = np.arange(-32768, 32768, dtype=np.int16)
    error = np.abs(g711.decode_alaw(g711.encode_alaw(ramp)).astype(int) - ramp.astype(int))
    # Half an interval: 16 wide at the bottom, 1,024 at the top; the cut to 13 bits adds up to 7.
    assert error[np.abs(ramp.astype(int)) < 512].max() <= 8 + 7
    assert error.max() <= 512
    assert g711.decode_alaw(g711.encode_alaw(np.array([32767, -32768], dtype=np.int16))).tolist() == [
        32256,
        -32256,
    ]


def test_alaw_silence_and_other_dtypes() -> None:
    assert g711.encode_alaw(np.zeros(3, dtype=np.int16)) == bytes([g711.ALAW_SILENCE] * 3)
    assert np.abs(g711.decode_alaw(bytes([g711.ALAW_SILENCE]))).max() == 8
    with pytest.raises(TypeError, match="float32"):
        g711.encode_alaw(np.zeros(160, dtype=np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", g711.CODECS.values(), ids=lambda codec: codec.name)
def test_a_codec_is_known_by_its_name_and_carries_speech(codec: g711.Codec) -> None:
    assert g711.CODECS[codec.name] is codec
    tone = (8000 * np.sin(np.arange(800) * 0.3)).astype(np.int16)
    back = codec.decode(codec.encode(tone)).astype(float)
    noise = back - tone
    assert 10 * np.log10(np.mean(back**2) / np.mean(noise**2)) > 35
    assert codec.encode(np.zeros(1, np.int16)) == bytes([codec.silence])
