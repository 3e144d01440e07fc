from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from models.catalogue import Entry, HubSource, Kind, ModelFile
from models.fetching import NotEnoughDisk, Progress, PullFailed
from models.store import Store
from tests.models import store_kit as kit

REPOSITORY = "somebody/model"
WEIGHTS, CONFIG = kit.pattern(300_000, 7), b'{"hub": true}'


def entry(*, pinned: bool = True, revision: str = "main", files: tuple[str, ...] = ()) -> Entry:
    contents = {"model.gguf": WEIGHTS, "config.json": CONFIG}
    kind: Kind = "llm"
    return Entry(
        name="hubby",
        kind=kind,
        title="hubby",
        files=tuple(
            ModelFile(
                name, len(contents[name]) if pinned else None, kit.sha256(contents[name]) if pinned else None
            )
            for name in files or ("model.gguf", "config.json")
        ),
        licence=kit.OPEN_LICENCE,
        memory_bytes=1,
        main_file="model.gguf",
        hub=HubSource(REPOSITORY, revision),
    )


def store_of(tmp_path: Path, model: Entry) -> Store:
    return Store(tmp_path / "models", catalogue={"hubby": model})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_of(tmp_path, entry())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[kit.Hub]:
    """A hub on this machine that the real client talks to; retries do not wait."""
    files = {"model.gguf": kit.HubFile(WEIGHTS), "config.json": kit.HubFile(CONFIG, lfs=False)}
    with kit.serving(kit.Hub(REPOSITORY, files)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
        yield hub


class TestPull:
    def test_fetches_large_and_small_files(self, store: Store, hub: kit.Hub) -> None:
        reports: list[Progress] = []
        path = store.pull("hubby", reports.append)
        assert path == store.root / "hubby" / "model.gguf"
        assert path.read_bytes() == WEIGHTS
        assert (path.parent / "config.json").read_bytes() == CONFIG
        assert reports[-1].done_bytes == reports[-1].total_bytes == len(WEIGHTS) + len(CONFIG)
        assert not list(store.root.rglob("*.incomplete"))
        assert hub.gets() == [None]

    def test_the_token_goes_to_the_hub(self, store: Store, hub: kit.Hub) -> None:
        store.pull("hubby")
        assert "Bearer hf_secret" in hub.tokens

    def test_again_asks_nothing(self, store: Store, hub: kit.Hub) -> None:
        store.pull("hubby")
        hub.requests.clear()
        store.pull("hubby")
        assert hub.requests == []

    def test_the_revision_is_asked_for(self, tmp_path: Path, hub: kit.Hub) -> None:
        store_of(tmp_path, entry(revision="abc123")).pull("hubby")
        assert all("/resolve/abc123/" in path or path.startswith("/cdn/") for _, path, _ in hub.requests)

    def test_a_mirror_replaces_only_what_is_damaged(self, store: Store, hub: kit.Hub) -> None:
        path = store.pull("hubby")
        (path.parent / "config.json").write_bytes(b"{}")
        hub.requests.clear()
        store.pull("hubby")
        assert hub.gets() == []
        assert store.verify("hubby").state == "installed"


class TestUnknownBeforehand:
    """Sizes and hashes come from the hub."""

    def test_checked_against_the_hubs_own_word(self, tmp_path: Path, hub: kit.Hub) -> None:
        store = store_of(tmp_path, entry(pinned=False))
        reports: list[Progress] = []
        path = store.pull("hubby", reports.append)
        assert reports[-1].total_bytes == reports[-1].done_bytes == len(WEIGHTS) + len(CONFIG)
        path.write_bytes(b"x" + WEIGHTS[1:])
        assert store.verify("hubby").state == "damaged"

    @pytest.mark.parametrize("name", ["model.gguf", "config.json"])
    def test_other_content_than_announced_is_refused(self, tmp_path: Path, hub: kit.Hub, name: str) -> None:
        file = hub.files[name]
        file.wrong_content = b"x" + file.content[1:]
        store = store_of(tmp_path, entry(pinned=False))
        with pytest.raises(PullFailed, match=f"{name} of hubby arrived with checksum"):
            store.pull("hubby")
        assert store.state("hubby").state == "missing"
        file.wrong_content = None
        assert store.pull("hubby").read_bytes() == WEIGHTS


class TestResume:
    def test_a_cut_connection_is_resumed_at_once(self, store: Store, hub: kit.Hub) -> None:
        hub.files["model.gguf"].cut_after = [100_000, 50_000]
        assert store.pull("hubby").read_bytes() == WEIGHTS
        assert hub.gets() == [None, "bytes=100000-", "bytes=150000-"]

    def test_a_later_pull_goes_on(self, store: Store, hub: kit.Hub) -> None:
        hub.files["model.gguf"].cut_after = [120_000] + [0] * 20
        with pytest.raises(PullFailed, match=r"model\.gguf.*maya models pull hubby.*goes on"):
            store.pull("hubby")
        hub.files["model.gguf"].cut_after = []
        hub.requests.clear()
        reports: list[Progress] = []
        assert store.pull("hubby", reports.append).read_bytes() == WEIGHTS
        assert hub.gets() == ["bytes=120000-"]
        assert reports[0].done_bytes == 120_000

    def test_a_server_that_ignores_ranges_starts_over(self, store: Store, hub: kit.Hub) -> None:
        hub.files["model.gguf"].cut_after = [120_000]
        hub.files["model.gguf"].ignore_range = True
        assert store.pull("hubby").read_bytes() == WEIGHTS

    def test_a_partial_file_of_other_content_is_dropped(self, store: Store, hub: kit.Hub) -> None:
        staging = store.root / ".staging" / "hubby"
        staging.mkdir(parents=True)
        (staging / "model.gguf.0123456789abcdef.incomplete").write_bytes(b"old")
        assert store.pull("hubby").read_bytes() == WEIGHTS
        assert hub.gets() == [None]

    def test_a_partial_file_with_damage_is_noticed(self, store: Store, hub: kit.Hub) -> None:
        staging = store.root / ".staging" / "hubby"
        staging.mkdir(parents=True)
        (staging / f"model.gguf.{kit.sha256(WEIGHTS)[:16]}.incomplete").write_bytes(b"x" * 1000)
        with pytest.raises(PullFailed, match="arrived with checksum"):
            store.pull("hubby")
        assert store.pull("hubby").read_bytes() == WEIGHTS


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (403, "GatedRepo", r"somebody/model is gated\. Ask for access.*HF_TOKEN"),
            (401, "GatedRepo", r"is gated"),
            (404, "RepoNotFound", r"no somebody/model, or it is private \(HF_TOKEN\)"),
            (404, "EntryNotFound", r"no model\.gguf of somebody/model at revision main"),
            (404, "RevisionNotFound", r"at revision main"),
            (403, "", r"refused model\.gguf.*\(403\): check HF_TOKEN"),
            (500, "", r"answered 500.*Wait a little"),
            (503, "", r"answered 503"),
        ],
    )
    def test_each_answer_has_its_sentence(
        self, store: Store, hub: kit.Hub, status: int, code: str, words: str
    ) -> None:
        hub.files["model.gguf"].error = (status, code)
        with pytest.raises(PullFailed, match=words) as caught:
            store.pull("hubby")
        assert "\n" not in str(caught.value)
        assert "hf_secret" not in str(caught.value)

    def test_nobody_listens(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(PullFailed, match=r"could not be reached.*Check the network"):
            store.pull("hubby")

    def test_something_that_is_no_hub(self, store: Store, hub: kit.Hub) -> None:
        hub.commit = ""
        with pytest.raises(PullFailed, match="names no hub"):
            store.pull("hubby")

    def test_another_file_than_the_pinned_one_is_not_even_fetched(self, store: Store, hub: kit.Hub) -> None:
        hub.files["model.gguf"].content = kit.pattern(300_000, 8)
        with pytest.raises(PullFailed, match=r"another model\.gguf of hubby than the catalogue pins"):
            store.pull("hubby")
        assert hub.gets() == []

    def test_no_room(self, store: Store, hub: kit.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "models.fetching.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})
        )
        with pytest.raises(NotEnoughDisk, match="hubby needs"):
            store.pull("hubby")
        assert hub.gets() == []

    def test_wheels_do_not_hold_it(self, store: Store, hub: kit.Hub) -> None:
        with pytest.raises(PullFailed, match="No wheels hold hubby"):
            store.pull("hubby", source="wheels")
