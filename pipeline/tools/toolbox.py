"""All the tools of one persona: how the language model is told of them, and how its calls are read."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from models.base import Message
from pipeline.tools.grammar import grammar_of
from pipeline.tools.tool import Tool, ToolError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that is well formed: a known tool, and arguments of the right kinds."""

    tool: Tool
    arguments: BaseModel


class BadCall(Exception):
    """What the model wrote is no call of a tool that there is. `name` is the tool it named, or ""."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


class Toolbox:
    """Frozen after it is made. The language model is told of `tools`; `unlisted` ones are for keys alone.
    Raises `ToolError` for two tools of one name, and for arguments that no grammar can be made for."""

    def __init__(self, tools: Sequence[Tool] = (), *, unlisted: Sequence[Tool] = ()) -> None:
        self.tools = tuple(tools)
        names = [tool.name for tool in (*tools, *unlisted)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ToolError(f"there are two tools of the name {twice}")
        self._by_name = {tool.name: tool for tool in self.tools}
        self._unlisted = {tool.name: tool for tool in unlisted}
        self._grammars: dict[tuple[Tool, ...], str] = {}
        self.grammar = self.grammar_of(names)

    def __bool__(self) -> bool:
        return bool(self.tools)

    def get(self, name: str) -> Tool | None:
        return self._by_name.get(name) or self._unlisted.get(name)

    @cached_property
    def instructions(self) -> str:
        """For the system message. Short: a small model reads it anew in every process, and follows examples
        better than rules."""
        return "\n".join(
            (
                "Tools:",
                *(f"- {_signature(tool)}: {tool.description}" for tool in self.tools),
                'To use a tool, answer only with its JSON, such as {"tool": "...", "arguments": {...}}. '
                "What the facts answer needs no tool: answer it in words.",
            )
        )

    @cached_property
    def examples(self) -> tuple[Message, ...]:
        """Callers who want what the tools do, and how they are answered. They belong before a persona's own
        examples: a small model does next what it was shown last, and most turns are words."""
        messages: list[Message] = []
        for tool in self.tools:
            example = tool.example
            if example is not None:
                call = call_text(tool.name, example.arguments)
                messages += [Message("user", example.caller), Message("assistant", call)]
                if example.result and example.answer:
                    messages += [Message("tool", example.result), Message("assistant", example.answer)]
        for tool in self.tools:
            if tool.refusal is not None:
                messages += [Message("user", tool.refusal[0]), Message("assistant", tool.refusal[1])]
        return tuple(messages)

    def grammar_of(self, allowed: Collection[str]) -> str:
        """For calls of the tools that are `allowed` by name; "" where none is: words alone."""
        tools = tuple(tool for tool in self.tools if tool.name in allowed)
        if tools not in self._grammars:
            self._grammars[tools] = grammar_of(tools) if tools else ""
        return self._grammars[tools]

    def read(self, text: str, *, by_key: bool = False) -> ToolCall:
        """The call that `text`, a JSON object, makes; `by_key`: no model wrote it. Raises `BadCall`."""
        try:
            made = json.loads(text)
        except ValueError:
            raise BadCall("", "that is no JSON") from None
        except RecursionError:
            raise BadCall("", "that is nested too deeply") from None
        if not isinstance(made, dict) or not isinstance(made.get("tool"), str):
            raise BadCall("", "that names no tool")
        name = made["tool"]
        tool = self.get(name) if by_key else self._by_name.get(name)
        if tool is None:
            raise BadCall(name[:40], "there is no such tool")
        try:
            return ToolCall(tool, tool.arguments.model_validate(made.get("arguments", {})))
        except ValidationError as error:
            raise BadCall(name, f"its arguments are not right: {_first(error)}") from None


def call_text(name: str, arguments: Mapping[str, object]) -> str:
    """A call as models write it."""
    given = {"arguments": dict(arguments)} if arguments else {}
    return json.dumps({"tool": name} | given, ensure_ascii=False)


def menu_call(action: str) -> str:
    """The call that a key of a persona's menu stands for: "hang_up", "transfer:reception"."""
    name, _, target = action.partition(":")
    argument = {"transfer": "target", "press_keys": "keys"}.get(name)
    return call_text(name, {argument: target} if argument else {})


def _signature(tool: Tool) -> str:
    schema = tool.arguments.model_json_schema()
    required = set(schema.get("required", ()))
    parts = [
        f"{name}{'' if name in required else '?'}{_kind(wanted, schema)}"
        for name, wanted in schema.get("properties", {}).items()
    ]
    return f"{tool.name}({', '.join(parts)})"


def _kind(wanted: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in wanted:
        wanted = schema["$defs"][wanted["$ref"].rpartition("/")[2]]
    choices = wanted.get("enum") or ([wanted["const"]] if "const" in wanted else [])
    if choices:
        return ": " + " or ".join(json.dumps(choice) for choice in choices)
    described = wanted.get("description", "")
    return f": {described}" if described else ""


def _first(error: ValidationError) -> str:
    """Never what the model gave: only where, and what was wanted."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
