"""YAML as plain data, with the line of each key, by YAML 1.2's core schema (https://yaml.org/spec/1.2.2/).

PyYAML's own rules are those of YAML 1.1, in which an unquoted `no` is false and `10:30` is 630: traps in a
file full of what callers say. Anchors, aliases, tags and merge keys are refused: a scenario needs none of
them, and nine lines of aliases expand to a billion words.
"""

import re
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
_MAX_DEPTH = 32


class YamlProblem(Exception):
    """What is wrong, and on which line (from 1; None: the whole text)."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise YamlProblem(event.start_mark.line + 1, "anchors and aliases (& and *) are not allowed here")
        if getattr(event, "tag", None) is not None:
            raise YamlProblem(
                event.start_mark.line + 1, "tags (!) are not allowed here; put the text in quotes"
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}  # every plain scalar arrives as text; `_scalar` tells what it means

_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_yaml_nodes(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """The document's data (dict, list, str, int, float, bool, None; keys are text) and each key path's line.

    Raises `YamlProblem`, and RecursionError for text nested too deeply for PyYAML.
    """
    bad_line = _unreadable(text)
    if bad_line is not None:
        raise YamlProblem(bad_line, "holds a control character")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_problem(error, text) from None
    finally:
        loader.dispose()
    lines: dict[KeyPath, int] = {}
    if node is None:
        return None, lines
    return _build(node, (), lines), lines


def _unreadable(text: str) -> int | None:
    """Line of the first character that YAML does not allow, which PyYAML would report without a line."""
    match = yaml.reader.Reader.NON_PRINTABLE.search(text)
    return text.count("\n", 0, match.start()) + 1 if match else None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> YamlProblem:
    mark = error.problem_mark or error.context_mark
    line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else None
    reason = error.problem or error.context or "cannot be parsed"
    if "'\\t'" in reason:
        reason = "a tab where only spaces may indent"
    elif reason == "mapping values are not allowed here":
        reason = 'a second ":" in one line; put text that holds ": " in quotes'
    elif reason == "but found another document":
        reason = "a second document (---); only one is allowed"
    return YamlProblem(line, f"not valid YAML: {reason}")


def _build(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > _MAX_DEPTH:
        raise YamlProblem(line, "nested too deeply")
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*path, index), lines) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - the only other kind
    _refuse_surrogates(node.value, line)
    return node.value if node.style else _scalar(node.value)


def _build_mapping(node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlProblem(line, "a list or mapping cannot be a key")
        key = key_node.value
        if key == "<<" and not key_node.style:
            raise YamlProblem(line, "merge keys (<<) are not allowed here")
        _refuse_surrogates(key, line)
        if key in built:
            raise YamlProblem(line, f'duplicate key "{key}" (first on line {lines[(*path, key)]})')
        lines[(*path, key)] = line
        built[key] = _build(value_node, (*path, key), lines)
    return built


def _refuse_surrogates(text: str, line: int) -> None:
    """An escape can spell half a pair (`"\\ud83d"`), which no UTF-8 can carry."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise YamlProblem(line, "an escape that is no character")


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float("-inf") if text.startswith("-") else float("inf")
    return text
