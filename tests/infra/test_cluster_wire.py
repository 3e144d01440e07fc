"""Packets, proofs and what is said in them."""

import numpy as np
import pytest

from infra.cluster.wire import (
    LARGEST_BODY,
    Packet,
    Unpacker,
    WireError,
    body_of,
    error_in,
    error_out,
    is_proof,
    messages_in,
    messages_out,
    proof,
    sampling_in,
    sampling_out,
    speech_in,
    speech_out,
)
from models.base import (
    GREEDY,
    AgentSpeech,
    CallerSpeech,
    Message,
    ModelBusy,
    ModelError,
    ModelFailed,
    Samples,
    Sampling,
)

SOUND = np.linspace(-1, 1, 333, dtype=np.float32)
PACKETS = [Packet({"id": 1, "text": "hé"}), Packet({"id": 2}, body_of(SOUND)), Packet({})]


def test_packets_come_out_as_they_went_in_however_they_are_cut() -> None:
    data = b"".join(packet.encode() for packet in PACKETS)
    for size in (len(data), 1, 7, 64):
        unpacker = Unpacker()
        got = [one for at in range(0, len(data), size) for one in unpacker.feed(data[at : at + size])]
        assert got == PACKETS
    assert np.array_equal(got[1].samples, SOUND)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x02" + (LARGEST_BODY + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x02\x00\x00\x00\x00[]",
        b"\x00\x00\x00\x02\x00\x00\x00\x00{x",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x02\x00\x00\x00\x00\xff\xfe",
    ],
)
def test_strangers_are_told_from_front_ends(data: bytes) -> None:
    with pytest.raises(WireError):
        Unpacker().feed(data)


def test_a_body_that_is_no_samples_is_refused() -> None:
    with pytest.raises(WireError):
        _ = Packet({}, b"abc").samples


def test_a_proof_holds_for_its_side_its_secret_and_its_nonces_only() -> None:
    secret, ours, theirs = b"s" * 32, b"a" * 16, b"b" * 16
    claimed = proof(secret, "front-end", ours, theirs)
    assert is_proof(claimed, secret, "front-end", ours, theirs)
    assert not is_proof(claimed, secret, "replica", ours, theirs)
    assert not is_proof(claimed, b"t" * 32, "front-end", ours, theirs)
    assert not is_proof(claimed, secret, "front-end", theirs, ours)
    assert not is_proof(None, secret, "front-end", ours, theirs)
    assert not is_proof("é", secret, "front-end", ours, theirs)


def test_messages_keep_their_roles_and_others_are_refused() -> None:
    messages = [Message("system", "x"), Message("user", "y"), Message("tool", "z")]
    assert messages_in(messages_out(messages)) == messages
    for bad in (None, [["user"]], [["root", "x"]], [["user", 3]], "text"):
        with pytest.raises(WireError):
            messages_in(bad)


def test_how_tokens_are_drawn_keeps_its_numbers_and_nonsense_is_refused() -> None:
    drawn = Sampling(0.7, 0.9, seed=2**32 - 1)
    assert sampling_in(sampling_out(drawn)) == drawn
    assert sampling_in(None) == GREEDY
    for bad in ({"temperature": 9}, {"temperature": "hot"}, {"seed": 0.5}, {"heat": 1}, [1], "text", 3):
        with pytest.raises(WireError):
            sampling_in(bad)


@pytest.mark.parametrize("error", [ModelBusy("full"), ModelFailed("broke"), ModelError("unknown voice")])
def test_errors_keep_their_kind(error: ModelError) -> None:
    back = error_in(error_out(error))
    assert type(back) is type(error)
    assert str(back) == str(error)


def test_whatever_else_a_model_raises_is_its_failure() -> None:
    back = error_in(error_out(MemoryError()))
    assert type(back) is ModelFailed
    assert str(back) == "MemoryError"


def test_the_callers_sound_is_sent_once_and_forgotten_alike() -> None:
    known_there: dict[str, Samples] = {}
    known_here: set[str] = set()
    first = CallerSpeech("turn/1", "hello", SOUND)
    second = CallerSpeech("turn/2", "again", SOUND[:100], 16_000)
    spoken = AgentSpeech("reply/1", "hi", 0.5)

    def send(*context: CallerSpeech | AgentSpeech) -> int:
        told, audio = speech_out(context, known_here)
        back = speech_in(told, np.frombuffer(audio, np.float32), known_there)
        assert len(back) == len(context)
        for before, after in zip(context, back, strict=True):
            if isinstance(before, CallerSpeech):
                assert isinstance(after, CallerSpeech)
                assert (after.key, after.text, after.sample_rate_hz) == (
                    before.key,
                    before.text,
                    before.sample_rate_hz,
                )
                assert (after.audio is None) == (before.audio is None)
                assert before.audio is None or np.array_equal(before.audio, after.audio)  # type: ignore[arg-type]
            else:
                assert after == before
        assert known_there.keys() == known_here
        return len(audio)

    assert send(first) == 4 * len(SOUND)
    assert send(first, spoken, second) == 4 * 100
    assert send(first, spoken, second) == 0
    assert send(second) == 0
    assert send(first, second) == 4 * len(SOUND)  # it was forgotten: sent again
    assert send(CallerSpeech("turn/3", "only words")) == 0
    assert send() == 0


@pytest.mark.parametrize(
    "told",
    [
        [{"heard": "a", "text": "x", "rate_hz": 8000, "samples": 5}],
        [{"heard": "a", "text": "x", "rate_hz": 8000, "samples": -2}],
        [{"text": "x"}],
        [3],
        7,
    ],
)
def test_a_context_that_is_none_is_refused(told: object) -> None:
    with pytest.raises(WireError):
        speech_in(told, np.zeros(0, np.float32), {})
