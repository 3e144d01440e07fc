"""Reading TOML and YAML that people write: every complaint names the file and the line.

Used for personas, scenarios and settings. `read_toml(path, Model)` and `read_yaml(path, Model)` return the
validated pydantic model or raise `DocumentError`, whose text reads
`clinic.toml:7: unknown key "greting" (did you mean "greeting"?)`.

Models should forbid extra keys (`ConfigDict(extra="forbid")`), or misspelt ones pass unnoticed. Values are
validated as strict JSON: text is not taken for a number nor `true` for 1, while lists become tuples and
whole numbers become floats. YAML is read by the 1.2 core rules (`yes`, `no` and `10:30` are text), without
anchors, aliases, tags and merge keys.
"""

import datetime
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.documents.complaints import complaints
from pipeline.documents.toml_lines import DuplicateKey, ScanFailed, toml_lines
from pipeline.documents.yaml_nodes import YamlProblem, read_yaml_nodes

MAX_BYTES = 256 * 1024
"""No persona or scenario comes near this; a pure Python YAML parser takes seconds for more."""
_SHOWN_PROBLEMS = 10

ModelT = TypeVar("ModelT", bound=BaseModel)
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint. `line` counts from 1; None when it is about the whole file."""

    line: int | None
    message: str


class DocumentError(Exception):
    """A document that cannot be used, and why.

    `path`, `line` (1-based or None) and `message` are those of the first problem; `problems` holds all of
    them in the order of their lines. `str()` is one line for each: `clinic.toml:7: unknown key "greting"`.
    """

    def __init__(
        self, path: Path | str, line: int | None, message: str, problems: Iterable[Problem] = ()
    ) -> None:
        super().__init__(path, line, message)
        self.path = Path(path)
        self.line = line
        self.message = message
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(line, message),)

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {problem.message}"
            if problem.line is None
            else f"{self.path}:{problem.line}: {problem.message}"
            for problem in self.problems[:_SHOWN_PROBLEMS]
        ]
        if len(self.problems) > _SHOWN_PROBLEMS:
            lines.append(f"{self.path}: and {len(self.problems) - _SHOWN_PROBLEMS} more problems")
        return "\n".join(lines)


def read_toml(path: Path | str, model: type[ModelT]) -> ModelT:
    """Read and validate a TOML file (UTF-8, at most 256 KiB). Blocks; raises `DocumentError` only."""
    return parse_toml(_read_text(path), model, path=path)


def read_yaml(path: Path | str, model: type[ModelT]) -> ModelT:
    """Read and validate a YAML file (UTF-8, at most 256 KiB). Blocks; raises `DocumentError` only."""
    return parse_yaml(_read_text(path), model, path=path)


def parse_toml(text: str, model: type[ModelT], *, path: Path | str = "<text>") -> ModelT:
    """As `read_toml`, from text; `path` only names the document in errors."""
    long_key = _LONG_KEY.search(text)  # tomllib's time grows with the square of a key's parts
    if long_key:
        line = text.count("\n", 0, long_key.start()) + 1
        raise DocumentError(path, line, "a key of more than 32 parts")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise DocumentError(path, None, "nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise _toml_error(path, text, str(error)) from None
    except ValueError:  # int()'s limit on digits
        raise DocumentError(path, None, "a number of too many digits") from None
    try:
        lines = toml_lines(text)
    except (ScanFailed, DuplicateKey, RecursionError):  # tomllib took it: validate, without lines
        lines = {}
    return _validate(path, data, lines, model)


def parse_yaml(text: str, model: type[ModelT], *, path: Path | str = "<text>") -> ModelT:
    """As `read_yaml`, from text; `path` only names the document in errors."""
    try:
        data, lines = read_yaml_nodes(text)
    except RecursionError:
        raise DocumentError(path, None, "nested too deeply") from None
    except YamlProblem as error:
        raise DocumentError(path, error.line, error.message) from None
    if data is None:
        raise DocumentError(path, None, "the file is empty")
    if not isinstance(data, dict):
        raise DocumentError(path, lines.get((), 1), f"expected keys and values, not {_kind(data)}")
    return _validate(path, data, lines, model)


def _kind(data: object) -> str:
    return "a list" if isinstance(data, list) else "a single value"


def _read_text(path: Path | str) -> str:
    path = Path(path)
    try:
        if path.is_dir():
            raise DocumentError(path, None, "is a folder, not a file")
        if path.exists() and not path.is_file():
            raise DocumentError(path, None, "is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DocumentError(path, None, "no such file" + _similar_file(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(path, None, f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise DocumentError(path, None, f"is larger than {MAX_BYTES // 1024} KiB")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DocumentError(path, 1, "is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(path, line, f"byte 0x{raw[error.start]:02x} is not UTF-8") from None
    if not text.strip():
        raise DocumentError(path, None, "the file is empty")
    return text


def _similar_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


_LONG_KEY = re.compile(
    r"""(?:^[ \t]*\[{0,2}|[{,])[ \t]*(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){32}""",
    re.MULTILINE,
)
_TOML_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def _toml_error(path: Path | str, text: str, message: str) -> DocumentError:
    if message.startswith("Cannot"):  # declared twice; tomllib points behind the second, and names no key
        try:
            toml_lines(text)
        except DuplicateKey as error:
            return DocumentError(path, error.line, str(error))
        except (ScanFailed, RecursionError):
            pass
    position = _TOML_POSITION.search(message)
    line = int(position[1]) if position and position[1] else text.rstrip().count("\n") + 1
    reason = _TOML_POSITION.sub("", message)
    return DocumentError(path, line, f"not valid TOML: {reason[:1].lower()}{reason[1:]}")


def _validate(
    path: Path | str, data: dict[str, Any], lines: Mapping[KeyPath, int], model: type[ModelT]
) -> ModelT:
    try:
        encoded = json.dumps(data, default=_encode)
    except RecursionError:
        raise DocumentError(path, None, "nested too deeply") from None
    try:
        return model.model_validate_json(encoded, strict=True)
    except ValidationError as error:
        found = [Problem(line, text) for line, text in complaints(error, data, lines, model)]
    found.sort(key=lambda problem: problem.line or 0)
    raise DocumentError(path, found[0].line, found[0].message, found)


def _encode(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise TypeError(type(value).__name__)
