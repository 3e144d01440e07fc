"""What is missing before calls can be answered, and how to mend each."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from infra.loading import voice_choice
from infra.loopback import is_loopback
from infra.settings import Settings
from models.checks import check_models
from models.profiles import STAND_INS
from models.store import Store

_CALLS_DISK_BYTES = 500 << 20

Verdict = Literal["ok", "note", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `missing` stops calls; `note` stops some of them. `mend` is what to do."""

    subject: str
    verdict: Verdict
    detail: str
    mend: str = ""


def examine(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at everything that `maya serve` with these settings needs. Blocks for a second or two."""
    return [
        *_python(),
        *_pictures(),
        *_compiler(),
        *_models(settings),
        *_disk(settings),
        *_persona(settings),
        *_port(settings),
        *_twilio(settings),
        *_voices(environ),
    ]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("python", "ok", version)
    else:
        yield Finding("python", "missing", version, "use Python 3.11, 3.12 or 3.13")


def _pictures() -> Iterator[Finding]:
    if find_spec("matplotlib") is None:
        yield Finding(
            "pictures", "note", "matplotlib is not installed: no timelines", "pip install 'maya-voice[plots]'"
        )


def _compiler() -> Iterator[Finding]:
    if find_spec("llama_cpp") is not None:
        return
    if any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        yield Finding("compiler", "ok", "a C++ compiler is there for llama.cpp")
    else:
        yield Finding("compiler", "missing", "no C++ compiler for llama.cpp", "sudo apt-get install g++")


def _models(settings: Settings) -> Iterator[Finding]:
    """What the models need, where each goes, how much memory it takes, and under which licence."""
    if settings.profile == STAND_INS and not settings.tts:
        yield Finding("models", "note", "profile scripted: stand-ins, no real models")
        return
    verdicts: dict[str, Verdict] = {"ok": "ok", "warning": "note", "failed": "missing"}
    for check in check_models(
        settings.profile,
        Store(settings.models_dir),
        llm=settings.llm or None,
        stt=settings.stt or None,
        voice=voice_choice(settings),
        devices=settings.devices,
    ):
        yield Finding(check.name, verdicts[check.state], check.message, check.mend)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.calls_dir.resolve()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        yield Finding(
            "disk", "missing", f"{existing} cannot be written", "set MAYA_CALLS_DIR to another folder"
        )
        return
    free = shutil.disk_usage(existing).free
    minutes = free // (32_000 * 60)  # two channels of 16 bits at 8 kHz
    if free < _CALLS_DISK_BYTES:
        yield Finding("disk", "note", f"room for {minutes} minutes of recordings in {folder}", "make room")
    else:
        yield Finding("disk", "ok", f"{free / 1e9:.0f} GB free for recordings in {folder}")


def _persona(settings: Settings) -> Iterator[Finding]:
    from pipeline.documents import DocumentError
    from pipeline.persona import load_persona

    try:
        persona = load_persona(settings.persona)
    except (DocumentError, OSError) as error:
        yield Finding("persona", "missing", str(error), "mend the file, or choose another with --persona")
    else:
        yield Finding("persona", "ok", f"{persona.name} ({settings.persona.name})")
        tools = persona.tools
        if settings.profile == "tiny" and (tools.python or tools.built_in or tools.http):
            said = "the language model of the tiny profile never uses a tool"
            yield Finding("tools", "note", said, "choose another profile")


def _port(settings: Settings) -> Iterator[Finding]:
    host = settings.bind_host
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, settings.port))
            probe.listen(1)
        except OSError as error:
            yield Finding(
                "port",
                "note",
                f"{host}:{settings.port}: {error.strerror}",
                "stop what uses it, or choose another with --port",
            )
        else:
            yield Finding("port", "ok", f"{host}:{settings.port} is free")


def _twilio(settings: Settings) -> Iterator[Finding]:
    for name, value in (
        ("TWILIO_AUTH_TOKEN", settings.auth_token.get_secret_value()),
        ("TWILIO_ACCOUNT_SID", settings.account_sid),
    ):
        if value:
            yield Finding(name, "ok", "is set")
        else:
            yield Finding(
                name,
                "note",
                "is not set: no calls from the telephone network",
                f"export {name}=... (console.twilio.com, Account Info)",
            )
    url = urlsplit(settings.public_url)
    if not settings.public_url:
        yield Finding(
            "public URL",
            "note",
            "is not set: Twilio cannot reach this server",
            "export MAYA_PUBLIC_URL=https://your.host (a tunnel such as cloudflared or ngrok gives one)",
        )
    elif url.scheme != "https" and not is_loopback(url.hostname or ""):
        yield Finding("public URL", "missing", settings.public_url, "it must begin with https://")
    else:
        yield Finding("public URL", "ok", settings.public_url)


def _voices(environ: Mapping[str, str]) -> Iterator[Finding]:
    if shutil.which("flite", path=environ.get("PATH")):
        yield Finding("flite", "ok", "further voices for simulated callers")
    else:
        yield Finding(
            "flite", "note", "not installed: fewer voices for simulated callers", "sudo apt-get install flite"
        )
