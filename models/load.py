"""Models of a profile, loaded once per process."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from models.base import ChatModel, ModelError, ModelMissing, Models, Synthesizer, Transcriber, VoiceActivity
from models.catalogue import Entry, Kind, WindowPolicy
from models.csm.scheduler import BUCKETS
from models.machine import cuda_devices, torch_cuda_devices, usable_cores
from models.placement import Placement, check_weights, place
from models.profiles import STAND_INS, Profile, find_profile
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from models.store import Store
from models.voices import BUNDLED, CsmVoicePlan, VoiceChoice, find_voice, voice_name

logger = logging.getLogger(__name__)

_MOST_THREADS = 8
"""Small models gain nothing from more, and other calls' work needs the cores."""
STAND_IN_CALLS = 6

_STAND_IN_HEARING_S = 0.3
_STAND_IN_FIRST_TOKEN_S = 0.4
_STAND_IN_TOKENS_PER_S = 20.0
_STAND_IN_VOICE_S = 0.05

_EXTRAS = {"torch": "csm", "safetensors": "csm", "tokenizers": "csm", "moshi": "moshi"}
"""The extra that installs a package; all others are in `speech`."""


class PackageMissing(ModelError):
    """A profile needs a Python package that is not installed; the message holds the pip command."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that loading needs, found before anything is loaded."""

    profile: Profile
    stt_folder: Path
    window: WindowPolicy
    llm_file: Path
    notices: tuple[str, ...]
    """What the licences want displayed."""
    vad_file: Path
    glimpse_folder: Path | None


def load_models(
    profile: str,
    store: Store,
    *,
    threads: int | None = None,
    llm: str | None = None,
    stt: str | None = None,
    voice: VoiceChoice | None = None,
    devices: str = "",
    calls: int | None = None,
) -> Models:
    """Load a profile's models. Blocks for seconds: call it in a thread, once, at start-up.

    `profile`: `embedded`, `tiny`, `maya`, or `scripted` (stand-ins with declared latencies). `llm`
    replaces its language model by another of the catalogue or by the path of a GGUF file, `stt` its
    transcriber, `voice` its voice. `devices` as in `models.placement`. `threads` per model; None: all cores
    that this process may use, at most 8, and fewer for the CSM voice (`models.csm.assembly`).
    `calls` is how many at once they serve; None: the profile's own number.

    Raises `ModelMissing` naming every model to pull, `PackageMissing`, `PlacementError`, or `ModelError`.
    """
    choice = voice or VoiceChoice()
    problems: list[str] = []
    csm = find_voice(profile, choice, store, problems)
    placement = plan_placement(profile, choice, devices)
    plan = None if profile == STAND_INS else _plan(find_profile(profile), store, llm, stt, problems)
    if problems:
        raise ModelMissing(" ".join(problems))
    n_threads = threads or min(usable_cores(), _MOST_THREADS)
    # The voice first: it is what may not fit.
    synthesizer = _load_voice(profile, choice, csm, placement, threads, calls)
    return _stand_ins(synthesizer) if plan is None else _load(plan, placement, n_threads, synthesizer, calls)


def load_synthesizer(
    profile: str,
    store: Store,
    *,
    threads: int | None = None,
    voice: VoiceChoice | None = None,
    devices: str = "",
) -> Synthesizer:
    """Load only the voice that `load_models` with these arguments loads. Blocks and raises as it does."""
    choice = voice or VoiceChoice()
    problems: list[str] = []
    csm = find_voice(profile, choice, store, problems)
    placement = plan_placement(profile, choice, devices)
    if problems:
        raise ModelMissing(" ".join(problems))
    return _load_voice(profile, choice, csm, placement, threads)


def load_transcriber(
    profile: str, store: Store, *, threads: int | None = None, stt: str | None = None, devices: str = ""
) -> Transcriber:
    """Load only the transcriber that `load_models` with these arguments loads. Blocks and raises as it
    does."""
    if profile == STAND_INS:
        return ScriptedTranscriber(latency_s=_STAND_IN_HEARING_S)
    chosen, problems = find_profile(profile), list[str]()
    placement = plan_placement(profile, VoiceChoice(tts=BUNDLED), devices)
    folder, window, glimpse_folder = _hearing_files(chosen, store, stt, problems)
    if problems:
        raise ModelMissing(" ".join(problems))
    n_threads = threads or min(usable_cores(), _MOST_THREADS)
    return _whisper(chosen, folder, window, glimpse_folder, placement, n_threads)


def load_chat(
    profile: str,
    store: Store,
    *,
    threads: int | None = None,
    llm: str | None = None,
    devices: str = "",
    calls: int | None = None,
) -> ChatModel:
    """Load only the language model that `load_models` with these arguments loads. Blocks and raises as it
    does."""
    if profile == STAND_INS:
        return ScriptedChat(first_token_s=_STAND_IN_FIRST_TOKEN_S, tokens_per_s=_STAND_IN_TOKENS_PER_S)
    chosen, problems = find_profile(profile), list[str]()
    placement = plan_placement(profile, VoiceChoice(tts=BUNDLED), devices)
    file, notices = _chat_file(chosen, store, llm, problems)
    if problems:
        raise ModelMissing(" ".join(problems))
    for notice in notices:
        logger.info("%s", notice)
    return _llama(chosen, file, placement, threads or min(usable_cores(), _MOST_THREADS), calls)


def load_voice_activity(profile: str, store: Store) -> VoiceActivity:
    """Load only the voice detector that `load_models` loads. Blocks and raises as it does."""
    if profile == STAND_INS:
        return EnergyVoiceActivity()
    chosen, problems = find_profile(profile), list[str]()
    file = _path(store, _entry(store, chosen.vad, "vad"), problems)
    if problems:
        raise ModelMissing(" ".join(problems))
    return _silero(chosen, file)


def plan_placement(profile: str, choice: VoiceChoice, devices: str) -> Placement:
    """Where `load_models` with these arguments puts the models. Raises `PlacementError`."""
    csm = voice_name(profile, choice.tts)
    gpu = profile != STAND_INS and find_profile(profile).gpu
    there = cuda_devices() if gpu or "cuda" in devices else 0
    placement = place(
        devices,
        gpu_profile=gpu,
        cuda_devices=there,
        voice=csm,
        voice_cuda_devices=torch_cuda_devices() if csm else None,
    )
    if csm:
        check_weights(choice.weights, placement.tts)
    if gpu and placement.llm.kind == "cpu":
        logger.warning("profile %s is meant for a CUDA device; its language model runs on the CPU, slowly",
                       profile)  # fmt: skip
    return placement


def profile_calls(profile: str) -> int:
    """Calls at once that a profile's models are loaded for when nothing else is asked."""
    return STAND_IN_CALLS if profile == STAND_INS else find_profile(profile).sequences


def machine_calls(profile: str) -> int:
    """Calls at once that are taken on this machine when nothing else is asked: those that the profile's
    models are loaded for, or fewer where the cores do not answer so many in time."""
    calls = profile_calls(profile)
    per_core = None if profile == STAND_INS else find_profile(profile).calls_per_core
    return calls if per_core is None else max(1, min(calls, int(per_core * usable_cores())))


def voice_slots(profile: str, choice: VoiceChoice, n_devices: int, calls: int | None = None) -> int:
    """Calls that each device's replica of the CSM voice speaks for, where `calls` are to be served. Raises
    `ModelError` for more than one can."""
    slots = choice.slots or -(-(calls or profile_calls(profile)) // n_devices)
    if slots > BUCKETS[-1]:
        raise ModelError(
            f"The voice speaks for at most {BUCKETS[-1]} calls on each device, not for {slots}: lower "
            "[capacity] calls (or tts_slots), put the voice on more devices (--devices "
            "tts=cuda:0,tts=cuda:1), or run its replicas on Ray (--cluster)."
        )
    return slots


def model_names(profile: str, *, llm: str | None = None, stt: str | None = None) -> tuple[str, ...]:
    """Catalogue names that `load_models` with these arguments opens, less those of the voice; none for
    stand-ins."""
    if profile == STAND_INS:
        return ()
    chosen = find_profile(profile)
    names = [stt or chosen.stt, llm or chosen.llm, chosen.vad, chosen.glimpser]
    return tuple(name for name in names if name and not _is_gguf(name))


def _load(
    plan: _Plan, placement: Placement, threads: int, synthesizer: Synthesizer, calls: int | None
) -> Models:
    for notice in plan.notices:
        logger.info("%s", notice)
    voice_activity = _silero(plan.profile, plan.vad_file)
    transcriber = _whisper(
        plan.profile, plan.stt_folder, plan.window, plan.glimpse_folder, placement, threads
    )
    chat = _llama(plan.profile, plan.llm_file, placement, threads, calls)
    return Models(transcriber, chat, synthesizer, voice_activity)


def _silero(profile: Profile, file: Path) -> VoiceActivity:
    voice_activity: VoiceActivity = _import_models(profile.name, "silero")["silero"].SileroVoiceActivity(file)
    return voice_activity


def _whisper(
    profile: Profile,
    folder: Path,
    window: WindowPolicy,
    glimpse_folder: Path | None,
    placement: Placement,
    threads: int,
) -> Transcriber:
    on_gpu = placement.stt.kind == "cuda"
    transcriber: Transcriber = _import_models(profile.name, "whisper")["whisper"].WhisperTranscriber(
        folder,
        window,
        threads=threads,
        compute_type="float16" if on_gpu else "int8",
        device=placement.stt.kind,
        device_index=placement.stt.index,
        glimpse_folder=glimpse_folder,
    )
    return transcriber


def _llama(profile: Profile, file: Path, placement: Placement, threads: int, calls: int | None) -> ChatModel:
    sequences = calls or profile.sequences
    # More calls have as many tokens each; fewer share what there is.
    context_tokens = max(1, sequences / profile.sequences) * profile.context_tokens
    chat: ChatModel = _import_models(profile.name, "llama")["llama"].LlamaChat(
        file,
        threads=threads,
        context_tokens=round(context_tokens),
        sequences=sequences,
        gpu_layers=-1 if placement.llm.kind == "cuda" else 0,
        main_gpu=placement.llm.index,
    )
    return chat


def _load_voice(
    profile: str,
    choice: VoiceChoice,
    csm: CsmVoicePlan | None,
    placement: Placement,
    threads: int | None,
    calls: int | None = None,
) -> Synthesizer:
    if csm is not None:
        if csm.notice:
            logger.info("voice %s: %s", csm.name, csm.notice)
        with _explained(f"the voice {csm.name}"):
            from models.csm.assembly import load_csm

            slots = voice_slots(profile, choice, len(placement.tts), calls)
            return load_csm(csm, choice, placement.tts, slots=slots, threads=threads)
    if profile == STAND_INS and choice.tts != BUNDLED:
        return ScriptedSynthesizer(latency_s=_STAND_IN_VOICE_S)
    synthesizer: Synthesizer = _import_models(profile, "hibari")["hibari"].HibariSynthesizer(threads=1)
    return synthesizer


def _plan(profile: Profile, store: Store, llm: str | None, stt: str | None, problems: list[str]) -> _Plan:
    stt_folder, window, glimpse_folder = _hearing_files(profile, store, stt, problems)
    llm_file, notices = _chat_file(profile, store, llm, problems)
    vad_file = _path(store, _entry(store, profile.vad, "vad"), problems)
    return _Plan(profile, stt_folder, window, llm_file, notices, vad_file, glimpse_folder)


def _hearing_files(
    profile: Profile, store: Store, stt: str | None, problems: list[str]
) -> tuple[Path, WindowPolicy, Path | None]:
    entry = _entry(store, stt or profile.stt, "stt")
    folder = _path(store, entry, problems)
    window = entry.window or WindowPolicy(floor_s=30.0, full_window=True)
    glimpser = profile.glimpser
    return folder, window, _path(store, _entry(store, glimpser, "stt"), problems) if glimpser else None


def _chat_file(
    profile: Profile, store: Store, llm: str | None, problems: list[str]
) -> tuple[Path, tuple[str, ...]]:
    """The file, and what its licence wants displayed."""
    name = llm or profile.llm
    if _is_gguf(name):
        file = Path(name).expanduser()
        if not file.is_file():
            problems.append(f"The language model {file} is not a file.")
        return file, ()
    entry = _entry(store, name, "llm")
    return _path(store, entry, problems), (entry.licence.notice,) if entry.licence.must_accept else ()


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


def _import_models(profile: str, *names: str) -> dict[str, ModuleType]:
    """Import the model classes; their libraries are an extra of the package."""
    with _explained(f"the profile {profile}"):
        return {name: importlib.import_module(f"models.{name}") for name in names}


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        package = (error.name or "models").split(".")[0]
        if package == "models":
            raise
        raise PackageMissing(
            f"{what[0].upper()}{what[1:]} needs the package {package}, which is not installed. "
            f"Run `pip install 'maya-voice[{_EXTRAS.get(package, 'speech')}]'`."
        ) from error


def _stand_ins(synthesizer: Synthesizer) -> Models:
    return Models(
        ScriptedTranscriber(latency_s=_STAND_IN_HEARING_S),
        ScriptedChat(first_token_s=_STAND_IN_FIRST_TOKEN_S, tokens_per_s=_STAND_IN_TOKENS_PER_S),
        synthesizer,
        EnergyVoiceActivity(),
    )
