"""pipecat as a phone agent on the same machine and models, for `maya bench turns --peer pipecat`.

Two processes in an environment of their own (`infra/setup/pipecat.sh`): llama.cpp behind `llama_cpp.server`,
the OpenAI-compatible server of llama-cpp-python, and the agent of `bench/pipecat/server.py`, which says what
follows pipecat's documentation and what does not. They are given what ours is given: Whisper's and the
language model's files of one of our profiles, the same build of llama.cpp, the persona with its facts and
examples, and the voice.

Threads and precision are each library's defaults, unless asked otherwise. `llama_cpp.server` decodes on half
the cores and prefills on all. CTranslate2 computes in float32 from these fp16 files, on up to four threads,
with a beam of 5 and windows of 30 s. Smart-turn and Silero take one thread each. Replies are streamed. The
server keeps the tokens of its last request and evaluates only what differs, so the persona's prompt is
evaluated once.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infra.errors import CommandError
from infra.local_server import free_port
from models.profiles import find_profile
from models.store import Store
from pipeline.persona import Persona, load_persona
from telephony.simulator import Scenario, SimulatorError, simulate

_ROOT = Path(__file__).parents[1]
PEER_PYTHON = _ROOT / ".venv-pipecat" / "bin" / "python"
SERVER = Path(__file__).parent / "pipecat" / "server.py"
PERSONA = _ROOT / "infra" / "personas" / "clinic.toml"

CONTEXT_TOKENS = 4096
"""`llama_cpp.server`'s default of 2,048 would end a long call with an error."""

_POLL_S = 0.2
_LOADING_LIMIT_S = 600.0
_STOPPING_LIMIT_S = 20.0
_WARM_UP_LIMIT_S = 120.0
_WARM_UP = Scenario.model_validate(
    {
        "name": "warm-up",
        "steps": [
            {"listen": {"timeout_s": _WARM_UP_LIMIT_S}},
            {"say": "Hello, where are you, please?"},
            {"listen": {"timeout_s": _WARM_UP_LIMIT_S}},
            "hang_up",
        ],
    }
)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy for the internet is no way to a server on this machine."""


class PeerMissing(CommandError):
    """The peer's environment has not been built."""


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """What may depart from the libraries' defaults, so that a bench can also meet a tuned pipecat."""

    whisper_compute_type: str = "default"
    """CTranslate2's name; our own Whisper runs in "int8"."""
    llama_threads: int | None = None
    """Threads of a decode step. None: `llama_cpp.server`'s default, half the cores."""


class PipecatServer:
    """A running pipecat agent; `calls_dir` is for `simulate(..., calls_dir=...)`."""

    def __init__(
        self,
        agent: "subprocess.Popen[bytes]",
        llama: "subprocess.Popen[bytes]",
        settings: Mapping[str, Any],
        log: Path,
    ) -> None:
        """`settings` are those that the agent was given."""
        self.agent = agent
        self.llama = llama
        self.port: int = settings["port"]
        self.calls_dir = Path(settings["calls_dir"])
        self._settings = settings
        self._log = log

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def log_lines(self) -> list[str]:
        """Of both processes."""
        with contextlib.suppress(OSError):
            return self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return []

    def errors(self) -> list[str]:
        """What pipecat reported as an error so far: a bench that quotes figures should find none."""
        return [line for line in self.log_lines() if " | ERROR " in line or " | CRITICAL " in line]

    def wait_until_ready(self, progress: Callable[[str], None], limit_s: float = _LOADING_LIMIT_S) -> None:
        """Return once both processes serve, the persona's prompt has been evaluated and one whole call has
        been held, so that every file and cache is warm. `progress` gets what is being waited for. Blocks;
        raises `CommandError`."""
        deadline = time.monotonic() + limit_s
        for what, url in (
            ("llama.cpp's server", f"{self._settings['llm_url']}/models"),
            ("pipecat", f"http://127.0.0.1:{self.port}/readyz"),
        ):
            progress(f"waiting for {what}")
            while not _answers(url):
                self._check_alive()
                if time.monotonic() > deadline:
                    raise CommandError(f"{what} was not ready after {limit_s:.0f} s; its log: {self._log}")
                time.sleep(_POLL_S)
        progress("warming up: the persona's prompt, then one call")
        self._evaluate_prompt(max(1.0, deadline - time.monotonic()))
        # In a thread of its own: the caller may have a running event loop.
        with ThreadPoolExecutor(1) as worker:
            worker.submit(asyncio.run, self._hold_call()).result()
        progress("pipecat is ready")

    def _evaluate_prompt(self, timeout_s: float) -> None:
        request = urllib.request.Request(  # noqa: S310
            f"{self._settings['llm_url']}/chat/completions",
            json.dumps(warming_request(self._settings)).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with _DIRECT.open(request, timeout=timeout_s):
                return
        except OSError as failure:
            raise CommandError(
                f"llama.cpp's server did not answer: {failure}; its log: {self._log}"
            ) from failure

    async def _hold_call(self) -> None:
        try:
            report = await simulate(_WARM_UP, url=self.stream_url, calls_dir=self.calls_dir)
        except SimulatorError as failure:
            raise CommandError(f"pipecat took no call: {failure}; its log: {self._log}") from failure
        if report.edge_gap_ms.n == 0:
            raise CommandError(f"pipecat did not answer the call that warms it up; its log: {self._log}")

    def _check_alive(self) -> None:
        for name, process in (("llama.cpp's server", self.llama), ("pipecat", self.agent)):
            if (status := process.poll()) is not None:
                said = "\n  ".join(self.log_lines()[-8:])
                how = f"stopped with exit status {status} while it started"
                raise CommandError(f"{name} {how}:\n  {said}\nwhole log: {self._log}")

    def stop(self) -> None:
        for process in (self.agent, self.llama):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (self.agent, self.llama):
            try:
                process.wait(_STOPPING_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def pipecat_server(
    folder: Path,
    log: Path,
    *,
    profile: str = "embedded",
    persona: Path = PERSONA,
    options: PeerOptions | None = None,
) -> Iterator[PipecatServer]:
    """Start pipecat and llama.cpp's server on free loopback ports with the models of our `profile`; stop them
    in the end. Settings and transcripts go to `folder`, what both print to `log`. Call
    `wait_until_ready` next.

    Raises `PeerMissing` without the peer's environment, `ModelMissing` where the profile's models are not
    installed, `ModelError` for an unknown profile.
    """
    if not PEER_PYTHON.exists():
        raise PeerMissing("pipecat is not installed: run infra/setup/pipecat.sh first (1 GB, a minute)")
    options = options or PeerOptions()
    models, store = find_profile(profile), Store()
    gguf, whisper = store.path(models.llm), store.path(models.stt)
    port, llama_port = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = agent_settings(load_persona(persona), options) | {
        "port": port,
        "calls_dir": str(folder / "calls"),
        "whisper": str(whisper),
        "llm": models.llm,
        "llm_url": f"http://127.0.0.1:{llama_port}/v1",
    }
    settings_file = folder / "pipecat.json"
    settings_file.write_text(json.dumps(settings, indent=1))
    with log.open("wb") as sink, contextlib.ExitStack() as started:
        llama = _start(llama_command(gguf, models.llm, llama_port, options), sink)
        started.callback(llama.kill)  # until the server object looks after both
        agent = _start([str(PEER_PYTHON), str(SERVER), str(settings_file)], sink)
        server = PipecatServer(agent, llama, settings, log)
        started.pop_all()
    try:
        yield server
    finally:
        server.stop()


def agent_settings(persona: Persona, options: PeerOptions) -> dict[str, Any]:
    """What the agent is told of the persona: the same messages that our own language model sees first."""
    system, *messages = persona.prefix()
    return {
        "system": system.content,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "greeting": persona.greeting,
        "reply_tokens": persona.limits.reply_tokens,
        "whisper_compute_type": options.whisper_compute_type,
    }


def warming_request(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the language model is asked before the first call: the persona's prompt, and a first word."""
    system = {"role": "system", "content": settings["system"]}
    messages = [system, *settings["messages"], {"role": "user", "content": "Hello."}]
    return {"model": settings["llm"], "messages": messages, "max_tokens": 1, "temperature": 0.0}


def llama_command(gguf: Path, name: str, port: int, options: PeerOptions) -> list[str]:
    command = [str(PEER_PYTHON), "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", str(CONTEXT_TOKENS)]
    if options.llama_threads is not None:
        command += ["--n_threads", str(options.llama_threads)]
    return command


def _start(command: Sequence[str], sink: IO[bytes]) -> "subprocess.Popen[bytes]":
    # The agent imports `models.hibari` of this checkout. Neither process may reach a service or a hub.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "TWILIO_"))
    }
    environment |= {"PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # Ctrl-C is ours to handle
    )


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=2):
            return True
    except (OSError, ValueError):
        return False
