"""Which calls go on, where, and from where: over the real store, and over one that is away."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from infra.access.policy import AccessSettings
from infra.resuming import Resuming, address_of, front_end_name, stored_so_far
from infra.settings import Settings
from infra.store.errors import StoreUnavailable
from infra.store.rows import StoredCall, TurnRow, Unfinished
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from models.base import Message
from models.scripted import ScriptedTranscriber
from pipeline.events import (
    AgentClause,
    AgentClauseHeard,
    AgentTurn,
    CallEnded,
    CallerTurn,
    CallEvent,
    CallObserver,
    CallStarted,
    RecordingPaused,
    TurnTimes,
)
from pipeline.hearing import Hearing
from pipeline.line import LineInfo
from tests.certificates import certificate

INFO = LineInfo("CA1", "twilio", caller="+15550100", called="+15550199", parameters={"k": "v"})
GREETING = "Hello, how can I help?"
CLAUSES = ("We open at nine.", "Then we have our lunch.", "And at noon we close.")
STARTED = CallStarted(0.0, INFO, "Test Desk")
IN_REPLY: tuple[CallEvent, ...] = (
    STARTED,
    AgentClause(0.1, 0, GREETING),
    AgentTurn(2.0, 0, GREETING, GREETING, False, TurnTimes(0)),
    CallerTurn(4.0, 1, "when are you open"),
    *(AgentClause(5.0, 1, clause) for clause in CLAUSES),
    AgentClauseHeard(6.5, 1),
)


@dataclass
class Away:
    """A store whose database cannot be reached."""

    front_end: str = "127.0.0.1_8080_aaaaaa"
    away: bool = False
    asked: list[str] = field(default_factory=list)

    def unfinished(self, call_id: str) -> Unfinished | None:
        self.asked.append(call_id)
        raise StoreUnavailable("away")

    def call(self, call_id: str) -> StoredCall | None:
        raise StoreUnavailable("away")

    def claim(self, call_id: str, front_end: str = "") -> bool:
        raise StoreUnavailable("away")

    def use_each_once(self, until: Mapping[str, float]) -> frozenset[str]:
        raise StoreUnavailable("away")


class House:
    """Front-ends that share one store, each with its own connection to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stores: list[CallStore] = []

    def front_end(self, name: str) -> tuple[Resuming, CallStore]:
        store = CallStore.open(StoreSettings(front_end=name), self._folder)
        self.stores.append(store)
        return Resuming(store), store


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    for store in house.stores:
        store.close()


def observers(resuming: Resuming, store: CallStore) -> list[CallObserver]:
    own = resuming.observer(INFO)
    assert own is not None
    return [store.observer(INFO), own]


def tell(watching: list[CallObserver], *events: CallEvent) -> None:
    for event in events:
        for observer in watching:
            observer.observe(event)


async def test_a_call_of_a_front_end_that_was_killed(house: House) -> None:
    killed, first = house.front_end("10.0.0.1_8080_aaaaaa")
    second, _ = house.front_end("10.0.0.2_8080_bbbbbb")
    tell(observers(killed, first), *IN_REPLY)
    assert first.flush()
    found = await second.find("CA1")
    assert found is not None
    assert (found.info.caller, found.info.called) == ("+15550100", "+15550199")
    assert found.held_by == "http://10.0.0.1:8080", "it is asked first; it may live"
    resumption = await second.claim("CA1")
    assert resumption is not None
    assert resumption.persona == "Test Desk"
    so_far = resumption.so_far
    assert so_far.messages == (Message("user", "when are you open"),)
    assert so_far.under_way is not None
    assert so_far.under_way.unheard == CLAUSES[1:]
    assert so_far.at_s >= 5.0, "not before what is known of it"


async def test_of_those_who_read_the_same_only_one_goes_on_with_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, first = house.front_end("10.0.0.1_8080_aaaaaa")
    tell(observers(killed, first), *IN_REPLY)
    assert first.flush()
    others = [house.front_end(f"10.0.0.{n}_8080_bbbbbb") for n in (2, 3, 4)]
    all_have_read = threading.Barrier(len(others), timeout=20)

    def read_together(store: CallStore) -> Callable[[str], Unfinished | None]:
        unfinished = store.unfinished

        def read(call_id: str) -> Unfinished | None:
            found = unfinished(call_id)
            all_have_read.wait()
            return found

        return read

    for _, store in others:
        monkeypatch.setattr(store, "unfinished", read_together(store))
    claimed = await asyncio.gather(*(other.claim("CA1") for other, _ in others))
    assert sum(one is not None for one in claimed) == 1


async def test_a_line_that_is_lost_again_at_the_second_front_end_forgets_nothing(house: House) -> None:
    killed, first = house.front_end("10.0.0.1_8080_aaaaaa")
    second, store = house.front_end("10.0.0.2_8080_bbbbbb")
    told = observers(killed, first)
    tell(told, *IN_REPLY, AgentTurn(9.0, 1, " ".join(CLAUSES), " ".join(CLAUSES), False, TurnTimes(1)))
    assert first.flush()
    assert await second.claim("CA1")
    tell(
        observers(second, store),
        CallStarted(10.0, INFO, "Test Desk", True),
        CallerTurn(12.0, 2, "and on sunday"),
        AgentClause(13.0, 2, "Closed."),
        AgentTurn(14.0, 2, "Closed.", "Closed.", False, TurnTimes(2)),
        CallEnded(15.0, "connection lost", "completed"),
    )
    assert store.flush()
    again = await second.claim("CA1")
    assert again is not None
    assert [turn.number for turn in again.so_far.turns if turn.number] == [1, 2]


def test_a_clock_that_jumps_does_not_end_a_call() -> None:
    row = TurnRow(0, 1, "done", "hello", "Hi.", "Hi.", False, ("Hi.",), done_at_s=9.0)
    known = Unfinished("CA1", 0, "Test Desk", "twilio", "", "", "a", None, 1_000.0, (row,), None)
    assert stored_so_far(known, 1_030.0).at_s == 30.0
    for jumped in (1_000.0 - 3600, 1_030.0 + 3600):
        assert stored_so_far(known, jumped).at_s == 9.0


async def test_what_the_second_front_end_did_is_known_to_the_third(house: House) -> None:
    killed, first = house.front_end("10.0.0.1_8080_aaaaaa")
    second, store = house.front_end("10.0.0.2_8080_bbbbbb")
    third, _ = house.front_end("10.0.0.3_8080_cccccc")
    tell(observers(killed, first), *IN_REPLY)
    assert first.flush()
    assert await second.claim("CA1")
    sorry = AgentClause(60.1, 1, "Sorry, the line dropped.", filler=True)
    rest = [AgentClause(60.2, 1, clause) for clause in CLAUSES[1:]]
    heard = [AgentClauseHeard(at_s, 1) for at_s in (61.5, 63.0)]
    again = (CallStarted(60.0, INFO, "Test Desk", True), CallerTurn(60.0, 1, "when are you open"))
    tell(observers(second, store), *again, sorry, *rest, *heard)
    assert store.flush()
    resumption = await third.claim("CA1")
    assert resumption is not None
    lost = resumption.so_far.under_way
    assert lost is not None
    assert (lost.caller, lost.clauses, lost.unheard) == ("when are you open", CLAUSES, CLAUSES[2:])
    whole = store.call("CA1")
    assert whole is not None
    assert (whole.call.turns, round(whole.call.duration_s)) == (1, 63), "turns and clock are counted on"


async def test_a_call_that_ended_on_purpose_does_not_go_on(house: House) -> None:
    one, first = house.front_end("10.0.0.1_8080_aaaaaa")
    other, _ = house.front_end("10.0.0.2_8080_bbbbbb")
    tell(observers(one, first), *IN_REPLY, CallEnded(9.0, "goodbye", "completed"))
    assert first.flush()
    for resuming in (one, other):
        assert await resuming.find("CA1") is None
        assert await resuming.claim("CA1") is None
    assert await other.find("CAunknown") is None
    assert await other.ended_well("CA1")
    assert not await other.ended_well("CAunknown")


@pytest.mark.parametrize(
    "end", [None, CallEnded(9.0, "apology", "failed"), CallEnded(9.0, "connection lost", "completed")]
)
async def test_only_a_goodbye_is_a_good_end(house: House, end: CallEnded | None) -> None:
    one, first = house.front_end("10.0.0.1_8080_aaaaaa")
    other, _ = house.front_end("10.0.0.2_8080_bbbbbb")
    tell(observers(one, first), *IN_REPLY, *([end] if end is not None else []))
    assert first.flush()
    assert not await other.ended_well("CA1")


async def test_a_line_that_was_lost_goes_on_in_the_same_process_from_its_own_memory(house: House) -> None:
    one, first = house.front_end("10.0.0.1_8080_aaaaaa")
    cut = AgentTurn(7.0, 1, " ".join(CLAUSES), "We open at nine. Then", True, TurnTimes(1))
    tell(observers(one, first), *IN_REPLY, cut, CallEnded(7.0, "connection lost", "completed"))
    assert first.flush()
    found = await one.find("CA1")
    assert found is not None
    assert found.held_by is None
    assert found.info == INFO, "with all that the way in told"
    resumption = await one.claim("CA1")
    assert resumption is not None
    assert resumption.so_far.under_way is not None
    assert resumption.so_far.under_way.unheard == CLAUSES[1:]


async def test_a_restarted_front_end_asks_nobody_but_itself(house: House) -> None:
    before, first = house.front_end("10.0.0.1_8080_aaaaaa")
    tell(observers(before, first), *IN_REPLY)
    assert first.flush()
    after, _ = house.front_end("10.0.0.1_8080_bbbbbb")
    found = await after.find("CA1")
    assert found is not None
    assert found.held_by is None
    assert await after.claim("CA1")


async def test_a_pause_of_the_recording_goes_on(house: House) -> None:
    one, first = house.front_end("10.0.0.1_8080_aaaaaa")
    tell(observers(one, first), *IN_REPLY[:3], RecordingPaused(3.0, "a secret is to be said"))
    assert first.flush()
    other, _ = house.front_end("10.0.0.2_8080_bbbbbb")
    resumption = await other.claim("CA1")
    assert resumption is not None
    assert resumption.so_far.recording_paused


async def test_where_the_store_is_away_only_what_this_process_knows_goes_on() -> None:
    store = Away()
    resuming = Resuming(store)
    own = resuming.observer(INFO)
    assert own is not None
    tell([own], *IN_REPLY)
    assert await resuming.find("CA1") is not None
    resumption = await resuming.claim("CA1")
    assert resumption is not None
    assert resumption.so_far.last_turn == 1
    assert await resuming.find("CA2") is None
    assert await resuming.claim("CA2") is None
    assert await resuming.use_once("nonce", 0.0), "nobody is turned away for it"
    store.away = True
    assert await resuming.use_once("nonce", 0.0), "nor kept waiting"
    assert not await resuming.ended_well("CA1")


async def test_questions_that_hang_take_no_thread_that_calls_need() -> None:
    answer = threading.Event()

    class Hangs(Away):
        def use_each_once(self, until: Mapping[str, float]) -> frozenset[str]:
            threads.add(threading.get_ident())
            answer.wait(20)
            return frozenset(until)

    threads: set[int] = set()
    resuming = Resuming(Hangs())
    asking = [asyncio.create_task(resuming.use_once(str(number), 0.0)) for number in range(50)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            # What hears a turn, and every other thread's work of this process.
            await Hearing(ScriptedTranscriber()).words(np.zeros(8_000, np.int16), language="en", hot_words="")
            await asyncio.to_thread(int)
        assert len(threads) == 1
    finally:
        answer.set()
        await asyncio.gather(*asking)


async def test_five_hundred_tokens_at_once_are_each_checked() -> None:
    class Slow(Away):
        """A disk on which each commit takes its time, and one goes behind the other."""

        def __init__(self) -> None:
            super().__init__()
            self.commits = 0
            self._used = {"n7"}

        def use_each_once(self, until: Mapping[str, float]) -> frozenset[str]:
            time.sleep(0.01)
            self.commits += 1
            first = frozenset(until) - self._used
            self._used |= first
            return first

    store = Slow()
    resuming = Resuming(store)
    checked = await asyncio.gather(*(resuming.use_once(f"n{number}", 2e9) for number in range(500)))
    assert [number for number, first in enumerate(checked) if not first] == [7]
    assert store.commits <= 2
    assert not await resuming.use_once("n8", 2e9)


async def test_each_token_is_let_in_at_one_of_two_front_ends(house: House) -> None:
    one, _ = house.front_end("10.0.0.1_8080_aaaaaa")
    two, _ = house.front_end("10.0.0.2_8080_bbbbbb")
    nonces = [f"n{number}" for number in range(40)]
    checks = [resuming.use_once(nonce, 2e9) for nonce in nonces for resuming in (one, two)]
    verdicts = iter(await asyncio.gather(*checks))
    assert [next(verdicts) + next(verdicts) for _ in nonces] == [1] * 40


async def test_calls_of_other_ways_in_end_with_their_line() -> None:
    assert Resuming(None).observer(LineInfo("x", "sip")) is None


async def test_what_is_over_is_forgotten() -> None:
    moment = [0.0]
    resuming = Resuming(None, clock=lambda: moment[0])
    lost, over = LineInfo("CA1", "twilio"), LineInfo("CA2", "twilio")
    for info, reason in ((lost, "connection lost"), (over, "goodbye")):
        own = resuming.observer(info)
        assert own is not None
        tell([own], CallStarted(0.0, info, "Test Desk"), CallEnded(1.0, reason, "completed"))
    resuming.observer(LineInfo("CA3", "twilio"))
    assert await resuming.find("CA1") is not None
    assert await resuming.find("CA2") is None
    moment[0] = 200.0
    resuming.observer(LineInfo("CA4", "twilio"))
    assert await resuming.find("CA1") is None


def test_words_that_were_not_to_be_stored_are_not_said() -> None:
    row = TurnRow(0, 1, "replying", "[not recorded]", "[not recorded]", "", False, ("[not recorded]",))
    known = Unfinished("CA1", 0, "Test Desk", "twilio", "", "", "a", None, 100.0, (), row)
    so_far = stored_so_far(known, 130.0)
    assert so_far.messages == ()
    assert so_far.under_way is not None
    assert so_far.under_way.unheard == ()
    assert so_far.at_s == 30.0


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8081"), ("10.1.2.3", "http://10.1.2.3:8081")],
)
def test_a_front_ends_name_says_where_it_is(host: str, url: str) -> None:
    settings = Settings(host=host, port=8081, public_url="https://maya.example.com")
    name = front_end_name(settings)
    assert address_of(name) == url
    assert name != front_end_name(settings), "new at each start"
    assert StoreSettings(front_end=name).front_end == name


def test_a_front_end_with_tls_is_named_so_where_the_others_would_take_its_certificate(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "one", "DNS:maya.example.com")
    access = AccessSettings(tls_certificate=chain, tls_key=key, tls_authority=chain)
    settings = Settings(host="10.1.2.3", port=8443, public_url="https://maya.example.com", access=access)
    name = front_end_name(settings)
    assert address_of(name) == "https://10.1.2.3:8443"
    assert StoreSettings(front_end=name).front_end == name
    unknown = access.model_copy(update={"tls_authority": None})
    assert front_end_name(settings.model_copy(update={"access": unknown})) == ""


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_a_front_end_that_only_its_own_machine_reaches_has_no_address_on_another(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = front_end_name(Settings(public_url="https://maya.example.com", host=host))
    assert StoreSettings(front_end=name).front_end == name
    assert address_of(name) == "http://127.0.0.1:8080"
    monkeypatch.setattr("infra.resuming._this_machine", lambda: "local-0a1b2c3d")
    assert address_of(name) is None


def test_one_that_listens_on_ipv6_alone_is_not_named_after_another_address() -> None:
    assert front_end_name(Settings(host="::1")) == ""


async def test_where_tls_is_spoken_nobody_is_asked_in_the_open(house: House) -> None:
    killed, first = house.front_end("10.0.0.1_8080_aaaaaa")
    _, store = house.front_end("tls_10.0.0.2_8443_bbbbbb")
    second = Resuming(store, tls_only=True)
    tell(observers(killed, first), *IN_REPLY)
    assert first.flush()
    assert second.address("10.0.0.1_8080_aaaaaa") is None
    assert second.address("tls_10.0.0.3_8443_cccccc") == "https://10.0.0.3:8443"
    found = await second.find("CA1")
    assert found is not None
    assert found.held_by is None


def test_a_name_that_the_operator_chose_says_nothing() -> None:
    assert address_of("berlin-1") is None


def test_who_gave_twilio_a_url_is_found_by_the_name_in_it() -> None:
    store = Away(front_end="10.0.0.1_8080_aaaaaa")
    resuming = Resuming(store)
    assert resuming.here == "10.0.0.1_8080_aaaaaa"
    assert resuming.address("10.0.0.2_8080_bbbbbb") == "http://10.0.0.2:8080"
    assert resuming.address("10.0.0.1_8080_aaaaaa") is None, "this one"
    assert resuming.address("10.0.0.1_8080_cccccc") is None, "one before it, which is gone"
    names = (
        "",
        "berlin-1",
        "10.0.0.2_80",
        "http://10.0.0.2:80",
        "a_b_c",
        "x@y_80_a",
        "x_80_a\n",
        "x_99999_a",
    )
    for garbage in names:
        assert resuming.address(garbage) is None
    store.front_end = "berlin-1"
    assert resuming.here == "", "nobody could reach it"
    assert Resuming(None).here == ""
