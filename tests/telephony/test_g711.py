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
