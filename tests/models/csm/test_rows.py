import numpy as np

from models.csm.rows import END_ROW, NO_ROWS, audio_rows, common_prefix, segment_rows, text_rows


def test_a_segment_is_text_then_audio_then_end() -> None:
    codes = np.arange(64, dtype=np.int32).reshape(2, 32)
    rows = segment_rows([128000, 7, 128001], codes)
    assert rows.shape == (6, 33) and rows.dtype == np.int32
    assert rows[:3, 32].tolist() == [128000, 7, 128001]
    assert (rows[:3, :32] == -1).all()
    assert np.array_equal(rows[3:5, :32], codes) and (rows[3:5, 32] == -1).all()
    assert np.array_equal(rows[5:], END_ROW)
    assert END_ROW.tolist() == [[0] * 32 + [-1]]


def test_words_without_sound_have_no_end() -> None:
    assert np.array_equal(segment_rows([5, 6], None), text_rows([5, 6]))
    assert np.array_equal(segment_rows([5], np.zeros((0, 32), np.int32)), text_rows([5]))


def test_common_prefix() -> None:
    rows = audio_rows(np.arange(96, dtype=np.int32).reshape(3, 32))
    changed = rows.copy()
    changed[1, 4] += 1
    assert common_prefix(rows, rows) == 3
    assert common_prefix(rows, changed) == 1
    assert common_prefix(rows, rows[:2]) == 2
    assert common_prefix(rows, NO_ROWS) == 0
