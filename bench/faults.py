"""What callers notice of failures: faults made on purpose in whole calls, over real sockets and processes.

Each fault is a function that makes it, plays a call through it, and returns its figures. `front_end_killed`:
two front-ends share a store, a folder of calls and one public URL; the one that holds the call is SIGKILLed
while the agent speaks. The simulated caller does as Twilio does: the stream broken, it asks the other one
what to do next. The gap is measured in the caller's audio. Which clauses were lost or said twice is asked of
both: of the store, and of the sound that reached the caller, in which every word has tones of its own.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import faults_store
from bench.faults_server import BOOK, FORGOT, REMEMBERS, REPLY
from bench.report import Report
from bench.word_tones import heard_words, times_heard
from infra.local_server import LocalServer, free_port
from infra.records.folder import RECORDING
from infra.store.rows import StoredCall, TurnRow
from infra.store.settings import StoreSettings
from infra.store.store import CallStore
from pipeline.audible import voiced_runs
from pipeline.clauses import ClauseChunker
from pipeline.line import LINE_RATE_HZ, Pcm
from telephony.simulator import Scenario, simulate
from telephony.simulator.caller import Caller
from telephony.simulator.report import Report as CallReport

SPOKEN_FOR_S = 4.0
"""The front-end dies when the agent has been heard for so long: in its second sentence."""
_REAL_SPOKEN_FOR_S = 0.8
"""The bundled model answers in one short sentence."""
_WHOLE = 0.5
"""More of a word than this is the word."""
_POLL_S = 0.01
_NOBODY_GIVES_UP_S = 6.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FrontEnd:
    server: LocalServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def live_calls(self) -> int:
        """Blocks. 0 of one that does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as answer:  # noqa: S310  (ours)
                return int(json.load(answer)["live_calls"])
        except (OSError, ValueError, KeyError):
            return 0


@contextlib.contextmanager
def front_ends(
    folder: Path, count: int, *, command: Sequence[str], environ: Mapping[str, str], progress: Progress
) -> Iterator[tuple[tuple[FrontEnd, ...], str, str]]:
    """So many, ready, behind one public URL; yields them, that URL, and the token that signs. They share
    `folder/calls` and the store in it."""
    token = secrets.token_urlsafe(24)
    public_url = f"http://127.0.0.1:{free_port()}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAYA_", "TWILIO_"))}
    kept |= {name: value for name, value in os.environ.items() if name == "MAYA_MODELS"}
    common = {
        "TWILIO_AUTH_TOKEN": token,
        "MAYA_PUBLIC_URL": public_url,
        "MAYA_HOST": "127.0.0.1",
        "MAYA_CALLS_DIR": str(folder / "calls"),
        "MAYA_TALK": "0",
        "MAYA_DRAIN_S": "0",
        **environ,
    }
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(count):
            port, log = free_port(), folder / f"front-end-{number}.log"
            with log.open("wb") as sink:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env={**kept, **common, "MAYA_PORT": str(port)},
                    start_new_session=True,
                )
            server = LocalServer(process, port, token, log)
            stack.callback(server.stop)
            servers.append(server)
        for server in servers:
            server.wait_until_ready(lambda line: None)
        progress(f"{count} front-ends are ready")
        yield tuple(map(FrontEnd, servers)), public_url, token


def killer(ends: Sequence[FrontEnd], spoken_for_s: float, progress: Progress) -> Callable[[Caller], object]:
    """Waits in a call until the agent has answered for so long, and kills the front-end that holds it."""

    async def kill(caller: Caller) -> None:
        while True:
            since_s = caller.hears_since_s
            asked_s = caller.turns[0].stop / LINE_RATE_HZ if caller.turns else None
            if since_s is not None and asked_s is not None and since_s > asked_s:
                break
            await asyncio.sleep(_POLL_S)
        await asyncio.sleep(max(0.0, spoken_for_s - (caller.now_s - since_s)))
        for number, end in enumerate(ends):
            if await asyncio.to_thread(end.live_calls):
                progress(f"front-end {number} is killed at {caller.now_s:.1f} s of the call")
                end.server.process.send_signal(signal.SIGKILL)

    return kill


def gap_ms(report: CallReport) -> float | None:
    """From the loss of the first stream to the first audible sample of the agent behind it; None: it was
    never heard again."""
    if report.hearing is None or not report.drops or report.drops[0].reopened_s is None:
        return None
    lost, reopened = (
        round(at_s * LINE_RATE_HZ) for at_s in (report.drops[0].lost_s, report.drops[0].reopened_s)
    )
    # What was on its way to the ear when the stream was lost is still heard: it is the old stream's.
    later = [run.start for run in voiced_runs(report.hearing.agent) if run.start >= reopened]
    return round(1000 * (later[0] - lost) / LINE_RATE_HZ, 1) if later else None


def stored(folder: Path, call_id: str) -> StoredCall | None:
    """What the store has of the call. Blocks."""
    store = CallStore.open(StoreSettings(), folder / "calls", writing=False)
    try:
        return store.call(call_id)
    finally:
        store.close()


def turns_lost(turns: Sequence[TurnRow], asked: int) -> int:
    """Of the greeting and so many questions, those that the store does not have whole."""
    done = {turn.turn for turn in turns if turn.state == "done"}
    return sum(number not in done for number in range(asked + 1))


def said_in(turns: Sequence[TurnRow], turn: int) -> str:
    """All that the agent said in that turn, over all front-ends that it was on."""
    rows = [row for row in turns if row.turn == turn and row.state == "done"]
    return rows[-1].text if rows else ""


@dataclass(frozen=True, slots=True)
class Sound:
    """What of the scripted answers the caller heard."""

    lost: frozenset[str]
    """Clauses of the reply of which a word was not heard, or less than half of it."""
    repeated: frozenset[str]
    """Clauses that were heard to their end and then came again, or more than that."""
    words_again: int
    """Words that were heard twice: those of the clause that was cut are said again."""
    remembers: bool
    """The second question was answered whole, and as by somebody who knows what was said."""


def sound_of(pcm: Pcm) -> Sound:
    """Of what the caller heard, (n,) int16 at 8 kHz."""
    heard = heard_words(pcm)
    times = times_heard(BOOK, heard)
    lost, repeated, first = set(), set(), 0
    for clause in _clauses():
        own = range(first, first + len(clause.split()))
        first = own.stop
        if min(times[number] for number in own) < _WHOLE:
            lost.add(clause)
        # Its last word is what was heard last of it: a clause that was cut in its middle has that once.
        if times[own.stop - 1] > 1 + _WHOLE:
            repeated.add(clause)
    answered = range(first, first + len(REMEMBERS.split()))  # it follows the reply in the book
    forgot = any(times[number] > _WHOLE for number in range(answered.stop, len(times)))
    return Sound(
        frozenset(lost),
        frozenset(repeated),
        sum(count > 1 + _WHOLE for count in times[:first]),
        not forgot and all(times[number] > _WHOLE for number in answered),
    )


def _clauses() -> list[str]:
    """The reply as it is cut for the voice."""
    chunker = ClauseChunker()
    return [clause.strip() for clause in (*chunker.push(REPLY), *chunker.flush()) if clause.strip()]


def front_end_killed(profile: str, folder: Path, progress: Progress) -> dict[str, object]:
    """`profile` is "scripted", or one with real models."""
    scripted = profile == "scripted"
    questions = (
        ("Please tell me all about your opening hours.", "Do you remember what you told me?")
        if scripted
        else ("When are you open on Saturday, and where can I park?", "And what about Sunday?")
    )
    scenario = Scenario.model_validate(
        {
            "name": f"front end killed, {profile}",
            "steps": [
                "listen",
                {"say": questions[0]},
                # Longer than a caller waits for what may take five seconds.
                {"listen": {"pause_s": _NOBODY_GIVES_UP_S, "timeout_s": 40}},
                {"say": questions[1]},
                {"listen": {"pause_s": 1.5}},
            ],
        }
    )
    command = (
        ["-m", "bench.faults_server"]
        if scripted
        else ["-c", "from infra.cli import main; main()", "serve", "--profile", profile]
    )
    with front_ends(folder, 2, command=command, environ={}, progress=progress) as (ends, url, token):
        report = asyncio.run(
            simulate(
                scenario,
                url=f"{url}/twilio/voice",
                auth_token=token,
                recording_dir=folder,
                front_ends=[end.url for end in ends],
                during=killer(ends, SPOKEN_FOR_S if scripted else _REAL_SPOKEN_FOR_S, progress),  # type: ignore[arg-type]
            )
        )
    call = stored(folder, report.call_sid)
    turns = call.turns if call is not None else ()
    first, second = said_in(turns, 1), said_in(turns, 2)
    recordings = len(list((folder / "calls").glob(f"{report.call_sid}*/{RECORDING}")))
    figures: dict[str, object] = {
        "frontend_kill_gap_ms": gap_ms(report),
        "turns_lost": turns_lost(turns, 2),
        "streams": 1 + sum(drop.reopened_s is not None for drop in report.drops),
        "recordings": recordings,
    }
    if scripted:
        clauses = _clauses()
        hearing = report.hearing
        sound = sound_of(hearing.agent if hearing is not None else np.zeros(0, np.int16))
        lost = {clause for clause in clauses if clause not in first}
        repeated = {clause for clause in clauses if first.count(clause) > 1}
        figures["clauses_lost"] = len(lost | sound.lost)
        figures["clauses_repeated"] = len(repeated | sound.repeated)
        figures["words_said_again"] = sound.words_again
        figures["conversation_intact"] = bool(second) and FORGOT not in second and sound.remembers
    else:
        figures["conversation_intact"] = "closed" in second.lower()
        figures["said"] = [first, second]
    return figures


def run(profile: str = "scripted", progress: Progress = lambda line: None) -> Report:
    """Blocks for two minutes, with real models for three."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures |= front_end_killed("scripted", Path(folder), progress)
    if profile != "scripted":
        with tempfile.TemporaryDirectory() as folder:
            real = front_end_killed(profile, Path(folder), progress)
        figures |= {f"{profile}_{name}": value for name, value in real.items()}
    progress("the database is away, the disk is full")
    store = faults_store.as_json(faults_store.measure())
    figures |= {f"store_{name}": value for name, value in store.items()}
    return Report(
        figures,
        notes=(
            "store_turns_lost: turns of stand-in calls that were over and are not in the database after it "
            "was killed for half a minute and after its disk was full",
            "The gap is measured in the caller's audio: from the loss of the stream to the agent's next "
            "audible sample.",
            "clauses_lost, clauses_repeated, conversation_intact: by the store and by the tones in the "
            "caller's audio, whichever is worse. words_said_again: of the clause that was cut, which is said "
            "again from its first word.",
            "Both front-ends and the caller run on this machine: Twilio's own way back to us comes on top.",
        ),
    )
