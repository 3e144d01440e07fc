"""pydantic's validation errors in the words of who wrote the file: which line, which key, what to write."""

import difflib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Located:
    """An error and the keys of the document it is about. `union` is where pydantic began to try the members
    of a union, and `member` the one that failed; several errors then speak of one value."""

    details: ErrorDetails
    path: KeyPath
    union: KeyPath | None
    member: str

    @property
    def kind(self) -> str:
        return self.details["type"]


_ABOUT_KEYS = ("missing", "extra_forbidden")


def complaints(
    error: ValidationError, data: Any, lines: Mapping[KeyPath, int], model: type[BaseModel]
) -> list[tuple[int | None, str]]:
    """(line or None, message) for each problem, at least one."""
    located = [_locate(details, data) for details in error.errors(include_url=False)]
    located = _without_misspelt(_one_member_per_union(located, model), model)
    together: dict[object, list[_Located]] = {}
    for item in located:
        together.setdefault(item.details["loc"] if item.kind in _ABOUT_KEYS else item.path, []).append(item)
    return [(_line(items[0].path, lines), _message(items, model)) for items in together.values()]


def _line(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _locate(details: ErrorDetails, data: Any) -> _Located:
    """Match pydantic's location with the document. Locations also hold names of union members and validators,
    which stand nowhere in the document: the match that uses the most parts, and the last one, wins."""
    loc = details["loc"]
    goal = loc[:-1] if details["type"] == "missing" else loc
    used = _match(goal, 0, data)
    path = tuple(goal[index] for index in used)
    skipped = next((index for index in range(len(goal)) if index not in used), None)
    if skipped is None:
        return _Located(details, path, None, "")
    union = tuple(goal[index] for index in used if index < skipped)
    return _Located(details, path, union, str(goal[skipped]))


def _match(loc: KeyPath, start: int, data: Any) -> tuple[int, ...]:
    """Indices of the parts of `loc` from `start` on that are keys on one way down into `data`."""
    best: tuple[int, ...] = ()
    for index in range(start, min(start + 4, len(loc))):
        part = loc[index]
        named = isinstance(data, dict) and isinstance(part, str) and part in data
        numbered = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not named and not numbered:
            continue
        way = (index, *_match(loc, index + 1, data[part]))
        if (way[-1] == len(loc) - 1, len(way)) > (bool(best) and best[-1] == len(loc) - 1, len(best)):
            best = way
    return best


def _one_member_per_union(located: list[_Located], model: type[BaseModel]) -> list[_Located]:
    """Of a union's members keep the likeliest to be meant: the one whose keys fit best. Members that
    differ only in the type of one plain value are all kept, to be told together."""
    kept: list[_Located] = []
    unions: dict[KeyPath, dict[str, list[_Located]]] = {}
    for item in located:
        if item.union is None:
            kept.append(item)
        else:
            unions.setdefault(item.union, {}).setdefault(item.member, []).append(item)
    for union, members in unions.items():
        if all(len(group) == 1 and group[0].path == union for group in members.values()):
            kept += [group[0] for group in members.values()]
        else:
            likeliest = min(members.values(), key=lambda group: _misfit(group, model))
            kept += likeliest
    return kept


def _misfit(group: list[_Located], model: type[BaseModel]) -> tuple[int, int]:
    wrong_keys = [item for item in group if item.kind in _ABOUT_KEYS]
    misspelt = [item for item in wrong_keys if item.kind == "extra_forbidden" and _meant(item, model)]
    return len(wrong_keys) - len(misspelt), len(group)


def _without_misspelt(located: list[_Located], model: type[BaseModel]) -> list[_Located]:
    """Leave out a missing key that stands there misspelt: that is one mistake."""
    meant = {
        (item.details["loc"][:-1], _meant(item, model)) for item in located if item.kind == "extra_forbidden"
    }
    return [
        item
        for item in located
        if item.kind != "missing" or (item.details["loc"][:-1], item.details["loc"][-1]) not in meant
    ]


_EXPECTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table of keys and values",
    "model_type": "a table of keys and values",
    "model_attributes_type": "a table of keys and values",
    "dataclass_type": "a table of keys and values",
}


def _message(items: list[_Located], model: type[BaseModel]) -> str:
    """One message for errors about one key; several are the failures of a union's members."""
    item = items[0]
    key = str(item.details["loc"][-1]) if item.details["loc"] else ""
    if item.kind == "extra_forbidden":
        close = _meant(item, model)
        known = _known_keys(model, item.details["loc"][:-1])
        hint = f' (did you mean "{close}"?)' if close else f" (known: {', '.join(known)})" if known else ""
        return f'unknown key "{key}"{hint}'
    if item.kind == "missing":
        return f'missing key "{key}"{_place(item.path)}'
    subject = f'"{_key(item.path)}"' if item.path else "the document"
    expected = [_EXPECTED.get(other.kind) or _literals(other.details) for other in items]
    if all(expected):
        wanted = " or ".join(dict.fromkeys(text for text in expected if text))
        return f"{subject} should be {wanted}, not {_shown(item.details['input'])}"
    text = item.details["msg"]
    for prefix in ("Value error, ", "Assertion failed, "):
        if text.startswith(prefix):
            return f"{subject}: {text.removeprefix(prefix)}" if item.path else text.removeprefix(prefix)
    for prefix in ("Input should ", "String should ", "List should ", "Tuple should ", "Value should "):
        if text.startswith(prefix):
            return f"{subject} should {text.removeprefix(prefix)}, not {_shown(item.details['input'])}"
    return f"{subject}: {text[:1].lower()}{text[1:]}"


def _literals(details: ErrorDetails) -> str | None:
    return str(details.get("ctx", {}).get("expected")) if details["type"] == "literal_error" else None


def _key(path: KeyPath) -> str:
    """The last named key and what follows it: `facts[2]`."""
    names = [index for index, part in enumerate(path) if isinstance(part, str)]
    tail = path[names[-1] :] if names else path
    return "".join(f"[{part}]" if isinstance(part, int) else part for part in tail)


def _place(path: KeyPath) -> str:
    spelt = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f" in {spelt}" if spelt else ""


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _meant(item: _Located, model: type[BaseModel]) -> str | None:
    """The key that an unknown one was probably meant to be."""
    loc = item.details["loc"]
    folded = {_fold(name): name for name in _known_keys(model, loc[:-1])}
    close = difflib.get_close_matches(_fold(str(loc[-1])), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _fold(key: str) -> str:
    return key.casefold().replace("-", "_")


def _known_keys(model: type[BaseModel], loc: KeyPath) -> list[str]:
    """Keys that may stand in the table at `loc`."""
    candidates: list[Any] = [model]
    for part in loc:
        narrowed = [inner for candidate in candidates for inner in _step(candidate, part)]
        candidates = narrowed or candidates  # a union member's or validator's name: stay
    return [
        field.alias or name
        for candidate in candidates
        if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        for name, field in candidate.model_fields.items()
    ]


def _step(candidate: Any, part: str | int) -> list[Any]:
    if isinstance(candidate, type) and issubclass(candidate, BaseModel):
        if part == candidate.__name__:
            return [candidate]
        for name, field in candidate.model_fields.items():
            if part in (name, field.alias):
                return _flat(field.annotation)
        return []
    arguments = typing.get_args(candidate)
    origin = typing.get_origin(candidate)
    if isinstance(part, int) and origin in (list, tuple, set, frozenset):
        return [kind for argument in arguments for kind in _flat(argument)]
    if isinstance(part, str) and origin is dict:
        return _flat(arguments[1])
    return []


def _flat(annotation: Any) -> list[Any]:
    """The types an annotation stands for, without `Annotated`, `| None` and other unions."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _flat(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for argument in typing.get_args(annotation) for kind in _flat(argument)]
    return [annotation]
