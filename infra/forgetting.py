"""Forgets a caller: what is stored of their calls, their recordings, and that their number was dialled."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.office import LEDGER
from infra.records.keys import KeyRing
from infra.settings import Settings
from infra.store.errors import StoreError
from infra.store.leftovers import deleted
from infra.store.rows import Forgotten, Leftover
from infra.store.store import CallStore
from infra.store.whose import look_through
from infra.store.words import same_number

log = logging.getLogger(__name__)

HOST: Final = socket.gethostname()
STORE: Final = "the store"


@dataclass(slots=True)
class ForgottenCaller:
    """What was deleted, and what was not. Of folders that stay it says why."""

    number: str
    stored: Forgotten | None = None
    """None where there is no store, or it could not be asked."""
    folders: list[Path] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    """`host:folder` of recordings on other machines, whose servers delete them within a day."""
    unreadable: list[Path] = field(default_factory=list)
    """Calls of which it cannot be told whose they are: damaged, or without their key."""
    named_in: list[Path] = field(default_factory=list)
    """Recordings of other callers, who left this number with a message."""
    dialled: int = 0
    on_do_not_call: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be looked up, and why: nothing is known of what lies there."""

    @property
    def complete(self) -> bool:
        on = self.stored.on_now if self.stored is not None else ()
        left = self.kept or self.elsewhere or self.unreadable or self.named_in or self.failed
        return not (left or on)


def forget_caller(
    settings: Settings, number: str, keys: KeyRing, store: CallStore | None, *, no_store: str = ""
) -> ForgottenCaller:
    """Works while servers run, and may be done again: what could not be deleted is deleted then, and by the
    servers once a day, as far as the store remembers it. `no_store` says why there is none, though there
    should be. Entries of the do-not-call list stay, for they are what keeps the number from being called.

    Blocks. What fails is named in the result, and in the log; the rest is done. Raises nothing."""
    wanted = same_number(number)
    report = ForgottenCaller(wanted)
    root = settings.calls_dir.absolute()
    if no_store:
        report.failed[STORE] = no_store
    found = look_through(root, keys, lambda other: same_number(other) == wanted)
    report.named_in, report.unreadable = found.named_in, found.unreadable
    left: tuple[Leftover, ...] = ()
    if store is not None:
        with _told(report, STORE):
            report.stored = store.forget(number)
            left = report.stored.left
    # Where nothing was ever recorded there is no folder: that the store knows.
    blind = found.failed if found.exists or report.stored is None or _here(left) else {}
    report.failed |= {str(path): why for path, why in blind.items()}
    if report.stored is None:
        # With a store it is known who they are.
        why = "a call that is on, of which it is not written yet whose it is"
        report.failed |= dict.fromkeys(map(str, found.begun), why)
    gone = _delete(report, {*found.theirs}, left)
    if store is not None:
        with _told(report, STORE):
            if blind or found.unreadable or not report.kept.keys().isdisjoint(found.theirs):
                store.leave(number, root)
            else:
                gone += [one for one in left if one.below and (one.host, one.folder) == (HOST, str(root))]
            store.settle(gone)
    with _told(report, str(root / LEDGER)):
        report.dialled = CallLedger(root / LEDGER).forget(wanted)
    with _told(report, str(settings.outbound.do_not_call)):
        report.on_do_not_call = wanted in DoNotCall(settings.outbound.do_not_call).numbers()
    for what, why in report.failed.items():
        log.error("%s could not be looked up: %s", what, why)
    return report


def _delete(report: ForgottenCaller, theirs: set[Path], left: tuple[Leftover, ...]) -> list[Leftover]:
    """Those of `left` that are gone."""
    here = {Path(one.folder) for one in left if one.host == HOST and not one.below}
    for folder in sorted(theirs | here):
        existed = os.path.lexists(folder)
        if why := deleted(folder):
            report.kept[folder] = why
        elif existed:
            report.folders.append(folder)
    gone = []
    for one in left:
        folder = Path(one.folder)
        # A container has a new name each time, and the same disk.
        if one.host == HOST or (folder in theirs and folder not in here):
            if not one.below and folder not in report.kept:
                gone.append(one)
        else:
            report.elsewhere.append(f"{one.host}:{folder}")
    return gone


def _here(left: tuple[Leftover, ...]) -> bool:
    return any(one.host == HOST for one in left)


@contextmanager
def _told(report: ForgottenCaller, what: str) -> Iterator[None]:
    try:
        yield
    except (StoreError, OSError, UnicodeDecodeError) as error:
        report.failed[what] = (error.strerror if isinstance(error, OSError) else "") or str(error)
