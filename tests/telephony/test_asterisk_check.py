"""infra/asterisk: the check script against a command that answers like Asterisk's, and the snippets' form."""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "infra" / "asterisk"
MODULES = (
    "res_http_websocket",
    "res_websocket_client",
    "chan_websocket",
    "res_timing_timerfd",
    "res_audiosocket",
    "chan_audiosocket",
    "func_curl",
    "func_uri",
    "func_shell",
)
CODECS = "".join(
    f"      {n} audio {name:13}{name:17}(x)\n" for n, name in enumerate(("ulaw", "alaw", "slin"), 1)
)


class Host:
    """An Asterisk host in a folder. `ports` are those of Maya that are open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = "Asterisk 22.6.0 built by root @ host on a x86_64 running Linux on 2026-08-05"
        self.modules = set(MODULES)
        self.dialplan = (FOLDER / "extensions.conf").read_text()
        self.client = (FOLDER / "websocket_client.conf").read_text()
        self.codecs = CODECS

    def check(self, *arguments: str) -> tuple[int, str]:
        conf, answers = self.folder / "conf", self.folder / "answers"
        for each in (conf, answers):
            each.mkdir(exist_ok=True)
        (conf / "extensions.conf").write_text(self.dialplan)
        (conf / "websocket_client.conf").write_text(self.client)
        (answers / "core show version").write_text(self.version)
        (answers / "core show codecs audio").write_text(self.codecs)
        (answers / "dialplan show maya").write_text("[ Context 'maya' created by 'pbx_config' ]\n")
        for name in MODULES:
            running = f"{name}.so       Something       0       Running       core\n"
            (answers / f"module show like {name}.so").write_text(
                running if name in self.modules else "0 modules\n"
            )
        command = self.folder / "asterisk"
        command.write_text(f'#!/bin/sh\n[ "$1" = -rx ] && cat "{answers}/$2" 2>/dev/null\n')
        command.chmod(0o755)
        done = subprocess.run(
            ["bash", str(FOLDER / "check.sh"), *arguments],
            env={"PATH": "/usr/bin:/bin", "ASTERISK": str(command), "ASTERISK_CONF_DIR": str(conf)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def maya() -> Iterator[list[str]]:
    """Maya's address and two open ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = ["127.0.0.1", *(str(listener.getsockname()[1]) for listener in listeners)]
    yield ports
    for listener in listeners:
        listener.close()


def test_everything_is_there(host: Host, maya: list[str]) -> None:
    code, told = host.check(*maya)
    assert code == 0, told
    assert "MISSING" not in told
    assert "chan_websocket: ready\nAudioSocket:    ready" in told
    assert "JSON control came with" in told  # 22.6 has none


@pytest.mark.parametrize(
    ("change", "advice", "verdict"),
    [
        (
            {"modules": set(MODULES) - {"chan_websocket"}},
            "module load chan_websocket.so",
            "chan_websocket: missing",
        ),
        (
            {"modules": set(MODULES) - {"res_audiosocket"}},
            "module load res_audiosocket.so",
            "AudioSocket:    missing",
        ),
        ({"version": "Asterisk 22.5.2 built by x"}, "update Asterisk", "chan_websocket: missing"),
        ({"version": "Asterisk 18.26.4 built by x"}, "update Asterisk", "chan_websocket: missing"),
        ({"client": "[maya]\nuri = ws://x/other\n"}, "/asterisk/media", "chan_websocket: missing"),
        ({"client": "uri=ws://x/asterisk/media\n"}, "protocols = media", "chan_websocket: missing"),
        (
            {"dialplan": "same => n,Dial(AudioSocket/h:9019/u/c(ulaw))\n"},
            "c(slin)",
            "AudioSocket:    missing",
        ),
        ({"codecs": ""}, "codec_ulaw.so", "chan_websocket: missing"),
    ],
)
def test_what_is_missing_is_told(
    host: Host, maya: list[str], change: dict[str, object], advice: str, verdict: str
) -> None:
    for name, value in change.items():
        setattr(host, name, value)
    code, told = host.check(*maya)
    assert advice in told
    assert verdict in told
    assert code == 0  # the other way is ready


@pytest.mark.parametrize(
    ("version", "json"),
    [
        ("20.18.1", True),
        ("20.17.0", False),
        ("certified/22.8-cert1", True),
        ("23.2.0", True),
        ("24.0.0", True),
    ],
)
def test_versions(host: Host, maya: list[str], version: str, json: bool) -> None:
    host.version = f"Asterisk {version} built by x"
    _, told = host.check(*maya)
    assert "chan_websocket: ready" in told
    assert ("JSON control came with" not in told) == json


def test_maya_is_not_reached(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = str(listener.getsockname()[1])
    code, told = host.check("127.0.0.1", closed, closed)
    assert code == 1
    assert told.count("does not accept connections") == 2


@pytest.mark.parametrize("arguments", [[], ["--help"], ["127.0.0.1", "http"], ["127.0.0.1", "8080", "x"]])
def test_wrong_usage(host: Host, arguments: list[str]) -> None:
    code, told = host.check(*arguments)
    assert code == 2
    assert "usage:" in told


def test_asterisk_does_not_answer(host: Host, maya: list[str]) -> None:
    host.version = ""
    code, told = host.check(*maya)
    assert code == 1
    assert "systemctl start asterisk" in told


def test_the_snippets_say_what_the_protocols_need() -> None:
    dialplan = (FOLDER / "extensions.conf").read_text()
    lines = [line for line in dialplan.splitlines() if not line.startswith(";")]
    dials = [line for line in lines if "Dial(" in line]
    assert len(dials) == 3
    for line in dials:
        if "AudioSocket/" in line:
            assert "/c(slin)" in line
        else:
            assert "c(ulaw)" in line
    for line in lines:
        assert line.count("(") == line.count(")"), line
        assert line.count("{") == line.count("}"), line
    # Whatever a Goto names is there.
    targets = set(re.findall(r"(?<=[?(,])(\w+),1\)", dialplan)) - {"websocket"}
    assert targets == {"sorry", "done"}
    assert all(f"exten => {target},1," in dialplan for target in targets)
