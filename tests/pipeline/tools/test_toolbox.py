"""How the language model is told of tools, and what of its calls is read."""

import pytest

from models.base import Message
from pipeline.persona import Persona
from pipeline.tools.python import python_tool, tool
from pipeline.tools.tool import Example, ToolError
from pipeline.tools.toolbox import BadCall, Toolbox, menu_call

DESK = {
    "name": "Desk",
    "greeting": "Hello.",
    "system": "You help.",
    "fallback": "I do not know.",
    "tools": {"built_in": ["transfer", "say_time"]},
    "transfer": {"targets": {"billing": "+15550100101", "front desk": "sip:desk@example.com"}},
    "examples": [{"caller": "are you open", "agent": "Yes."}],
}


@tool(example=Example("Is 4711 on its way?", {"number": "4711"}, "On its way.", "Yes, it is."))
def order_status(number: str, detailed: bool = False) -> str:
    """look up an order

    Args:
        number: such as 4711
    """
    return number


def test_the_model_is_told_in_few_words_and_never_of_numbers() -> None:
    persona = Persona.model_validate(DESK)
    system, greeting, *rest = persona.prefix()
    assert '- transfer(target: "billing" or "front desk"): put the caller through' in system.content
    assert "- say_time(): look up" in system.content
    assert system.content.endswith('If neither the facts nor a tool answer, say: "I do not know."')
    assert greeting.content == "Hello."
    whole = "\n".join(message.content for message in persona.prefix())
    assert "+1555" not in whole
    assert "example.com" not in whole
    assert rest[-2:] == [Message("user", "are you open"), Message("assistant", "Yes.")], "words come last"


def test_an_example_is_shown_with_its_result_and_answer() -> None:
    box = Toolbox([python_tool(order_status)])
    assert box.examples == (
        Message("user", "Is 4711 on its way?"),
        Message("assistant", '{"tool": "order_status", "arguments": {"number": "4711"}}'),
        Message("tool", "On its way."),
        Message("assistant", "Yes, it is."),
    )
    assert "order_status(number: such as 4711, detailed?)" in box.instructions


def test_a_grammar_may_be_for_some_of_the_tools_or_none() -> None:
    box = Persona.model_validate(DESK).toolbox
    assert "billing" not in box.grammar_of({"say_time"})
    assert box.grammar_of(()) == ""
    assert box.grammar_of({"say_time", "transfer"}) == box.grammar


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ""),
        ("no JSON", ""),
        ("[]", ""),
        ("null", ""),
        ('{"tool": null}', ""),
        ('{"tool": "nothing"}', "nothing"),
        ('{"tool": "say_time", "arguments": {"zone": "UTC"}}', "say_time"),
        ('{"tool": "transfer", "arguments": {"target": "+15550100101"}}', "transfer"),
        ('{"tool": "transfer", "arguments": {"target": "Billing"}}', "transfer"),
        ('{"tool": "hang_up"}', "hang_up"),
    ],
)
def test_what_is_no_call_says_so_without_repeating_it(text: str, name: str) -> None:
    with pytest.raises(BadCall) as caught:
        Persona.model_validate(DESK).toolbox.read(text)
    assert caught.value.name == name
    assert "+15550100101" not in str(caught.value)


def test_a_key_may_do_what_the_model_may_not() -> None:
    persona = Persona.model_validate(DESK | {"keys": {"menu": {"9": "hang_up"}}})
    call = menu_call("hang_up")
    assert persona.toolbox.read(call, by_key=True).tool.name == "hang_up"
    with pytest.raises(BadCall):
        persona.toolbox.read(call)
    assert "hang_up" not in persona.prefix()[0].content


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolError, match="two tools of the name order_status"):
        Toolbox([python_tool(order_status), python_tool(order_status)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"transfer": {"targets": {}}},
        {"transfer": {"targets": {"billing": "911"}}},
        {"transfer": {"targets": {"billing": "+1 555 0100"}}},
        {"transfer": {"targets": {"billing": "tel:+15550100101"}}},
        {"transfer": {"targets": {"+15550100101": "+15550100101"}}},
        {"tools": {"built_in": ["press_keys"]}},
        {"tools": {"built_in": ["dial"]}},
        {"tools": {"python": "../tools.py"}},
        {"keys": {"menu": {"0": "transfer:nobody"}}},
        {"timezone": "Nowhere/City"},
    ],
    ids=str,
)
def test_a_persona_that_would_reach_elsewhere_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Persona.model_validate(DESK | wrong)
