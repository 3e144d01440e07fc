"""Python functions as tools."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.tools import tool
from pipeline.tools.python import MOST_THREADS, in_thread, load_python_tools, python_tool
from pipeline.tools.tool import Tool, ToolError, ToolFailed

NO_DESK: Any = None

GOOD = '''
"""Tools of a shop."""
from datetime import date
from pipeline.tools import tool
import json

RATE = 3

def _helper() -> int:
    return 1

def order_status(number: str, detailed: bool = False) -> str:
    """Look up where
    an order is.

    More about it that nobody is told.

    Args:
        number: The order's number,
            such as 4711.
        detailed (bool): Whether to say more.

    Returns:
        text: not an argument.
    """
    return f"order {number} {detailed} {_helper()}"

@tool(side_effects=False, timeout_s=3.0, cancellable=False, example="Are you there?")
async def ping() -> dict:
    """See whether the shop is there."""
    return {"rate": RATE}
'''


def load(tmp_path: Path, source: str) -> tuple[Tool, ...]:
    path = tmp_path / "tools.py"
    path.write_text(source)
    return load_python_tools(path, timeout_s=7.0)


async def used(one: Tool, **arguments: object) -> object:
    return await one.use(one.arguments.model_validate(arguments), NO_DESK)


async def test_public_functions_are_tools(tmp_path: Path) -> None:
    status, ping = load(tmp_path, GOOD)
    assert (status.name, status.description) == ("order_status", "Look up where an order is.")
    assert (status.timeout_s, status.side_effects, status.cancellable) == (7.0, True, True)
    properties = status.arguments.model_json_schema()["properties"]
    assert properties["number"]["description"] == "The order's number, such as 4711."
    assert properties["detailed"]["description"] == "Whether to say more."
    assert "text" not in properties
    assert await used(status, number="4711") == "order 4711 False 1"
    assert (ping.side_effects, ping.timeout_s, ping.cancellable) == (False, 3.0, False)
    assert ping.example == "Are you there?"
    assert await used(ping) == {"rate": 3}


async def test_plain_functions_run_in_a_thread_of_their_own(tmp_path: Path) -> None:
    source = 'import threading\ndef where():\n    """Where."""\n    return threading.current_thread().name\n'
    [where] = load(tmp_path, source)
    assert await used(where) == "maya-tool"


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("def broken(:\n    pass\n", 1, "not valid Python"),
        ("import nothing_of_that_name\n", None, "ModuleNotFoundError"),
        ("X = 1\n", None, "no public function"),
        ("\n\ndef bare(x: str) -> str:\n    return x\n", 3, "needs a docstring"),
        ('def untyped(x) -> str:\n    """Do."""\n', 1, "needs a type hint"),
        ('def many(*x: str) -> str:\n    """Do."""\n', 1, "a name each"),
        ('def odd(x: "Nowhere") -> str:\n    """Do."""\n', 1, "type hints cannot be read"),
        ('def Loud(x: str) -> str:\n    """Do."""\n', 1, "small letters"),
        ('def odd(x: object()) -> str:\n    """Do."""\n', 1, "cannot be read|no language model"),
    ],
)
def test_a_file_with_a_mistake_is_named_with_its_line(
    tmp_path: Path, source: str, line: int | None, says: str
) -> None:
    with pytest.raises(ToolError, match=says) as caught:
        load(tmp_path, source)
    where = f"{tmp_path / 'tools.py'}:" if line is None else f"{tmp_path / 'tools.py'}:{line}:"
    assert str(caught.value).startswith(where)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"nothing\.py: cannot be read"):
        load_python_tools(tmp_path / "nothing.py", timeout_s=1.0)


def test_an_option_that_there_is_not_is_named() -> None:
    with pytest.raises(ToolError, match="no option 'side_effect'"):
        tool(side_effect=False)  # type: ignore[call-overload]


def test_arguments_are_checked_before_the_function_sees_them() -> None:
    def dial(times: int) -> None:
        """Dial."""

    arguments = python_tool(dial).arguments
    with pytest.raises(ValueError, match="times"):
        arguments.model_validate({"times": "often"})
    with pytest.raises(ValueError, match="extra"):
        arguments.model_validate({"times": 1, "number": "+1"})


@pytest.mark.parametrize(
    "raised", [ValueError("no"), KeyError("x"), StopIteration(), SystemExit(3)], ids=repr
)
async def test_what_a_function_raises_reaches_who_waits(raised: BaseException) -> None:
    def work() -> object:
        raise raised

    with pytest.raises(Exception, match=r"no|x|StopIteration|SystemExit"):
        await in_thread(work)


async def test_a_function_that_hangs_holds_up_nobody_and_too_many_are_refused() -> None:
    release = threading.Event()
    hanging = [asyncio.create_task(in_thread(release.wait)) for _ in range(MOST_THREADS)]
    await asyncio.sleep(0)
    for task in hanging:
        task.cancel()
    assert all(
        isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*hanging, return_exceptions=True)
    )
    with pytest.raises(ToolFailed):
        await in_thread(lambda: 1)
    release.set()
    work: Callable[[], object] = lambda: 1  # noqa: E731
    for _ in range(1000):
        try:
            assert await in_thread(work) == 1
            break
        except ToolFailed:
            await asyncio.sleep(0.001)
    else:
        pytest.fail("the threads that had hung were not given back")
