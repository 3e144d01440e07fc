"""The store of a server, beside its recordings."""

from collections.abc import Callable

from infra.records.keys import KeyRing
from infra.records.recorder import CallRecords
from infra.settings import Settings
from infra.store.store import CallStore
from pipeline.events import CallObserver, Observers
from pipeline.line import LineInfo


def open_store(settings: Settings, keys: KeyRing, *, writing: bool = True) -> CallStore | None:
    """None where the settings want none. Blocks. Raises `StoreError`, `RecordingKeyError`."""
    if not settings.store.enabled:
        return None
    return CallStore.open(
        settings.store,
        settings.calls_dir,
        settings.recording,
        keys,
        keep_words=settings.record,
        writing=writing,
    )


def watch_with(
    records: CallRecords | None, store: CallStore | None
) -> Callable[[LineInfo], CallObserver | None]:
    """Gives each call its recorder and its place in the store, which knows where the recording lies."""

    def watch(info: LineInfo) -> CallObserver | None:
        recorder = records.observer(info) if records is not None else None
        if store is None:
            return recorder
        if recorder is None:
            return store.observer(info)
        return Observers(recorder, store.observer(info, lambda: recorder.folder))

    return watch
