"""`maya demo`: a real server, a real call over loopback, told while it happens."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.commands.simulate import number, show
from infra.errors import CommandError
from infra.local_server import LocalServer, local_server
from infra.records.folder import RECORDING, SEALED_RECORDING, SEALED_TRANSCRIPT, TRANSCRIPT
from infra.records.keys import KeyRing
from infra.records.reader import CallFolder, EventTail, transcript_reader
from infra.settings import Settings
from infra.timeline import TimelineError, render_timeline
from telephony.simulator import simulate
from telephony.simulator.report import Report
from telephony.simulator.scenario import Scenario

CLINIC_SCENARIO = Path(__file__).parent / "scenarios" / "clinic.yaml"
_FOLLOW_S = 0.05
_LAST_EVENTS_S = 2.0
_TRANSCRIPT_LIMIT_S = 5.0

_STAGES = (
    ("words", "transcribed_s"),
    ("turn over", "committed_s"),
    ("token", "first_token_s"),
    ("clause", "first_clause_s"),
    ("audio", "first_audio_s"),
    ("played", "first_played_s"),
)


def play(settings: Settings, scenario_file: Path | None = None) -> None:
    """Blocks for the length of the call and the loading of the models. Raises `CommandError`,
    `DocumentError`, `SimulatorError`."""
    console = Console(highlight=False)
    scenario = Scenario.load(scenario_file or CLINIC_SCENARIO)
    calls_dir = settings.calls_dir
    keys = KeyRing.load(os.environ, settings.recording.key_file)
    options = ["--profile", settings.profile, "--persona", str(settings.persona)]
    environment = {} if settings.models_dir is None else {"MAYA_MODELS": str(settings.models_dir)}
    began = time.monotonic()
    console.print(f"[bold]Starting the server[/bold] (profile {settings.profile})")
    with local_server(calls_dir, calls_dir / "demo-server.log", options, environment) as server:
        with console.status("loading models") as status:

            def show_line(line: str) -> None:
                if console.is_terminal:
                    status.update(escape(line))
                else:
                    console.print(f"  {escape(line)}", soft_wrap=True)

            server.wait_until_ready(show_line)
        console.print(
            f"ready after {time.monotonic() - began:.1f} s; [bold]calling it[/bold] as Twilio would, "
            f"as {scenario.voice}, {scenario.network.delay_ms:.0f} ms of network each way\n",
            soft_wrap=True,
        )
        report = _call(scenario, server, calls_dir, keys, console)
        folder = _folder_of(calls_dir, report)
        transcript = _finished_transcript(CallFolder(folder, keys))
    console.print()
    show(report)
    console.print(_stages(transcript))
    sealed = CallFolder(folder).encrypted
    recording, words = (SEALED_RECORDING, SEALED_TRANSCRIPT) if sealed else (RECORDING, TRANSCRIPT)
    console.print(f"recording   {folder / recording}  (left the caller, right the agent)", soft_wrap=True)
    console.print(f"transcript  {folder / words}", soft_wrap=True)
    try:
        with console.status("drawing the timeline"):
            picture = render_timeline(folder, keys)
        console.print(f"timeline    {picture}", soft_wrap=True)
    except (TimelineError, ModuleNotFoundError) as error:
        console.print(f"timeline    not drawn: {escape(str(error))}", soft_wrap=True)
    if not any(turn.gap_ms is not None for turn in report.turns):
        raise CommandError(f"the agent answered nothing; the server's log: {calls_dir / 'demo-server.log'}")


def _call(
    scenario: Scenario, server: LocalServer, calls_dir: Path, keys: KeyRing, console: Console
) -> Report:
    # In a thread: reading and printing must not delay the simulated caller's AudioFrames.
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(calls_dir, keys, console, over), daemon=True)
    follower.start()
    try:
        return asyncio.run(
            simulate(
                scenario,
                url=server.stream_url,
                auth_token=server.auth_token,
                calls_dir=calls_dir,
                read_transcript=transcript_reader(keys),
            )
        )
    finally:
        over.set()
        follower.join(_TRANSCRIPT_LIMIT_S)


def _follow(calls_dir: Path, keys: KeyRing, console: Console, over: threading.Event) -> None:
    """Print the words of the call that begins now, until it ends, or some time after it is `over`."""
    known = set(calls_dir.iterdir())
    tail: EventTail | None = None
    patience = int(_LAST_EVENTS_S / _FOLLOW_S)
    with contextlib.ExitStack() as files:
        while patience:
            patience -= over.wait(_FOLLOW_S)
            if over.is_set():
                time.sleep(_FOLLOW_S)
            if tail is None:
                new = [path for path in calls_dir.iterdir() if path not in known and path.is_dir()]
                if not new:
                    continue
                tail = files.enter_context(EventTail(new[0], keys))
            for event in tail:
                for text in tell(event):
                    console.print(text)
                if event["event"] == "CallEnded":
                    return


def tell(event: dict[str, Any]) -> Iterator[str]:
    """One event of events.jsonl in words, for a terminal (rich markup)."""
    kind = event["event"]
    if kind == "Fault":
        yield f"         [red]fault in {escape(event['where'])}: {escape(event['detail'])}[/red]"
    if "at_s" not in event:
        return
    at = f"[dim]{event['at_s']:6.1f} s[/dim]"
    if kind == "CallerTurn":
        yield f"{at}  [cyan]caller[/cyan]  {escape(event['text'])}"
    elif kind == "AgentClause":
        yield f"{at}  [yellow]agent[/yellow]   {escape(event['text'])}"
    elif kind == "AgentTurn" and event["interrupted"]:
        yield f'{at}  [red]interrupted; the caller heard: "{escape(event["heard"])}"[/red]'
    elif kind == "KeyReceived":
        yield f"{at}  [cyan]key[/cyan]     {escape(event['digit'])}"
    elif kind == "CallEnded":
        yield f"{at}  [dim]{escape(event['reason'])}[/dim]"


def _folder_of(calls_dir: Path, report: Report) -> Path:
    folder = calls_dir / report.call_sid
    if not folder.is_dir():
        raise CommandError(f"the server kept nothing of the call in {folder}")
    return folder


def _finished_transcript(folder: CallFolder) -> dict[str, Any]:
    """The transcript once the server has written the call's end into it. Blocks for some seconds at most."""
    deadline = time.monotonic() + _TRANSCRIPT_LIMIT_S
    while True:
        document = folder.transcript()
        if document["outcome"] is not None or time.monotonic() > deadline:
            return document
        time.sleep(_FOLLOW_S)


def _stages(transcript: dict[str, Any]) -> Table:
    table = Table("turn", title="Stages, ms after the caller fell silent")
    for name, _ in _STAGES:
        table.add_column(name, justify="right", no_wrap=True)
    for turn in transcript["turns"]:
        silent_s = turn["times"].get("speech_end_s")
        if silent_s is not None:
            reached = [turn["times"][stage] for _, stage in _STAGES]
            cells = [number(None if at is None else (at - silent_s) * 1000) for at in reached]
            table.add_row(str(turn["turn"]), *cells)
    return table
