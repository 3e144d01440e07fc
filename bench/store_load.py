"""What the store costs: CPU for each minute of a call, and how long searching 100,000 turns takes.

    python -m bench.store_load            # prints JSON

Calls are told as fast as they can be taken, with the sound of both sides, in the proportions of a
conversation: six turns a minute, answers of two clauses.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from infra.store.settings import StoreSettings
from infra.store.store import CallStore, StoreObserver
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerTurn,
    CallStarted,
    TurnTimes,
)
from pipeline.line import LineInfo

_FRAME: Final = np.zeros(160, np.int16)
_TURNS_A_MINUTE: Final = 6
_WORDS: Final = (
    *("monday", "tuesday", "clinic", "appointment", "insurance", "parking", "glasses", "doctor", "saturday"),
    *("morning", "closed", "open", "number", "please", "thank", "question", "card", "address", "street"),
    *("patient", "referral", "letter"),
)


def cost(folder: Path, url: str = "", *, calls: int = 50, minutes: int = 2) -> dict[str, Any]:
    """CPU of the whole process, both threads of the store and the database's work in SQLite included. Each
    minute of the calls is told within a tenth of a second or longer, so that progress is written as in life:
    `progress_writes` of it at most, the rest is what a turn costs."""
    store = CallStore.open(StoreSettings(url=url), folder)
    observers: list[tuple[LineInfo, StoreObserver]] = []
    for number in range(calls):
        info = LineInfo(f"load-{number}", "simulated", f"+1202555{number:04}", "+12025550100")
        observers.append((info, store.observer(info)))
        observers[-1][1].observe(CallStarted(0.0, info, "clinic"))
    store.flush()
    began, wall = time.process_time(), time.monotonic()
    observing = 0.0
    for turn in range(1, minutes * _TURNS_A_MINUTE + 1):
        at_s = 10.0 * turn
        # A turn of ten seconds in a quarter of a second: its four looks at progress are those of real calls.
        for part in range(8):
            told = time.process_time()
            for _, observer in observers:
                _speak(observer, turn, part, at_s)
            observing += time.process_time() - told
            time.sleep(0.3 if part in (3, 5, 7) else 0.0)
    for _, observer in observers:
        observer.observe(CallEnded(60.0 * minutes, "goodbye", "completed"))
    store.flush(60.0)
    spent = time.process_time() - began
    store.close()
    call_minutes = calls * minutes
    return {
        "database": "postgresql" if url else "sqlite",
        "call_minutes": call_minutes,
        "cpu_ms_per_call_minute": round(1000 * spent / call_minutes, 2),
        "of_it_on_the_event_loop_ms": round(1000 * observing / call_minutes, 2),
        "calls_per_core": round(60.0 * call_minutes / spent),
        "wall_s": round(time.monotonic() - wall, 1),
    }


def _speak(observer: StoreObserver, turn: int, part: int, at_s: float) -> None:
    if part == 0:
        observer.observe(CallerTurn(at_s, turn, "When are you open on Saturday, and may I park there?"))
    if part in (2, 4):
        observer.observe(AgentClause(at_s + 1, turn, "We are open from nine to noon on Saturday."))
    for number in range(63):  # ten seconds in eight parts, a packet every 20 ms of each side
        sample = round(8000 * at_s) + 160 * (63 * part + number)
        observer.observe(CallerAudio(sample, _FRAME))
        if 2 <= part < 7:
            observer.observe(AgentAudio(sample, _FRAME))
    if part == 7:
        said = "We are open from nine to noon on Saturday. We are open from nine to noon on Saturday."
        observer.observe(AgentTurn(at_s + 8, turn, said, said, False, TurnTimes(turn)))


def search(folder: Path, url: str = "", *, turns: int = 100_000, seed: int = 1) -> dict[str, Any]:
    """How long questions take with so many turns stored."""
    random = np.random.default_rng(seed)
    store = CallStore.open(StoreSettings(url=url), folder)
    a_call = 10
    began = time.monotonic()
    for number in range(turns // a_call):
        info = LineInfo(f"search-{number}", "simulated", f"+1202555{number % 10_000:04}", "+12025550100")
        observer = store.observer(info)
        observer.observe(CallStarted(0.0, info, "clinic"))
        for turn in range(1, a_call + 1):
            asked = " ".join(random.choice(_WORDS, 9))
            said = " ".join(random.choice(_WORDS, 14))
            observer.observe(CallerTurn(5.0 * turn, turn, asked))
            observer.observe(AgentTurn(5.0 * turn + 3, turn, said, said, False, TurnTimes(turn)))
        observer.observe(CallEnded(60.0, "goodbye", "completed"))
        if number % 500 == 499:
            store.flush(60.0)
    observer = store.observer(LineInfo("needle", "simulated"))
    observer.observe(CallStarted(0.0, LineInfo("needle", "simulated"), "clinic"))
    observer.observe(CallerTurn(1.0, 1, "A quite unusual marmalade"))
    store.flush(60.0)
    stored_s = time.monotonic() - began
    found: dict[str, Any] = {"database": "postgresql" if url else "sqlite", "turns": turns}
    found["stored_s"] = round(stored_s, 1)
    for name, words in (("rare", "marmalade"), ("absent", "zeppelin"), ("common", "insurance card")):
        asked_at = time.perf_counter()
        hits = len(store.search(words))
        found[f"{name}_ms"] = round(1000 * (time.perf_counter() - asked_at), 1)
        found[f"{name}_hits"] = hits
    asked_at = time.perf_counter()
    store.calls()
    found["list_50_calls_ms"] = round(1000 * (time.perf_counter() - asked_at), 1)
    store.close()
    return found


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        print(json.dumps({"cost": cost(Path(first), url), "search": search(Path(second), url)}, indent=2))


if __name__ == "__main__":
    main()
