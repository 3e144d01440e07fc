import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.access.keys import digest_of, parse_key
from infra.cli import app
from infra.settings import load_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MAYA_ACCESS_KEYS", "MAYA_ACCESS_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)


def made(*options: str) -> tuple[str, str]:
    """The key, and its line."""
    done = CliRunner().invoke(app, ["keys", "new", *options])
    assert done.exit_code == 0, done.output
    key = re.search(r"^  (maya_\S+)$", done.output, re.MULTILINE)
    line = re.search(r"^  (\S+:\S+:\S+:[0-9a-f]{64})$", done.output, re.MULTILINE)
    assert key is not None
    assert line is not None
    assert done.output.count(key[1]) == 1
    return key[1], line[1]


def test_a_key_and_the_line_that_lets_it_in(tmp_path: Path) -> None:
    key, line = made("--role", "viewer", "--name", "ann", "--days", "30")
    kept = parse_key(line)
    assert (kept.name, kept.role, kept.digest) == ("ann", "viewer", digest_of(key))
    assert kept.last_day is not None
    assert parse_key(made("--days", "0")[1]).last_day is None
    (tmp_path / "maya.toml").write_text(f'[access]\nkeys = ["{line}"]\n')
    assert load_settings({}).access.listed() == (kept,)
    assert load_settings({"MAYA_ACCESS_KEYS": f"{line},{made()[1]}"}).access.listed()[0] == kept


@pytest.mark.parametrize("options", [("--role", "boss"), ("--name", "a:b"), ("--name", "x" * 40)])
def test_what_cannot_be_is_said(options: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["keys", "new", *options])
    assert done.exit_code != 0
    assert "maya_" not in done.output


def test_the_list_shows_names_and_ends_and_no_hash_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = made("--name", "ann", "--days", "30")[1]
    old = f"bob:viewer:2020-01-01:{'ab' * 32}"
    (tmp_path / "keys").write_text(f"{line}\n{old}\n")
    monkeypatch.setenv("MAYA_ACCESS_KEYS_FILE", "keys")
    shown = CliRunner().invoke(app, ["keys", "list"]).output
    assert re.search(r"^ann +operator +30 days more", shown, re.MULTILINE)
    assert re.search(r"^bob +viewer +ended on 2020-01-01", shown, re.MULTILINE)
    assert "ab" * 32 not in shown
