"""`maya tools check`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.commands.tools import app
from pipeline.documents import DocumentError

DESK = Path(__file__).parents[2] / "bench" / "tool_desk" / "desk.toml"


def test_the_tools_are_shown_with_what_the_model_is_told() -> None:
    result = CliRunner().invoke(app, ["check", str(DESK)])
    assert result.exit_code == 0, result.output
    assert "free_slots: look up when an appointment is free on a day" in result.output
    assert "only looks something up; 10 s at most; stops when the caller interrupts" in result.output
    assert "transfer to billing: +15550100101" in result.output
    told = result.output.partition("The language model is told:")[2]
    assert "- transfer(target: " in told
    assert "+1555" not in told


def test_all_of_it_as_json() -> None:
    result = CliRunner().invoke(app, ["check", str(DESK), "--json"])
    shown = json.loads(result.output)
    assert {tool["name"] for tool in shown["tools"]} >= {"transfer", "hang_up", "lab_result"}
    assert shown["grammar"].startswith("root ::= ")


def test_a_persona_without_tools_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text('name = "Plain"\ngreeting = "Hello."\nsystem = "You help."\n')
    assert CliRunner().invoke(app, ["check", str(path)]).output == "Plain has no tools.\n"


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ('python = "missing.py"', "missing.py: cannot be read"),
        ('built_in = ["transfer"]', "needs \\[transfer.targets\\]"),
        ('built_in = ["dial"]', "dial"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, tools: str, says: str) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(f'name = "D"\ngreeting = "Hello."\nsystem = "You help."\n\n[tools]\n{tools}\n')
    with pytest.raises(DocumentError, match=says) as caught:
        CliRunner().invoke(app, ["check", str(path)], catch_exceptions=False)
    assert caught.value.path == path
