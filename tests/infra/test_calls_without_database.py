"""Whole calls through a real `maya serve` whose database or disk is away for a while: the caller is answered
all the time, and in the end every turn is in the database, once."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.small_disk import NoSmallDisk, fill, small_disk
from infra.local_server import LocalServer, local_server
from infra.store.errors import StoreError
from infra.store.journal import FOLDER, journals
from infra.store.rows import CallRow, StoredCall, TurnRow
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from pipeline.line import LINE_RATE_HZ
from telephony.simulator import Report, Scenario, simulate
from telephony.simulator.caller import Caller
from tests.infra.postgres_kit import Postgres, running_postgres

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(60)]

PERSONA = """
name = "Desk"
greeting = "Hello."
system = "You help."
"""
SAID = ("Yes.", "No.", "Bye.")
HEARD = "Hello there."
"""What the stand-in transcriber makes of everything; the stand-in model says it again."""
ANSWER = f"You said: {HEARD}"
PAUSE_S = 0.6
BACK_S = 10.0
"""So soon after a fault everything is in the database."""
SAME_TIME_S = 1.0
"""Turns are four times as far apart."""
LATER_MS = 1000.0
"""No answer may come so much later than another. Loose, for this machine does other things too."""
AWAY, BACK = "the store's database is away", "the store's database is back"


# The fault, and the call


class Fault:
    """Lasts from the beginning of the caller's line `first` to that of the third."""

    def __init__(self, begin: Callable[[], object], end: Callable[[], object], first: int = 2) -> None:
        self._begin, self._end = begin, end
        self.first = first
        self.began = asyncio.Event()
        self.began_s = self.ended_s = 0.0
        """Of the call."""

    async def __call__(self, caller: Caller) -> None:
        await begins(caller, self.first)
        await asyncio.to_thread(self._begin)
        self.began_s = caller.now_s
        self.began.set()
        await begins(caller, 3)
        self.ended_s = caller.now_s
        await asyncio.to_thread(self._end)


async def begins(caller: Caller, number: int) -> None:
    """The caller begins to say its line `number`, counted from 1; the one before has been answered."""
    while True:
        if len(caller.turns) >= number:
            return
        await asyncio.sleep(0.01)


@contextmanager
def serving(folder: Path, calls: Path, url: str = "") -> Iterator[LocalServer]:
    persona = folder / "desk.toml"
    persona.write_text(PERSONA, encoding="utf-8")
    options = ["--profile", "scripted", "--persona", str(persona)]
    with local_server(calls, folder / "server.log", options, {"MAYA_STORE_URL": url}) as server:
        server.wait_until_ready(lambda line: None, limit_s=30)
        yield server


async def call(
    server: LocalServer, said: Sequence[str] = SAID, during: Callable[[Caller], Any] | None = None
) -> Report:
    """Asks the voice webhook for the stream, as Twilio does; for each line the answer is waited for."""
    listen = {"listen": {"pause_s": PAUSE_S, "timeout_s": 8}}
    steps = [listen, *(step for text in said for step in ({"say": text}, listen))]
    scenario = Scenario.model_validate({"name": "without database", "steps": steps})
    return await simulate(
        scenario,
        url=f"http://127.0.0.1:{server.port}/twilio/voice",
        auth_token=server.auth_token,
        during=during,
    )


def assert_answered(report: Report, said: Sequence[str] = SAID) -> None:
    assert report.violations == ()
    assert report.ending == "caller hung up"
    assert report.drops == ()
    assert [turn.caller for turn in report.turns] == list(said)
    waited_ms = [turn.gap_ms for turn in report.turns if turn.gap_ms is not None]
    assert len(waited_ms) == len(said), "a line was not answered"
    assert max(waited_ms) - min(waited_ms) < LATER_MS


def assert_answered_meanwhile(report: Report, fault: Fault) -> None:
    """The fault came before its first line was over, and ended when all before the third had been
    answered."""
    assert report.hearing is not None
    turns = report.hearing.turns
    assert 0 < fault.began_s < turns[fault.first - 1].stop / LINE_RATE_HZ
    assert turns[2].start / LINE_RATE_HZ <= fault.ended_s


# What is in the database


def stored(calls: Path, call_id: str, url: str = "") -> StoredCall | None:
    store = CallStore.open(StoreSettings.model_validate({"url": url}), calls, writing=False)
    try:
        return store.call(call_id)
    finally:
        store.close()


async def at_last(calls: Path, report: Report, url: str = "") -> StoredCall:
    """The call, once the database has its end."""
    found: StoredCall | None = None
    why: object = "it is not there"
    try:
        async with asyncio.timeout(BACK_S):
            while found is None or found.call.ended_at is None:
                await asyncio.sleep(0.1)
                try:
                    found = await asyncio.to_thread(stored, calls, report.call_sid, url)
                except StoreError as error:
                    why = error
    except TimeoutError:
        raise AssertionError(f"the call did not get into the database: {found or why}") from None
    return found


def assert_every_turn_once(found: StoredCall, report: Report) -> None:
    said = len(report.turns)
    assert ended(found.call) == ("ended", "completed", "caller hung up", said)
    assert [(turn.leg, turn.turn, turn.state) for turn in found.turns] == [
        (0, number, "done") for number in range(said + 1)
    ]
    assert [words(turn) for turn in found.turns] == [("", "Hello.", "Hello.")] + [
        (HEARD, ANSWER, ANSWER)
    ] * said
    # All have the same words: when each was answered tells which of the caller's lines it is.
    assert report.hearing is not None
    heard_s = [
        spoken.stop / LINE_RATE_HZ + measures.gap_s
        for spoken, measures in zip(report.hearing.turns, report.hearing.at_ear, strict=True)
        if measures.gap_s is not None
    ]
    assert [turn.times["first_audible_s"] for turn in found.turns[1:]] == pytest.approx(
        heard_s, abs=SAME_TIME_S
    )


def ended(row: CallRow) -> tuple[str, str, str, int]:
    return row.state, row.outcome, row.reason, row.turns


def words(turn: TurnRow) -> tuple[str, str, str]:
    return turn.caller, turn.text, turn.heard


def told(server: LocalServer, what: str) -> int:
    return sum(what in line for line in server.log_lines())


def assert_the_operator_heard_once(server: LocalServer) -> None:
    assert (told(server, AWAY), told(server, BACK)) == (1, 1)
    assert told(server, "Traceback") == 0


# PostgreSQL


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """One for each test: a call that breaks off leaves it as the fault does."""
    with running_postgres() as server:
        yield server


async def test_postgresql_that_is_restarted_in_mid_call_costs_no_answer_and_no_turn(
    postgres: Postgres, tmp_path: Path
) -> None:
    """And a call that begins while it is away is a call like any other."""
    calls, url = tmp_path / "calls", postgres.new_database()
    fault = Fault(lambda: postgres.stop(signal.SIGKILL), postgres.start)
    with serving(tmp_path, calls, url) as server:

        async def another() -> Report:
            await fault.began.wait()
            return await call(server, SAID[:1])

        report, other = await asyncio.gather(call(server, during=fault), another())
        assert_answered(report)
        assert_answered_meanwhile(report, fault)
        assert_answered(other, SAID[:1])
        assert_every_turn_once(await at_last(calls, report, url), report)
        assert_every_turn_once(await at_last(calls, other, url), other)
        assert_the_operator_heard_once(server)
    assert journals(calls / FOLDER) == []


async def test_postgresql_that_hangs_in_mid_call_costs_no_answer_and_no_turn(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Its connections stay open, and nothing comes back. For two turns, for the store takes its time to
    call that away."""
    calls, url = tmp_path / "calls", postgres.new_database()
    stopped: list[int] = []

    def hang() -> None:
        stopped.extend((postgres.pid, *postgres.backends()))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        stopped.clear()

    fault = Fault(hang, go_on, first=1)
    try:
        with serving(tmp_path, calls, url) as server:
            report = await call(server, during=fault)
            assert_answered(report)
            assert_answered_meanwhile(report, fault)
            assert_every_turn_once(await at_last(calls, report, url), report)
            assert_the_operator_heard_once(server)
        assert journals(calls / FOLDER) == []
    finally:
        go_on()


# The disk


@contextmanager
def soon_full(folder: Path, options: str = "rw") -> Iterator[None]:
    folder.mkdir()
    try:
        with small_disk(folder, options):
            yield
    except NoSmallDisk as none:
        pytest.skip(str(none))


async def test_a_disk_that_is_full_in_mid_call_costs_no_answer_and_no_turn(tmp_path: Path) -> None:
    """Database, journal and recordings are all on it."""
    calls = tmp_path / "calls"
    filler = calls / "filler"

    fault = Fault(lambda: fill(filler), filler.unlink)
    with soon_full(calls):
        with serving(tmp_path, calls) as server:
            report = await call(server, during=fault)
            assert_answered(report)
            assert_answered_meanwhile(report, fault)
            assert_every_turn_once(await at_last(calls, report), report)
            assert_the_operator_heard_once(server)
            assert told(server, "recording.wav cannot be written") == 1
        assert journals(calls / FOLDER) == []
        [transcript] = calls.glob("*/transcript.json")
        written = json.loads(transcript.read_text())
        assert written["outcome"], "it was written again"
        assert len(written["turns"]) == len(SAID) + 1


async def test_a_calls_folder_that_is_read_only_is_told_and_costs_no_answer_and_no_turn(
    tmp_path: Path,
) -> None:
    """From the start of the server until somebody sees to it, in mid-call."""
    calls = tmp_path / "calls"

    def see_to_it() -> None:
        subprocess.run(["mount", "-o", "remount,rw", str(calls)], check=True)

    fault = Fault(lambda: None, see_to_it)
    with soon_full(calls, "ro"), serving(tmp_path, calls) as server:
        report = await call(server, during=fault)
        assert_answered(report)
        assert_every_turn_once(await at_last(calls, report), report)
        assert_the_operator_heard_once(server)
        assert told(server, "its folder cannot be written") == 1
        assert told(server, "maya.db cannot be written") == 1
