"""A grammar for tool calls, from the JSON schemas of their arguments. Pure.

    {"tool": "say_time"}
    {"tool": "transfer", "arguments": {"target": "reception"}}

The text is GBNF, llama.cpp's notation. What follows it is a call of a known tool with arguments of the right
kinds, in the order in which they are declared, so a small model has little to decide and nothing to malform.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.tools.tool import Tool, ToolError

_SHARED = r"""text ::= "\"" char+ "\""
char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\n]
integer ::= "-"? ("0" | [1-9] digit? digit? digit? digit? digit? digit? digit? digit?)
number ::= integer ("." digit digit? digit? digit?)?
digit ::= [0-9]
boolean ::= "true" | "false"
date ::= "\"" digit digit digit digit "-" [0-1] digit "-" [0-3] digit "\""
time ::= "\"" [0-2] digit ":" [0-5] digit "\""
"""
_PLAIN = {"integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS = {"date": "date", "time": "time"}
MOST_ITEMS = 8


def grammar_of(tools: Sequence[Tool]) -> str:
    """One call of one of `tools`; the start symbol is `root`. Raises `ToolError` for arguments of a kind that
    no small model fills in: nested objects, patterns, free-form values."""
    rules: dict[str, str] = {}
    calls = []
    for number, tool in enumerate(tools):
        # By number: names that differ by an underscore alone would be one rule.
        object_ = _arguments(tool.name, f"{number}", tool.arguments.model_json_schema(), rules)
        opening = _literal('{"tool": ' + _json(tool.name))
        given = _literal(', "arguments": ') + f" {object_}" if object_ else ""
        rules[f"call-{number}"] = f'{opening} {given} "}}"'
        calls.append(f"call-{number}")
    lines = [f"root ::= {' | '.join(calls)}", *(f"{name} ::= {body}" for name, body in rules.items())]
    return "\n".join(lines) + "\n" + _SHARED


def _arguments(tool: str, number: str, schema: Mapping[str, Any], rules: dict[str, str]) -> str:
    """The rule for the object of arguments; "" where there are none."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        return ""
    required = set(schema.get("required", ()))
    # rest-i: what may follow when nothing was given yet; more-i: when something was.
    for i, (name, wanted) in reversed(list(enumerate(properties.items()))):
        rule = f"{number}-{i}"
        value = _value(f"{tool}.{name}", _resolved(wanted, schema), schema, rules, rule)
        rules[f"pair-{rule}"] = f"{_literal(_json(name) + ': ')} {value}"
        last = i + 1 == len(properties)
        rest_after, more_after = (
            ('""', '""') if last else (f"rest-{number}-{i + 1}", f"more-{number}-{i + 1}")
        )
        or_not = name not in required
        rules[f"rest-{rule}"] = f"pair-{rule} {more_after}" + (f" | {rest_after}" if or_not else "")
        rules[f"more-{rule}"] = f'", " pair-{rule} {more_after}' + (f" | {more_after}" if or_not else "")
    rules[f"object-{number}"] = f'"{{" rest-{number}-0 "}}"'
    return f"object-{number}"


def _resolved(wanted: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference (an enumeration class has one), and leave out that null is allowed too: leaving the
    argument out says the same."""
    if "$ref" in wanted:
        return _resolved(schema["$defs"][wanted["$ref"].rpartition("/")[2]], schema)
    choices = [choice for choice in wanted.get("anyOf", ()) if choice.get("type") != "null"]
    return _resolved(choices[0], schema) if len(choices) == 1 else wanted


def _value(
    what: str, wanted: Mapping[str, Any], schema: Mapping[str, Any], rules: dict[str, str], rule: str
) -> str:
    if "const" in wanted:
        return _literal(_json(wanted["const"]))
    if "enum" in wanted:
        return f"({' | '.join(_literal(_json(one)) for one in wanted['enum'])})"
    kind = wanted.get("type")
    if kind == "string" and "pattern" not in wanted:
        form = wanted.get("format")
        if form is None or form in _FORMATS:
            return _FORMATS.get(form or "", "text")
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "array" and isinstance(wanted.get("items"), Mapping):
        rules[f"item-{rule}"] = _value(what, _resolved(wanted["items"], schema), schema, rules, f"{rule}-0")
        rules[f"list-{rule}"] = f'"[" item-{rule} (", " item-{rule}){{0,{MOST_ITEMS - 1}}} "]"'
        return f"list-{rule}"
    raise ToolError(
        f"{what}: a language model on the phone fills in text, numbers, true or false, dates (date, time), "
        "a Literal or an Enum of words, and lists of these; this is none of them"
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    """`text` between quotation marks, in GBNF."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
