"""/healthz, /readyz and /metrics of a server with stand-in models."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from infra.access.front import Front
from infra.access.keys import new_key
from infra.app import create_app
from infra.calls import Calls, open_calls
from infra.loading import load
from infra.observe.health import Checks, lives
from infra.observe.observatory import open_observatory
from infra.settings import Settings
from infra.ways_in import open_ways_in


def settings(tmp_path: Path, **changes: object) -> Settings:
    return Settings.model_validate(
        {"insecure": True, "profile": "scripted", "calls_dir": tmp_path / "calls", **changes}
    )


@asynccontextmanager
async def running(
    settings: Settings, peer: str = "127.0.0.1"
) -> AsyncIterator[tuple[Calls, httpx.AsyncClient]]:
    async with (
        open_calls(settings, lambda: load(settings)) as calls,
        open_ways_in(settings, calls) as ways,
        open_observatory(settings, calls, ways) as observatory,
    ):
        app = create_app(settings, calls, ways, observatory)
        transport = httpx.ASGITransport(app, client=(peer, 5000))
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_base_url) as client:
            yield calls, client


def test_checks_name_what_is_wrong() -> None:
    checks = Checks()
    checks.watch("hub", lives(lambda: True))
    checks.watch("store", lives(lambda: False))
    assert checks.faults() == {"store": "dead"}
    checks.forget("store")
    assert checks.faults() == {}

    def raises() -> str:
        raise RuntimeError("secret")

    checks.watch("odd", raises)
    assert checks.faults() == {"odd": "cannot be asked: RuntimeError"}


async def test_all_is_well(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, client):
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert {"status": "ready", "live_calls": 0, "in_use": 0}.items() <= ready.json().items()


async def test_a_dead_voice_hub_is_named(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (calls, client):
        task = calls._service._hub_task
        assert task is not None
        task.cancel()
        await client.get("/healthz")
        health = await client.get("/healthz")
        assert (health.status_code, health.json()["dead"]) == (503, {"voice detection": "dead"})
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")


async def test_a_dead_recorder_is_named(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (calls, client):
        records = calls.records
        assert records is not None
        assert isinstance(records._thread, threading.Thread)
        records._queue.put(None)
        records._thread.join(10)
        health = await client.get("/healthz")
        assert health.status_code == 503
        assert health.json()["dead"] == {"recordings": "their writer is dead"}


async def test_a_closed_sip_server_is_named(tmp_path: Path) -> None:
    house = settings(tmp_path, sip={"host": "127.0.0.1", "port": 0, "allow": ["127.0.0.1/32"]})
    async with (
        open_calls(house, lambda: load(house)) as calls,
        open_ways_in(house, calls) as ways,
    ):
        assert ways.sip is not None
        assert calls.vital.faults() == {}
        await ways.sip._shell.close()
        assert calls.vital.faults() == {"sip": "its sockets are closed"}


async def test_draining_is_not_ready_and_lives(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (calls, client):
        await calls.drain(0.0)
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        assert ready.json()["reasons"] == {"draining": "no new calls are taken"}


@pytest.mark.parametrize(("full_is_ready", "status"), [(True, 200), (False, 503)])
async def test_a_full_house_is_ready_unless_told_otherwise(
    tmp_path: Path, full_is_ready: bool, status: int
) -> None:
    house = settings(tmp_path, capacity={"calls": 1}, observe={"full_is_ready": full_is_ready})
    async with running(house) as (calls, client):
        assert (await client.get("/readyz")).status_code == 200
        assert calls.admission.take("CA1")
        ready = await client.get("/readyz")
        assert ready.status_code == status
        if status == 503:
            assert ready.json()["reasons"] == {"places": "all 1 places are taken"}


async def test_whoever_sits_at_this_machine_may_scrape(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, client):
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        for name in (
            "maya_build_info",
            "maya_slots",
            "maya_event_loop_lag_worst_seconds",
            "process_open_fds",
        ):
            assert f"# TYPE {name} " in answer.text
        assert "maya_healthy 1.0" in answer.text
        openmetrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("mode", "peer", "headers", "status"),
    [
        ("loopback", "127.0.0.1", {}, 200),
        # Through a proxy on this machine everybody comes from 127.0.0.1.
        ("loopback", "127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, 401),
        ("loopback", "127.0.0.1", {"Cf-Connecting-Ip": "203.0.113.9"}, 401),
        # A page whose name was pointed at this machine.
        ("loopback", "127.0.0.1", {"Host": "evil.example"}, 401),
        ("loopback", "203.0.113.9", {}, 401),
        ("viewers", "127.0.0.1", {}, 401),
        ("off", "127.0.0.1", {}, 404),
    ],
)
async def test_who_may_scrape(
    tmp_path: Path, mode: str, peer: str, headers: dict[str, str], status: int
) -> None:
    key, line = _key("metrics")
    house = settings(tmp_path, access={"keys": [line]}, observe={"metrics": mode})
    async with running(house, peer) as (_, client):
        assert (await client.get("/metrics", headers=headers)).status_code == status
        if mode != "off" and peer == "127.0.0.1":
            shown = {**headers, "Authorization": f"Bearer {key}"}
            assert (await client.get("/metrics", headers=shown)).status_code == 200
            wrong = {**headers, "Authorization": "Bearer maya_wrong"}
            expected = 200 if status == 200 else 401
            assert (await client.get("/metrics", headers=wrong)).status_code == expected


async def test_the_key_that_scrapes_opens_nothing_else(tmp_path: Path) -> None:
    key, line = _key("metrics")
    async with running(settings(tmp_path, access={"keys": [line]})) as (_, client):
        shown = {"Authorization": f"Bearer {key}"}
        for path in ("/console", "/console/live", "/console/calls/CA1/audio.wav", "/whoami"):
            assert (await client.get(path, headers=shown)).status_code == 403, path


def _key(role: str) -> tuple[str, str]:
    """A new key, and its line for the settings."""
    key, digest = new_key()
    return key, f"prometheus:{role}:2099-12-31:{digest}"


async def test_requests_are_counted_by_route_and_not_by_address(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, client):
        await client.get("/healthz")
        for number in range(20):
            await client.get(f"/no-such-page-{number}")
        await client.post("/twilio/status", data={"CallSid": "CA1"})
        text = (await client.get("/metrics")).text
        assert 'maya_http_requests_total{route="/healthz",status="200"} 1.0' in text
        assert 'maya_http_requests_total{route="unknown",status="404"} 20.0' in text
        assert "no-such-page" not in text


async def test_requests_that_the_guard_turns_away_are_counted(tmp_path: Path) -> None:
    house = settings(tmp_path)
    async with running(house) as (_, client):
        app = client._transport.app  # type: ignore[attr-defined]
        guarded = httpx.ASGITransport(Front(app, house.access).app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=guarded, base_url=house.public_base_url) as outside:
            for _ in range(2):
                assert (await outside.post("/login", content=b"x" * 70_000)).status_code == 413
        assert 'maya_http_turned_away_total{status="413"} 2.0' in (await client.get("/metrics")).text


async def test_what_is_watched_is_given_back(tmp_path: Path) -> None:
    handlers = logging.getLogger().handlers[:]
    threads = {thread.name for thread in threading.enumerate()}
    async with running(settings(tmp_path)) as (calls, _):
        await asyncio.sleep(0)
        assert any(thread.name == "loop-watch" for thread in threading.enumerate())
        assert len(logging.getLogger().handlers) == len(handlers) + 1
        assert calls.watchers
    assert logging.getLogger().handlers == handlers
    for thread in threading.enumerate():
        if thread.name == "loop-watch":
            thread.join(5)
    assert "loop-watch" not in {t.name for t in threading.enumerate()} - threads
