"""The format of encrypted files: whatever is done to one, it is noticed, and what is whole before is read."""

import io
import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.sealed import (
    LARGEST_PAYLOAD,
    Content,
    SealedFileError,
    SealedReader,
    SealedWriter,
    write_all,
)
from tests.infra.records_kit import CALL, KEY, OLD_KEY, Counting, Uncloseable, sealed, unsealed

HEADER_BYTES = 52
OVERHEAD_BYTES = 4 + 1 + 12 + 16
payload_lists = st.lists(st.binary(max_size=40), max_size=5)


def ends_of_chunks(payloads: Sequence[bytes]) -> list[int]:
    ends, at = [], HEADER_BYTES
    for payload in payloads:
        at += OVERHEAD_BYTES + len(payload)
        ends.append(at)
    return ends


@given(payload_lists)
def test_what_was_written_is_read(payloads: list[bytes]) -> None:
    data = sealed(payloads)
    assert unsealed(data) == ([*payloads, b""], "whole", "")
    assert len(data) == ends_of_chunks([*payloads, b""])[-1], "docs/recordings.md states the sizes"


@settings(max_examples=300)
@given(payload_lists, st.data())
def test_any_bit_that_is_flipped_is_noticed_and_what_stands_before_is_read(
    payloads: list[bytes], data: st.DataObject
) -> None:
    written = bytearray(sealed(payloads))
    bit = data.draw(st.integers(0, len(written) * 8 - 1))
    written[bit // 8] ^= 1 << bit % 8
    intact = sum(end <= bit // 8 for end in ends_of_chunks([*payloads, b""]))
    try:
        read, state, _ = unsealed(bytes(written))
    except (SealedFileError, RecordingKeyError):
        assert bit // 8 < HEADER_BYTES
        return
    assert state != "whole"
    assert read == [*payloads, b""][:intact] if bit // 8 >= HEADER_BYTES else read == []


@settings(max_examples=300)
@given(payload_lists, st.data())
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_chunk(
    payloads: list[bytes], data: st.DataObject
) -> None:
    written = sealed(payloads)
    cut = data.draw(st.integers(0, len(written) - 1))
    whole = sum(end <= cut for end in ends_of_chunks(payloads))
    assert unsealed(written[:cut]) == (payloads[:whole], "ended early", "")


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=5), st.data())
def test_chunks_cannot_change_places_be_left_out_or_be_repeated(
    payloads: list[bytes], data: st.DataObject
) -> None:
    written = sealed(payloads)
    ends = [HEADER_BYTES, *ends_of_chunks([*payloads, b""])]
    chunks = [written[a:b] for a, b in pairwise(ends)]
    order = data.draw(st.lists(st.sampled_from(range(len(chunks))), max_size=len(chunks) + 1))
    read, state, _ = unsealed(written[:HEADER_BYTES] + b"".join(chunks[n] for n in order))
    good = 0
    while good < len(order) and order[good] == good:
        good += 1
    assert read == [*payloads, b""][:good]
    if good < len(order):
        assert state == "damaged"
    else:
        assert state == ("whole" if good == len(chunks) else "ended early")


def test_a_chunk_of_another_file_or_call_is_refused() -> None:
    one, other = sealed([b"same", b"same"]), bytearray(sealed([b"same", b"same"], call=bytes(16)))
    first_end = ends_of_chunks([b"same"])[0]
    other[HEADER_BYTES:first_end] = one[HEADER_BYTES:first_end]
    read, state, fault = unsealed(bytes(other))
    assert (read, state) == ([], "damaged")
    assert fault == f"chunk 0 at byte {HEADER_BYTES}: altered, or out of its place"


def test_what_is_appended_behind_the_end_is_noticed() -> None:
    read, state, fault = unsealed(sealed([b"a"]) + b"\0")
    assert (read, state) == ([b"a", b""], "damaged")
    assert "behind the end" in fault


def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_damage() -> None:
    read, state, _ = unsealed(sealed([b"a", b"b"], ended=False) + bytes(500))
    assert (read, state) == ([b"a", b"b"], "damaged")


def test_one_reads_on_when_more_was_written() -> None:
    whole = sealed([b"one", b"two", b"three"])
    cuts = (*range(0, len(whole), 7), len(whole))
    file = io.BytesIO()
    reader = SealedReader(file, KeyRing([KEY]), Content.EVENTS)
    seen: list[bytes] = []
    for begin, end in pairwise(cuts):
        at = file.tell()
        file.seek(0, io.SEEK_END)
        file.write(whole[begin:end])
        file.seek(at)
        seen += reader
    assert (seen, reader.state) == ([b"one", b"two", b"three", b""], "whole")


def test_no_nonce_and_no_file_key_comes_twice() -> None:
    random = Counting()
    for content in Content:
        writer = SealedWriter(Uncloseable(), content, KEY, CALL, random)
        for _ in range(50):
            writer.append(b"the same words")
        writer.close()
    assert len(set(random.asked)) == len(random.asked) == 3 * 52
    first, second = (sealed([b"the same"] * 2, call=bytes([n]) * 16) for n in (1, 2))
    assert first[HEADER_BYTES + 17 :] != second[HEADER_BYTES + 17 :]


def test_long_payloads_become_several_chunks_of_which_the_last_is_final() -> None:
    file = Uncloseable()
    payload = bytes(range(256)) * (LARGEST_PAYLOAD // 256 * 2 + 1)
    SealedWriter(file, Content.EVENTS, KEY, CALL, Counting()).append(payload, final=True)
    read, state, _ = unsealed(file.getvalue())
    assert (b"".join(read), len(read), state) == (payload, 3, "whole")
    cut, state, _ = unsealed(file.getvalue()[:-1])
    assert (len(cut), state) == (2, "ended early")


def test_the_right_key_is_found_among_several_and_a_missing_one_is_named() -> None:
    data = sealed([b"a"], key=OLD_KEY)
    assert unsealed(data, KeyRing([KEY, OLD_KEY]))[0] == [b"a", b""]
    with pytest.raises(RecordingKeyError, match=f"{OLD_KEY}.*known: {KEY}.*MAYA_RECORDINGS_KEY"):
        unsealed(data)
    with pytest.raises(RecordingKeyError, match="known: none"):
        unsealed(data, KeyRing())


def test_what_is_none_of_ours_is_refused() -> None:
    for data, why in (
        (b"RIFF" + bytes(100), "no encrypted recording"),
        (b"short", "too short"),
        (sealed([])[:8] + b"\x02" + sealed([])[9:], "version 2"),
    ):
        with pytest.raises(SealedFileError, match=why):
            unsealed(data)
    reader = SealedReader(io.BytesIO(sealed([])), KeyRing([KEY]), Content.AUDIO)
    with pytest.raises(SealedFileError, match="holds events, not audio"):
        list(reader)


def test_the_plain_words_and_the_key_are_not_in_the_file() -> None:
    data = sealed([b"my number is 555 0100"])
    assert b"555" not in data
    assert KEY.secret not in data
    assert repr(KEY) == "RecordingKey()"


def test_a_disk_that_takes_a_part_only_gets_the_rest() -> None:
    class Miser(io.BytesIO):
        def write(self, data: object) -> int:
            return super().write(bytes(data)[:3])  # type: ignore[call-overload]

    file = Miser()
    write_all(file, b"0123456789")
    assert file.getvalue() == b"0123456789"


def test_the_bytes_are_as_documented() -> None:
    """An independent reading of docs/recordings.md."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    data = sealed([b"first", b"second"])
    assert data[:8] == b"\x89MAYAREC"
    assert (data[8], data[9], data[10:12], data[12:20], data[20:36]) == (1, 3, bytes(2), KEY.id, CALL)
    file_key = HKDF(SHA256(), 32, data[36:52], b"maya recording file, version 1").derive(KEY.secret)
    at, payloads = 52, []
    for number in range(3):
        length, flags = struct.unpack(">IB", data[at : at + 5])
        nonce, locked = data[at + 5 : at + 17], data[at + 17 : at + 17 + length]
        associated = data[:52] + struct.pack(">QB", number, flags)
        payloads.append((AESGCM(file_key).decrypt(nonce, locked, associated), flags))
        at += 17 + length
    assert payloads == [(b"first", 0), (b"second", 0), (b"", 1)]
    assert at == len(data)
