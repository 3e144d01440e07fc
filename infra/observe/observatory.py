"""Everything that looks at one server, put together and taken apart again."""

import asyncio
import importlib.metadata
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from infra.calls import Calls
from infra.observe.call_metrics import CallMetrics
from infra.observe.house import HouseCollector, Reading, Source
from infra.observe.loop_lag import LoopLag
from infra.observe.metrics import Metrics
from infra.observe.routes import count_requests, metrics_router
from infra.observe.settings import ObserveSettings
from infra.observe.tracing import Traces
from infra.settings import Settings
from infra.ways_in import WaysIn
from pipeline.events import CallObserver
from pipeline.line import LineInfo


class Observatory:
    """Made by `open_observatory`, before the first call. `install` gives an application that has its
    door its /metrics."""

    def __init__(self, settings: ObserveSettings, metrics: Metrics, house: HouseCollector) -> None:
        self._settings = settings
        self.metrics = metrics
        self.house = house

    def watch(self, info: LineInfo) -> CallObserver:
        return CallMetrics(self.metrics, info)

    def install(self, app: FastAPI) -> None:
        count_requests(app, self.metrics)
        app.include_router(metrics_router(self._settings, self.metrics, self.house))
        turned_away = app.state.door.turned_away
        self.house.add(
            Source(
                "maya_http_turned_away",
                "Requests that were answered in the routes' place: too many, too long or too slow.",
                lambda: [((str(status),), float(count)) for status, count in turned_away.items()],
                "counter",
                ("status",),
            )
        )


class _CountLines(logging.Handler):
    """Lines that warn or worse."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(logging.WARNING)
        self._counter = metrics.log_records

    def emit(self, record: logging.LogRecord) -> None:
        self._counter.labels(record.levelname.lower()).inc()


def check_observe(settings: Settings) -> None:
    """What `open_observatory` would only find out when the models have been loaded. Raises
    `ObserveConfigError`."""
    if settings.observe.traces_endpoint:
        Traces(settings.observe).close()


@asynccontextmanager
async def open_observatory(
    settings: Settings, calls: Calls, ways: WaysIn | None = None
) -> AsyncIterator[Observatory | None]:
    """Looks at `calls` until the block is left; None where [observe] wants no metrics. Traces and the warning
    of a slow event loop are there either way. Raises `ObserveConfigError`."""
    observe = settings.observe
    metrics = Metrics()
    house = HouseCollector(metrics.registry)
    lag = LoopLag(metrics.loop_lag.labelled().observe, observe.slow_loop_s)
    house.add(*_sources(settings, calls, ways, lag))
    observatory = Observatory(observe, metrics, house)
    counting = _CountLines(metrics)
    traces = None
    if observe.traces_endpoint:
        traces = Traces(
            observe,
            version=_version(),
            count=lambda result, spans: metrics.spans.labels(result).inc(spans),
        )
        calls.watchers.append(traces.observer)
    if observe.metrics != "off":
        calls.watchers.append(observatory.watch)
        logging.getLogger().addHandler(counting)
    looking = asyncio.create_task(lag.run(), name="loop-lag")
    try:
        yield observatory if observe.metrics != "off" else None
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        logging.getLogger().removeHandler(counting)
        if traces is not None:
            await asyncio.to_thread(traces.close)


def _sources(settings: Settings, calls: Calls, ways: WaysIn | None, lag: LoopLag) -> Sequence[Source]:
    """What the parts of this house can tell."""
    admission = calls.admission

    def build() -> list[Reading]:
        python = ".".join(map(str, sys.version_info[:3]))
        return [((_version(), settings.profile, python), 1.0)]

    def slots(which: int) -> list[Reading]:
        return [((model,), float(use[which])) for model, use in admission.view().models.items()]

    def turned_away() -> list[Reading]:
        view = admission.view()
        counts = {"refused": view.refused, "lease ran out": view.expired, "never began": view.unstarted}
        return [((why,), float(count)) for why, count in counts.items()]

    def orders() -> list[Reading]:
        dialler = calls.dialler
        if dialler is None:
            return []
        return [((state,), float(count)) for state, count in dialler.counted().items()]

    sources = [
        Source("maya_build_info", "What runs: always 1.", build, labels=("version", "profile", "python")),
        Source("maya_draining", "1 while no new calls are taken.", lambda: float(calls.draining)),
        Source("maya_ready", "1 while /readyz says so.", lambda: float(not calls.unwelcome())),
        Source("maya_healthy", "1 while /healthz says so.", lambda: float(not calls.vital.faults())),
        Source(
            "maya_event_loop_lag_worst_seconds",
            "The longest that the event loop was late in the last minute.",
            lambda: lag.worst_s,
        ),
        Source(
            "maya_slots_in_use", "Places of each model that calls have.", lambda: slots(0), labels=("model",)
        ),
        Source("maya_slots", "Places that each model has.", lambda: slots(1), labels=("model",)),
        Source("maya_calls_ringing", "Calls with a place that have not begun.", lambda: admission.ringing),
        Source(
            "maya_calls_waiting", "Callers who hold the line for a place.", lambda: admission.view().waiting
        ),
        Source(
            "maya_calls_turned_away",
            "Calls that found no place, never began, or were ended because they showed no life.",
            turned_away,
            "counter",
            ("why",),
        ),
        Source(
            "maya_calls_overdue",
            "Calls whose lease ran out and that have still not ended.",
            lambda: admission.view().overdue,
        ),
        Source(
            "maya_outbound_orders",
            "Calls that we make, by the state that they are in.",
            orders,
            labels=("state",),
        ),
    ]
    if (records := calls.records) is not None:
        sources += [
            Source(
                "maya_recording_backlog_events",
                "Events of calls that wait for the disk.",
                lambda: records.backlog,
            ),
            Source(
                "maya_recording_dropped_events",
                "Pieces of sound that a disk too slow has cost.",
                lambda: records.dropped,
                "counter",
            ),
        ]
    if (store := calls.store) is not None:
        sources += [
            Source(
                "maya_store_journal_bytes",
                "What waits on disk for the database.",
                lambda: store.waiting_bytes,
            ),
            Source(
                "maya_store_lost_rows",
                "Rows that found room nowhere, or that the database refused.",
                lambda: store.lost,
                "counter",
            ),
            Source(
                "maya_store_away",
                "1 while the database cannot be reached, or is slow.",
                lambda: float(store.away),
            ),
        ]
    if (cluster := calls.cluster) is not None:
        sources += [
            Source(
                "maya_cluster_replicas",
                "Replicas of each model that answer this front-end.",
                lambda: [((str(role),), float(number)) for role, number in cluster.fleet.serving().items()],
                labels=("model",),
            ),
            Source(
                "maya_cluster_moved_calls",
                "Calls that another replica took over, by the model.",
                lambda: [((str(role),), float(number)) for role, number in cluster.fleet.moved.items()],
                "counter",
                ("model",),
            ),
        ]
    if ways is not None and (sip := ways.sip) is not None:
        sources += [
            Source(
                "maya_rtp_packets_skipped",
                "Packets of SIP calls that were never sent, because the process stood still for too long.",
                lambda: sip.packets_skipped,
                "counter",
            ),
        ]
    return sources


def _version() -> str:
    try:
        return importlib.metadata.version("maya-voice")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
