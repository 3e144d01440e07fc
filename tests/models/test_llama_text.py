"""From tokens to text: split UTF-8, stop strings, loops, and which turns still fit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import Message, ModelFailed, Sampling
from models.llama.history import History, turns
from models.llama.reply_text import ReplyText
from models.llama.sampling import Sampler, greedy, looping


def say(reply: ReplyText, *pieces: bytes) -> list[str]:
    return [reply.push(i, piece) for i, piece in enumerate(pieces)]


def test_a_character_split_over_tokens_comes_whole() -> None:
    euro = "€".encode()
    assert say(ReplyText(max_tokens=9), b"5 ", euro[:1], euro[1:2], euro[2:]) == ["5 ", "", "", "€"]


def test_half_a_character_at_the_end_is_marked_not_lost() -> None:
    reply = ReplyText(max_tokens=9)
    reply.push(1, "€".encode()[:2])
    assert reply.push(2, b"", ends=True) == "\ufffd"
    assert reply.done


@given(st.text(min_size=1, max_size=40), st.data())
def test_any_split_of_the_bytes_gives_the_same_text(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    reply = ReplyText(max_tokens=1000, stops=("<|im_end|>",))
    out, at, token = "", 0, 0
    while at < len(raw):
        size = data.draw(st.integers(1, 5))
        out += reply.push(token, raw[at : at + size])
        at, token = at + size, token + 1
    assert out + reply.push(token, b"", ends=True) == text


def test_a_stop_string_split_over_tokens_is_not_spoken() -> None:
    reply = ReplyText(max_tokens=9, stops=("<|im_end|>",))
    assert say(reply, b"Yes.", b"<|", b"im_", b"end|> more") == ["Yes.", "", "", ""]
    assert reply.done


def test_what_only_looked_like_a_stop_string_is_spoken() -> None:
    reply = ReplyText(max_tokens=9, stops=("<|im_end|>",))
    assert "".join(say(reply, b"a <", b"| b")) == "a <| b"


def test_max_tokens_ends_the_reply_with_all_its_text() -> None:
    reply = ReplyText(max_tokens=2, stops=("stop",))
    assert say(reply, b"one", b" st", b"never") == ["one", " st", ""]
    assert reply.done


def test_what_was_said_before_is_not_said_again_but_may_be_half_a_loop() -> None:
    reply = ReplyText(max_tokens=20)
    for token in [1, 2, 3, 4] * 2:
        reply.follow(token)
    assert [reply.push(token, b"%d " % token) for token in (1, 2, 3)] == ["1 ", "2 ", "3 "]
    assert not reply.done, "three tokens of at most twenty"
    assert reply.push(4, b"4 ") == "4 "
    assert reply.done


def test_no_room_at_all() -> None:
    assert ReplyText(max_tokens=0).done


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([], False),
        (list(range(100)), False),
        ([7] * 11, False),
        ([7] * 12, True),
        ([1, 2, 3, 4] * 3, True),
        ([1, 2, 3, 4] * 2, False),
        ([9, 9, *([1, 2, 3, 4, 5, 6] * 3)], True),
        ([*([1, 2, 3, 4, 5, 6] * 3), 8], False),
        # "Monday eight to six, Tuesday eight to six, Friday eight to six" is no loop.
        ([10, 1, 2, 3, 4, 11, 1, 2, 3, 4, 12, 1, 2, 3, 4], False),
    ],
)
def test_looping(tokens: list[int], loops: bool) -> None:
    assert looping(tokens) is loops


def draws(sampling: Sampling, logits: list[float], n: int = 2000) -> list[float]:
    sampler, row = Sampler(sampling), np.array(logits, np.float32)
    drawn = [sampler(row) for _ in range(n)]
    return [drawn.count(token) / n for token in range(len(logits))]


def test_a_temperature_of_nothing_is_greedy() -> None:
    assert draws(Sampling(), [0.0, 1.0, 0.9], n=50) == [0.0, 1.0, 0.0]


def test_tokens_come_as_often_as_they_are_likely() -> None:
    logits = [math.log(0.5), math.log(0.3), math.log(0.2), -40.0]
    assert draws(Sampling(1.0), logits) == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.04)
    sharper = [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38, 0.0]
    assert draws(Sampling(0.5), logits) == pytest.approx(sharper, abs=0.04)


def test_only_the_likeliest_tokens_are_drawn_from() -> None:
    logits = [math.log(0.2), math.log(0.5), math.log(0.3)]
    assert draws(Sampling(1.0, top_p=0.7), logits) == pytest.approx([0.0, 0.625, 0.375], abs=0.04)
    assert draws(Sampling(1.0, top_p=0.01), logits, n=50) == [0.0, 1.0, 0.0]


def test_equal_seeds_draw_equal_tokens() -> None:
    row = np.zeros(50, np.float32)
    first, again, other = Sampler(Sampling(1.0)), Sampler(Sampling(1.0)), Sampler(Sampling(1.0, seed=1))
    drawn = [first(row) for _ in range(20)]
    assert drawn == [again(row) for _ in range(20)] != [other(row) for _ in range(20)]


@pytest.mark.parametrize(("temperature", "top_p"), [(-0.1, 1.0), (3.0, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_sampling_outside_its_ranges_is_refused(temperature: float, top_p: float) -> None:
    with pytest.raises(ValueError, match="top_p"):
        Sampling(temperature, top_p)


def test_a_sampler_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="finite"):
        Sampler(Sampling(1.0))(np.array([0.0, np.nan], np.float32))


def test_greedy_takes_the_likeliest_and_refuses_nonsense() -> None:
    assert greedy(np.array([0.1, 3.0, 3.0], np.float32)) == 1
    with pytest.raises(ValueError, match="not finite"):
        greedy(np.array([0.1, np.nan], np.float32))


def conversation(n_turns: int) -> list[Message]:
    return [
        message
        for i in range(n_turns)
        for message in (Message("user", f"question {i}"), Message("assistant", f"answer {i}"))
    ]


def count(messages: object) -> int:
    return 10 * len(list(messages))  # type: ignore[call-overload, no-any-return]


def test_turns_begin_with_the_user() -> None:
    assert [len(turn) for turn in turns([Message("assistant", "Hi"), *conversation(2)])] == [1, 2, 2]


def test_history_drops_whole_turns_down_to_half_and_stays_there() -> None:
    history = History(100)
    assert history.fit(conversation(5), count) == conversation(5)
    assert history.fit(conversation(6), count) == conversation(6)[8:]
    assert history.dropped == 4
    assert history.fit(conversation(7), count) == conversation(7)[8:], "no new cut while it still fits"
    assert history.fit(conversation(1), count) == conversation(1), "a conversation begun anew"


def test_history_never_drops_the_last_turn() -> None:
    history = History(25)
    assert history.fit(conversation(9), count) == conversation(9)[-2:]
    with pytest.raises(ModelFailed, match="20 tokens long; at most 15 fit"):
        History(15).fit(conversation(9), count)
