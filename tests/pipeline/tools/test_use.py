"""Words and calls in what a model writes."""

import pytest

from pipeline.tools.use import Splitter

CALL = '{"tool": "say_time"}'


def split(text: str, size: int) -> tuple[str, str]:
    splitter = Splitter()
    words = "".join(splitter.push(text[at : at + size]) for at in range(0, len(text), size))
    return words + splitter.rest(), splitter.call


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "words", "call"),
    [
        ("We are open.", "We are open.", ""),
        (CALL, "", CALL),
        (f"Let me look. {CALL}", "Let me look. ", CALL),
        (f"  {CALL}", "", CALL),
        (f"<tool_call>\n{CALL}\n</tool_call>", "", CALL),
        (f"```json\n{CALL}\n```", "", CALL),
        (f"`{CALL}`", "", CALL),
        ("It costs < 5 or `5`.", "It costs < 5 or `5`.", ""),
        ('{"tool": "a", "arguments": {"b": "}"}} and more', "", '{"tool": "a", "arguments": {"b": "}"}}'),
        ('{"tool": "a", "argum', "", '{"tool": "a", "argum'),
        ("", "", ""),
    ],
)
def test_a_call_is_never_spoken(text: str, words: str, call: str, size: int) -> None:
    spoken, called = split(text, size)
    assert spoken.strip() == words.strip()
    assert called == call


def test_words_are_not_held_back_longer_than_needed() -> None:
    splitter = Splitter()
    assert splitter.push("We are open") == "We are open"
    assert splitter.push(" `") == ""
    assert splitter.push("now`") == " `now"


def test_a_call_is_complete_with_its_last_brace() -> None:
    splitter = Splitter()
    splitter.push('{"tool": "a", "arguments": {"b": 1}')
    assert splitter.in_call
    assert not splitter.complete
    splitter.push("}")
    assert splitter.complete
