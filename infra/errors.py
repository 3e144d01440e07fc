"""The one place that turns errors into what a user of `maya` sees: a sentence, never a traceback."""

import os
import sys
import traceback
from datetime import datetime
from pathlib import Path

EXIT_USER = 2
"""Something the user can mend: the message says how."""
EXIT_BUG = 70
"""A mistake in Maya (EX_SOFTWARE of sysexits.h); the details are in a file."""
EXIT_INTERRUPTED = 130


_EXTRAS = {
    "torch": "csm",
    "safetensors": "csm",
    "tokenizers": "csm",
    "pyarrow": "finetune",
    "matplotlib": "plots",
    "faster_whisper": "speech",
    "ctranslate2": "speech",
    "hibari": "speech",
    "huggingface_hub": "speech",
    "llama_cpp": "speech",
    "honcho": "procfile",
    "cryptography": "records",
    "psycopg": "postgres",
    "playwright": "dev",
    "pytest": "dev",
}
"""The extra of pyproject.toml that brings a package; the others come with maya-voice itself."""


class CommandError(Exception):
    """A command cannot go on; the message says why and what to do."""


def report(error: BaseException) -> int:
    """Print `error` to stderr for the user and return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("\nstopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    if is_expected(error):
        print(f"maya: {error}", file=sys.stderr)
        return EXIT_USER
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        print(f"maya: {where}{error.strerror}", file=sys.stderr)
        return EXIT_USER
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_ours(error.name):
        print(f"maya: the package {error.name} is not installed. {_mend(error.name)}", file=sys.stderr)
        return EXIT_USER
    path = _keep(error)
    summary = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    where = f"The details are in {path}" if path else "The details could not be written to a file"
    print(f"maya: stopped by a mistake of its own ({summary}). {where}", file=sys.stderr)
    return EXIT_BUG


def is_expected(error: BaseException) -> bool:
    """Whether the error's message was written for the user. Imports only what is loaded already: an error
    of a package that was never imported cannot have been raised."""
    bases = (
        (__name__, "CommandError"),
        ("infra.access.errors", "AccessConfigError"),
        ("infra.inherited", "InheritedSocketError"),
        ("infra.observe.errors", "ObserveConfigError"),
        ("infra.records.keys", "RecordingKeyError"),
        ("infra.records.reader", "RecordingError"),
        ("infra.settings", "SettingsError"),
        ("infra.store.errors", "StoreError"),
        ("infra.timeline", "TimelineError"),
        ("models.base", "ModelError"),
        ("pipeline.documents", "DocumentError"),
        ("pipeline.line", "LineError"),
        ("telephony.asterisk.errors", "AsteriskError"),
        ("telephony.browser.errors", "BrowserError"),
        ("telephony.simulator.errors", "SimulatorError"),
        ("telephony.sip.errors", "SipError"),
        ("telephony.twilio.errors", "TwilioError"),
    )
    for module, name in bases:
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and isinstance(error, base):
            return True
    return False


def _mend(module: str) -> str:
    package = module.partition(".")[0]
    if package == "moshi":
        return "It wants an environment of its own (docs/voice.md); codec = own does without it"
    if extra := _EXTRAS.get(package):
        return f"Mend it with: pip install 'maya-voice[{extra}]'"
    return "Mend it with: pip install maya-voice, or make setup in its sources"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("infra", "telephony", "pipeline", "models", "bench", "maya")


def _keep(error: BaseException) -> Path | None:
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(cache) if cache else Path.home() / ".cache") / "maya" / "errors"
    path = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without locals: they may hold secrets.
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return None
    return path
