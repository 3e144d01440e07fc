"""From a finished call to its report."""

from collections.abc import Callable, Sequence
from pathlib import Path

from telephony.simulator.caller import Caller
from telephony.simulator.expectations import Evidence, judge
from telephony.simulator.report import (
    Report,
    ServerTurn,
    account_of,
    overlap_reports,
    turn_reports,
    write_recording,
)

Transcripts = Callable[[str], Sequence[ServerTurn] | None]
"""From a call id to the server's account of its turns, if it has one."""


def conclude(
    caller: Caller,
    *,
    recording_dir: Path | str | None = None,
    transcripts: Transcripts | None = None,
    after_twiml: str | None = None,
    violations: Sequence[str] = (),
) -> Report:
    """Measure, record and report. `violations` are those beyond the stream's. Blocks; writes one file at
    most."""
    hearing = caller.hearing()
    call_sid = caller.twilio.identity.call_sid
    recording = None
    if recording_dir is not None:
        recording = write_recording(Path(recording_dir), f"{caller.scenario.name}-{call_sid[-8:]}", hearing)
    told = transcripts(call_sid) if transcripts else None
    account = account_of(hearing, told)
    turns = turn_reports(hearing, account.turns)
    overlaps = overlap_reports(hearing, account.overlaps)
    ending = caller.ending or "connection dropped"
    evidence = Evidence(
        hearing=hearing,
        turns=turns[len(turns) - len(hearing.turns) :],
        overlaps=overlaps,
        server=None if told is None else account.turns,
        ending=ending,
        violations=(*caller.twilio.violations, *violations),
        recording=recording,
    )
    return Report(
        turns=turns,
        violations=tuple(evidence.violations),
        recording=recording,
        ending=ending,
        duration_s=hearing.duration_s,
        call_sid=call_sid,
        after_twiml=after_twiml,
        hearing=hearing,
        overlaps=overlaps,
        verdicts=judge(caller.scenario, caller.referents, evidence),
        name=caller.scenario.name,
        drops=tuple(caller.drops),
    )
