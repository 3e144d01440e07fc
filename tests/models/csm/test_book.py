import numpy as np
import pytest

from models.csm.book import Book
from models.csm.rows import text_rows


def test_what_a_cache_holds_of_what_is_wanted():
    book = Book(8)
    book.append(text_rows([1, 2, 3]))
    assert book.common(text_rows([1, 2, 3, 4])) == 3
    assert book.common(text_rows([1, 9, 3])) == 1
    assert book.common(text_rows([])) == 0


def test_a_codec_frame_can_follow_only_a_row_whose_hidden_state_is_at_hand():
    book = Book(8)
    rows = text_rows([1, 2, 3])
    book.append(rows)
    assert book.ready_after(rows) == 3
    assert book.ready_after(rows[:2]) == 1
    assert book.ready_after(text_rows([1, 2, 3, 4])) == 3
    book.cut(3)
    assert book.ready_after(rows) == 3
    book.cut(2)
    assert book.ready_after(rows[:2]) == 1
    book.replace(rows)
    assert book.ready_after(rows) == 2


def test_codes_become_a_row():
    book = Book(3)
    book.append(text_rows([1]))
    book.append_codes(np.arange(32, dtype=np.int32))
    np.testing.assert_array_equal(book.rows[1], [*range(32), -1])
    assert book.length == 2 and book.room == 1
    with pytest.raises(ValueError):
        book.append(text_rows([1, 2]))
