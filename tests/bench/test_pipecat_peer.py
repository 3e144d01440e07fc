"""The peer is given what ours is given, is warm before it is measured, and leaves no process behind."""

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from bench import pipecat_peer
from bench.pipecat_peer import (
    PEER_PYTHON,
    PERSONA,
    PeerMissing,
    PeerOptions,
    agent_settings,
    llama_command,
    pipecat_server,
    warming_request,
)
from infra.errors import CommandError
from models.base import ModelError
from models.store import Store
from pipeline.persona import load_persona
from telephony.simulator import Scenario, simulate

ROOT = Path(__file__).parents[2]

STAND_IN = f"""#!{sys.executable}
# Both programs of the peer: llama.cpp's server, and an agent that answers each utterance with a tone.
import asyncio, base64, json, pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from websockets.asyncio.server import serve
from websockets.http11 import Headers, Response

class Llama(BaseHTTPRequestHandler):
    def do_GET(self): self.answer()
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        pathlib.Path(FOLDER, "asked.jsonl").open("a").write(self.path + " " + asked + "\\n")
        self.answer()
    def answer(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{{}}")
    def log_message(self, *arguments): pass

async def call(socket):
    async def say():
        for _ in range(20):
            media = {{"payload": base64.b64encode(bytes([0x10, 0x90] * 80)).decode()}}
            await socket.send(json.dumps({{"event": "media", "streamSid": sid, "media": media}}))
    voiced = quiet = 0
    async for message in socket:
        event = json.loads(message)
        if event["event"] == "start":
            sid = event["streamSid"]
            await say()
        elif event["event"] == "media":
            loud = any(byte & 0x7F < 0x40 for byte in base64.b64decode(event["media"]["payload"]))
            voiced, quiet = voiced + loud, 0 if loud else quiet + 1
            if voiced > 10 and quiet == 30:
                voiced = 0
                await say()

def ready(connection, request):
    if request.path == "/readyz":
        return Response(200, "OK", Headers({{"Content-Length": "0"}}), b"")

async def agent(port):
    async with serve(call, "127.0.0.1", port, process_request=ready) as server:
        await server.serve_forever()

if "llama_cpp.server" in sys.argv:
    FOLDER = pathlib.Path(__file__).parent
    HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Llama).serve_forever()
else:
    asyncio.run(agent(json.loads(pathlib.Path(sys.argv[2]).read_text())["port"]))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program in the place of the peer's Python. Models are paths that nobody opens."""

    def put(program: str) -> Path:
        path = tmp_path / "python"
        path.write_text(program)
        path.chmod(0o755)
        monkeypatch.setattr(pipecat_peer, "PEER_PYTHON", path)
        monkeypatch.setattr(Store, "path", lambda self, name: Path("/models") / name)
        return path

    return put


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_peer_is_told_of_the_persona_what_our_own_model_is_told():
    persona = load_persona(PERSONA)
    settings = agent_settings(persona, PeerOptions())
    told = [("system", settings["system"])]
    told += [(message["role"], message["content"]) for message in settings["messages"]]
    assert told == [(message.role, message.content) for message in persona.prefix()]
    assert "Parking: free, behind the building." in settings["system"]
    assert settings["greeting"] == persona.greeting
    assert settings["reply_tokens"] == persona.limits.reply_tokens


def test_the_prompt_is_warmed_by_what_every_call_begins_with():
    settings = agent_settings(load_persona(PERSONA), PeerOptions()) | {"llm": "qwen"}
    request = warming_request(settings)
    assert request["messages"][0] == {"role": "system", "content": settings["system"]}
    assert request["messages"][1:-1] == settings["messages"]
    assert request["max_tokens"] == 1


def test_threads_and_precision_are_the_libraries_own_unless_asked_otherwise():
    command = llama_command(Path("a.gguf"), "a", 1, PeerOptions())
    assert not any("thread" in word or "cache" in word for word in command)
    assert agent_settings(load_persona(PERSONA), PeerOptions())["whisper_compute_type"] == "default"
    tuned = PeerOptions("int8", llama_threads=2)
    assert llama_command(Path("a.gguf"), "a", 1, tuned)[-2:] == ["--n_threads", "2"]
    assert agent_settings(load_persona(PERSONA), tuned)["whisper_compute_type"] == "int8"


def test_both_sides_run_the_same_versions_of_what_they_share():
    def pins(path: Path) -> dict[str, str]:
        found = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", path.read_text(), re.MULTILINE)
        return {name.lower().replace("_", "-"): version for name, version in found}

    peer, ours = pins(ROOT / "bench/pipecat/requirements.txt"), pins(ROOT / "requirements.lock")
    assert peer["pipecat-ai"] == "1.14.0"
    for name in ("llama-cpp-python", "faster-whisper", "ctranslate2", "onnxruntime", "hibari-tts", "numpy"):
        assert peer[name] == ours[name], name


def test_without_its_environment_the_peer_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pipecat_peer, "PEER_PYTHON", tmp_path / "nowhere")
    with (
        pytest.raises(PeerMissing, match=r"infra/setup/pipecat\.sh"),
        pipecat_server(tmp_path, tmp_path / "log"),
    ):
        pass
    assert (ROOT / "infra/setup/pipecat.sh").stat().st_mode & 0o100


def test_an_unknown_profile_starts_nothing(tmp_path, stand_in):
    stand_in("#!/bin/sh\nexec sleep 60\n")
    with (
        pytest.raises(ModelError, match="No profile"),
        pipecat_server(tmp_path, tmp_path / "log", profile="none"),
    ):
        pass
    assert not (tmp_path / "log").exists()


def test_a_process_that_dies_is_reported_with_its_last_words(tmp_path, stand_in):
    stand_in("#!/bin/sh\ncase $2 in llama_cpp.server) exec sleep 60;; esac\necho no such weights\nexit 3\n")
    with (
        pytest.raises(CommandError, match=r"pipecat stopped with exit status 3[\s\S]*no such weights"),
        pipecat_server(tmp_path, tmp_path / "log") as server,
    ):
        server.wait_until_ready(lambda line: None, limit_s=20)
    assert not alive(server.llama.pid)


def test_one_that_is_never_ready_is_given_up_and_both_are_stopped(tmp_path, stand_in):
    stand_in("#!/bin/sh\nexec sleep 60\n")
    with (
        pytest.raises(CommandError, match=r"llama\.cpp's server was not ready after 0 s"),
        pipecat_server(tmp_path, tmp_path / "log") as server,
    ):
        server.wait_until_ready(lambda line: None, limit_s=0.1)
    assert not alive(server.agent.pid)
    assert not alive(server.llama.pid)


def test_errors_of_pipecat_are_told_from_other_lines(tmp_path, stand_in):
    stand_in(
        "#!/bin/sh\necho '12:00 | ERROR    | the model is gone'\necho an ERROR of words\nexec sleep 60\n"
    )
    with pipecat_server(tmp_path, tmp_path / "log") as server:
        while len(server.log_lines()) < 4:
            time.sleep(0.01)
        assert server.errors() == ["12:00 | ERROR    | the model is gone"] * 2


@pytest.mark.realtime
async def test_it_is_ready_once_the_prompt_is_evaluated_and_a_call_was_held(tmp_path, stand_in):
    """From within a running loop, as a bench of several servers may ask."""
    stand_in(STAND_IN)
    said: list[str] = []
    with pipecat_server(tmp_path / "run", tmp_path / "log") as server:
        server.wait_until_ready(said.append, limit_s=30)
        path, asked = (tmp_path / "asked.jsonl").read_text().split(" ", 1)
        assert path == "/v1/chat/completions"
        assert json.loads(asked)["messages"][0]["role"] == "system"
        assert said[-1] == "pipecat is ready"
        hello = Scenario.model_validate({"steps": ["listen", {"say": "Hello there."}, "listen"]})
        report = await simulate(hello, url=server.stream_url)
    assert report.edge_gap_ms.n == 1
    assert report.violations == ()
    assert server.log_lines() == []


@pytest.mark.realtime
def test_an_agent_that_says_nothing_is_no_peer(tmp_path, stand_in, monkeypatch):
    stand_in(STAND_IN.replace("range(20)", "range(0)"))
    steps = [{"say": "Hello there."}, {"listen": {"timeout_s": 1}}, "hang_up"]
    monkeypatch.setattr(pipecat_peer, "_WARM_UP", Scenario.model_validate({"steps": steps}))
    with (
        pytest.raises(CommandError, match="did not answer the call"),
        pipecat_server(tmp_path / "run", tmp_path / "log") as server,
    ):
        server.wait_until_ready(lambda line: None, limit_s=30)


@pytest.mark.models
@pytest.mark.realtime
@pytest.mark.timeout(600)
@pytest.mark.skipif(not PEER_PYTHON.exists(), reason="pipecat is not installed: infra/setup/pipecat.sh")
def test_pipecat_holds_a_call(tmp_path):
    patient = Scenario.model_validate(
        {
            "name": "a question",
            "steps": [
                {"listen": {"timeout_s": 60}},
                {"say": "What time do you open on Saturdays?"},
                {"listen": {"timeout_s": 60}},
                "hang_up",
            ],
        }
    )
    with pipecat_server(tmp_path / "run", tmp_path / "log", profile="tiny") as server:
        server.wait_until_ready(lambda line: None, limit_s=200)
        report = asyncio.run(simulate(patient, url=server.stream_url, calls_dir=server.calls_dir))
        log, errors = "\n".join(server.log_lines()), server.errors()
    turn = report.turns[0]
    assert report.violations == ()
    assert report.ending == "caller hung up"
    # What it understands and says is its own affair; that it answers at all is ours.
    assert turn.gap_ms is not None or turn.cut_off
    assert errors == []
    # Its documented defaults, as it prints them itself.
    assert "confidence=0.7 start_secs=0.2 stop_secs=0.2 min_volume=0.6" in log
    assert "smart-turn-v3.2-cpu.onnx" in log
    assert re.search(r"[1-9]\d\d prefix-match hit", log)
