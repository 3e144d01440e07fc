"""The bridge is kept alive, and leaves nothing behind. Its place takes a script that is no Ray."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.cluster.bridge import Wanted
from infra.cluster.supervisor import News, Supervisor

WANTED = Wanted(address="head:6379", cluster={}, models={"profile": "scripted"})
BRIDGE = """
import json, os, subprocess, sys
wanted = json.loads(sys.stdin.readline())
child = subprocess.Popen(["sleep", "60"], process_group=0)
print(json.dumps({"replicas": [wanted["address"]], "child": child.pid, "mode": os.environ["RAY_AUTH_MODE"]}))
sys.stdout.flush()
for line in sys.stdin:
    if "die" in line:
        print("some last words", file=sys.stderr)
        os._exit(1)
    print(json.dumps({"got": json.loads(line)}))
    sys.stdout.flush()
"""


def wait(true: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of `python -m infra.cluster.bridge`."""
    (tmp_path / "bridge.py").write_text(BRIDGE)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path / 'bridge.py'}\n")
    python.chmod(0o755)
    monkeypatch.setattr("infra.cluster.supervisor.sys.executable", str(python))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_news_come_and_go_and_a_bridge_that_dies_is_started_again(script: None) -> None:
    heard: list[News] = []
    lock = threading.Lock()

    def hear(news: News) -> None:
        with lock:
            heard.append(news)

    supervisor = Supervisor(WANTED, {"RAY_AUTH_MODE": "token"}, hear)
    supervisor.start()
    try:
        wait(lambda: heard)
        assert heard[0]["replicas"] == ["head:6379"]
        assert heard[0]["mode"] == "token"
        supervisor.tell(("hold", "tts", "a", "ticket"))
        wait(lambda: len(heard) == 2)
        assert heard[1] == {"got": ["hold", "tts", "a", "ticket"]}
        first_child = heard[0]["child"]
        supervisor.tell(("die",))
        wait(lambda: len(heard) == 4)
        assert heard[2] == {"bridge": False}
        assert heard[3]["replicas"] == ["head:6379"]
        assert supervisor.last_words[-1] == "some last words"
        assert supervisor.starts == 2
        wait(lambda: not alive(first_child))
    finally:
        supervisor.close()
    # What it started in a group of its own is gone as well.
    wait(lambda: not alive(heard[3]["child"]))
    assert supervisor.starts == 2


def test_ray_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = (
        *("TWILIO_AUTH_TOKEN", "TWILIO_SHARED_KEYS_FILE", "MAYA_STORE_URL", "MAYA_STORE_URL_FILE"),
        *("MAYA_RECORDINGS_KEY", "MAYA_RECORDING_KEY_FILE", "MAYA_SIP_TRUNK_SECRET", "MAYA_API_KEY"),
        *("MAYA_ACCESS_KEYS", "MAYA_OUTBOUND_API_KEYS"),
    )
    for name in (*secret, "MAYA_MODELS", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "hush")
    environment = Supervisor(WANTED, {"RAY_AUTH_TOKEN": "t"}, lambda news: None)._environment
    assert not environment.keys() & set(secret)
    assert environment["MAYA_MODELS"] == environment["HF_ENDPOINT"] == "hush"
    assert environment["RAY_AUTH_TOKEN"] == "t"
    assert "PATH" in environment


def test_telling_never_blocks_whoever_is_on_a_call() -> None:
    supervisor = Supervisor(WANTED, {}, lambda news: None)
    began = time.monotonic()
    for number in range(10_000):
        supervisor.tell(("hold", "tts", "a", str(number)))
    assert time.monotonic() - began < 2.0
