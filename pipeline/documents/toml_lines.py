"""On which line each key of a TOML text stands.

`tomllib` gives values without positions. This scanner reads the same grammar (https://toml.io/en/v1.0.0)
for keys and lines only, after `tomllib` accepted the text; for one that it refused as declaring something
twice it finds the second declaration.
"""

import re
import tomllib

KeyPath = tuple[str | int, ...]


class ScanFailed(Exception):
    """Not TOML as this scanner knows it."""


class DuplicateKey(Exception):
    """A key or table declared twice. `line` is that of the second declaration."""

    def __init__(self, key: str, line: int, first_line: int) -> None:
        super().__init__(f'duplicate key "{key}" (first on line {first_line})')
        self.line = line


def toml_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every key path of the document: `("voice", "speed")`, `("examples", 0, "caller")`.

    A table's line is that of its header, or of the first dotted key that made it; the root is `()`: 1.
    Raises `DuplicateKey` and `ScanFailed`.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


_BLANK = re.compile(r"[ \t]*")
_FILLER = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|\'\'\'(?:[^\']|\'(?!\'\'))*\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]+")


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.line_at = 0
        self.lines: dict[KeyPath, int] = {(): 1}
        self.explicit: set[KeyPath] = set()
        self.elements: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self.skip(_FILLER)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.array_header()
            elif self.text.startswith("[", self.at):
                table = self.table_header()
            else:
                self.key_and_value(table)
            self.skip(_FILLER)
        return self.lines

    def here(self) -> int:
        self.line += self.text.count("\n", self.line_at, self.at)
        self.line_at = self.at
        return self.line

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ScanFailed(self.here())
        self.at = match.end()
        return match[0]

    def take(self, literal: str) -> bool:
        found = self.text.startswith(literal, self.at)
        if found:
            self.at += len(literal)
        return found

    def expect(self, literal: str) -> None:
        if not self.take(literal):
            raise ScanFailed(self.here())

    def key(self) -> list[str]:
        parts = []
        while True:
            self.skip(_BLANK)
            if self.text[self.at : self.at + 1] in ("'", '"'):
                quoted = self.skip(_STRING)
                try:
                    parts.append(str(tomllib.loads(f"k = {quoted}")["k"]))
                except tomllib.TOMLDecodeError as error:
                    raise ScanFailed(self.here()) from error
            else:
                parts.append(self.skip(_BARE_KEY))
            self.skip(_BLANK)
            if not self.take("."):
                return parts

    def place(self, parts: list[str]) -> KeyPath:
        """Where a header's key points: a name of an array of tables means its latest element."""
        path: KeyPath = ()
        for part in parts:
            path = (*path, part)
            if path in self.elements:
                path = (*path, self.elements[path] - 1)
        return path

    def mention(self, path: KeyPath, line: int) -> None:
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)

    def declare(self, path: KeyPath, line: int) -> None:
        if path in self.explicit:
            raise DuplicateKey(_spelt(path), line, self.lines[path])
        self.explicit.add(path)
        self.mention(path, line)

    def array_header(self) -> KeyPath:
        line = self.here()
        self.expect("[[")
        *parents, last = self.key()
        self.expect("]]")
        path = (*self.place(parents), last)
        if path in self.explicit:
            raise DuplicateKey(_spelt(path), line, self.lines[path])
        index = self.elements.get(path, 0)
        self.elements[path] = index + 1
        self.mention((*path, index), line)
        return (*path, index)

    def table_header(self) -> KeyPath:
        line = self.here()
        self.expect("[")
        path = self.place(self.key())
        self.expect("]")
        self.declare(path, line)
        self.lines[path] = line  # its header, though [a.b] may have mentioned a before
        return path

    def key_and_value(self, table: KeyPath) -> None:
        line = self.here()
        path = (*table, *self.key())
        self.expect("=")
        self.declare(path, line)
        self.value(path)

    def value(self, path: KeyPath) -> None:
        self.skip(_BLANK)
        start = self.text[self.at : self.at + 1]
        if start in ("'", '"'):
            self.skip(_STRING)
        elif start == "[":
            self.array(path)
        elif start == "{":
            self.inline_table(path)
        else:
            self.skip(_PLAIN_VALUE)

    def array(self, path: KeyPath) -> None:
        self.expect("[")
        index = 0
        while True:
            self.skip(_FILLER)
            if self.take("]"):
                return
            element = (*path, index)
            self.lines[element] = self.here()
            self.value(element)
            self.skip(_FILLER)
            if not self.take(","):
                self.expect("]")
                return
            index += 1

    def inline_table(self, path: KeyPath) -> None:
        self.expect("{")
        while True:
            self.skip(_FILLER)  # newlines: TOML 1.1
            if self.take("}"):
                return
            self.key_and_value(path)
            self.skip(_FILLER)
            if not self.take(","):
                self.expect("}")
                return


def _spelt(path: KeyPath) -> str:
    return ".".join(str(part) for part in path if isinstance(part, str))
