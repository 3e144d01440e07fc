import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from infra.app import create_app
from infra.calls import Calls, open_calls
from infra.loading import load
from infra.server import bind, serve
from infra.settings import Settings, SettingsError
from models.base import ModelMissing, Models
from pipeline.documents import DocumentError
from telephony.simulator.virtual_loop import run_virtual
from telephony.twilio.errors import TwilioConfigError


def settings(tmp_path: Path, **changes: object) -> Settings:
    return Settings.model_validate(
        {"insecure": True, "profile": "scripted", "calls_dir": tmp_path / "calls", **changes}
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[FastAPI, Calls, httpx.AsyncClient]]:
    async with open_calls(settings, lambda: load(settings)) as calls:
        app = create_app(settings, calls)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_base_url) as client:
            yield app, calls, client


async def test_healthy_and_ready(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, _, client):
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.json() | {"live_calls": 0, "in_use": 0, "of": 100} == ready.json()
        rings = await client.post("/twilio/voice", data={"CallSid": "CA1", "From": "+491", "To": "+492"})
        assert rings.status_code == 200
        assert "<Connect>" in rings.text


async def test_while_draining_new_calls_go_to_the_fallback_and_old_ones_still_end_well(
    tmp_path: Path,
) -> None:
    async with running(settings(tmp_path)) as (_, calls, client):
        await calls.drain(0.0)
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        for spelling in ("/twilio/voice", "/twilio/voice/"):
            assert (await client.post(spelling, data={"CallSid": "CA2"})).status_code == 503
        assert (await client.post("/twilio/after", data={"CallSid": "CA2"})).status_code == 200


async def test_a_balancer_that_has_not_noticed_yet_loses_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.calls._BURST_S", 0.0)
    async with running(settings(tmp_path)) as (_, calls, client):
        for _ in range(2):
            assert (await client.get("/readyz")).status_code == 200
        draining = asyncio.create_task(calls.drain(60.0))
        await asyncio.sleep(0)
        assert (await client.get("/readyz")).status_code == 503
        rings = await client.post("/twilio/voice", data={"CallSid": "CA1", "From": "+491", "To": "+492"})
        assert rings.status_code == 200
        assert "<Connect>" in rings.text
        assert rings.headers["connection"] == "close"
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        assert (await client.post("/twilio/voice", data={"CallSid": "CA2"})).status_code == 503


async def test_callers_hold_the_line_where_the_settings_say_so(tmp_path: Path) -> None:
    waits = {"calls": 1, "when_full": "wait", "wait_words": "One moment.", "wait_limit_s": 10}
    async with running(settings(tmp_path, capacity=waits)) as (_, calls, client):

        async def post(path: str, call_sid: str) -> str:
            fields = {"CallSid": call_sid, "From": "+491", "To": "+492", "CallStatus": "completed"}
            return (await client.post(path, data=fields)).text

        assert "<Connect>" in await post("/twilio/voice", "CA1")
        told = await post("/twilio/voice", "CA2")
        assert "<Say>One moment.</Say>" in told
        assert "/twilio/waiting?asked=1</Redirect>" in told
        await post("/twilio/status", "CA1")
        assert "<Connect>" not in await post("/twilio/voice", "CA3"), "the place is for who waits"
        assert "<Connect>" in await post("/twilio/waiting?asked=1", "CA2")
        assert "busy" in await post("/twilio/waiting?asked=2", "CA3")
        assert calls.admission.view().waiting == 0
        calls.draining = True
        assert (await client.post("/twilio/waiting?asked=1", data={"CallSid": "CA4"})).status_code == 503


async def test_no_page_is_served_by_accident(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, _, client):
        for path in ("/docs", "/redoc", "/openapi.json", "/"):
            assert (await client.get(path)).status_code == 404


class FakeService:
    """Calls that last for a while, or until they are told to say goodbye."""

    def __init__(self, lasts_s: float, goodbye_s: float = 2.0) -> None:
        loop = asyncio.get_running_loop()
        self._ends_s = loop.time() + lasts_s
        self._goodbye_s = goodbye_s
        self.told_to_end = False

    @property
    def live_calls(self) -> int:
        return int(asyncio.get_running_loop().time() < self._ends_s)

    def end_politely(self) -> None:
        self.told_to_end = True
        self._ends_s = asyncio.get_running_loop().time() + self._goodbye_s


@pytest.mark.parametrize(
    ("lasts_s", "limit_s", "goodbye_s", "waited_s", "told"),
    [(0, 60, 2, 0, False), (30, 60, 2, 32, False), (600, 60, 2, 64, True), (600, 60, 1e6, 72, True)],
)
def test_draining_waits_then_says_goodbye_then_gives_up(
    lasts_s: float, limit_s: float, goodbye_s: float, waited_s: float, told: bool
) -> None:
    async def drain() -> tuple[float, bool]:
        service = FakeService(lasts_s, goodbye_s)
        await Calls(service).drain(limit_s)  # type: ignore[arg-type]
        return asyncio.get_running_loop().time(), service.told_to_end

    took_s, was_told = run_virtual(drain())
    assert took_s == pytest.approx(waited_s, abs=0.5)
    assert was_told is told


def test_a_second_signal_ends_the_drain_at_once() -> None:
    async def drain() -> float:
        loop = asyncio.get_running_loop()
        await Calls(FakeService(600)).drain(300, lambda: loop.time() > 5)  # type: ignore[arg-type]
        return loop.time()

    assert run_virtual(drain()) == pytest.approx(5, abs=0.5)


async def test_models_are_closed_when_the_start_fails(tmp_path: Path) -> None:
    persona = tmp_path / "p.toml"
    persona.write_text('name = "M"\ngreeting = "Hi."\nsystem = "Help."\n[voice]\nname = "nobody"\n')
    config = settings(tmp_path, persona=persona)
    closed: list[str] = []

    class Broken:
        async def open(self, voice: str = "", *, speed: float = 1.0) -> None:
            raise ModelMissing("no such voice")

        async def aclose(self) -> None:
            closed.append("voice")

    def load_broken() -> Models:
        sound = load(config)
        return Models(sound.transcriber, sound.chat, Broken(), sound.voice_activity)  # type: ignore[arg-type]

    with pytest.raises(ModelMissing, match="no such voice"):
        async with open_calls(config, load_broken):
            pass
    assert closed == ["voice"]


def test_an_unreadable_persona_stops_the_start_before_models_load(tmp_path: Path) -> None:
    persona = tmp_path / "p.toml"
    persona.write_text('name = "M"\ngreting = "Hi."\n')

    async def start() -> None:
        async with open_calls(settings(tmp_path, persona=persona), lambda: pytest.fail("models were loaded")):
            pass

    with pytest.raises(DocumentError, match=r"p\.toml:2"):
        asyncio.run(start())


def test_a_taken_port_is_said_before_models_load(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            serve(settings(tmp_path, port=port))
    assert "--port" in str(caught.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_said(host: str) -> None:
    with pytest.raises(SettingsError, match="cannot listen"):
        bind(host, 0)


def test_without_a_token_it_refuses_to_serve(tmp_path: Path) -> None:
    with pytest.raises(TwilioConfigError, match="auth token"):
        serve(settings(tmp_path, insecure=False))
