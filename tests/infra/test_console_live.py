"""What the page shows of calls that are on."""

import json
from typing import Any

import pytest

from infra.console.live import ENDED_KEPT_S, LiveBoard
from infra.records.pauses import NOT_RECORDED
from infra.records.policy import RecordingPolicy
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallEvent,
    CallStarted,
    Fault,
    KeyReceived,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo, Pcm
from tests.infra.call_files import speech

INFO = LineInfo("CA1", "twilio", "+4930111", "+4930222")
TIMES = TurnTimes(
    1,
    speech_end_s=5.0,
    audible_end_s=5.0,
    transcribe_started_s=5.1,
    transcribed_s=5.3,
    committed_s=5.5,
    first_token_s=5.4,
    first_clause_s=5.5,
    first_audio_s=5.6,
    first_played_s=5.7,
    first_audible_s=5.75,
)


class Board(LiveBoard):
    def __init__(self, policy: RecordingPolicy | None = None) -> None:
        self.now_s = 1_000.0
        self.changes = 0
        super().__init__(policy or RecordingPolicy(), wall=lambda: self.now_s, on_change=self.changed)

    def changed(self) -> None:
        self.changes += 1

    def begin(self, info: LineInfo = INFO) -> Any:
        observer = self.watch(info)
        observer.observe(CallStarted(0.0, info, "Clinic"))
        return observer

    def told(self, seen: int = -1, call_id: str = "CA1") -> Any:
        return json.loads(self.message(seen, call_id, {}))

    def row(self) -> Any:
        (row,) = self.told()["calls"]
        return row

    def said(self) -> list[tuple[str, str]]:
        entries = self.told()["call"]["entries"]
        return [(one["who"], one["text"]) for one in entries if not one.get("dropped")]


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "listening"),
        ([CallerSpeaks(1.0)], "caller"),
        ([CallerSpeaks(1.0), CallerSpoke(1.0, 2.0)], "thinking"),
        ([CallerSpeaks(1.0), CallerSpoke(1.0, 2.0), CallerTurn(2.5, 1, "Hi.")], "thinking"),
        ([CallerTurn(2.5, 1, "Hi."), AgentClause(3.0, 1, "Hello.")], "agent"),
        ([AgentClause(3.0, 1, "Hello."), CallerSpeaks(3.2)], "both"),
        ([AgentClause(3.0, 1, "Hello."), CallerSpeaks(3.2), CallerSpoke(3.2, 3.4)], "agent"),
        (
            [
                AgentClause(3.0, 1, "Hello."),
                CallerSpeaks(3.2),
                AgentTurn(3.5, 1, "Hello.", "", True, TIMES),
            ],
            "caller",
        ),
        ([AgentClause(3.0, 1, "Hello."), AgentTurn(3.5, 1, "Hello.", "Hello.", False, TIMES)], "listening"),
        ([CallEnded(4.0, "caller hung up", "completed")], "ended"),
    ],
)
def test_who_speaks(events: list[CallEvent], state: str) -> None:
    board = Board()
    observer = board.begin()
    for event in events:
        observer.observe(event)
    assert board.row()["state"] == state


def test_words_show_while_they_are_spoken_and_become_the_turn() -> None:
    board = Board()
    observer = board.begin()
    observer.observe(CallerSpeaks(1.0))
    assert board.said() == []
    observer.observe(CallerSpeaks(2.0, "are you open"))
    observer.observe(CallerSpeaks(3.0, "are you open on Saturday and"))
    (entry,) = board.told()["call"]["entries"]
    assert (entry["text"], entry["partial"]) == ("are you open on Saturday and", True)
    seen = board.revision
    observer.observe(CallerTurn(4.0, 1, "Are you open on Saturday and Sunday?"))
    (entry,) = board.told(seen)["call"]["entries"]
    assert (entry["number"], entry["text"], entry.get("partial")) == (
        0,
        "Are you open on Saturday and Sunday?",
        None,
    )
    observer.observe(AgentClause(5.6, 1, "On Saturday,"))
    observer.observe(AgentClause(6.0, 1, "from nine to noon."))
    observer.observe(AgentTurn(6.2, 1, "On Saturday, from nine to noon.", "On Saturday,", True, TIMES))
    (_, answer) = board.told()["call"]["entries"]
    assert (answer["text"], answer["lost"], answer["interrupted"]) == (
        "On Saturday,",
        "from nine to noon.",
        True,
    )
    assert answer["latency_ms"] == board.row()["latency_ms"] == pytest.approx(750.0)
    assert board.row()["turns"] == 1


def test_a_turn_that_goes_on_takes_its_unheard_answer_back() -> None:
    board = Board()
    observer = board.begin()
    observer.observe(CallerTurn(2.0, 1, "I would like"))
    observer.observe(AgentClause(2.5, 1, "Yes?"))
    observer.observe(CallerSpeaks(2.6, "I would like to"))
    seen = board.revision
    observer.observe(CallerTurn(4.0, 1, "I would like to book."))
    assert board.said() == [("caller", "I would like to book.")]
    assert {e["number"] for e in board.told(seen)["call"]["entries"] if e.get("dropped")} == {1, 2}
    observer.observe(AgentClause(4.5, 1, "Gladly."))
    assert board.said() == [("caller", "I would like to book."), ("agent", "Gladly.")]


def test_beside_speech() -> None:
    board = Board()
    observer = board.begin()
    for digit in "12#":
        observer.observe(KeyReceived(1.0, digit))
    observer.observe(ToolRan(2.0, 1, "free_slots", {"day": "Monday"}, "done", 0.25, "9:00"))
    observer.observe(Fault(3.0, "transcriber", "RuntimeError: /etc/secret"))
    assert board.said() == [
        ("keys", "12#"),
        ("tool", "free_slots(day = Monday): done after 0.2 s"),
        ("note", "Fault: transcriber"),
    ]
    assert board.row()["faults"] == 1


def test_what_must_not_be_recorded_is_not_shown() -> None:
    board = Board(RecordingPolicy())
    observer = board.begin()
    observer.observe(RecordingPaused(10.0, "card number"))
    observer.observe(CallerSpeaks(11.0, "four one one one"))
    assert board.row()["paused"]
    assert board.said() == [("note", "Recording paused"), ("caller", NOT_RECORDED)]
    observer.observe(CallerSpoke(10.5, 12.0))
    observer.observe(RecordingResumed(12.5))
    observer.observe(CallerSpeaks(12.6, "four one one one and"))
    observer.observe(CallerTurn(13.0, 1, "four one one one and that is it"))
    observer.observe(KeyReceived(14.0, "7"))
    assert "four" not in json.dumps(board.told())
    assert board.said()[-1] == ("keys", "7")


def test_sound_costs_no_message() -> None:
    board = Board()
    observer = board.begin()
    before = board.changes, board.revision
    pcm: Pcm = speech(0.02, 1)
    for n in range(100):
        observer.observe(CallerAudio(160 * n, pcm))
        observer.observe(AgentAudio(160 * n, pcm))
    assert (board.changes, board.revision) == before


def test_a_viewer_is_told_only_what_is_new() -> None:
    board = Board()
    first = board.begin()
    board.begin(LineInfo("CA2", "sip", "alice", "maya"))
    everything = board.told()
    assert everything["reset"]
    assert [row["id"] for row in everything["calls"]] == ["CA1", "CA2"]
    seen = board.revision
    assert board.told(seen)["calls"] == board.told(seen)["call"]["entries"] == []
    first.observe(CallerSpeaks(1.0, "hello there"))
    news = board.told(seen)
    assert not news["reset"]
    assert [row["id"] for row in news["calls"]] == ["CA1"]
    assert [entry["text"] for entry in news["call"]["entries"]] == ["hello there"]
    assert board.told(seen, "CA2")["call"]["entries"] == []
    assert not board.told(seen, "CA3")["call"]["known"]


def test_a_call_that_is_over_stays_for_a_moment() -> None:
    board = Board()
    board.begin().observe(CallEnded(3.0, "caller hung up", "completed"))
    assert board.live == 0
    assert board.row()["reason"] == "caller hung up"
    board.now_s += ENDED_KEPT_S + 1
    board.forget_ended()
    assert board.calls == {}


def test_a_clock_that_is_set_back_keeps_no_call_that_is_over() -> None:
    board = Board()
    board.begin().observe(CallEnded(3.0, "caller hung up", "completed"))
    board.now_s -= 3600
    board.forget_ended()
    assert board.calls == {}


def test_a_call_is_forgotten_even_if_nobody_ever_looks() -> None:
    board = Board()
    for n in range(100):
        board.begin(LineInfo(f"CA{n}", "twilio")).observe(CallEnded(3.0, "goodbye", "completed"))
        board.now_s += 1.0
    assert len(board.calls) <= ENDED_KEPT_S + 2


def test_long_calls_and_long_words_are_cut() -> None:
    board = Board()
    observer = board.begin(LineInfo("CA1", "sip", "9" * 10_000, "x"))
    for turn in range(1, 1_000):
        observer.observe(CallerTurn(float(turn), turn, "word " * 10_000))
        observer.observe(AgentTurn(turn + 0.5, turn, "word " * 10_000, "", True, TurnTimes(turn)))
    text = board.message(-1, "CA1", {})
    assert len(text) < 400 * 10_000
    assert len(board.row()["caller"]) == 200


def test_hostile_words_stay_words() -> None:
    hostile = '</script><img src=x onerror=alert(1)>\u2028\r\n\ndata: {"x": 1}\0\ud800'
    board = Board()
    observer = board.watch(LineInfo("CA1", "sip", hostile, hostile))
    observer.observe(CallStarted(0.0, INFO, hostile))
    observer.observe(CallerTurn(1.0, 1, hostile))
    text = board.message(-1, "CA1", {})
    assert "\n" not in text
    assert "\r" not in text
    assert json.loads(text)["call"]["entries"][0]["text"] == hostile
