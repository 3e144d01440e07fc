"""Past calls as the page asks for them, of a real store and real recordings."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.console.archive import PER_PAGE, Archive, Wanted
from infra.console.one_call import transcript_text
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.records.recorder import CallRecords
from infra.store.rows import CallQuery, CallRow
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from pipeline.events import (
    CallEnded,
    CallerTurn,
    CallStarted,
    Fault,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
)
from pipeline.line import LineInfo
from tests.infra.call_files import ANSWERED, ASKED, GREETING, constructed_call
from tests.infra.records_kit import KEY


@pytest.fixture(params=[False, True], ids=["readable", "sealed"])
def policy(request: pytest.FixtureRequest) -> RecordingPolicy:
    return RecordingPolicy(encrypt=request.param)


@pytest.fixture
def store(tmp_path: Path, policy: RecordingPolicy) -> Iterator[CallStore]:
    (tmp_path / "calls").mkdir()
    opened = CallStore.open(StoreSettings(), tmp_path / "calls", policy, KeyRing([KEY]))
    yield opened
    opened.close()


@pytest.fixture
def archive(tmp_path: Path, store: CallStore) -> Archive:
    return Archive(store, tmp_path / "calls", KeyRing([KEY]))


def short_call(store: CallStore, call_id: str, words: str = "", **told: Any) -> None:
    info = LineInfo(call_id, "sip", told.get("caller", "+4930111"), told.get("called", "+4930222"))
    observer = store.observer(info)
    observer.observe(CallStarted(0.0, info, told.get("persona", "clinic")))
    if words:
        observer.observe(CallerTurn(1.0, 1, words))
    if "fault" in told:
        observer.observe(Fault(1.5, "transcriber", "RuntimeError"))
    if told.get("ended", True):
        observer.observe(CallEnded(2.0, "caller hung up", told.get("outcome", "completed")))


def ids(archive: Archive, **wanted: Any) -> list[str]:
    return [call["id"] for call in archive.find(Wanted(**wanted))["calls"]]


def test_one_recorded_call(
    tmp_path: Path, store: CallStore, archive: Archive, policy: RecordingPolicy
) -> None:
    records = CallRecords(tmp_path / "calls", policy, KeyRing([KEY]), inline=True)
    folder = constructed_call(tmp_path / "calls", records=records, also=store.observer)
    assert store.flush()
    leg = archive.leg("CAconstructed")
    assert leg is not None
    assert leg.folder == folder
    page = leg.page
    assert page["call"]["outcome"] == "completed"
    said = [(one["who"], one["text"]) for one in page["entries"]]
    assert said[:3] == [("agent", GREETING), ("caller", ASKED[0]), ("agent", ANSWERED[0])]
    cut = page["entries"][4]
    assert cut["interrupted"]
    assert f"{cut['text']} {cut['lost']}" == ANSWERED[1]
    # Caller's words stand where the caller began to speak.
    assert page["entries"][1]["at_s"] == pytest.approx(4.5)
    assert page["entries"][2]["latency_ms"] == pytest.approx(1340.0)
    assert [bar[1] for bar in page["bars"] if bar[0] == 1] == [0, 1, 2, 3, 4, 5]
    assert len(page["gaps"]) == 4
    (played_until_s,) = (end_s for turn, stage, _, end_s in page["bars"] if (turn, stage) == (2, 5))
    assert page["cuts"] == [played_until_s]
    text = transcript_text(page)
    assert f"[0:04] Caller: {ASKED[0]}\n" in text
    assert "[not heard: " in text


def test_lists_and_filters(store: CallStore, archive: Archive) -> None:
    short_call(store, "one", caller="+4930333")
    assert store.flush()  # calls that are known at the same time come in any order
    short_call(store, "two", called="+4930444", persona="library", outcome="failed", fault=True)
    assert store.flush()
    short_call(store, "three", ended=False)
    assert store.flush()
    assert ids(archive) == ["three", "two", "one"]
    assert ids(archive, number="+49 30 333") == ["one"]
    assert ids(archive, number="+4930444") == ["two"]
    assert ids(archive, number="+4930111") == ["three", "two"]
    assert ids(archive, persona="library") == ["two"]
    assert ids(archive, outcome="failed") == ["two"]
    assert ids(archive, outcome="completed") == ["one"]
    assert ids(archive, outcome="live") == ["three"]
    assert ids(archive, outcome="unfinished") == []
    assert ids(archive, since=time.time() + 60) == []
    assert ids(archive, until=time.time() - 60) == []
    (found,) = archive.find(Wanted(outcome="failed"))["calls"]
    assert (found["faults"], found["way"], found["duration_s"]) == (1, "sip", 2.0)


def test_pages(store: CallStore, archive: Archive) -> None:
    for n in range(PER_PAGE + 20):
        short_call(store, f"call{n}", caller="+4930111" if n % 2 else "+4930999", called="+4930111")
    assert store.flush()
    for number in ("", "+4930111"):
        first = archive.find(Wanted(number=number))
        assert (len(first["calls"]), first["more"]) == (PER_PAGE, True)
        second = archive.find(Wanted(number=number, before=first["calls"][-1]["number"]))
        assert (len(second["calls"]), second["more"]) == (20, False)
        everything = [call["id"] for call in first["calls"] + second["calls"]]
        assert sorted(everything) == sorted(f"call{n}" for n in range(PER_PAGE + 20)), "each once"


class Counted:
    """How many calls the store hands out."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self.handed_out = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def calls(self, query: CallQuery) -> list[CallRow]:
        found = self._store.calls(query)
        self.handed_out += len(found)
        return found


def test_rare_outcomes_are_found_without_reading_all_others(tmp_path: Path, store: CallStore) -> None:
    rare = {0: "failed", 1: "failed", 2: "live"}
    for n in range(150):
        outcome = rare.get(n, "completed")
        short_call(store, f"call{n}", ended=outcome != "live", outcome=outcome)
        if n < len(rare):
            assert store.flush()
    assert store.flush()
    counted = Counted(store)
    archive = Archive(counted, tmp_path / "calls", KeyRing([KEY]))  # type: ignore[arg-type]
    assert ids(archive, outcome="failed") == ["call1", "call0"]
    assert ids(archive, outcome="live") == ["call2"]
    assert ids(archive, outcome="unfinished") == []
    assert counted.handed_out == 3
    pages, before = [], None
    while True:
        page = archive.find(Wanted(outcome="completed", before=before))
        pages.append(len(page["calls"]))
        if not page["more"]:
            break
        before = page["calls"][-1]["number"]
    assert pages == [PER_PAGE, PER_PAGE, 47]
    assert counted.handed_out == 3 + 51 + 51 + 47


def test_words_are_found_however_often_they_were_said_since(store: CallStore, archive: Archive) -> None:
    short_call(store, "rare", "a flu shot", persona="night")
    assert store.flush()
    for n in range(PER_PAGE + 5):
        info = LineInfo(f"call{n}", "sip", "+4930111", "+4930222")
        observer = store.observer(info)
        observer.observe(CallStarted(0.0, info, "clinic"))
        for turn in range(1, 11):
            observer.observe(CallerTurn(turn, turn, "flu"))
    assert store.flush()
    assert ids(archive, words="flu", persona="night") == ["rare"]
    first = archive.find(Wanted(words="flu"))
    assert (len(first["calls"]), first["more"]) == (PER_PAGE, True)
    rest = archive.find(Wanted(words="flu", before=first["calls"][-1]["number"]))
    assert (len(rest["calls"]), rest["more"]) == (6, False)


def test_search_in_words(store: CallStore, archive: Archive) -> None:
    short_call(store, "one", "I need a Flu shot please. " + "Really. " * 60, caller="+4930333")
    assert store.flush()
    short_call(store, "two", "A shot in the dark, with no flu", persona="library")
    short_call(store, "three", "Nothing of the kind")
    assert store.flush()
    assert ids(archive, words="FLU shot") == ["two", "one"]
    assert ids(archive, words="flu", persona="library") == ["two"]
    assert ids(archive, words="flu", number="+4930333") == ["one"]
    assert ids(archive, words="%") == []
    two, one = archive.find(Wanted(words="flu shot"))["calls"]
    assert one["hits"][0]["parts"][:2] == ["I need a ", "Flu shot"]
    assert one["hits"][0]["parts"][2].endswith(" …")
    assert two["hits"][0]["parts"][1] in ("flu", "shot")


def test_beside_speech(store: CallStore, archive: Archive) -> None:
    info = LineInfo("CA1", "twilio", "+4930111", "+4930222")
    observer = store.observer(info)
    for event in (
        CallStarted(0.0, info, "clinic"),
        ToolRan(1.0, 1, "free_slots", {"day": "Monday"}, "done", 0.5, "9:00"),
        RecordingPaused(2.0, "card"),
        RecordingResumed(4.0),
        MessageTaken(5.0, 2, "Ada", "+4930111", "Call me back."),
        Fault(6.0, "transcriber", "RuntimeError"),
        CallEnded(7.0, "goodbye", "completed"),
    ):
        observer.observe(event)
    assert store.flush()
    leg = archive.leg("CA1")
    assert leg is not None
    assert leg.folder is None
    assert leg.no_sound == "This call was not recorded."
    texts = [entry["text"] for entry in leg.page["entries"]]
    assert texts[:3] == [
        "free_slots(day = Monday): done after 0.5 s",
        "Recording paused",
        "Recording goes on",
    ]
    assert texts[3] == "Message from Ada (+4930111): Call me back."
    assert texts[4].startswith("Fault: transcriber")
    assert archive.leg("nobody") is None


def test_a_recording_elsewhere_is_not_read(tmp_path: Path, store: CallStore, archive: Archive) -> None:
    elsewhere = tmp_path / "elsewhere"
    constructed_call(elsewhere, also=store.observer)
    assert store.flush()
    leg = archive.leg("CAconstructed")
    assert leg is not None
    assert leg.folder is None
    assert "recording is not here" in leg.no_sound
    # The whole folder was moved here.
    (elsewhere / "CAconstructed").rename(tmp_path / "calls" / "CAconstructed")
    moved = archive.leg("CAconstructed")
    assert moved is not None
    assert moved.folder == (tmp_path / "calls" / "CAconstructed").resolve()


def test_charts(tmp_path: Path, store: CallStore, archive: Archive) -> None:
    short_call(store, "one", fault=True, outcome="failed")
    short_call(store, "two")
    assert store.flush()
    told = archive.charts(24, time.time())
    assert sum(bucket["calls"] for bucket in told["buckets"]) == 2
    assert sum(bucket["failed"] for bucket in told["buckets"]) == 1
    assert sum(bucket["faults"] for bucket in told["buckets"]) == 1
    assert (told["covers"]["calls"], told["covers"]["answers"]) == (2, 0)
