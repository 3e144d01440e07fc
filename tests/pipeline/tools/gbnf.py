"""Does a text follow a grammar? A small matcher of GBNF as `pipeline.tools.grammar` writes it, for tests."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r'\s*(?:("(?:\\.|[^"\\])*")|(\[(?:\\.|[^\]\\])*\])|([a-z][a-z0-9-]*)|(\{[0-9]+,[0-9]+\})|([()|?*+]))'
)


class Grammar:
    """`matches(text)`: is it a whole word of the language?"""

    def __init__(self, source: str) -> None:
        self._rules = dict(line.split(" ::= ", 1) for line in source.splitlines() if line)

    def matches(self, text: str) -> bool:
        return any(end == len(text) for end in self._rule("root", text, 0))

    def _rule(self, name: str, text: str, at: int) -> Iterator[int]:
        tokens = _TOKEN.findall(self._rules[name])
        parts = [next(part for part in token if part) for token in tokens]
        yield from self._choice(parts, text, at)

    def _choice(self, parts: list[str], text: str, at: int) -> Iterator[int]:
        for branch in _split(parts):
            yield from self._sequence(branch, text, at)

    def _sequence(self, parts: list[str], text: str, at: int) -> Iterator[int]:
        if not parts:
            yield at
            return
        length = _group(parts) if parts[0] == "(" else 1
        unit, rest = parts[:length], parts[length:]
        least, most = 1, 1
        if rest and (rest[0] in "?*+" or rest[0].startswith("{")):
            least, most = _times(rest[0])
            rest = rest[1:]
        for end in self._repeated(unit, least, most, text, at):
            yield from self._sequence(rest, text, end)

    def _repeated(self, unit: list[str], least: int, most: int, text: str, at: int) -> Iterator[int]:
        if most:
            for end in self._unit(unit, text, at):
                if end > at or least > 0:
                    yield from self._repeated(unit, max(0, least - 1), most - 1, text, end)
        if least <= 0:
            yield at

    def _unit(self, unit: list[str], text: str, at: int) -> Iterator[int]:
        head = unit[0]
        if head == "(":
            yield from self._choice(unit[1:-1], text, at)
        elif head.startswith('"'):
            wanted = head[1:-1].replace('\\"', '"').replace("\\\\", "\\").replace("\\n", "\n")
            if text.startswith(wanted, at):
                yield at + len(wanted)
        elif head.startswith("["):
            if at < len(text) and re.match(head, text[at], re.DOTALL):
                yield at + 1
        else:
            yield from self._rule(head, text, at)


def _split(parts: list[str]) -> list[list[str]]:
    branches: list[list[str]] = [[]]
    depth = 0
    for part in parts:
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "|" and not depth:
            branches.append([])
        else:
            branches[-1].append(part)
    return branches


def _group(parts: list[str]) -> int:
    depth = 0
    for i, part in enumerate(parts):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if not depth:
            return i + 1
    raise ValueError("a bracket is not closed")


def _times(mark: str) -> tuple[int, int]:
    if mark.startswith("{"):
        least, most = mark[1:-1].split(",")
        return int(least), int(most)
    return {"?": (0, 1), "*": (0, 1000), "+": (1, 1000)}[mark]
