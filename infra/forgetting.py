"""Forgets a caller: what is stored of their calls, their recordings, and that their number was dialled."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.office import LEDGER
from infra.records.keys import KeyRing, RecordingKeyError
from infra.records.reader import RecordingError, list_calls
from infra.records.retention import delete_call
from infra.settings import Settings
from infra.store.rows import Forgotten
from infra.store.store import CallStore
from infra.store.words import same_number


@dataclass(slots=True)
class ForgottenCaller:
    """What was deleted, and what was not. Of folders that stay it says why."""

    number: str
    stored: Forgotten | None = None
    """None where there is no store."""
    folders: list[Path] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    """`host:folder` of recordings on other machines."""
    unreadable: list[Path] = field(default_factory=list)
    """Calls of which it cannot be told whose they are: damaged, or without their key."""
    named_in: list[Path] = field(default_factory=list)
    """Recordings of other callers, who left this number with a message."""
    dialled: int = 0
    on_do_not_call: bool = False

    @property
    def complete(self) -> bool:
        on = self.stored.on_now if self.stored is not None else ()
        return not (self.kept or self.elsewhere or self.unreadable or self.named_in or on)


def forget_caller(settings: Settings, number: str, keys: KeyRing, store: CallStore | None) -> ForgottenCaller:
    """Works while servers run, and may be done again: what could not be deleted is deleted then. Entries of
    the do-not-call list stay, for they are what keeps the number from being called. Blocks. Raises
    `StoreUnavailable`, and `OSError` for the ledger and the list."""
    wanted = same_number(number)
    report = ForgottenCaller(wanted)
    theirs = set(_recorded(settings.calls_dir, keys, wanted, report))
    if store is not None:
        report.stored = store.forget(number)
        here = socket.gethostname()
        for place in report.stored.recordings:
            if place.host == here:
                theirs.add(Path(place.folder))
            else:
                report.elsewhere.append(f"{place.host}:{place.folder}")
    for folder in sorted(theirs):
        existed = folder.exists()
        if why := delete_call(folder):
            report.kept[folder] = why
        elif existed:
            report.folders.append(folder)
    report.dialled = CallLedger(settings.calls_dir / LEDGER).forget(wanted)
    report.on_do_not_call = wanted in DoNotCall(settings.outbound.do_not_call).numbers()
    return report


def _recorded(root: Path, keys: KeyRing, wanted: str, report: ForgottenCaller) -> Iterator[Path]:
    """Folders of the caller's calls, whether the store knows them or not."""
    try:
        calls = list_calls(root, keys)
    except RecordingError:
        return
    for call in calls:
        try:
            document = call.transcript()
            told = document["call"]
            if wanted in (same_number(told["caller"]), same_number(told["called"])):
                yield call.path.absolute()
            elif any(same_number(message["number"]) == wanted for message in document["messages"]):
                report.named_in.append(call.path)
        except (RecordingError, RecordingKeyError, KeyError, TypeError, AttributeError):
            # One that has just begun has no transcript yet; who it is, the store knows.
            if not call.live:
                report.unreadable.append(call.path)
