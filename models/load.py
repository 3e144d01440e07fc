"""Models of a profile, loaded once per process."""

import contextlib
import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from models.base import ChatModel, ModelError, ModelMissing, Models, Synthesizer, Transcriber, VoiceActivity
from models.catalogue import Entry, Kind, WindowPolicy
from models.profiles import STAND_INS, Profile, find_profile
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from models.store import Store

logger = logging.getLogger(__name__)

_MOST_THREADS = 8
"""Small models gain nothing from more, and other calls' work needs the cores."""

_STAND_IN_HEARING_S = 0.3
_STAND_IN_FIRST_TOKEN_S = 0.4
_STAND_IN_TOKENS_PER_S = 20.0
_STAND_IN_VOICE_S = 0.05


class PackageMissing(ModelError):
    """A profile needs a Python package that is not installed; the message holds the pip command."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that loading needs, found before anything is loaded."""

    profile: Profile
    stt_folder: Path
    window: WindowPolicy
    llm_file: Path
    llm_notice: str
    """What the language model's licence wants displayed, else ""."""
    vad_file: Path
    threads: int


def load_models(
    profile: str,
    store: Store,
    *,
    threads: int | None = None,
    llm: str | None = None,
    stt: str | None = None,
) -> Models:
    """Load a profile's models. Blocks for seconds: call it in a thread, once, at start-up.

    `profile`: `embedded`, `tiny`, `maya`, or `scripted` (stand-ins with declared latencies). `llm`
    replaces its language model by another of the catalogue or by the path of a GGUF file, `stt` its
    transcriber. `threads` per model; None: all cores that this process may use, at most 8.

    Raises `ModelMissing` naming every model to pull, `PackageMissing`, or `ModelError`.
    """
    if profile == STAND_INS:
        return _stand_ins()
    plan = _plan(find_profile(profile), store, threads, llm, stt)
    if plan.llm_notice:
        logger.info("%s", plan.llm_notice)
    packages = _import_models(plan.profile)
    voice_activity: VoiceActivity = packages["silero"].SileroVoiceActivity(plan.vad_file)
    synthesizer: Synthesizer = packages["hibari"].HibariSynthesizer(threads=1)
    cuda = plan.profile.gpu and _has_cuda()
    if plan.profile.gpu and not cuda:
        logger.warning("profile %s is meant for a CUDA device; none was found, so it runs slowly on the CPU",
                       plan.profile.name)  # fmt: skip
    transcriber: Transcriber = packages["whisper"].WhisperTranscriber(
        plan.stt_folder,
        plan.window,
        threads=plan.threads,
        compute_type="float16" if cuda else "int8",
        device="cuda" if cuda else "cpu",
    )
    chat: ChatModel = packages["llama"].LlamaChat(
        plan.llm_file,
        threads=plan.threads,
        context_tokens=plan.profile.context_tokens,
        sequences=plan.profile.sequences,
        gpu_layers=-1 if cuda else 0,
    )
    return Models(transcriber, chat, synthesizer, voice_activity)


def usable_cores() -> int:
    """Cores this process may run on (affinity, not the machine's count)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def model_names(profile: str, *, llm: str | None = None, stt: str | None = None) -> tuple[str, ...]:
    """Catalogue names that `load_models` with these arguments opens; none for stand-ins."""
    if profile == STAND_INS:
        return ()
    chosen = find_profile(profile)
    names = [stt or chosen.stt, llm or chosen.llm, chosen.vad]
    return tuple(name for name in names if not _is_gguf(name))


def _plan(profile: Profile, store: Store, threads: int | None, llm: str | None, stt: str | None) -> _Plan:
    stt_entry = _entry(store, stt or profile.stt, "stt")
    llm_name = llm or profile.llm
    llm_notice = ""
    problems: list[str] = []
    stt_folder = _path(store, stt_entry, problems)
    if _is_gguf(llm_name):
        llm_file = Path(llm_name).expanduser()
        if not llm_file.is_file():
            problems.append(f"The language model {llm_file} is not a file.")
    else:
        llm_entry = _entry(store, llm_name, "llm")
        llm_file = _path(store, llm_entry, problems)
        llm_notice = llm_entry.licence.notice if llm_entry.licence.must_accept else ""
    vad_file = _path(store, _entry(store, profile.vad, "vad"), problems)
    if problems:
        raise ModelMissing(" ".join(problems))
    window = stt_entry.window or WindowPolicy(floor_s=30.0, full_window=True)
    return _Plan(
        profile=profile,
        stt_folder=stt_folder,
        window=window,
        llm_file=llm_file,
        llm_notice=llm_notice,
        vad_file=vad_file,
        threads=threads or min(usable_cores(), _MOST_THREADS),
    )


def _entry(store: Store, name: str, kind: Kind) -> Entry:
    entry = store.entry(name)
    if entry.kind != kind:
        fitting = ", ".join(other.name for other in store.entries if other.kind == kind)
        raise ModelError(f"{name} is no {kind} model. Of that kind are: {fitting}.")
    return entry


def _path(store: Store, entry: Entry, problems: list[str]) -> Path:
    try:
        return store.path(entry.name)
    except ModelMissing as error:
        problems.append(str(error))
        return Path()


def _is_gguf(name: str) -> bool:
    return name.endswith(".gguf")


def _import_models(profile: Profile) -> dict[str, ModuleType]:
    """Import the model classes; their libraries are an extra of the package."""
    with _explained(profile):
        return {
            name: importlib.import_module(f"models.{name}")
            for name in ("silero", "hibari", "whisper", "llama")
        }


@contextlib.contextmanager
def _explained(profile: Profile) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] == "models":
            raise
        raise PackageMissing(
            f"The profile {profile.name} needs the package {error.name}, which is not installed. "
            "Run `pip install 'maya-voice[speech]'`."
        ) from error


def _has_cuda() -> bool:
    import ctranslate2

    return int(ctranslate2.get_cuda_device_count()) > 0


def _stand_ins() -> Models:
    return Models(
        ScriptedTranscriber(latency_s=_STAND_IN_HEARING_S),
        ScriptedChat(first_token_s=_STAND_IN_FIRST_TOKEN_S, tokens_per_s=_STAND_IN_TOKENS_PER_S),
        ScriptedSynthesizer(latency_s=_STAND_IN_VOICE_S),
        EnergyVoiceActivity(),
    )
