"""What calls of this server live by, and what stands against new ones: for /healthz and /readyz."""

from functools import partial
from typing import TYPE_CHECKING

from infra.observe.health import lives
from infra.settings import Settings
from models.base import Models
from pipeline.service import CallService

if TYPE_CHECKING:
    from infra.calls import Calls

_MIB = 1 << 20


def watch_house(settings: Settings, calls: "Calls", service: CallService, models: Models) -> None:
    """Before the first call. Ways in add themselves as they open."""
    calls.vital.watch("voice detection", lives(lambda: service.hears))
    for name, model in (
        ("transcriber", models.transcriber),
        ("language model", models.chat),
        ("voice", models.synthesizer),
    ):
        # Of the models that run on a thread of their own, those that can tell whether it does.
        calls.vital.watch(name, lives(partial(getattr, model, "alive", True)))
    if (records := calls.records) is not None:
        calls.vital.watch("recordings", lives(lambda: records.alive, "their writer is dead"))
    if (store := calls.store) is not None:
        calls.vital.watch("store", lives(lambda: store.alive, "its writer is dead"))
        limit = settings.store.journal_mib * _MIB

        def journal() -> str:
            return "the database is away, and the journal is full" if store.waiting_bytes >= limit else ""

        calls.welcome.watch("store", journal)

    calls.welcome.watch("draining", lambda: "no new calls are taken" if calls.draining else "")
    calls.welcome.watch("cluster", lambda: calls.cluster.check() if calls.cluster is not None else "")
    if not settings.observe.full_is_ready:

        def places() -> str:
            places = calls.admission.view()
            return f"all {places.of} places are taken" if places.full else ""

        calls.welcome.watch("places", places)
