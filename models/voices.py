"""Which voice speaks, and where its files are. Loads nothing."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from models.base import ModelError, ModelMissing
from models.csm.files import CsmFiles, find_csm_files
from models.profiles import CODEC, STAND_INS, TOKENIZER, find_profile
from models.store import Store

BUNDLED = "hibari"


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """What the operator said of the voice; `infra.settings.Settings` explains each."""

    tts: str = ""
    mimi: Path | None = None
    tokenizer: Path | None = None
    prompt: Path | None = None
    speaker: int = 0
    codec: Literal["own", "moshi"] = "own"
    context: Literal["audio", "text", "nothing"] = "audio"
    weights: Literal["full", "w8a8", "int8"] = "full"
    slots: int | None = None
    paced: bool = True
    """False: speech is made as fast as it can be, not at the pace of somebody who listens."""


@dataclass(frozen=True, slots=True)
class CsmVoicePlan:
    """A voice of CSM with all its files found. `files.mimi` and `files.tokenizer` are never None."""

    name: str
    files: CsmFiles
    notice: str = ""
    """What the weights' licence wants displayed, else ""."""


def voice_name(profile: str, tts: str) -> str:
    """The voice of CSM that a profile speaks with when `tts` was asked for; "" for one that is none."""
    chosen = tts or ("" if profile == STAND_INS else find_profile(profile).tts)
    return "" if chosen == BUNDLED else chosen


def voice_model_names(profile: str, choice: VoiceChoice, store: Store) -> tuple[str, ...]:
    """Models of the catalogue that the voice is loaded from."""
    name = voice_name(profile, choice.tts)
    if not name:
        return ()
    own = None if name in _voices(store) else _files_of(name, store)
    names = [] if own else [name]
    if choice.mimi is None and (own is None or own.mimi is None):
        names.append(CODEC)
    if choice.tokenizer is None and (own is None or own.tokenizer is None):
        names.append(TOKENIZER)
    return tuple(names)


def find_voice(profile: str, choice: VoiceChoice, store: Store, problems: list[str]) -> CsmVoicePlan | None:
    """None: the profile's voice is none of CSM. What is missing is added to `problems`. Raises `ModelError`
    for a name that nobody knows, or a folder that holds no CSM model."""
    name = voice_name(profile, choice.tts)
    if not name:
        return None
    folder, notice = Path(), ""
    if name in _voices(store):
        folder = _installed(store, name, problems) or folder
        notice = store.entry(name).licence.notice
        found = CsmFiles(folder) if folder == Path() else find_csm_files(folder)
    else:
        found = _files_of(name, store)
    files = replace(
        found,
        mimi=_given(choice.mimi, "Mimi", problems)
        or found.mimi
        or _installed(store, CODEC, problems, "put its file beside the model, or name it with --mimi"),
        tokenizer=_given(choice.tokenizer, "tokenizer", problems)
        or found.tokenizer
        or _installed(store, TOKENIZER, problems, "name yours with --tokenizer"),
        prompt=_given(choice.prompt, "voice prompt", problems) or found.prompt,
    )
    return CsmVoicePlan(name, files, notice)


def _voices(store: Store) -> list[str]:
    return [entry.name for entry in store.entries if entry.kind == "tts"]


def _files_of(path: str, store: Store) -> CsmFiles:
    if not Path(path).expanduser().exists():
        known = ", ".join([BUNDLED, *_voices(store)])
        raise ModelError(f"The voice {path!r} is neither one of {known} nor the path of CSM's files.")
    return find_csm_files(Path(path))


def _installed(store: Store, name: str, problems: list[str], otherwise: str = "") -> Path | None:
    try:
        return store.path(name)
    except ModelMissing as error:
        problems.append(f"{error} Or {otherwise}." if otherwise else str(error))
        return None


def _given(path: Path | None, what: str, problems: list[str]) -> Path | None:
    if path is None:
        return None
    if not path.expanduser().exists():
        problems.append(f"The {what} {path} does not exist.")
    return path.expanduser()
