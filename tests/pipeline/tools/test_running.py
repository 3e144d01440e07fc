"""What becomes of a tool's result."""

from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from pipeline.tools.running import FAILED, NOTHING_READABLE, readable
from pipeline.tools.tool import LONGEST_RESULT


@dataclass
class Order:
    number: str
    late: bool


class Shop(BaseModel):
    name: str


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("It is here.", "It is here."),
        ("  It is here.\n", "It is here."),
        (None, "Done."),
        ("", "Done."),
        (3, "3"),
        (True, "true"),
        ({"status": "late", "name": "Zo\u00eb"}, '{"status": "late", "name": "Zo\u00eb"}'),
        ([1, (2, 3)], "[1, [2, 3]]"),
        (Order("4711", True), '{"number": "4711", "late": true}'),
        ({"shop": Shop(name="Corner")}, '{"shop": {"name": "Corner"}}'),
        (b"raw", NOTHING_READABLE),
        (bytearray(5), NOTHING_READABLE),
        ("\x00\x01\x02\x03", NOTHING_READABLE),
        ("PNG\ufffd\ufffd\ufffd\x1a", NOTHING_READABLE),
        ("bell\x07 rings", "bell  rings"),
        (CIRCLE, FAILED),
        ("line\nline", "line\nline"),
    ],
    ids=repr,
)
def test_results_become_text(result: object, text: str) -> None:
    assert readable(result) == text


@pytest.mark.parametrize(
    "result", ["x" * 1_000_000, {"x": "y" * 1_000_000}, ["word"] * 100_000], ids=["text", "object", "list"]
)
def test_a_long_result_is_cut(result: object) -> None:
    text = readable(result)
    assert len(text) == LONGEST_RESULT
    assert text.endswith("... (cut)")
