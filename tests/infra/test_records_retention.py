"""Old calls go; young ones, live ones and whatever is not ours stay."""

import logging
import os
import threading
from pathlib import Path

import pytest

from infra.daily import DAY_S
from infra.records.folder import FolderLock
from infra.records.retention import Pruned, prune, prune_daily

NOW = 2_000_000_000.0


def a_call(root: Path, name: str, days_old: float, *extra: str, files: tuple[str, ...] = ()) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for file in (*(files or ("recording.wav", "transcript.json", "events.jsonl")), *extra):
        (folder / file).write_bytes(b"x" * 100)
        written = NOW - days_old * DAY_S
        os.utime(folder / file, (written, written))
    return folder


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_calls_older_than_allowed_are_deleted(tmp_path: Path) -> None:
    sealed = ("recording.sealed", "transcript.sealed", "events.sealed")
    a_call(tmp_path, "old", 31, "timeline.png", "transcript.json.part")
    a_call(tmp_path, "old-and-encrypted", 400, files=sealed)
    a_call(tmp_path, "just-in-time", 29.99)
    a_call(tmp_path, "new", 0)
    done = prune(tmp_path, 30, NOW)
    assert names(tmp_path) == {"just-in-time", "new"}
    assert done == Pruned((tmp_path / "old", tmp_path / "old-and-encrypted"), 800, {})
    assert prune(tmp_path, 30, NOW) == Pruned()


def test_a_dry_run_tells_the_same_and_deletes_nothing(tmp_path: Path) -> None:
    a_call(tmp_path, "old", 31)
    before = names(tmp_path / "old")
    assert prune(tmp_path, 30, NOW, dry_run=True) == Pruned((tmp_path / "old",), 300, {})
    assert names(tmp_path / "old") == before


def test_the_last_word_counts_and_not_a_picture_made_since(tmp_path: Path) -> None:
    young = a_call(tmp_path, "goes-on", 31)
    os.utime(young / "events.jsonl", (NOW, NOW))
    drawn = a_call(tmp_path, "drawn-today", 31, "timeline.png")
    os.utime(drawn / "timeline.png", (NOW, NOW))
    prune(tmp_path, 30, NOW)
    assert names(tmp_path) == {"goes-on"}


def test_a_live_call_stays_however_old_it_looks(tmp_path: Path) -> None:
    live = a_call(tmp_path, "live", 31)
    with FolderLock(live):
        assert prune(tmp_path, 30, NOW) == Pruned()
        assert len(names(live)) == 3
    assert prune(tmp_path, 30, NOW).deleted == (live,)


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "calls"
    notes = a_call(root, "with-notes", 31, "my-notes.txt")
    a_call(root, "not-a-call", 31, files=("letter.txt",))
    a_call(root, "picture-only", 31, files=("timeline.png",))
    (root / "demo-server.log").write_text("a log")
    os.utime(root / "demo-server.log", (0, 0))
    done = prune(root, 30, NOW)
    assert names(root) == {"with-notes", "not-a-call", "picture-only", "demo-server.log"}
    assert names(notes) == {"my-notes.txt"}, "the recording itself goes"
    assert done.deleted == ()
    assert done.kept == {notes: "not all of it is ours: my-notes.txt"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "calls", tmp_path / "elsewhere"
    outside = a_call(elsewhere, "CA1", 31)
    root.mkdir()
    (root / "link-to-a-folder").symlink_to(outside)
    call = a_call(root, "CA2", 31, files=("events.jsonl",))
    (call / "recording.wav").symlink_to(outside / "recording.wav")
    (call / "transcript.json").mkdir()
    prune(root, 30, NOW)
    assert len(names(outside)) == 3
    assert names(root) == {"link-to-a-folder", "CA2"}
    assert names(call) == {"recording.wav", "transcript.json"}


def test_a_folder_that_cannot_be_deleted_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_call(tmp_path, "a", 31)
    a_call(tmp_path, "b", 31)
    unlink = os.unlink

    def stubborn(name: str, *, dir_fd: int) -> None:
        if Path(f"/proc/self/fd/{dir_fd}").readlink().name == "a":
            raise PermissionError(13, "Permission denied", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr("infra.records.retention.os.unlink", stubborn)
    done = prune(tmp_path, 30, NOW)
    assert done.deleted == (tmp_path / "b",)
    assert "Permission denied" in done.kept[tmp_path / "a"]


def test_no_folder_of_calls_yet_is_nothing_to_delete(tmp_path: Path) -> None:
    assert prune(tmp_path / "calls", 30, NOW) == Pruned()


def test_a_server_prunes_at_its_start_and_every_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    days, waited = iter((NOW, NOW + DAY_S, NOW + 2 * DAY_S)), []
    over = threading.Event()

    class Days(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append((timeout, names(tmp_path)))
            if len(waited) == 3:
                over.set()
            return len(waited) == 3

    a_call(tmp_path, "first", 30.5)
    a_call(tmp_path, "second", 29.5)
    a_call(tmp_path, "third", 28.5)
    with caplog.at_level(logging.INFO, logger="infra.records.retention"):
        prune_daily(tmp_path, 30, clock=lambda: next(days), stopped=Days())
        assert over.wait(20)
    assert waited == [(DAY_S, {"second", "third"}), (DAY_S, {"third"}), (DAY_S, set())]
    assert "deleted 1 call(s) older than 30 days" in caplog.text
