"""What the doctor asks about models: is everything there that a profile loads, and where does it go? Prints
nothing."""

import importlib.metadata
import importlib.util
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from models.base import ModelError
from models.csm.files import CsmFiles
from models.csm.memory import MemoryPart, describe, total_bytes, voice_memory
from models.csm.shapes import CSM_1B, CsmShape
from models.fetching import existing_parent, megabytes
from models.load import model_names, plan_placement, voice_slots
from models.machine import cuda_devices, free_bytes
from models.placement import CPU, Device, Placement
from models.profiles import STAND_INS
from models.store import Store
from models.voices import CsmVoicePlan, VoiceChoice, find_voice, voice_model_names

_SPEECH = (
    # (import name, distribution, what it does)
    ("onnxruntime", "onnxruntime", "voice activity"),
    ("faster_whisper", "faster-whisper", "speech recognition"),
    ("llama_cpp", "llama-cpp-python", "language model; compiles from source and needs gcc and g++"),
    ("hibari", "hibari-tts", "the bundled voice"),
    ("huggingface_hub", "huggingface-hub", "pulls from the hub"),
)
_CSM = (
    ("torch", "torch", "the CSM voice"),
    ("safetensors", "safetensors", "the CSM voice's files"),
    ("tokenizers", "tokenizers", "the CSM voice's text"),
)
_BESIDE_MODELS_BYTES = 800 << 20
"""The bundled voice, the language model's KV cache, libraries and the server itself, roughly."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor. `mend` is a command or an instruction, "" when all is well."""

    name: str
    state: Literal["ok", "warning", "failed"]
    message: str
    mend: str = ""


def check_models(
    profile: str,
    store: Store,
    *,
    llm: str | None = None,
    stt: str | None = None,
    voice: VoiceChoice | None = None,
    devices: str = "",
    full: bool = False,
) -> list[Check]:
    """Packages, models, devices, memory, disk and licences for `load_models` with the same arguments.

    Blocks: milliseconds, or about a second a gigabyte with `full`, which hashes every model.
    """
    choice = voice or VoiceChoice()
    problems: list[str] = []
    try:
        csm = find_voice(profile, choice, store, problems)
        voice_names = voice_model_names(profile, choice, store)
    except ModelError as error:
        return [Check("voice", "failed", str(error), "choose another with --tts")]
    names = model_names(profile, llm=llm, stt=stt)
    if not names and csm is None:
        return [Check("models", "ok", f"profile {profile} needs none")]
    checks = [
        *_packages(speech=profile != STAND_INS, csm=csm is not None, codec=choice.codec),
        *_models((*names, *voice_names), store, full=full),
        *(Check("voice", "failed", text) for text in problems if "maya models pull" not in text),
        *(_voice(csm) if csm is not None and not problems else ()),
    ]
    checks += _licences((*names, *voice_names), store)
    try:
        placement = plan_placement(profile, choice, devices)
    except ModelError as error:
        return [*checks, Check("devices", "failed", str(error), "see --devices in maya serve --help")]
    return [
        *checks,
        *_devices(placement),
        *_memory(_loads(profile, names, store, placement, choice, csm)),
    ]


def _packages(*, speech: bool, csm: bool, codec: str) -> Iterator[Check]:
    wanted = [(*package, "speech") for package in (_SPEECH if speech else ())]
    wanted += [(*package, "csm") for package in (_CSM if csm else ())]
    if csm and codec == "moshi":
        wanted.append(("moshi", "moshi", "the CSM voice's codec", "moshi"))
    for module, distribution, purpose, extra in wanted:
        if not _installed(module):
            mend = f"pip install 'maya-voice[{extra}]'"
            yield Check(distribution, "failed", f"not installed ({purpose})", mend)
            continue
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            version = "unknown version"
        yield Check(distribution, "ok", f"{version} ({purpose})")


def _models(names: tuple[str, ...], store: Store, *, full: bool) -> Iterator[Check]:
    missing_bytes = 0
    for name in names:
        state = store.verify(name) if full else store.state(name)
        if state.state == "installed":
            checked = "hashes verified" if full else "installed"
            yield Check(f"model {name}", "ok", f"{checked}, {megabytes(state.entry.size_bytes)}")
        else:
            missing_bytes += state.entry.size_bytes
            yield Check(f"model {name}", "failed", state.problem, state.mend)
    if missing_bytes:
        free = shutil.disk_usage(existing_parent(store.root)).free
        message = f"{megabytes(free)} free at {store.root}, {megabytes(missing_bytes)} to pull"
        enough = free > missing_bytes * 1.2
        mend = "" if enough else "make room, or set MAYA_MODELS to a folder on a larger disk"
        yield Check("disk for models", "ok" if enough else "failed", message, mend)


def _voice(csm: CsmVoicePlan) -> Iterator[Check]:
    files = csm.files
    yield Check("voice", "ok", f"{files.base}, codec {files.mimi}, tokenizer {files.tokenizer}")
    if files.prompt is not None:
        yield Check("voice prompt", "ok", str(files.prompt))
    else:
        message = "none: CSM invents a voice for the first greeting and goes on with it"
        yield Check("voice prompt", "warning", message, "maya voice prompt FILE --text '...', --voice-prompt")


def _loads(
    profile: str,
    names: tuple[str, ...],
    store: Store,
    placement: Placement,
    choice: VoiceChoice,
    csm: CsmVoicePlan | None,
) -> dict[Device, list[MemoryPart]]:
    """What each device will hold."""
    loads: dict[Device, list[MemoryPart]] = defaultdict(list)
    for name in names:
        entry = store.entry(name)
        device = {"stt": placement.stt, "llm": placement.llm}.get(entry.kind, CPU)
        loads[device].append(MemoryPart(f"{entry.kind} {name}", entry.memory_bytes))
    if csm is not None:
        slots = voice_slots(profile, choice, len(placement.tts))
        for device in placement.tts:
            loads[device] += voice_memory(
                _shape_of(csm.files),
                device=device.kind,
                weights=choice.weights,
                slots=slots,
                codec=choice.codec,
            )
    loads[CPU].append(MemoryPart("all else", _BESIDE_MODELS_BYTES))
    return dict(loads)


def _shape_of(files: CsmFiles) -> CsmShape:
    """Of the checkpoint where it can be opened, else of CSM-1B."""
    if not _installed("torch", "safetensors") or not files.base.is_file():
        return CSM_1B
    from models.csm.checkpoint import open_checkpoint

    try:
        with open_checkpoint(files.base, parts=files.parts, hashed=False) as checkpoint:
            return checkpoint.shape
    except ModelError:
        return CSM_1B


def _devices(placement: Placement) -> Iterator[Check]:
    yield Check("devices", "ok", str(placement))
    if placement.llm.kind == "cuda":
        import llama_cpp

        if not llama_cpp.llama_supports_gpu_offload():
            yield Check(
                "cuda",
                "warning",
                f"{cuda_devices()} device(s), but llama-cpp-python was built without CUDA",
                "CMAKE_ARGS='-DGGML_CUDA=on' pip install --no-cache-dir --force-reinstall llama-cpp-python",
            )


def _memory(loads: dict[Device, list[MemoryPart]]) -> Iterator[Check]:
    for device, parts in loads.items():
        available = free_bytes(device)
        needed = total_bytes(parts)
        message = f"about {megabytes(needed)} needed: {describe(parts)}"
        if available is None:
            yield Check(f"memory of {device}", "ok", message)
        elif needed <= available:
            yield Check(f"memory of {device}", "ok", f"{message}; {megabytes(available)} free")
        else:
            mend = "free some, use a smaller profile, --tts-slots or --voice-weights, or another device"
            yield Check(f"memory of {device}", "warning", f"{message}; {megabytes(available)} free", mend)


def _licences(names: tuple[str, ...], store: Store) -> Iterator[Check]:
    for name in names:
        licence = store.entry(name).licence
        state: Literal["ok", "warning"] = "warning" if "non-commercial" in licence.notice else "ok"
        mend = "use --tts csm-1b, the base voice, for calls that are a business" if state == "warning" else ""
        yield Check(f"licence of {name}", state, f"{licence.name}: {licence.notice}", mend)


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)
