"""What the console answers, and to whom."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from infra.access.keys import ApiKey, Role, new_key
from infra.app import create_app
from infra.calls import Calls, open_calls
from infra.loading import load
from infra.records.recorder import CallRecords
from infra.settings import Settings
from tests.infra.call_files import constructed_call

PATHS = (
    *("/console/me", "/console/live", "/console/calls", "/console/charts", "/console/calls/CAconstructed"),
    *("/console/calls/CAconstructed/outline", "/console/calls/CAconstructed/audio.wav"),
    "/console/calls/CAconstructed/transcript.txt",
)


def key_of(role: Role) -> tuple[dict[str, str], str]:
    """Headers that show a key, and the settings' line of it."""
    key, digest = new_key()
    return {"Authorization": f"Bearer {key}"}, ApiKey(role, role, None, digest).line()


@asynccontextmanager
async def running(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Calls, httpx.AsyncClient]]:
    told = {"insecure": True, "profile": "scripted", "calls_dir": tmp_path / "calls", "talk": False}
    settings = Settings.model_validate(told | changes)
    async with open_calls(settings, lambda: load(settings)) as calls:
        transport = httpx.ASGITransport(create_app(settings, calls), client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url=settings.public_base_url) as client:
            yield calls, client


async def record(calls: Calls, root: Path) -> Path:
    store = calls.store
    assert store is not None
    folder = constructed_call(root, records=CallRecords(root, inline=True), also=store.observer)
    assert await asyncio.to_thread(store.flush)
    return folder


async def test_nothing_is_told_to_strangers_and_calls_are_ended_by_operators(tmp_path: Path) -> None:
    viewer, viewers = key_of("viewer")
    operator, operators = key_of("operator")
    access = {"keys": (viewers, operators)}
    async with running(tmp_path, insecure=False, auth_token="a" * 32, access=access) as (calls, client):
        await record(calls, tmp_path / "calls")
        for path in PATHS:
            refused = await client.get(path)
            assert refused.status_code == 401, path
            assert "constructed" not in refused.text
        page = await client.get("/console")
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=/console")
        assert (await client.post("/console/live/CA1/end")).status_code == 401
        assert (await client.post("/console/live/CA1/end", headers=viewer)).status_code == 403
        assert (await client.post("/console/live/CA1/end", headers=operator)).status_code == 404
        assert (await client.get("/console/me", headers=viewer)).json()["ends_calls"] is False
        assert (await client.get("/console/me", headers=operator)).json()["ends_calls"] is True
        for path in PATHS[2:]:
            assert (await client.get(path, headers=viewer)).status_code == 200, path


async def test_every_answer_has_its_policies(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, client):
        await record(calls, tmp_path / "calls")
        for path in ("/console", "/console/static/main.js", "/console/static/look.css", "/console/calls"):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert "script-src 'self';" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        page = (await client.get("/console")).text
        assert "<script>" not in page
        assert "style=" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert (await client.get("/console/static/..%2froutes.py")).status_code == 404
        assert (await client.get("/console/static/routes.py")).status_code == 404
        again = await client.get(
            "/console", headers={"If-None-Match": (await client.get("/console")).headers["etag"]}
        )
        assert again.status_code == 304


async def test_any_part_of_the_sound(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, client):
        await record(calls, tmp_path / "calls")
        url = "/console/calls/CAconstructed/audio.wav"
        whole = await client.get(url)
        assert whole.headers["accept-ranges"] == "bytes"
        with wave.open(io.BytesIO(whole.content)) as file:
            assert file.getnchannels() == 2
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
        part = await client.get(url, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole.content[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
        large = await client.get(url, headers={"Range": "bytes=1-200001", "If-Range": whole.headers["etag"]})
        assert large.content == whole.content[1:200_002]
        other = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
        assert (other.status_code, len(other.content)) == (200, len(whole.content))
        beyond = await client.get(url, headers={"Range": "bytes=999999999-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")
        agent = await client.get(url, params={"voice": "agent"})
        with wave.open(io.BytesIO(agent.content)) as file:
            np.testing.assert_array_equal(np.frombuffer(file.readframes(10**7), "<i2"), samples[:, 1])
        outline = (await client.get("/console/calls/CAconstructed/outline", params={"points": 50})).json()
        assert (len(outline["caller"]), len(outline["agent"])) == (50, 50)
        assert outline["length_s"] == pytest.approx(len(samples) / 8000, abs=0.011)


async def test_a_damaged_and_a_locked_recording_are_told(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, client):
        folder = await record(calls, tmp_path / "calls")
        (folder / "recording.wav").write_bytes(b"RIFF")
        answer = await client.get("/console/calls/CAconstructed/audio.wav")
        assert (answer.status_code, answer.json()["detail"]) == (404, "the recording is damaged or gone")
        assert str(tmp_path) not in answer.text
        assert (await client.get("/console/calls/CAconstructed")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/console/calls?before=x",
        "/console/calls?before=" + "9" * 30,
        "/console/calls?since=nan",
        "/console/calls?outcome=lovely",
        "/console/calls?words=" + "w" * 300,
        "/console/charts?hours=0",
        "/console/charts?hours=99999999",
        "/console/calls/CA1/outline?points=100000",
        "/console/calls/CA1/outline?since=inf",
        "/console/calls/CA1/audio.wav?voice=everybody",
        "/console/live?call=" + "c" * 300,
    ],
)
async def test_garbage_is_refused(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as (_, client):
        assert (await client.get(path)).status_code == 422


@pytest.mark.parametrize("call_id", ["nobody", "%00", "..%2f..%2fetc", "%F0%9F%92%A9", "'; drop table calls"])
async def test_calls_that_are_not(tmp_path: Path, call_id: str) -> None:
    async with running(tmp_path) as (_, client):
        for rest in ("", "/outline", "/audio.wav", "/transcript.txt"):
            assert (await client.get(f"/console/calls/{call_id}{rest}")).status_code == 404


async def test_without_a_store_only_what_is_on_is_shown(tmp_path: Path) -> None:
    async with running(tmp_path, store={"enabled": False}) as (_, client):
        assert (await client.get("/console/me")).json()["past"] is False
        assert (await client.get("/console/calls")).status_code == 404


async def test_a_stopping_server_opens_no_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as (calls, client):
        calls.draining = True
        assert (await client.get("/console/live")).status_code == 503
