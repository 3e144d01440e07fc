"""What a call of a tool may look like."""

import datetime
import enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from pipeline.tools.grammar import grammar_of
from pipeline.tools.python import python_tool
from pipeline.tools.tool import ToolError
from pipeline.tools.toolbox import Toolbox
from tests.pipeline.tools.gbnf import Grammar


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


def book(
    name: str,
    day: datetime.date,
    people: int = 2,
    size: Size = Size.SMALL,
    wishes: list[str] = [],  # noqa: B006
    smoking: bool | None = None,
    price: float = 1.0,
    at: Literal["noon", "six"] = "noon",
) -> None:
    """Book a table."""


def ping() -> None:
    """See whether somebody is there."""


def a_b(c: str) -> None:
    """One."""


def a(b_c: int) -> None:
    """Another, whose names would be the same with dashes."""


BOOK = Grammar(grammar_of([python_tool(book)]))


def booking(arguments: str) -> str:
    return f'{{"tool": "book", "arguments": {arguments}}}'


@pytest.mark.parametrize(
    "arguments",
    [
        '{"name": "Ann", "day": "2026-03-01"}',
        '{"name": "Ann \\"Red\\" O\'Hara", "day": "2026-12-31", "people": 4}',
        '{"name": "Zo\u00eb", "day": "2026-03-01", "size": "large", "smoking": false}',
        '{"name": "A", "day": "2026-03-01", "wishes": ["a window", "cake"], "price": 12.5}',
        '{"name": "A", "day": "2026-03-01", "people": 0, "size": "small", "wishes": ["x"], "smoking": true, '
        '"price": -3, "at": "six"}',
    ],
)
def test_what_the_signature_allows_is_a_call(arguments: str) -> None:
    assert BOOK.matches(booking(arguments))
    Toolbox([python_tool(book)]).read(booking(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        '{"name": "Ann"}',
        '{"day": "2026-03-01", "name": "Ann"}',
        '{"name": "", "day": "2026-03-01"}',
        '{"name": "Ann", "day": "tomorrow"}',
        '{"name": "Ann", "day": "2026-03-01", "people": "4"}',
        '{"name": "Ann", "day": "2026-03-01", "people": 04}',
        '{"name": "Ann", "day": "2026-03-01", "size": "huge"}',
        '{"name": "Ann", "day": "2026-03-01", "at": "five"}',
        '{"name": "Ann", "day": "2026-03-01", "wishes": []}',
        '{"name": "Ann", "day": "2026-03-01", "color": "red"}',
        '{"name": "Ann", "day": "2026-03-01",}',
        '{"name": "An\nn", "day": "2026-03-01"}',
        '{"name": "Ann", "name": "Bob", "day": "2026-03-01"}',
    ],
)
def test_what_it_does_not_allow_is_none(arguments: str) -> None:
    assert not BOOK.matches(booking(arguments))


def test_only_optional_arguments_may_all_be_left_out() -> None:
    def look(day: datetime.date | None = None, people: int | None = None) -> None:
        """Look up."""

    grammar = Grammar(grammar_of([python_tool(look)]))
    for arguments in ("{}", '{"people": 3}', '{"day": "2026-03-01"}', '{"day": "2026-03-01", "people": 3}'):
        assert grammar.matches(f'{{"tool": "look", "arguments": {arguments}}}'), arguments
    assert not grammar.matches('{"tool": "look", "arguments": {, "people": 3}}')


def test_a_tool_without_arguments_is_called_without_them() -> None:
    grammar = Grammar(grammar_of([python_tool(ping)]))
    assert grammar.matches('{"tool": "ping"}')
    assert not grammar.matches('{"tool": "ping", "arguments": {}}')
    assert not grammar.matches('{"tool": "pong"}')


def test_names_that_are_alike_are_kept_apart() -> None:
    grammar = Grammar(grammar_of([python_tool(a_b), python_tool(a)]))
    assert grammar.matches('{"tool": "a_b", "arguments": {"c": "x"}}')
    assert grammar.matches('{"tool": "a", "arguments": {"b_c": 1}}')
    assert not grammar.matches('{"tool": "a", "arguments": {"b_c": "x"}}')


class Point(BaseModel):
    x: int


@pytest.mark.parametrize(
    "kind",
    [Point, dict[str, str], object, int | str, Annotated[str, Field(pattern="a+")], bytes, tuple[int, int]],
)
def test_arguments_that_a_small_model_cannot_fill_in_are_refused(kind: object) -> None:
    def odd(thing) -> None:  # type: ignore[no-untyped-def]
        """Odd."""

    odd.__annotations__["thing"] = kind
    with pytest.raises(ToolError, match=r"odd\.thing|odd: "):
        Toolbox([python_tool(odd)])
