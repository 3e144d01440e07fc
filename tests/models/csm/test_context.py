from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.csm.context import SPARE_ROWS, Said, Segment, Window, build_context, heard_segments
from models.csm.rows import END_ROW, NO_ROWS, segment_rows, text_rows


def said(text: str, n: int, first: int = 0) -> Said:
    part = Said(text)
    for k in range(n):
        part.add(np.full(32, first + k, np.int32))
    return part


def encode(speaker: int, text: str) -> list[int]:
    return [1, speaker, *(len(word) for word in text.split()), 2]


def shown(segments: list[Segment]) -> list[tuple[str, int]]:
    return [(s.text, 0 if s.codes is None else len(s.codes)) for s in segments]


def test_an_utterance_heard_whole_is_as_it_was_spoken() -> None:
    parts = [said("One two.", 5), said("Three.", 3, 50)]
    segments = heard_segments(parts, 4, words="other words")
    assert shown(segments) == [("One two.", 5), ("Three.", 3)]
    assert segments[1].speaker == 4
    assert segments[1].codes is not None and segments[1].codes[:, 0].tolist() == [50, 51, 52]


@pytest.mark.parametrize(("heard_s", "n"), [(0.0, None), (0.079, None), (0.08, 1), (0.31, 3), (0.4, 5)])
def test_a_cut_utterance_keeps_its_heard_words_and_whole_codec_frames(heard_s: float, n: int | None) -> None:
    segments = heard_segments([said("One two three.", 9)], 0, words="One two", heard_s=heard_s)
    assert shown(segments) == ([] if n is None else [("One two", n)])


def test_more_heard_than_there_is_means_all() -> None:
    assert shown(heard_segments([said("One.", 4)], 0, words="One.", heard_s=9.0)) == [("One.", 4)]


def test_a_cut_within_the_second_part() -> None:
    parts = [said("One two.", 5), said("Three four five six.", 10)]
    assert shown(heard_segments(parts, 0, words="One  two. Three four", heard_s=0.8)) == [
        ("One two.", 5),
        ("Three four", 5),
    ]
    assert shown(heard_segments(parts, 0, words="1 2 3 4", heard_s=0.8)) == [
        ("One two.", 5),
        ("Three four", 5),
    ]
    assert shown(heard_segments(parts, 0, words="One two. Three four", heard_s=0.41)) == [("One two.", 5)]


def test_surplus_codec_frames_are_let_go() -> None:
    part = said("One.", 6)
    part.drop(2)
    part.drop(0)
    assert part.n_codec_frames == 4 and len(part.codes()) == 4


def test_context_is_prompt_then_segments() -> None:
    prompt = text_rows([9, 9])
    codes = said("", 2).codes()
    segments = [Segment(1, "hello you"), Segment(0, "yes", codes)]
    context = build_context(prompt, segments, Window(2048), encode)
    rows = [prompt, text_rows([1, 1, 5, 3, 2]), segment_rows([1, 0, 3, 2], codes)]
    assert np.array_equal(context.rows, np.concatenate(rows))
    assert np.array_equal(context.rows[-1:], END_ROW)
    assert context.room == 2048 - len(context.rows)


def test_no_context_is_no_rows() -> None:
    context = build_context(NO_ROWS, [], Window(64), encode)
    assert context.rows.shape == (0, 33) and context.room == 64


def test_the_window_moves_rarely_and_makes_room() -> None:
    window, lengths, moves = Window(2048), [], []
    for turn in range(200):
        lengths.append(40)
        start = window.start
        left = window.fit(lengths, fixed=248)
        assert left >= 360, "a fifth of what the prompt leaves"
        assert left == 2048 - 248 - 40 * (len(lengths) - window.start)
        if window.start != start:
            moves.append(turn)
            assert left >= 900
    assert len(moves) == window.rebuilds
    assert all(later - earlier >= 9 for earlier, later in pairwise(moves))


def test_an_utterance_that_needs_more_moves_the_window_too() -> None:
    window = Window(2048)
    assert window.fit([700, 600], fixed=100) == 648
    assert window.fit([700, 600], fixed=100, needed=640) == 648
    assert window.rebuilds == 0
    assert window.fit([700, 600], fixed=100, needed=700) == 1348
    assert (window.start, window.rebuilds) == (1, 1)


def test_more_room_is_made_while_the_caller_has_the_floor() -> None:
    window = Window(2048)
    assert window.fit([700, 600], fixed=100) == 648
    assert window.fit([700, 600], fixed=100, roomy=True) == 1348
    assert window.rebuilds == 1
    assert Window(256).fit([130], fixed=0, roomy=True) == 126
    assert Window(256).fit([156], fixed=0, roomy=True) == 256


def test_a_retracted_turn_leaves_the_window_inside_the_conversation() -> None:
    window = Window(256)
    window.fit([100, 100, 100], fixed=0)
    assert window.start == 2
    assert window.fit([100], fixed=0) == 256
    assert window.start == 1


def test_a_segment_larger_than_the_window_is_left_out() -> None:
    assert Window(256).fit([300], fixed=16) == 240


@given(
    st.lists(st.integers(1, 400), max_size=60),
    st.integers(0, 1024),
    st.one_of(st.none(), st.integers(1, 500)),
)
def test_whatever_is_said_it_fits(lengths: list[int], fixed: int, needed: int | None) -> None:
    window = Window(2048)
    for n in range(len(lengths) + 1):
        left = window.fit(lengths[:n], fixed=fixed, needed=needed)
        assert left == 2048 - fixed - sum(lengths[window.start : n])
        assert left >= (min(SPARE_ROWS, (2048 - fixed) // 5) if needed is None else needed)
