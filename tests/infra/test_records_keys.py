import base64
import logging
from pathlib import Path

import pytest

from infra.records.keys import KeyRing, RecordingKeyError, new_key
from tests.infra.records_kit import KEY, OLD_KEY, as_text


def test_a_new_key_is_good_and_new() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert len(base64.b64decode(first)) == 32
    assert KeyRing.load({"MAYA_RECORDINGS_KEY": first}).writing.secret == base64.b64decode(first)


def test_the_first_key_locks_and_all_unlock() -> None:
    ring = KeyRing.load({"MAYA_RECORDINGS_KEY": f"{as_text(KEY)}, {as_text(OLD_KEY)}"})
    assert ring.writing == KEY
    assert ring.find(OLD_KEY.id) == OLD_KEY
    assert len(KEY.id) == 8
    assert KEY.id != OLD_KEY.id


def test_keys_of_a_file_come_behind_those_of_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# since March\n{as_text(OLD_KEY)}  # the old one\n\n")
    path.chmod(0o600)
    for environ, named in (
        ({"MAYA_RECORDING_KEY_FILE": str(path)}, None),
        ({"MAYA_RECORDING_KEY_FILE": "elsewhere"}, path),
    ):
        assert KeyRing.load(environ, named).writing == OLD_KEY
    both = KeyRing.load({"MAYA_RECORDINGS_KEY": as_text(KEY)}, path)
    assert (both.writing, len(both)) == (KEY, 2)


def test_url_safe_base64_is_the_same_key() -> None:
    secret = b"\xfb\xff" * 16
    for text in (base64.b64encode(secret), base64.urlsafe_b64encode(secret)):
        assert KeyRing.load({"MAYA_RECORDINGS_KEY": text.decode()}).writing.secret == secret


@pytest.mark.parametrize("text", ["hunter2", as_text(KEY)[:-4], as_text(KEY) + "AAAA", "ä" * 44])
def test_a_malformed_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(RecordingKeyError, match="key 2: not 32 bytes in base64") as refused:
        KeyRing.load({"MAYA_RECORDINGS_KEY": f"{as_text(KEY)},{text}"})
    assert text not in str(refused.value)


def test_without_a_key_one_is_told_how_to_make_one() -> None:
    with pytest.raises(RecordingKeyError, match="maya recordings key"):
        KeyRing.load({}).writing  # noqa: B018


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingKeyError, match=r"nowhere.*MAYA_RECORDING_KEY_FILE"):
        KeyRing.load({}, tmp_path / "nowhere")
    (tmp_path / "keys").write_text(f"{as_text(KEY)}\nnonsense\n")
    with pytest.raises(RecordingKeyError, match="keys, line 2"):
        KeyRing.load({}, tmp_path / "keys")


def test_a_key_file_that_others_read_is_remarked_upon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(as_text(KEY))
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        KeyRing.load({}, path)
    assert "chmod 600" in caplog.text
    assert as_text(KEY) not in caplog.text
