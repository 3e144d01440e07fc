"""Complaints about documents: the line, the key, and what to write instead."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.documents import MAX_BYTES, DocumentError, parse_toml, parse_yaml, read_toml, read_yaml
from pipeline.documents.toml_lines import DuplicateKey, ScanFailed, toml_lines


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Voice(Strict):
    name: str = ""
    speed: Annotated[float, Field(gt=0.4, lt=2.5)] = 1.0


class Example(Strict):
    caller: str
    agent: str


class Clinic(Strict):
    greeting: str
    beds: int = 0
    open: bool = True
    facts: tuple[str, ...] = ()
    voice: Voice = Voice()
    examples: tuple[Example, ...] = ()
    limit: float | Literal["none"] = 1.0
    rooms: dict[str, int] = {}

    @model_validator(mode="after")
    def facts_or_examples(self) -> "Clinic":
        if "forbidden" in self.facts:
            raise ValueError("a fact is forbidden")
        return self


class Say(Strict):
    say: str
    voice: str = ""


class Wait(Strict):
    wait: float | Literal["reply"]


class Scenario(Strict):
    name: str = "x"
    steps: tuple[Say | Wait, ...]


def problems(read: Any, text: str, model: Any) -> list[str]:
    with pytest.raises(DocumentError) as raised:
        read(text, model, path="clinic.toml")
    return str(raised.value).splitlines()


TOML = {
    'greeting = "hi"\ngreting = "hi"': ['clinic.toml:2: unknown key "greting" (did you mean "greeting"?)'],
    'beds = 3\n\ngreting = "hi"\n': ['clinic.toml:3: unknown key "greting" (did you mean "greeting"?)'],
    'greeting = "hi"\n[voice]\nsped = 1': ['clinic.toml:3: unknown key "sped" (did you mean "speed"?)'],
    'greeting = "hi"\nVoice = 1': ['clinic.toml:2: unknown key "Voice" (did you mean "voice"?)'],
    'greeting = "hi"\nvoice.zzz = 1': ['clinic.toml:2: unknown key "zzz" (known: name, speed)'],
    "beds = 3": ['clinic.toml:1: missing key "greeting"'],
    'greeting = "hi"\n\n[[examples]]\ncaller = "a"\n': ['clinic.toml:3: missing key "agent" in examples[0]'],
    'greeting = "hi"\nexamples = [\n  {caller = "a", agent = "b"},\n  {agent = "b"},\n]': [
        'clinic.toml:4: missing key "caller" in examples[1]'
    ],
    'greeting = "hi"\n[[examples]]\ncaller = "a"\nagent = "b"\n[[examples]]\ncaller = 1\nagent = "b"': [
        'clinic.toml:6: "caller" should be text in quotes, not 1'
    ],
    "greeting = 5": ['clinic.toml:1: "greeting" should be text in quotes, not 5'],
    "greeting = 2026-11-22": [],  # a date is text once written down
    'greeting = "hi"\nbeds = "5"': ['clinic.toml:2: "beds" should be a whole number, not "5"'],
    'greeting = "hi"\nbeds = 5.5': ['clinic.toml:2: "beds" should be a whole number, not 5.5'],
    'greeting = "hi"\nbeds = true': ['clinic.toml:2: "beds" should be a whole number, not true'],
    'greeting = "hi"\nopen = 1': ['clinic.toml:2: "open" should be true or false, not 1'],
    'greeting = "hi"\nfacts = "a"': ['clinic.toml:2: "facts" should be a list, not "a"'],
    'greeting = "hi"\nfacts = [\n "a",\n # one\n\n 7]': [
        'clinic.toml:6: "facts[1]" should be text in quotes, not 7'
    ],
    'greeting = "hi"\nvoice = "x"': ['clinic.toml:2: "voice" should be a table of keys and values, not "x"'],
    'greeting = "hi"\n[voice]\nspeed = 9.5': ['clinic.toml:3: "speed" should be less than 2.5, not 9.5'],
    'greeting = "hi"\nlimit = "nine"': ['clinic.toml:2: "limit" should be a number or \'none\', not "nine"'],
    'greeting = "hi"\n[rooms]\na = 1\nb = "x"': ['clinic.toml:4: "b" should be a whole number, not "x"'],
    'greeting = "hi"\nfacts = ["forbidden"]': ["clinic.toml:1: a fact is forbidden"],
    'greeting = "hi"\ngreeting = "ho"': ['clinic.toml:2: duplicate key "greeting" (first on line 1)'],
    'greeting = """a\nb\n"""\ngreeting = """c\nd"""': [
        'clinic.toml:4: duplicate key "greeting" (first on line 1)'
    ],
    'greeting = "hi"\n[voice]\n[voice]': ['clinic.toml:3: duplicate key "voice" (first on line 2)'],
    'voice = {name = "a"}\n[voice]': ['clinic.toml:2: duplicate key "voice" (first on line 1)'],
    'greeting = "hi': ["clinic.toml:1: not valid TOML: unterminated string"],
    'greeting = "hi"\nbeds =\n': ["clinic.toml:2: not valid TOML: invalid value"],
    'greeting "hi"': ["clinic.toml:1: not valid TOML: expected '=' after a key in a key/value pair"],
    'greeting = "hi"\nfacts = [\n"a"': ["clinic.toml:3: not valid TOML: unclosed array"],
    'greeting = "hi"\nbeds = ' + "9" * 5_000: ["clinic.toml: a number of too many digits"],
    "greeting = " + "[" * 50_000: ["clinic.toml: nested too deeply"],
    "a" + ".a" * 50_000 + " = 1": ["clinic.toml:1: a key of more than 32 parts"],
    'greting = 5\nvoice.speed = 0\n[rooms]\na = "x"': [
        'clinic.toml:1: unknown key "greting" (did you mean "greeting"?)',
        'clinic.toml:2: "speed" should be greater than 0.4, not 0',
        'clinic.toml:4: "a" should be a whole number, not "x"',
    ],
}


@pytest.mark.parametrize(("text", "expected"), TOML.items())
def test_toml(text: str, expected: list[str]) -> None:
    if not expected:
        assert parse_toml(text, Clinic)
        return
    assert problems(parse_toml, text, Clinic) == expected


YAML = {
    "steps:\n- sya: hi": ['clinic.toml:2: unknown key "sya" (did you mean "say"?)'],
    "steps:\n- say: hi\n  voise: x\n": ['clinic.toml:3: unknown key "voise" (did you mean "voice"?)'],
    "steps:\n- wait: never": ['clinic.toml:2: "wait" should be a number or \'reply\', not "never"'],
    "steps:\n- say: 5": ['clinic.toml:2: "say" should be text in quotes, not 5'],
    "steps:\n- say:": ['clinic.toml:2: "say" should be text in quotes, not null'],
    "steps: 5": ['clinic.toml:1: "steps" should be a list, not 5'],
    "name: x": ['clinic.toml:1: missing key "steps"'],
    "steps: []\nname: a\nname: b": ['clinic.toml:3: duplicate key "name" (first on line 2)'],
    "steps: []\nsteps: [{say: a, say: b}]": ['clinic.toml:2: duplicate key "steps" (first on line 1)'],
    "steps:\n- say: a\n  say: b": ['clinic.toml:3: duplicate key "say" (first on line 2)'],
    "name: &a x\nsteps: []": ["clinic.toml:1: anchors and aliases (& and *) are not allowed here"],
    "steps:\n- *a": ["clinic.toml:2: anchors and aliases (& and *) are not allowed here"],
    "a: &a [x]\nb: &b [*a, *a]": ["clinic.toml:1: anchors and aliases (& and *) are not allowed here"],
    "steps: !!python/object/apply:os.system [ls]": [
        "clinic.toml:1: tags (!) are not allowed here; put the text in quotes"
    ],
    "<<: {name: x}\nsteps: []": ["clinic.toml:1: merge keys (<<) are not allowed here"],
    "? [a]\n: b": ["clinic.toml:1: a list or mapping cannot be a key"],
    "name: x\n\tsteps: []": ["clinic.toml:2: not valid YAML: a tab where only spaces may indent"],
    "name: a: b": [
        'clinic.toml:1: not valid YAML: a second ":" in one line; put text that holds ": " in quotes'
    ],
    "name: 'a\nsteps: []": ["clinic.toml:2: not valid YAML: found unexpected end of stream"],
    "steps: []\n---\nsteps: []": [
        "clinic.toml:2: not valid YAML: a second document (---); only one is allowed"
    ],
    "name: a\x01": ["clinic.toml:1: holds a control character"],
    'name: "\\ud800"': ["clinic.toml:1: an escape that is no character"],
    '"\\ud800": x': ["clinic.toml:1: an escape that is no character"],
    "- a": ["clinic.toml:1: expected keys and values, not a list"],
    "hello": ["clinic.toml:1: expected keys and values, not a single value"],
    "# nothing": ["clinic.toml: the file is empty"],
    "{a: " * 40 + "}" * 40: ["clinic.toml:1: nested too deeply"],
    "[" * 50_000: ["clinic.toml: nested too deeply"],
    "- " * 50_000: ["clinic.toml: nested too deeply"],
    "name: @x": ["clinic.toml:1: not valid YAML: found character '@' that cannot start any token"],
}


@pytest.mark.parametrize(("text", "expected"), YAML.items())
def test_yaml(text: str, expected: list[str]) -> None:
    assert problems(parse_yaml, text, Scenario) == expected


def test_yaml_means_what_it_says() -> None:
    """By YAML 1.1 these would be False, 630 and 83; people who write what callers say mean text."""
    says = "- say: 10:30\n- say: yes\n- say: 2026-11-22\n"
    text = f"name: no\nsteps:\n{says}- wait: 1.5\n- wait: 2\n- wait: reply\n"
    scenario = parse_yaml(text, Scenario)
    assert scenario.name == "no"
    assert [getattr(step, "say", None) for step in scenario.steps[:3]] == ["10:30", "yes", "2026-11-22"]
    assert [getattr(step, "wait", None) for step in scenario.steps[3:]] == [1.5, 2.0, "reply"]


class Values(Strict):
    values: list[Any]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("12", 12),
        ("-3", -3),
        ("0123", 123),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.2.3", "1.2.3"),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("12 rooms", "12 rooms"),
    ],
)
def test_yaml_scalars(written: str, read: object) -> None:
    assert parse_yaml(f"values: [{written}]", Values).values == [read]


def test_a_good_document() -> None:
    text = (
        'greeting = "hi"\nfacts = ["a", "b"]\n[voice]\nspeed = 1\n[[examples]]\ncaller = "a"\nagent = "b"\n'
    )
    clinic = parse_toml(text, Clinic)
    assert clinic.facts == ("a", "b")
    assert clinic.voice.speed == 1.0
    assert clinic.examples == (Example(caller="a", agent="b"),)


def test_the_error_carries_its_parts() -> None:
    with pytest.raises(DocumentError) as raised:
        parse_toml("beds = 1.5\ngreting = 1", Clinic, path=Path("a/clinic.toml"))
    error = raised.value
    assert (error.path, error.line) == (Path("a/clinic.toml"), 1)
    assert error.message == '"beds" should be a whole number, not 1.5'
    assert [problem.line for problem in error.problems] == [1, 2]


def test_many_problems_are_counted() -> None:
    text = "\n".join(f"k{number} = 1" for number in range(40))
    lines = problems(parse_toml, text, Clinic)
    assert len(lines) == 11
    assert lines[-1] == "clinic.toml: and 31 more problems"


# Files


def failure(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DocumentError) as raised:
        read_toml(path, Clinic)
    with pytest.raises(DocumentError) as again:
        read_yaml(path, Clinic)
    assert str(raised.value) == str(again.value)
    return str(raised.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    assert failure(path) == f"{path}: no such file"
    assert failure(path, b"") == f"{path}: the file is empty"
    assert failure(path, b" \n\t\n") == f"{path}: the file is empty"
    assert failure(path, b"#" * (MAX_BYTES + 1)) == f"{path}: is larger than 256 KiB"
    assert failure(path, b"a = 1\nb = '\xe9'\n") == f"{path}:2: byte 0xe9 is not UTF-8"
    assert failure(path, 'a = "b"'.encode("utf-16")) == f"{path}:1: is UTF-16; save it as UTF-8"
    assert failure(tmp_path) == f"{tmp_path}: is a folder, not a file"
    assert failure(tmp_path / "clinc.toml").endswith('no such file (did you mean "clinic.toml"?)')
    assert "cannot be read" in failure(tmp_path / ("x" * 5_000))
    assert "cannot be read" in failure(Path("a\0b"))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert failure(fifo) == f"{fifo}: is not a regular file"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clinic.toml"
    path.write_text("a = 1")

    def refuse(*_: object) -> None:  # root, who runs tests in containers, may read every file
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert failure(path) == f"{path}: cannot be read: Permission denied"


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "clinic.toml"
    path.write_bytes(b'\xef\xbb\xbfgreeting = """a\r\nb"""\r\nbeds = 1\r\n')
    assert read_toml(path, Clinic).beds == 1
    path.write_bytes(b'greeting = """a\r\nb"""\r\nbeds = "x"\r\n')
    with pytest.raises(DocumentError, match=r":3: "):
        read_toml(path, Clinic)
    path.write_bytes(b"\xef\xbb\xbfgreeting: hi\r\nbeds: x\r\n")
    with pytest.raises(DocumentError, match=r":2: "):
        read_yaml(path, Clinic)


@given(st.one_of(st.text(), st.text(alphabet="ab=[]{}\"'.,#\n\\ 1")))
def test_no_text_raises_anything_else(text: str) -> None:
    for parse, model in ((parse_toml, Clinic), (parse_yaml, Scenario)):
        try:
            parse(text, model)
        except DocumentError as error:
            assert str(error)


def test_importable_with_core_dependencies_only() -> None:
    code = "import sys, pipeline.documents; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "faster_whisper", "llama_cpp", "hibari"}.intersection(loaded.split())


# Lines of TOML keys

keys = st.text(alphabet="abZ_-9 .\"'é#", min_size=1, max_size=4)
scalars = st.one_of(
    st.integers(-(10**6), 10**6),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab\"'\n\\#[]{}=,. é", max_size=8),
    st.dates(),
    st.datetimes(),
    st.times(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(keys, values, max_size=4)


class Writer:
    """Writes data as TOML in a style drawn at random, and notes the line of every key path."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.lines: list[str] = []
        self.expected: dict[tuple[str | int, ...], int] = {}

    @property
    def line(self) -> int:
        return len(self.lines) + 1

    def key(self, key: str) -> str:
        if key.replace("_", "").replace("-", "").isalnum() and key.isascii():
            return key
        return json.dumps(key) if "'" in key or self.draw(st.booleans()) else f"'{key}'"

    def filler(self) -> str:
        return self.draw(st.sampled_from(["", "\n", "  # [x] = 'y'\n", '\n\n# """\n']))

    def value(self, value: object, path: tuple[str | int, ...], line: int) -> tuple[str, int]:
        """The text, and the line it ends on."""
        self.expected[path] = line
        if isinstance(value, list):
            text = "["
            for index, element in enumerate(value):
                lead = self.filler()
                line += lead.count("\n")
                written, line = self.value(element, (*path, index), line)
                tail = self.filler()
                line += tail.count("\n")
                text += lead + written + tail + ","
            return text + "]", line
        if isinstance(value, dict):
            parts = []
            for key, element in value.items():
                written, line = self.value(element, (*path, key), line)
                parts.append(f"{self.key(key)} = {written}")
            return "{" + ", ".join(parts) + "}", line
        if isinstance(value, str):
            return self.text(value, line)
        if isinstance(value, bool):
            return str(value).lower(), line
        if isinstance(value, (int, float)):
            return repr(value), line
        return value.isoformat(), line  # type: ignore[attr-defined]

    def text(self, value: str, line: int) -> tuple[str, int]:
        quoted = json.dumps(value)
        if not self.draw(st.booleans()):
            return quoted, line
        if "'''" not in value and not value.endswith("'") and "\r" not in value:
            return f"'''\n{value}'''", line + 1 + value.count("\n")
        escaped = quoted[1:-1].replace("\\n", "\n")
        return f'"""{escaped}"""', line + escaped.count("\n")

    def pairs(self, table: dict[str, Any], path: tuple[str | int, ...], prefix: str = "") -> None:
        for key, value in table.items():
            inner = (*path, key)
            if isinstance(value, dict) and value and self.draw(st.booleans()):
                self.expected[inner] = self.line
                self.pairs(value, inner, f"{prefix}{self.key(key)} . ")
                continue
            written, _ = self.value(value, inner, self.line)
            self.lines += f"{prefix}{self.key(key)} = {written}".split("\n")
            self.lines += [""] * self.draw(st.integers(0, 1))

    def document(self, root: dict[str, Any], children: dict[str, Any]) -> str:
        self.expected[()] = 1
        self.pairs(root, ())
        for key, value in children.items():
            elements = value if isinstance(value, list) else [value]
            for index, table in enumerate(elements):
                inner = (key, index) if isinstance(value, list) else (key,)
                self.expected.setdefault((key,), self.line)
                self.expected[inner] = self.line
                brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
                self.lines.append(f"{brackets[0]} {self.key(key)} {brackets[1]} # x")
                plain = dict(list(table.items())[:1])
                rest = dict(list(table.items())[1:])
                self.pairs(plain, inner)
                for name, element in rest.items():
                    if isinstance(element, dict):
                        self.expected[(*inner, name)] = self.line
                        self.lines.append(f"[{self.key(key)}.{self.key(name)}]")
                        self.pairs(element, (*inner, name))
        return "\n".join(self.lines) + "\n"


@given(
    root=tables,
    children=st.dictionaries(keys, st.one_of(tables, st.lists(tables, min_size=1, max_size=3)), max_size=3),
    data=st.data(),
)
def test_every_key_of_a_document_is_found_on_its_line(
    root: dict[str, Any], children: dict[str, Any], data: st.DataObject
) -> None:
    root = {key: value for key, value in root.items() if key not in children}
    writer = Writer(data)
    text = writer.document(root, children)
    tomllib.loads(text)
    assert toml_lines(text) == writer.expected


@given(st.text(alphabet="ab=[]{}\"'.,#\n\\ 1-"))
def test_what_tomllib_takes_the_scanner_takes(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with contextlib.suppress(ScanFailed, DuplicateKey):
            toml_lines(text)
        return
    assert set(paths(data)) <= set(toml_lines(text))


def paths(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path]
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        found += paths(value, (*path, key))
    return found


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a = 1\na.b = 2", 2, "a.b"),
        ("[a]\nb = 1\n[a.b]", 3, "a.b"),
        ("[[a]]\n[a]", 2, "a"),
        ("a = []\n[[a]]", 2, "a"),
        ("\"a\" = 1\n'a' = 2", 2, "a"),
    ],
)
def test_duplicates_that_tomllib_does_not_name(text: str, line: int, key: str) -> None:
    """Where the scanner sees the double it names it; else tomllib's own words and line stand."""
    with pytest.raises(DocumentError) as raised:
        parse_toml(text, Clinic)
    assert raised.value.line == line
